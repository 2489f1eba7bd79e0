"""Intervals and AUROC against scipy, published values, brute force and simulated coverage."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from langchain_ssd.evaluation.statistics import (
    Interval,
    auroc,
    auroc_interval,
    newcombe_difference,
    quantile_interval,
    wilson,
)

Z = float(stats.norm.ppf(0.975))
SHARES = st.integers(1, 2000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))
SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40)
VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200)


def ordered(interval: Interval) -> bool:
    return interval.low <= interval.value <= interval.high


@given(SHARES)
def test_wilson_is_scipys(share: tuple[int, int]) -> None:
    ours = wilson(*share, z=Z)
    theirs = stats.binomtest(*share).proportion_ci(0.95, method="wilson")
    assert ours.value == share[0] / share[1]
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ordered(ours)


def test_wilson_at_the_ends_is_exact_and_honest() -> None:
    assert wilson(0, 100).low == 0
    assert wilson(100, 100).high == 1
    assert wilson(0, 100).high == pytest.approx(0.0370, abs=1e-4)


@pytest.mark.parametrize(("successes", "total"), [(0, 0), (1, 0), (-1, 5), (6, 5), (0, -1)])
def test_no_share(successes: int, total: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        wilson(successes, total)
    with pytest.raises(ValueError, match="no share"):
        newcombe_difference(1, 2, successes, total)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [  # Newcombe 1998, table II, method 10
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((10, 10, 0, 10), 0.6075, 1.0000),
    ],
)
def test_newcombe_as_published(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    ours = newcombe_difference(*counts, z=Z)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=5e-5)


@given(SHARES, SHARES)
def test_newcombe_turns_with_its_samples(a: tuple[int, int], b: tuple[int, int]) -> None:
    ours, turned = newcombe_difference(*a, *b), newcombe_difference(*b, *a)
    assert ordered(ours)
    assert (ours.low, ours.high) == pytest.approx((-turned.high, -turned.low))
    assert ours.low >= -1 - 1e-12
    assert ours.high <= 1 + 1e-12


# The levels are odd ones: at a chance of exactly half the error, rounding decides, and either is right.
@given(
    VALUES, st.sampled_from([0.01, 0.05, 0.25, 0.5, 0.9, 0.95, 0.99]), st.sampled_from([0.53, 0.91, 0.953])
)
def test_quantile_interval_is_scipys(values: list[float], q: float, confidence: float) -> None:
    ours = quantile_interval(values, q, confidence)
    theirs = stats.quantile_test(values, q=0, p=q).confidence_interval(confidence)
    assert ours.low == (-math.inf if math.isnan(theirs.low) else theirs.low)
    assert ours.high == (math.inf if math.isnan(theirs.high) else theirs.high)
    assert ordered(ours)
    assert ours.value == np.quantile(values, q, method="inverted_cdf")


@pytest.mark.parametrize(("q", "size"), [(0.95, 100), (0.95, 400), (0.5, 30), (0.1, 60)])
def test_quantile_interval_covers(q: float, size: int) -> None:
    draw = random.Random(7)
    true = -math.log(1 - q)  # of the exponential distribution
    runs = 1000
    hits = 0
    for _ in range(runs):
        interval = quantile_interval([draw.expovariate(1) for _ in range(size)], q)
        hits += interval.low <= true <= interval.high
    assert wilson(hits, runs, z=3).high >= 0.95  # coverage is promised to be at least this
    assert hits / runs <= 0.995  # and the interval is not needlessly wide


def test_a_small_sample_gives_an_infinite_limit() -> None:
    assert quantile_interval([1.0, 2.0, 3.0], 0.95) == Interval(3.0, 2.0, math.inf)
    assert quantile_interval([5.0], 0.5) == Interval(5.0, -math.inf, math.inf)


def test_many_values_do_not_overflow() -> None:
    interval = quantile_interval([float(value) for value in range(20_000)], 0.99)
    assert interval.low < 19_799 == interval.value < interval.high


@pytest.mark.parametrize(
    ("values", "q", "confidence"),
    [
        ([], 0.5, 0.9),
        ([math.nan], 0.5, 0.9),
        ([1.0], 0, 0.9),
        ([1.0], 1, 0.9),
        ([1.0], 0.5, 0),
        ([1.0], 0.5, 1),
    ],
)
def test_no_quantile(values: list[float], q: float, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"values are needed|strictly between"):
        quantile_interval(values, q, confidence)


@given(SCORES, SCORES)
def test_auroc_is_brute_force_and_mann_whitney(positive: list[float], negative: list[float]) -> None:
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert auroc(positive, negative) == pytest.approx(sum(pairs) / len(pairs))
    u = (
        stats.mannwhitneyu(positive, negative, method="asymptotic").statistic
        if len(pairs) > 1
        else sum(pairs)
    )
    assert auroc(positive, negative) == pytest.approx(u / len(pairs))


@given(SCORES, SCORES)
def test_auroc_is_symmetric_and_blind_to_scale(positive: list[float], negative: list[float]) -> None:
    area = auroc(positive, negative)
    assert auroc(negative, positive) == pytest.approx(1 - area)
    assert auroc([3 * p - 1 for p in positive], [3 * n - 1 for n in negative]) == area


@given(SCORES, SCORES)
def test_auroc_interval_is_ordered_and_inside(positive: list[float], negative: list[float]) -> None:
    interval = auroc_interval(positive, negative)
    assert interval.value == auroc(positive, negative)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_auroc_interval_stands_z_standard_errors_off() -> None:
    """Hanley and McNeil's standard error, written out as in their paper."""
    draw = random.Random(3)
    positive, negative = [draw.gauss(1, 1) for _ in range(40)], [draw.gauss(0, 1) for _ in range(60)]
    interval = auroc_interval(positive, negative)
    for limit in (interval.low, interval.high):
        q1, q2 = limit / (2 - limit), 2 * limit**2 / (1 + limit)
        variance = (limit * (1 - limit) + 39 * (q1 - limit**2) + 59 * (q2 - limit**2)) / (40 * 60)
        assert abs(interval.value - limit) == pytest.approx(1.96 * math.sqrt(variance))


def test_a_perfect_auroc_is_not_certain() -> None:
    few = auroc_interval([2.0] * 10, [1.0] * 10)
    many = auroc_interval([2.0] * 1000, [1.0] * 1000)
    assert few.value == few.high == many.high == 1
    assert 0.5 < few.low < many.low < 1
    assert auroc_interval([1.0], [2.0]).low == 0


@pytest.mark.parametrize(("shift", "size"), [(0.0, 30), (1.0, 30), (2.0, 50)])
def test_auroc_interval_covers(shift: float, size: int) -> None:
    draw = random.Random(11)
    true = float(stats.norm.cdf(shift / math.sqrt(2)))
    runs = 500
    hits = 0
    for _ in range(runs):
        interval = auroc_interval(
            [draw.gauss(shift, 1) for _ in range(size)], [draw.gauss(0, 1) for _ in range(size)]
        )
        hits += interval.low <= true <= interval.high
    assert 0.92 <= hits / runs <= 0.985


@pytest.mark.parametrize(
    ("positive", "negative"), [([], [1.0]), ([1.0], []), ([math.nan], [1.0]), ([1.0], [math.nan])]
)
def test_no_auroc(positive: list[float], negative: list[float]) -> None:
    with pytest.raises(ValueError, match="values are needed"):
        auroc(positive, negative)
    with pytest.raises(ValueError, match="values are needed"):
        auroc_interval(positive, negative)
