"""The training loop: what is in a step, and what it does to the draft."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from langchain_ssd.drafts.drawing import draw_step, foretell
from langchain_ssd.drafts.examples import Example
from langchain_ssd.drafts.teacher import TopRows, sequence_key
from langchain_ssd.drafts.training import Progress, Trainer

from .draft_helpers import MATERIAL, TARGET, finished, trainer


def drawn(one: Trainer, steps: int) -> list[list[Example]]:
    return [draw_step(one.material, one.recipe, n, 0) for n in range(steps)]


def tokens(examples: list[Example], refusal: bool) -> int:
    return sum(len(e.ids) for e in examples if e.refusal is refusal)


# What is in a step


def test_every_step_has_benign_examples() -> None:
    for examples in drawn(trainer(refusal_share=0.4), 200):
        assert tokens(examples, refusal=False) > 0
        assert tokens(examples, refusal=False) + tokens(examples, refusal=True) >= 128


def test_benign_examples_are_there_even_where_one_refusal_fills_the_step() -> None:
    one = trainer(step_tokens=64, refusal_share=0.9)
    for examples in drawn(one, 200):
        assert tokens(examples, refusal=False) > 0


def test_refusals_take_their_share_of_the_tokens() -> None:
    steps = drawn(trainer(refusal_share=0.4, step_tokens=2048), 20)
    refusals = sum(tokens(step, refusal=True) for step in steps)
    assert refusals / sum(len(e.ids) for step in steps for e in step) == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("changes", [{"refusal_share": 0.0}, {"learn": replace(MATERIAL, unsafe=[])}])
def test_without_refusals_a_step_is_benign(changes: dict[str, Any]) -> None:
    assert not any(tokens(step, refusal=True) for step in drawn(trainer(**changes), 20))


def test_the_recovering_phase_has_no_refusals() -> None:
    one = trainer(recover=0.5, tokens=900)
    reports = list(one.run())
    before = [0, *(r.tokens for r in reports)]  # when each step began
    early = [r for r, tokens_before in zip(reports, before, strict=False) if tokens_before < 450]
    late = reports[len(early) :]
    assert len(early) >= 2 <= len(late)
    assert all(r.refusal_loss == 0.0 for r in early)
    assert all(r.refusal_loss > 0.0 for r in late)


def test_a_step_depends_on_the_seed_and_its_number_alone() -> None:
    one, two, other = trainer(), trainer(), trainer(seed=2)
    for t in (one, two, other):
        t.step()
    a, b, c = ([p for p in t.model.parameters() if p.requires_grad] for t in (one, two, other))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not all(torch.equal(x, y) for x, y in zip(a, c, strict=True))


def test_a_run_looks_at_the_rows_that_were_foretold_and_no_others() -> None:
    looked: set[str] = set()

    class Rows(dict[str, TopRows]):
        def __getitem__(self, key: str) -> TopRows:
            looked.add(key)
            return super().__getitem__(key)

    one = trainer(refusal_share=0.4, learn=replace(MATERIAL, teacher=Rows(MATERIAL.teacher)))
    foretold = list(foretell(one.material, one.recipe))
    list(one.run())
    assert looked == {sequence_key(e.ids, e.start) for e in foretold}
    assert 0 < len(foretold) == len(looked) < len(one.material.calm)


def test_a_run_ends_with_the_recipes_tokens() -> None:
    one = trainer()
    reports = list(one.run())
    assert [r.step for r in reports] == list(range(1, len(reports) + 1))
    assert reports[-1].tokens >= 900 > reports[-2].tokens
    assert all(0 <= r.padding <= 0.15 for r in reports)
    assert list(one.run()) == []


# What it does to the draft


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_losses_go_down(method: str) -> None:
    rate = {"full": 3e-3, "lora": 1e-2}[method]
    reports = list(trainer(method=method, rank=4, tokens=6000, learning_rate=rate).run())
    for name in ("benign_loss", "refusal_loss"):
        values = [getattr(r, name) for r in reports]
        assert sum(values[-5:]) < 0.8 * sum(values[:5]), name
    assert sum(r.agreement for r in reports[-5:]) > sum(r.agreement for r in reports[:5])


def test_a_draft_that_is_the_target_agrees_from_the_start() -> None:
    report = trainer(TARGET, refusal_share=0.0, drawn=260).step()
    assert report.agreement == 1.0
    assert report.benign_loss == pytest.approx(0.0, abs=1e-3)


def test_micro_batches_change_only_the_rounding() -> None:
    runs = [trainer(micro_tokens=m, drawn=260, tokens=300) for m in (64, 4096)]
    one, two = (finished(t) for t in runs)
    for name, weight in one.items():
        torch.testing.assert_close(weight, two[name], rtol=1e-3, atol=2e-4)


def test_a_heavier_refusal_weight_learns_refusals_faster() -> None:
    light, heavy = (
        [r.refusal_loss for r in trainer(refusal_weight=w, tokens=3000).run()] for w in (0.02, 10.0)
    )
    assert sum(heavy[-5:]) < sum(light[-5:])


def test_only_marked_parameters_are_trained() -> None:
    one = trainer()
    frozen = {n: p.clone() for n, p in one.model.named_parameters() if not p.requires_grad}
    after = finished(one)
    assert frozen
    assert all(torch.equal(after[n], p) for n, p in frozen.items())


def test_the_rate_rises_then_falls_to_a_twentieth() -> None:
    one = trainer(tokens=1000, warmup=0.1, learning_rate=1.0)
    rates = []
    for done in range(0, 1001, 10):
        one.progress = Progress(tokens=done)
        rates.append(one.learning_rate())
    top = rates.index(max(rates))
    assert 9 <= top <= 10
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[0] < 0.5
    assert rates[-1] == pytest.approx(0.05)
