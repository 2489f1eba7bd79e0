"""A draft stored as differences is the draft that was trained; a file for another base is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from langchain_ssd.config import EngineConfig, ModelSpec
from langchain_ssd.draft_folder import CARD, DraftCard, read_card, with_base
from langchain_ssd.drafts.finish import differences
from langchain_ssd.drafts.recipe import DraftRecipe
from langchain_ssd.drafts.starting import start
from langchain_ssd.engine.delta import WEIGHTS, apply_delta, keep_layers, write_delta
from langchain_ssd.engine.loading import load_model, load_pair
from langchain_ssd.errors import ConfigError, ModelNotFound
from langchain_ssd.profile import fingerprint
from langchain_ssd.testing.tiny_pair import save_tiny_pair, tiny_model

IDS = torch.tensor([[1, 5, 9, 30, 7]])


def trained(method: str, layers: list[int] | None, family: str = "llama") -> tuple[Any, Any]:
    """A base, and a draft of it whose trained parameters were moved."""
    base = tiny_model(family, dtype=torch.float32)
    draft = start(DraftRecipe(method=method, rank=3), base, layers)
    with torch.no_grad():
        for n, parameter in enumerate(p for p in draft.parameters() if p.requires_grad):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n))
            parameter.add_(0.05 * noise)
    return base, draft.eval()


def moved(draft: Any) -> dict[str, torch.Tensor]:
    return {name: p for name, p in draft.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen2"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("layers", [None, [1]])
def test_differences_bring_back_what_was_trained(
    family: str, method: str, layers: list[int] | None, tmp_path: Path
) -> None:
    base, draft = trained(method, layers, family)
    sums, factors = differences(draft, moved(draft), base, layers)
    assert bool(sums) is (method == "full")
    assert bool(factors) is (method == "lora")
    write_delta(tmp_path, sums, factors, "float16")
    again = copy.deepcopy(base)
    if layers:
        keep_layers(again, layers)
    apply_delta(again, tmp_path)
    with torch.inference_mode():
        wanted, found = (m(input_ids=IDS).logits for m in (draft, again))
        unlike = base(input_ids=IDS).logits
    torch.testing.assert_close(found, wanted, atol=0.02, rtol=0.01)
    assert float((unlike - wanted).abs().max()) > 0.2


def test_kept_layers_are_numbered_anew_for_the_cache() -> None:
    model: Any = tiny_model("llama")
    keep_layers(model, [1])
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == [0]
    assert model.config.num_hidden_layers == 1


def test_a_file_with_a_foreign_name_is_refused(tmp_path: Path) -> None:
    base, draft = trained("full", None)
    write_delta(tmp_path, *differences(draft, moved(draft), base, None), "int8")
    parts = load_file(tmp_path / WEIGHTS)
    save_file(parts | {"model.other.sum.f16": torch.zeros(2)}, tmp_path / WEIGHTS)
    before = copy.deepcopy(base.state_dict())
    with pytest.raises(ModelNotFound, match="do not fit"):
        apply_delta(base, tmp_path)
    assert all(torch.equal(before[n], p) for n, p in base.state_dict().items())


def test_a_file_for_another_depth_or_size_is_refused(tmp_path: Path) -> None:
    base, draft = trained("full", None)
    write_delta(tmp_path, *differences(draft, moved(draft), base, None), "int8")
    shallow: Any = copy.deepcopy(base)
    keep_layers(shallow, [0])
    with pytest.raises(ModelNotFound, match="do not fit"):
        apply_delta(shallow, tmp_path)
    parts = load_file(tmp_path / WEIGHTS)
    save_file({n: p[:1].clone() for n, p in parts.items()}, tmp_path / WEIGHTS)
    with pytest.raises(ModelNotFound, match="do not fit"):
        apply_delta(base, tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, ModelSpec]:
    """A draft's folder of one layer, and the spec of its base."""
    target, _ = save_tiny_pair(tmp_path)
    base = load_model(target)
    draft = start(DraftRecipe(method="full"), base, [1])
    out = tmp_path / "slim"
    out.mkdir()
    draft.config.save_pretrained(out)
    write_delta(out, *differences(draft, moved(draft), base, [1]), "int4")
    card = DraftCard(base=target, base_fingerprint=fingerprint(target), layers=(1,), encoding="int4")
    (out / CARD).write_text(card.model_dump_json())
    return out, target


def test_a_pair_with_such_a_draft_loads(folder: tuple[Path, ModelSpec]) -> None:
    out, target = folder
    draft = with_base(ModelSpec(name=str(out), device="cpu"), None)
    assert draft.base == target
    pair = load_pair(target, draft, EngineConfig(), lambda stage, part: None)
    assert pair.draft.model.model.config.num_hidden_layers == 1  # type: ignore[union-attr]
    assert not pair.shared


def test_without_its_base_it_is_refused_before_any_weights(folder: tuple[Path, ModelSpec]) -> None:
    out, target = folder
    with pytest.raises(ConfigError, match="langchain-ssd setup") as caught:
        load_pair(target, ModelSpec(name=str(out)), EngineConfig(), lambda stage, part: None)
    assert str(out.parent) not in str(caught.value)


def test_another_base_is_refused(folder: tuple[Path, ModelSpec], tmp_path: Path) -> None:
    out, target = folder
    other, _ = save_tiny_pair(tmp_path / "other", seed=5)
    draft = ModelSpec(name=str(out), base=other)
    with pytest.raises(ConfigError, match="other weights"):
        load_pair(target, draft, EngineConfig(), lambda stage, part: None)


def test_a_card_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text("{")
    with pytest.raises(ConfigError, match=r"draft\.json of this draft cannot be read"):
        read_card(tmp_path)
