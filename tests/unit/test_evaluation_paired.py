"""Paired statistics against scipy, brute force and simulation."""

from __future__ import annotations

import itertools
import random

import pytest
from scipy import stats

from langchain_ssd.evaluation.paired import (
    PairedCounts,
    are_equivalent,
    count_pairs,
    kappa,
    mcnemar,
    mean_difference,
    means_are_equivalent,
    paired_difference,
)


@pytest.mark.parametrize(("a", "b"), list(itertools.product(range(0, 14, 3), repeat=2)))
def test_mcnemar_is_the_exact_binomial_test(a: int, b: int) -> None:
    expected = stats.binomtest(a, a + b, 0.5).pvalue if a + b else 1.0
    assert mcnemar(PairedCounts(100, a, b)) == pytest.approx(expected)


def test_pairs_are_counted_by_prompt() -> None:
    assert count_pairs([True, True, False, False], [True, False, True, False]) == PairedCounts(4, 1, 1)
    with pytest.raises(ValueError, match="argument"):
        count_pairs([True], [True, False])


@pytest.mark.parametrize(("p", "q", "n"), [(0.1, 0.05, 100), (0.02, 0.02, 300), (0.4, 0.1, 60)])
def test_the_interval_of_a_paired_difference_covers(p: float, q: float, n: int) -> None:
    rng = random.Random(1)
    covered = 0
    for _ in range(1500):
        draws = [rng.random() for _ in range(n)]
        counts = PairedCounts(n, sum(x < p for x in draws), sum(p <= x < p + q for x in draws))
        interval = paired_difference(counts)
        covered += interval.low <= p - q <= interval.high
    assert covered / 1500 >= 0.94


def test_equivalence_needs_enough_prompts_and_a_small_difference() -> None:
    assert not are_equivalent(PairedCounts(50, 0, 0))  # nothing differs, but too few to say so
    assert are_equivalent(PairedCounts(1000, 5, 5))
    assert not are_equivalent(PairedCounts(1000, 60, 10))


@pytest.mark.parametrize("truth", [0.03, 0.04])
def test_what_is_not_equivalent_is_seldom_called_so(truth: float) -> None:
    rng = random.Random(2)
    wrong = 0
    for _ in range(800):
        draws = [rng.random() for _ in range(1000)]
        counts = PairedCounts(1000, sum(x < truth + 0.01 for x in draws), sum(x > 0.99 for x in draws))
        wrong += are_equivalent(counts)
    assert wrong / 800 <= 0.08  # 5 % and the noise of 800 draws


def test_the_mean_of_differences_is_scipys() -> None:
    values = [0.1, -0.2, 0.05, 0.3, 0.0, 0.12]
    interval = mean_difference(values)
    low, high = stats.norm.interval(0.95, loc=sum(values) / 6, scale=stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert means_are_equivalent([0.01, -0.01] * 500)
    assert not means_are_equivalent([-0.04, -0.03] * 500)
    with pytest.raises(ValueError, match="two"):
        mean_difference([0.1])


def test_kappa_is_none_where_chance_explains_everything() -> None:
    assert kappa([True] * 5, [True] * 5) is None
    assert kappa([True, False], [True, False]) == pytest.approx(1)
    assert kappa([True, False, True, False], [True, True, False, False]) == pytest.approx(0)
