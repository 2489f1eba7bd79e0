"""Load tiny models from disk, or show how a pair is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from langchain_ssd.config import EngineConfig, ModelSpec
from langchain_ssd.engine.loading import load_pair
from langchain_ssd.engine.pair import Pair
from langchain_ssd.errors import SSDError

Specs = tuple[ModelSpec, ModelSpec]


def load(target: ModelSpec, draft: ModelSpec, **config: Any) -> Pair:
    return load_pair(target, draft, EngineConfig(**config), lambda *_: None)


def on_cpu(folder: Path, **fields: Any) -> ModelSpec:
    return ModelSpec(name=str(folder), device="cpu", **fields)


def refused(kind: type[SSDError], target: ModelSpec, draft: ModelSpec) -> str:
    """The pair is refused with one clear line that names no path of this machine."""
    with pytest.raises(kind) as caught:
        load(target, draft)
    message = caught.value.message
    assert str(Path(draft.name).parent) not in message
    assert "\n" not in message
    return message


def edit(path: Path, **values: Any) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
