"""Where a draft starts from, and what a recipe allows."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from langchain_ssd.draft_folder import CARD, DraftCard
from langchain_ssd.drafts.recipe import DraftRecipe
from langchain_ssd.drafts.starting import start, trained_parameters
from langchain_ssd.engine.models import CachedModel, check_rewind
from langchain_ssd.errors import ConfigError, ModelNotFound
from langchain_ssd.testing.tiny_pair import VOCAB, tiny_model

from .draft_helpers import deep_model, recipe

IDS = torch.tensor([[5, 6, 7, 8, 9]])


def begun(model: Any, layers: list[int] | None = None, **changes: Any) -> Any:
    return start(recipe(**changes), model, layers)


# The start


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_draft_begins_as_the_model_in_float32(family: str, method: str) -> None:
    target = tiny_model(family)
    draft = begun(target, method=method)
    assert {p.dtype for p in draft.parameters()} == {torch.float32}
    torch.testing.assert_close(draft(input_ids=IDS).logits, target.float()(input_ids=IDS).logits)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_model_is_left_as_it_is(method: str) -> None:
    target = deep_model(3)
    before = {n: p.clone() for n, p in target.named_parameters()}
    draft = begun(target, [0, 2], method=method)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter.add_(1.0)
    assert {n for n, _ in target.named_parameters()} == before.keys()
    assert all(torch.equal(p, before[n]) and not p.requires_grad for n, p in target.named_parameters())
    assert target.config.num_hidden_layers == 3


def test_all_weights_but_both_ends_are_trained() -> None:
    draft = begun(deep_model(2))
    fixed = {n for n, p in draft.named_parameters() if not p.requires_grad}
    assert fixed == {"model.embed_tokens.weight", "lm_head.weight"}


def test_only_adapters_of_the_recipes_rank_are_trained() -> None:
    draft = begun(deep_model(2), method="lora", rank=3)
    trained = {n: p for n, p in draft.named_parameters() if p.requires_grad}
    assert all("lora_" in n and 3 in p.shape for n, p in trained.items())
    assert len(trained) == 2 * 2 * 7  # two factors for each matrix of two layers
    assert trained_parameters(draft) == sum(p.numel() for p in trained.values())


def test_the_adapters_follow_from_the_seed() -> None:
    def adapter(seed: int) -> torch.Tensor:
        draft = begun(deep_model(2), method="lora", seed=seed)
        return torch.cat([p.flatten() for p in draft.parameters() if p.requires_grad])

    assert torch.equal(adapter(1), adapter(1))
    assert not torch.equal(adapter(1), adapter(2))


def test_only_the_chosen_layers_are_kept_and_its_cache_still_works() -> None:
    draft = begun(deep_model(4, silent=(1, 2)), [0, 3])
    assert len(draft.get_decoder().layers) == draft.config.num_hidden_layers == 2
    whole = deep_model(4, silent=(1, 2))
    torch.testing.assert_close(draft(input_ids=IDS).logits, whole(input_ids=IDS).logits)
    check_rewind(CachedModel(draft.eval(), VOCAB, 256))


def test_without_peft_the_error_names_an_extra_that_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match="peft") as caught:
        begun(deep_model(1), method="lora")
    (extra,) = re.findall(r"langchain-ssd\[(\w+)\]", caught.value.message)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert any("peft" in need for need in project["optional-dependencies"][extra])


# The recipe


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"init": "other", "layers": 3}, "not both"),
        ({"init": "other", "layer_ids": (1,)}, "not both"),
        ({"layers": 3, "layer_ids": (1, 2)}, "disagree"),
        ({"layer_ids": (2, 1)}, "ascend"),
        ({"layer_ids": (1, 1)}, "ascend"),
        ({"tokens": 0}, "tokens"),
        ({"refusal_share": 1.0}, "refusal_share"),
        ({"top": 33}, "top"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        DraftRecipe(**wrong)


def test_a_recipe_survives_its_card() -> None:
    one = recipe(layer_ids=(0, 3), layers=2, learning_rate=0.1 + 0.2)
    assert DraftRecipe.model_validate_json(one.model_dump_json()) == one


# Going on from an adapter


def _adapter(folder: Path, rank: int = 16) -> dict[str, torch.Tensor]:
    """A folder with an adapter that changes every linear layer; returns the factors' products."""
    from langchain_ssd.drafts.finish import differences
    from langchain_ssd.engine.delta import write_delta

    draft = begun(deep_model(2), method="lora", rank=rank)
    with torch.no_grad():
        for parameter in draft.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    trained = {n: p for n, p in draft.named_parameters() if p.requires_grad}
    _, factors = differences(draft, trained, deep_model(2), None)
    write_delta(folder, {}, factors, "float16")
    return {name: up @ down for name, (down, up) in factors.items()}


def test_training_goes_on_from_an_adapter(tmp_path: Path) -> None:
    added = _adapter(tmp_path)
    target = deep_model(2)
    draft = begun(target, method="lora", adapter=str(tmp_path))
    expected = deep_model(2).float()
    with torch.no_grad():
        for name, parameter in expected.named_parameters():
            if name in added:
                parameter.add_(added[name])
    torch.testing.assert_close(
        draft(input_ids=IDS).logits, expected(input_ids=IDS).logits, atol=2e-2, rtol=2e-2
    )
    assert not torch.allclose(draft(input_ids=IDS).logits, target.float()(input_ids=IDS).logits, atol=2e-2)


def test_an_adapter_of_another_rank_or_model_is_refused(tmp_path: Path) -> None:
    _adapter(tmp_path, rank=4)
    with pytest.raises(ConfigError, match="rank"):
        begun(deep_model(2), method="lora", adapter=str(tmp_path))
    with pytest.raises(ConfigError, match="other weights"):
        begun(deep_model(3), method="lora", rank=4, adapter=str(tmp_path))
    with pytest.raises(ModelNotFound, match="no adapter"):
        begun(deep_model(2), method="lora", adapter=str(tmp_path / "nowhere"))


def test_a_card_counts_the_runs_before(tmp_path: Path) -> None:
    from langchain_ssd.drafts.finish import tokens_before

    made = {"trained": {"tokens": 70, "before": 30}}
    card = DraftCard(base="default", base_fingerprint=None, encoding="int8", made=made)
    (tmp_path / CARD).write_text(card.model_dump_json(exclude_none=True))
    assert tokens_before(str(tmp_path)) == 100
    assert tokens_before(None) == 0


@pytest.mark.parametrize("other", [{"layers": 2}, {"init": "x"}, {"method": "full"}])
def test_an_adapter_goes_with_the_whole_target_only(other: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="adapter goes on"):
        recipe(**{"method": "lora", "adapter": "somewhere", **other})
