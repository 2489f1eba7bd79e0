"""Scoring under a grammar: tokens come from the legal part of the rows, evidence from the whole of them."""

from __future__ import annotations

import random

import pytest
import torch

from langchain_ssd.decoding.evidence import Rows, pick, restrict, rows
from langchain_ssd.decoding.monitor import Decision
from langchain_ssd.decoding.sampling import SamplingRule
from langchain_ssd.decoding.verify import RowSettings, Scored, score

from . import naive

V = 130


def settings(c: int, alpha_utility: float = 0.3, alpha_safety: float = 0.8) -> RowSettings:
    return RowSettings(c, alpha_utility, alpha_utility, alpha_safety, SamplingRule())


def pair_of_rows(seed: int, R: int, dtype: torch.dtype, steepness: float = 3.0) -> tuple[Rows, Rows]:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(R, V, generator=generator, dtype=torch.float64) * steepness for _ in range(2)]
    return rows(made[0].to(dtype)), rows((made[0] + made[1]).to(dtype))


def masks(seed: int, R: int) -> torch.Tensor:
    rng = random.Random(seed)
    legal = torch.zeros(R, V, dtype=torch.bool)
    for row in range(R):
        legal[row, rng.sample(range(V), rng.choice([1, 2, 5, 9, 10, 11, 40, V - 1, V]))] = True
    return legal


def expected(
    target: Rows, draft: Rows, legal: torch.Tensor, row: int, scheme: str, alpha: float, c: int
) -> list[float]:
    """The composite over a vocabulary of the legal tokens alone, spread over all of it again."""
    ids = legal[row].nonzero()[:, 0].tolist()
    short = naive.composite(
        *(restrict(r, legal).probs[row, ids].tolist() for r in (target, draft)), scheme, alpha, c
    )
    out = [0.0] * V
    for i, p in zip(ids, short, strict=True):
        out[i] = p
    return out


def dense(scored: Scored, row: int, scheme: str, alpha: float) -> list[float]:
    space = scored.spaces.utility if scheme == "utility" else scored.spaces.safety
    from langchain_ssd.decoding.composite import weigh

    mixed = weigh(space[slice(row, row + 1)], alpha)
    if bool(mixed.whole_target[0]):
        return scored.target.probs[row].tolist()
    out = [0.0] * V
    for i, p in zip(mixed.ids[0].tolist(), mixed.probs[0].tolist(), strict=True):
        if i >= 0:
            out[i] += p
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steepness", [1.0, 60.0])  # at 60 most probabilities underflow to 0 in float32
@pytest.mark.parametrize("c", [1, 2, 10, 70, 4096])
def test_the_composite_is_that_of_the_legal_tokens_alone(
    dtype: torch.dtype, steepness: float, c: int
) -> None:
    for seed in range(6):
        target, draft = pair_of_rows(seed, 8, dtype, steepness)
        legal = masks(seed, 8)
        scored = score(target, draft, None, [settings(c)] * 8, range(8), legal)
        for row in range(8):
            for scheme, alpha in (("utility", 0.3), ("safety", 0.8), ("utility", 2.0), ("safety", 2.0)):
                got = dense(scored, row, scheme, alpha)
                want = expected(target, draft, legal, row, scheme, alpha, c)
                assert got == pytest.approx(want, rel=1e-4, abs=1e-6), (seed, row, scheme, alpha)
                assert all(p == 0 for p, ok in zip(got, legal[row].tolist(), strict=True) if not ok)


def test_a_legal_token_that_underflows_is_still_in_the_space() -> None:
    """Both models are sure of what is illegal; one of the two legal tokens has no mass for the draft."""
    target, draft = torch.full((1, V), -50.0), torch.full((1, V), -50.0)
    target[0, 3], target[0, 90], draft[0, 3], draft[0, 90] = 0.0, -1.0, -400.0, 0.0
    legal = torch.zeros(1, V, dtype=torch.bool)
    legal[0, [3, 90]] = True
    scored = score(rows(target), rows(draft), None, [settings(10)], [0], legal)
    assert not bool(
        scored.spaces.utility.target_stands[0]
    )  # the exception cannot fire: both are in the space
    assert sorted(scored.spaces.utility.ids[0].tolist())[-2:] == [3, 90]
    assert scored.choice(0, Decision("safety", 0.8)).best.token == 90


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_evidence_is_that_of_the_whole_rows(dtype: torch.dtype) -> None:
    target, draft = pair_of_rows(0, 12, dtype)
    legal = masks(3, 12)
    free = score(target, draft, None, [settings(10)] * 12, range(12))
    bound = score(target, draft, None, [settings(10)] * 12, range(12), legal)
    counts = legal.sum(dim=1).tolist()
    assert min(counts) == 1 < max(counts)
    for before, after, count in zip(free.evidence, bound.evidence, counts, strict=True):
        assert after.scored is (count > 1)
        assert (after.agreement, after.kl, after.total_variation) == (
            before.agreement,
            before.kl,
            before.total_variation,
        )
        assert (after.entropy_target, after.entropy_draft) == (before.entropy_target, before.entropy_draft)


def test_the_one_legal_token_comes_out_with_certainty() -> None:
    target, draft = pair_of_rows(1, 4, torch.float32, 30.0)
    legal = torch.zeros(4, V, dtype=torch.bool)
    only = [0, 7, 64, V - 1]
    legal[range(4), only] = True
    warm = RowSettings(10, 0.3, 0.3, 0.8, SamplingRule(0.7, 5, 0.9))
    scored = score(target, draft, restrict(draft, legal).probs, [warm] * 4, range(4), legal)
    for row, token in enumerate(only):
        for decision in (Decision("utility", 0.3), Decision("safety", 0.8), Decision("safety", 2.0)):
            best = scored.choice(row, decision).best
            assert (best.token, best.prob, best.p_target, best.p_draft) == (token, 1.0, 1.0, 1.0)


def test_picked_rows_are_those_rows() -> None:
    target, _ = pair_of_rows(0, 5, torch.float64)
    some = pick(target, [1, 4])
    assert torch.equal(some.probs, target.probs[[1, 4]])
    assert torch.equal(some.best, target.best[[1, 4]])
    assert pick(target, range(5)) is target


def test_every_row_may_become_one_without_mass() -> None:
    logits = torch.full((2, V), -torch.inf)
    logits[:, 5] = 0.0
    legal = torch.ones(2, V, dtype=torch.bool)
    legal[1, 5] = False
    assert restrict(rows(logits), legal).finite.tolist() == [True, False]
