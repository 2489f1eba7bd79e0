"""Folders that are unsafe, broken or of the wrong kind: one typed line each, and nothing is run."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from langchain_ssd.config import ModelSpec
from langchain_ssd.engine import loading
from langchain_ssd.errors import (
    ConfigError,
    ModelNotFound,
    UnsafeModel,
    UnsupportedModel,
)

from .loading_helpers import Specs, edit, load, on_cpu, refused


def test_pickles_are_never_read(saved: Specs, copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    torch.save(weights, copied / "pytorch_model.bin")
    assert "safetensors" in refused(UnsafeModel, saved[0], on_cpu(copied))


CANARY = "from pathlib import Path\n(Path(__file__).parent / 'CANARY').write_text('ran')\n"


def has_own_code(folder: Path, model_type: str) -> None:
    (folder / "evil.py").write_text(CANARY)
    edit(
        folder / "config.json",
        model_type=model_type,
        auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    )


def test_code_of_a_model_is_refused_and_never_run(saved: Specs, copied: Path) -> None:
    has_own_code(copied, "made_up")
    assert "code of its own" in refused(UnsafeModel, saved[0], on_cpu(copied))
    assert not (copied / "CANARY").exists()


def test_code_beside_a_known_model_is_never_run(saved: Specs, copied: Path) -> None:
    has_own_code(copied, "llama")
    with contextlib.suppress(UnsafeModel):  # transformers' own class is used instead: as safe
        load(saved[0], on_cpu(copied))
    assert not (copied / "CANARY").exists()


def test_code_of_a_tokenizer_is_refused_and_never_run(saved: Specs, copied: Path) -> None:
    (copied / "evil.py").write_text(CANARY)
    edit(
        copied / "tokenizer_config.json",
        tokenizer_class="Evil",
        auto_map={"AutoTokenizer": ["evil.Evil", None]},
    )
    refused(UnsafeModel, saved[0], on_cpu(copied))
    assert not (copied / "CANARY").exists()


@pytest.mark.parametrize("name", ["../target/model.safetensors", "/etc/passwd", "sub/model.safetensors"])
def test_an_index_that_points_out_of_its_folder_is_refused(saved: Specs, copied: Path, name: str) -> None:
    index = {"metadata": {}, "weight_map": {"lm_head.weight": name}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(UnsafeModel, saved[0], on_cpu(copied))


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": []}', '{"weight_map": {"a": ["b"]}}'])
def test_a_broken_index_is_a_typed_error(saved: Specs, copied: Path, index: str) -> None:
    (copied / "model.safetensors.index.json").write_text(index)
    refused(ConfigError, saved[0], on_cpu(copied))


@pytest.mark.parametrize("size", [0, 5, 2000])
def test_truncated_weights_are_a_typed_error(saved: Specs, copied: Path, size: int) -> None:
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    refused(ConfigError, saved[0], on_cpu(copied))


def test_missing_weights_are_refused(saved: Specs, copied: Path) -> None:
    """A layer without weights would be random: a draft that guards nothing."""
    weights = load_file(copied / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    refused(ConfigError, saved[0], on_cpu(copied))


def test_weights_of_other_shapes_are_a_typed_error(saved: Specs, copied: Path) -> None:
    edit(copied / "config.json", intermediate_size=64)
    refused(ConfigError, saved[0], on_cpu(copied))


@pytest.mark.parametrize("broken", [{"hidden_size": "x"}, {"num_attention_heads": 0}, {"model_type": None}])
def test_a_broken_configuration_is_a_typed_error(saved: Specs, copied: Path, broken: dict[str, Any]) -> None:
    edit(copied / "config.json", **broken)
    refused(ConfigError, saved[0], on_cpu(copied))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_missing_or_broken_file_is_a_typed_error(
    saved: Specs, copied: Path, file: str, content: str | None
) -> None:
    (copied / file).unlink() if content is None else (copied / file).write_text(content)
    refused(ConfigError, saved[0], on_cpu(copied))


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "organisation/no-such-model", "a/b/c/d", "no-such-model"]
)
def test_a_name_that_cannot_be_read(saved: Specs, name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        load(saved[0], ModelSpec(name=name, device="cpu"))
    assert "/no/such" not in caught.value.message


def test_a_device_that_is_not_there_is_a_typed_error(saved: Specs) -> None:
    missing = "nonsense" if torch.cuda.is_available() else "cuda"
    for device in (missing, "cuda:99"):
        refused(ConfigError, saved[0], saved[1].model_copy(update={"device": device}))


NOT_REWINDABLE = (
    "Mamba",
    "Mamba2",
    "Qwen3Next",
    "Jamba",
    "RecurrentGemma",
    "FalconH1",
    "Rwkv",
    "Bloom",
    "Mpt",
    "T5",
)


@pytest.mark.parametrize("name", NOT_REWINDABLE)
def test_what_cannot_be_rewound_is_refused_before_weights_are_read(
    saved: Specs, copied: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = getattr(transformers, f"{name}Config")()
    (copied / "model.safetensors").write_bytes(b"no weights")
    config.save_pretrained(copied)
    monkeypatch.setattr(loading, "load_model", lambda _: pytest.fail("weights were read"))
    refused(UnsupportedModel, saved[0], on_cpu(copied))


def test_hybrid_layers_are_refused() -> None:
    config = transformers.Lfm2Config(num_hidden_layers=2, layer_types=["conv", "full_attention"])
    with pytest.raises(UnsupportedModel):
        loading.check_config(config)
