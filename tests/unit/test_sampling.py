"""Keyed numbers, sharpening and inverse CDFs, held against plain Python."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_ssd.decoding.sampling import SamplingRule, draw, draw_index, keyed_uniform, sharpen

from . import naive

PURPOSES = ("propose", "accept", "residual")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ((0, 0, "propose"), 0.8361401048799777),
        ((1234567890123456789, 17, "accept"), 0.3678365547145387),
        ((2**64 - 1, 100_000, "residual"), 0.06901884859418672),
    ],
)
def test_the_definition_of_a_keyed_number_is_pinned(keys: tuple, value: float) -> None:
    """A change of the definition changes every seeded answer: it must be meant."""
    assert keyed_uniform(*keys) == value


def test_keyed_numbers_look_uniform_and_unrelated() -> None:
    n = 4000
    series = {
        (seed, purpose): [keyed_uniform(seed, i, purpose) for i in range(n)]
        for seed in (0, 1)
        for purpose in PURPOSES
    }
    for values in series.values():
        assert all(0 <= u < 1 for u in values)
        counts = Counter(int(u * 20) for u in values)
        assert sum((counts[i] - n / 20) ** 2 / (n / 20) for i in range(20)) < 50  # 19 degrees of freedom
        assert abs(correlation(values[1:], values[:-1])) < 0.08
    keys = list(series)
    for i, a in enumerate(keys):
        for b in keys[:i]:
            assert abs(correlation(series[a], series[b])) < 0.08


def correlation(a: list[float], b: list[float]) -> float:
    return float(torch.corrcoef(torch.tensor([a, b]))[0, 1])


def test_keys_do_not_run_into_each_other() -> None:
    values = {keyed_uniform(seed, position, "accept") for seed in range(40) for position in range(40)}
    assert len(values) == 1600


def rule(temperature: float, top_k: int | None = None, top_p: float = 1.0) -> SamplingRule:
    return SamplingRule(temperature, top_k, top_p)


def random_row(seed: int, V: int, ties: bool, spread: float = 3.0) -> torch.Tensor:
    logits = torch.randn(V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread
    return (logits.round() if ties else logits).softmax(-1)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    st.integers(0, 10**6),
    st.integers(1, 900),
    st.sampled_from([0.05, 0.5, 0.7, 1.0, 1.5, 5.0]),
    st.sampled_from([None, 1, 2, 40, 300, 5000]),
    st.sampled_from([1e-9, 0.1, 0.5, 0.9, 0.999, 1.0]),
    st.booleans(),
)
def test_sharpen_equals_the_plain_rule(
    seed: int, V: int, T: float, top_k: int | None, top_p: float, ties: bool
) -> None:
    p = random_row(seed, V, ties, spread=0.3 if seed % 3 == 0 else 3.0)  # flat rows need a wide top
    got = sharpen(p.unsqueeze(0), [rule(T, top_k, top_p)])[0]
    expected = naive.sharpen(p.tolist(), T, top_k, top_p)
    assert got.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-13)
    assert got.sum().item() == pytest.approx(1.0)


def test_top_p_by_hand() -> None:
    p = torch.tensor([[0.125, 0.5, 0.25, 0.125]], dtype=torch.float64)
    for top_p, kept in ((0.1, [1]), (0.5, [1]), (0.51, [1, 2]), (0.75, [1, 2]), (0.8, [0, 1, 2])):
        assert sharpen(p, [rule(1.0, top_p=top_p)])[0].nonzero()[:, 0].tolist() == kept
    assert sharpen(p, [rule(1.0, top_k=3)])[0].tolist() == pytest.approx([1 / 7, 4 / 7, 2 / 7, 0])
    # top-p is a share of what top-k left: half of 0.75 is reached by the first
    assert sharpen(p, [rule(1.0, 2, 0.5)])[0].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("T", [1.0, 0.5])
def test_flat_rows_are_filtered_exactly_beyond_the_first_look(T: float) -> None:
    p = torch.full((1, 3000), 1 / 3000, dtype=torch.float64)
    assert sharpen(p, [rule(T, top_p=0.5)])[0].nonzero().shape[0] in (
        1500,
        1501,
    )  # 0.5 is met within rounding
    assert sharpen(p, [rule(T, top_k=777)])[0].nonzero()[:, 0].tolist() == list(range(777))


def test_greedy_and_plain_rows_are_left_as_they_are() -> None:
    p = random_row(0, 50, False).unsqueeze(0)
    assert sharpen(p, [rule(1.0)]) is p
    assert sharpen(p, [rule(0.0, 3, 0.5)]) is p
    assert rule(0.0).greedy
    assert not rule(1e-9).greedy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("T", [1e-2, 1e-4, 1e-6, 1e-20, 1e-37, 1e-39, 1e-300, 5e-324])
def test_tiny_temperatures_tend_to_the_argmax(T: float, dtype: torch.dtype) -> None:
    p = torch.tensor([[0.3, 0.5, 0.2, 0.0]], dtype=dtype)
    assert sharpen(p, [rule(T)])[0].tolist() == pytest.approx([0, 1, 0, 0], abs=1e-6)


def test_at_a_tie_tiny_temperatures_share_the_mass() -> None:
    p = torch.tensor([[0.4, 0.2, 0.4]], dtype=torch.float64)
    assert sharpen(p, [rule(1e-8)])[0].tolist() == pytest.approx([0.5, 0, 0.5])


def test_great_temperatures_flatten_and_keep_zeros() -> None:
    p = torch.tensor([[0.9, 0.1, 0.0]], dtype=torch.float64)
    assert sharpen(p, [rule(1e6)])[0].tolist() == pytest.approx([0.5, 0.5, 0.0], abs=1e-5)


RULES = [
    rule(1.0),
    rule(0.7),
    rule(0.7, top_p=0.9),
    rule(1.3, 40),
    rule(0.5, 300, 0.99),
    rule(1.0, top_p=0.5),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("own", RULES)
def test_a_row_does_not_depend_on_its_neighbours(own: SamplingRule, dtype: torch.dtype) -> None:
    """Another request in the batch must not take tokens away from this one's draw."""
    for seed in range(6):
        p = torch.stack([random_row(seed, 3000, False), random_row(seed + 50, 3000, False, 0.5)]).to(dtype)
        alone = sharpen(p[:1], [own])[0]
        for other in (*RULES, rule(0.0)):
            beside = sharpen(p, [own, other])[0]
            assert torch.equal(beside > 0, alone > 0), other
            torch.testing.assert_close(beside, alone, rtol=1e-6, atol=0)


weights = st.lists(st.integers(0, 9), min_size=1, max_size=400).filter(any)
dyadic = st.integers(0, 2**20 - 1).map(lambda n: n / 2**20)  # sums and products stay exact


@settings(max_examples=150, deadline=None, derandomize=True)
@given(weights, dyadic, st.sampled_from([torch.float32, torch.float64]))
def test_draw_is_the_inverse_cdf_in_id_order(w: list[int], u: float, dtype: torch.dtype) -> None:
    assert draw(torch.tensor(w, dtype=dtype), u) == naive.draw(w, u)
    assert draw_index([float(x) for x in w], u) == naive.draw(w, u)


LAST_U = 1 - 2.0**-53


@pytest.mark.parametrize("V", [1, 2, 63, 64, 65, 127, 1000])
@pytest.mark.parametrize("u", [0.0, 0.5, LAST_U])
def test_draw_never_takes_an_id_without_mass(V: int, u: float) -> None:
    for only in {0, V // 2, V - 1}:
        p = torch.zeros(V)
        p[only] = 0.1
        assert draw(p, u) == only
        assert draw_index(p.tolist(), u) == only


def test_draw_at_the_end_stops_before_a_tail_without_mass() -> None:
    p = torch.cat([torch.rand(300, generator=torch.Generator().manual_seed(0)), torch.zeros(1000)])
    assert draw(p, LAST_U) == 299
    assert draw(p / p.sum(), LAST_U) == 299
    assert draw_index(p.tolist(), LAST_U) == 299
    assert draw(p.flip(0), 0.0) == 1000


def test_draw_takes_weights_of_any_size() -> None:
    p = random_row(3, 500, False)
    for u in (0.01, 0.3, 0.77, 0.999):
        assert draw(p, u) == draw(p * 1e-30, u) == draw(p * 1e30, u)


def test_draw_hits_every_id_as_often_as_it_should() -> None:
    p = [0.125, 0.0, 0.5, 0.25, 0.125]
    hits = Counter(draw(torch.tensor(p), (i + 0.5) / 800) for i in range(800))
    assert [hits[i] / 800 for i in range(5)] == p
    hits = Counter(draw_index(p, (i + 0.5) / 800) for i in range(800))
    assert [hits[i] / 800 for i in range(5)] == p


def test_sharpening_keeps_the_entropy_order() -> None:
    p = random_row(11, 200, False).unsqueeze(0)
    rows = [sharpen(p, [rule(T)])[0] for T in (0.3, 0.7, 1.0, 2.0)]
    entropies = [-sum(x * math.log(x) for x in r.tolist() if x > 0) for r in rows]
    assert entropies == sorted(entropies)
