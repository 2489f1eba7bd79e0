"""Which layers a pruned draft keeps: the layouts that are tried, and the one that wins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from langchain_ssd.drafts import pruning
from langchain_ssd.drafts.pruning import Candidate, block_influence, layouts, search

from .draft_helpers import benign_examples, deep_model, material, recipe, rows_along

SHAPES = st.integers(1, 40).flatmap(
    lambda depth: st.tuples(
        st.just(depth), st.integers(1, depth + 3), st.lists(st.floats(0, 1), min_size=depth, max_size=depth)
    )
)


def probe(target: Any) -> Any:
    held_out = benign_examples(4, seed=9)
    return SimpleNamespace(benign=held_out, rows=rows_along(target, held_out))


# Layouts


@given(SHAPES)
def test_layouts_are_unique_and_ascend(shape: tuple[int, int, list[float]]) -> None:
    found = list(layouts(*shape).values())
    assert len(set(found)) == len(found) >= 1
    assert all(list(layers) == sorted(set(layers)) for layers in found)


@given(SHAPES)
def test_a_layout_keeps_as_many_layers_as_asked(shape: tuple[int, int, list[float]]) -> None:
    depth, keep, _ = shape
    for layers in layouts(*shape).values():
        assert len(layers) == min(keep, depth)
        assert layers[0] >= 0
        assert layers[-1] < depth


@given(SHAPES)
def test_one_layout_keeps_the_layers_of_most_influence(shape: tuple[int, int, list[float]]) -> None:
    _, keep, influence = shape
    most = sorted(influence, reverse=True)[:keep]
    found = [sorted((influence[i] for i in layers), reverse=True) for layers in layouts(*shape).values()]
    assert most in found


def test_the_usual_layouts_of_thirty_layers() -> None:
    influence = [float(i % 3 == 1) for i in range(30)]
    assert layouts(30, 6, influence) == {
        "evenly spread": (0, 6, 12, 17, 23, 29),
        "first layers, then the last": (0, 1, 2, 3, 28, 29),
        "first two, spread, last two": (0, 1, 10, 19, 28, 29),
        "most influential": (1, 4, 7, 10, 13, 16),
        "first layers": (0, 1, 2, 3, 4, 5),
    }


def test_keeping_everything_is_one_layout() -> None:
    assert list(layouts(7, 7, [0.5] * 7).values()) == [tuple(range(7))]


# Influence


def test_a_layer_that_adds_nothing_has_no_influence() -> None:
    found = block_influence(deep_model(5, silent=(1, 3)), benign_examples(5))
    assert len(found) == 5
    assert [round(found[i], 5) for i in (1, 3)] == [0.0, 0.0]
    assert min(found[i] for i in (0, 2, 4)) > 0.01


def test_padding_has_no_influence() -> None:
    model = deep_model(3)
    examples = benign_examples(6)
    together = block_influence(model, examples)
    weights = [len(e.ids) for e in examples]
    apart = [block_influence(model, [e]) for e in examples]
    for layer, value in enumerate(together):
        mean = sum(w * a[layer] for w, a in zip(weights, apart, strict=True)) / sum(weights)
        assert value == pytest.approx(mean, abs=1e-5)


def test_the_last_layers_influence_is_measured_before_the_final_norm() -> None:
    model = deep_model(3, silent=(2,))
    norm: torch.Tensor = model.get_decoder().norm.weight  # type: ignore[operator]
    norm.copy_(torch.linspace(-1, 2, len(norm)))
    assert block_influence(model, benign_examples(3))[2] == pytest.approx(0.0, abs=1e-5)


# The search


def searched(target: Any, layers: int = 2, **changes: Any) -> tuple[list[Candidate], list[float]]:
    shares: list[float] = []
    wanted = recipe(layers=layers, search_tokens=200, **changes)
    found = search(wanted, target, material(target), probe(target), lambda _, share: shares.append(share))
    return found, shares


def test_the_search_finds_the_layers_that_matter() -> None:
    target = deep_model(4, silent=(1, 2))
    (best, *others), _ = searched(target, learning_rate=1e-5)
    assert best.layers == (0, 3)
    assert best.agreement == 1.0
    assert best.kl == pytest.approx(0.0, abs=0.01)
    assert others
    assert all(c.kl > 0.1 for c in others)


def test_the_candidate_of_least_divergence_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([(0.9, 0.5), (0.1, 0.2), (0.5, 0.4), (0.5, 0.3), (0.5, 0.6)])
    monkeypatch.setattr(pruning, "agreement_along", lambda *_: next(scores))
    found, _ = searched(deep_model(8), layers=3)
    assert len(found) >= 3
    assert [c.kl for c in found] == sorted(c.kl for c in found)
    assert (found[0].agreement, found[0].kl) == (0.1, 0.2)  # whatever its agreement


def test_every_candidate_is_trained_for_the_search_tokens_without_refusals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    class Watched(pruning.Trainer):
        def run(self) -> Any:
            seen.append(self)
            return super().run()

    monkeypatch.setattr(pruning, "Trainer", Watched)
    found, shares = searched(deep_model(6))
    assert len(seen) == len(found)
    assert all(t.progress.tokens >= 200 and t.recipe.refusal_share == 0 for t in seen)
    assert {len(t.model.get_decoder().layers) for t in seen} == {2}
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_target_is_left_as_it_was() -> None:
    target = deep_model(4)
    before = {n: p.clone() for n, p in target.named_parameters()}
    searched(target)
    assert before.keys() == dict(target.named_parameters()).keys()
    assert all(torch.equal(p, before[n]) for n, p in target.named_parameters())
