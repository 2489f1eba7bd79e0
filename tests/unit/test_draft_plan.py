"""What a run will take, told from a configuration alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from langchain_ssd.config import ModelSpec
from langchain_ssd.drafts.plan import _sizes, estimate
from langchain_ssd.drafts.recipe import DraftRecipe
from langchain_ssd.drafts.starting import start, trained_parameters
from langchain_ssd.errors import ModelNotFound
from langchain_ssd.testing.tiny_pair import tiny_model

from .draft_helpers import recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a model of 136 M parameters, without weights."""
    path = tmp_path_factory.mktemp("configuration")
    config = transformers.LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, vocab_size=50_000, tie_word_embeddings=True,
    )  # fmt: skip
    config.save_pretrained(path)
    return path


def plan(folder: Path, **changes: Any) -> dict[str, str]:
    return estimate(DraftRecipe(**changes), ModelSpec(name=str(folder), device="cpu"))


def millions(text: str) -> float:
    return float(text.split(" M")[0].replace(",", ""))


def memory(told: dict[str, str]) -> float:
    (found,) = re.findall(r"[\d.]+", told["memory"])
    return float(found)


def meta(folder: Path, layers: int) -> nn.Module:
    config = transformers.AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = layers
    with torch.device("meta"):
        model: nn.Module = transformers.AutoModelForCausalLM.from_config(config)
    return model


@pytest.mark.parametrize("changes", [{}, {"layers": 6}, {"layer_ids": (0, 1, 28, 29)}])
def test_parameters_are_those_of_the_networks(folder: Path, changes: dict[str, Any]) -> None:
    told = plan(folder, **changes)
    kept = changes.get("layers") or len(changes.get("layer_ids", range(30)))
    for name, layers in (("target", 30), ("draft", kept)):
        count = sum(p.numel() for p in meta(folder, layers).parameters())
        assert millions(told[name]) == pytest.approx(count / 1e6, abs=1)
        assert told[name].endswith(f"{layers} layers")


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_trained_parameters_are_those_of_the_adapters(family: str) -> None:
    model = tiny_model(family)
    sizes = _sizes(model.config)
    assert sizes["rank_one"] * 3 == trained_parameters(start(recipe(method="lora", rank=3), model, None))


def test_trained_parameters_grow_with_the_rank_and_are_most_with_all_weights(folder: Path) -> None:
    four, eight, full = (
        millions(plan(folder, **c)["trained"]) for c in ({"rank": 4}, {"rank": 8}, {"method": "full"})
    )
    assert eight == pytest.approx(2 * four, abs=0.2)
    assert full > 10 * eight


def test_the_method_and_the_tokens_are_told(folder: Path) -> None:
    told = plan(folder, method="full", tokens=123_456)["trained"]
    assert "full" in told
    assert "123,456 tokens" in told


def test_memory_grows_with_what_is_held_and_trained(folder: Path) -> None:
    small, adapters, full, wide = (
        memory(plan(folder, **c))
        for c in ({"layers": 6}, {}, {"method": "full"}, {"method": "full", "micro_tokens": 16_384})
    )
    assert small < adapters < full < wide
    assert adapters > 2 * 4 * 134e6 / 2**30 - 0.1  # both networks in float32


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_arithmetic_is_the_recipes(folder: Path, precision: str) -> None:
    assert plan(folder, precision=precision)["precision"] == f"float32 weights, {precision} arithmetic"


def test_a_draft_from_another_model_is_sized_by_that_model(folder: Path, tmp_path: Path) -> None:
    transformers.LlamaConfig(
        hidden_size=256, intermediate_size=512, num_hidden_layers=5, num_attention_heads=4, vocab_size=50_000
    ).save_pretrained(tmp_path)
    told = plan(folder, init=str(tmp_path))
    assert told["draft"].endswith("5 layers")
    assert told["target"].endswith("30 layers")


def test_a_model_that_cannot_be_read_is_a_typed_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        plan(tmp_path / "nothing")
    with pytest.raises(ModelNotFound):
        plan(folder, init=str(tmp_path / "nothing"))
