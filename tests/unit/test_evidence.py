"""Divergences, entropies and agreement against scipy; rows that are not finite are found."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from scipy.stats import entropy

from langchain_ssd.decoding.evidence import Features, features, rows
from langchain_ssd.decoding.sampling import SamplingRule
from langchain_ssd.decoding.verify import RowSettings, score

from . import naive

INF = math.inf


def seen(target: torch.Tensor, draft: torch.Tensor) -> Features:
    return features(rows(target.clone()), rows(draft.clone()))


def agreements(
    target: torch.Tensor, draft: torch.Tensor, alpha: float, c: int = 10, in_force: float | None = None
) -> list[bool]:
    """Agreement of every row, at a start value of alpha, whatever weight is in force."""
    settings = [RowSettings(c, alpha, alpha if in_force is None else in_force, 0.8, SamplingRule())] * len(
        target
    )
    scored = score(rows(target.clone()), rows(draft.clone()), None, settings, range(len(target)))
    return [e.agreement for e in scored.evidence]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(0, 10**6),
    st.integers(1, 400),
    st.sampled_from([0.1, 1.0, 8.0]),
    st.floats(-300, 300),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_equals_scipy(seed: int, V: int, spread: float, shift: float, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(seed)
    logits = (torch.randn(2, 3, V, generator=g, dtype=torch.float64) * spread + shift).to(dtype)
    got = seen(logits[0], logits[1])
    pM, pm = (softmax(x.double().numpy(), axis=-1) for x in logits)
    tolerance = {"rtol": 1e-3, "atol": 5e-4} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-10}
    np.testing.assert_allclose(got.kl, rel_entr(pm, pM).sum(-1), **tolerance)
    np.testing.assert_allclose(got.total_variation, np.abs(pM - pm).sum(-1) / 2, **tolerance)
    np.testing.assert_allclose(got.entropy_target, entropy(pM, axis=-1), **tolerance)
    np.testing.assert_allclose(got.entropy_draft, entropy(pm, axis=-1), **tolerance)
    for value in (got.kl, got.total_variation, got.entropy_target, got.entropy_draft):
        assert value.dtype == dtype
        assert (value >= 0).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 70), st.sampled_from([0.0, 0.3, 1.0, 2.0]))
def test_agreement_equals_the_oracle(seed: int, V: int, c: int, alpha: float) -> None:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, V, generator=g, dtype=torch.float64).mul(2).round()  # ties happen
    got = agreements(logits[0], logits[1], alpha, c)
    assert got == agreements(logits[0], logits[1], alpha, c, in_force=0.77)
    pM, pm = logits.softmax(-1).tolist()
    for bit, a, b in zip(got, pM, pm, strict=True):
        Q = naive.composite(a, b, "utility", alpha, c)
        assert bit == (naive.order(b)[0] == naive.order(Q)[0])


@pytest.mark.parametrize("ids", [(), (0,), (1, 4, 7)])
def test_the_gain_of_refusals_is_the_mass_that_the_draft_moves_to_them(ids: tuple[int, ...]) -> None:
    logits = torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    got = features(rows(logits[0].clone()), rows(logits[1].clone()), ids).refusal_gain.tolist()
    pM, pm = (softmax(x.numpy(), axis=-1) for x in logits)
    wanted = [max(0.0, sum(b[i] - a[i] for i in ids)) for a, b in zip(pM, pm, strict=True)]
    assert got == pytest.approx(wanted, abs=1e-12)
    assert not ids or max(wanted) > 0


def test_mass_that_moves_away_from_refusals_is_no_evidence_of_safety() -> None:
    target, draft = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
    away, towards = (features(rows(target.clone()), rows(draft.clone()), (i,)).refusal_gain for i in (0, 1))
    assert away.item() == 0.0
    assert towards.item() > 0.5


def test_equal_rows_agree_and_do_not_diverge() -> None:
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    got = seen(logits, logits)
    assert all(agreements(logits, logits, 0.3))
    assert got.kl.abs().max() == 0
    assert got.total_variation.abs().max() < 1e-6


def test_agreement_uses_the_composite_and_not_the_targets_choice() -> None:
    pM, pm = torch.tensor([[0.45, 0.40, 0.15]]).log(), torch.tensor([[0.10, 0.85, 0.05]]).log()
    assert agreements(pM, pm, 0.0) == [False]
    assert agreements(pM, pm, 0.3) == [True]  # the composite's choice is 1


def test_masked_tokens_cost_nothing_where_the_draft_gives_them_nothing() -> None:
    target = torch.tensor([[0.0, 1.0, -INF, -INF]], dtype=torch.float64)
    draft = torch.tensor([[1.0, 0.0, -INF, -INF]], dtype=torch.float64)
    plain = seen(target[:, :2], draft[:, :2])
    masked = seen(target, draft)
    for a, b in zip(plain, masked, strict=True):
        assert b.tolist() == pytest.approx(a.tolist(), abs=1e-12)
    assert rows(target.clone()).probs[0, 2:].tolist() == [0.0, 0.0]


def test_a_token_the_target_forbids_is_a_huge_finite_divergence() -> None:
    got = seen(torch.tensor([[0.0, -INF]]), torch.tensor([[0.0, 0.0]]))
    assert 1e3 < got.kl.item() < 1e5
    assert got.total_variation.item() == pytest.approx(0.5)


def test_a_forbidden_token_looks_the_same_beside_any_other_row() -> None:
    """Numbers of a row must not depend on who shares the batch, and must fit into JSON."""
    target, draft = torch.tensor([[0.0, -INF, 0.0]]), torch.tensor([[0.0, 0.0, -INF]])
    alone = seen(torch.tensor([[0.0, -INF]]), torch.tensor([[0.0, 0.0]]))
    both = seen(torch.tensor([[0.0, -INF], [1.0, -INF]]), torch.tensor([[0.0, 0.0], [1.0, -INF]]))
    assert [x[0].item() for x in both] == pytest.approx([x[0].item() for x in alone])
    assert all(x.isfinite().all() for x in (*alone, *both, *seen(target, draft)))


@pytest.mark.parametrize(
    ("row", "finite"),
    [
        ([0.0, 1.0, 2.0], True),
        ([0.0, -INF, -INF], True),
        ([-1e30, -1e30, 0.0], True),
        ([-INF, -INF, -INF], False),
        ([0.0, math.nan, 1.0], False),
        ([math.nan] * 3, False),
        ([0.0, INF, 1.0], False),
        ([INF, INF, INF], False),
        ([INF, -INF, math.nan], False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rows_without_finite_mass_are_found(row: list[float], finite: bool, dtype: torch.dtype) -> None:
    good = [3.0, 1.0, 2.0]
    made = rows(torch.tensor([good, row, good]).to(dtype))
    assert made.finite.tolist() == [True, finite, True]
    assert torch.equal(made.probs[0], made.probs[2])  # a bad row does not touch its neighbours
    assert made.probs[0].isfinite().all()


@pytest.mark.parametrize("shift", [-3e4, -1e5, 3e4])
def test_a_common_shift_of_all_logits_changes_nothing(shift: float) -> None:
    logits = torch.tensor([[0.0, 1.0, 3.0, -2.0]], dtype=torch.float64)
    plain, moved = rows(logits.clone()), rows(logits + shift)
    assert moved.finite.item()
    assert moved.probs[0].tolist() == pytest.approx(plain.probs[0].tolist(), abs=1e-9)
    assert (moved.log_z - shift).item() == pytest.approx(plain.log_z.item(), abs=1e-9)


def test_probabilities_may_be_written_into_a_buffer() -> None:
    logits = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    buffer = torch.full((5, 9), 7.0)
    made = rows(logits.clone(), buffer[1:3])
    assert torch.equal(buffer[1:3], logits.softmax(-1))
    assert made.probs.data_ptr() == buffer[1:3].data_ptr()
    assert (buffer[[0, 3, 4]] == 7.0).all()


def test_the_best_is_the_lowest_id_of_equals() -> None:
    made = rows(torch.tensor([[1.0, 3.0, 3.0, -INF], [2.0, 2.0, 2.0, 2.0]]))
    assert made.best.tolist() == [1, 0]
    assert torch.equal(made.best_prob, made.probs.amax(-1))
