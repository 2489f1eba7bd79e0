"""Unit tests run on one thread, like the laws; torch is touched only by tests that need it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from .webhook_helpers import fast_and_clean, receive

__all__ = ["fast_and_clean", "receive"]  # fixtures that two files share


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny pair on disk; both specs."""
    from langchain_ssd.testing.tiny_pair import save_tiny_pair

    return save_tiny_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def copied(saved: Any, tmp_path: Path) -> Path:
    """A copy of the tiny draft's folder, to be spoilt."""
    return Path(shutil.copytree(saved[1].name, tmp_path / "copy"))
