"""Numbers with their uncertainty: shares, differences of shares, quantiles and AUROC. Pure Python.

None of the intervals is the textbook "plus or minus" one: those shrink to a point at 0 and at 1, which is
where a safety figure should be.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_HALVINGS = 60  # of an interval inside [0, 1]: down to the last bit of a float


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence limits, ``low <= value <= high``. A limit may be infinite."""

    value: float
    low: float
    high: float


def wilson(successes: int, total: int, z: float = 1.96) -> Interval:
    """Wilson's score interval for a share.

    Args:
        successes: how many of ``total`` count.
        total: how many were looked at.
        z: standard deviations of the normal curve; 1.96 for 95 percent.

    Raises:
        ValueError: ``total`` is not positive, or ``successes`` is not between 0 and ``total``.
    """
    if total <= 0 or not 0 <= successes <= total:
        raise ValueError(f"{successes} of {total} is no share")
    share = successes / total
    middle = share + z * z / (2 * total)
    reach = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    scale = 1 + z * z / total
    low, high = (middle - reach) / scale, (middle + reach) / scale
    # At 0 and 1 one limit is the share itself; float dust must not push it to the wrong side.
    return Interval(share, max(0.0, min(share, low)), min(1.0, max(share, high)))


def newcombe_difference(
    successes_a: int, total_a: int, successes_b: int, total_b: int, z: float = 1.96
) -> Interval:
    """Newcombe's hybrid score interval for share A minus share B of two independent samples.

    This is method 10 of Newcombe (1998).  Do not use it for two answers to the same prompts: those are
    paired, and this interval is then too wide.

    Args:
        successes_a: how many of ``total_a`` count.
        total_a: size of sample A.
        successes_b: how many of ``total_b`` count.
        total_b: size of sample B.
        z: standard deviations of the normal curve; 1.96 for 95 percent.

    Raises:
        ValueError: a sample is empty, or its successes are not between 0 and its size.
    """
    a, b = wilson(successes_a, total_a, z), wilson(successes_b, total_b, z)
    value = a.value - b.value
    down = math.hypot(a.value - a.low, b.high - b.value)
    up = math.hypot(a.high - a.value, b.value - b.low)
    return Interval(value, value - down, value + up)


def quantile_interval(values: Sequence[float], q: float, confidence: float = 0.95) -> Interval:
    """A distribution-free interval for a quantile: its limits are two of the values themselves.

    The count of values below the true quantile is binomial whatever the distribution, so the limits are
    the order statistics that leave at most half the error on either side.  Coverage is at least
    ``confidence``.  Too few values for a limit make it infinite rather than wrong.

    Args:
        values: independent draws, in any order; none may be NaN.
        q: which quantile, strictly between 0 and 1.
        confidence: coverage asked for, strictly between 0 and 1.

    Returns:
        The smallest value with a share ``q`` of the sample at or below it, and its limits.

    Raises:
        ValueError: no values, a NaN among them, or ``q`` or ``confidence`` outside (0, 1).
    """
    if not (0 < q < 1 and 0 < confidence < 1):
        raise ValueError(f"q={q} and confidence={confidence} must lie strictly between 0 and 1")
    ordered = _ordered(values)
    tail = (1 - confidence) / 2
    below = _binomial_at_most(len(ordered), q)
    low = sum(chance <= tail for chance in below) - 1  # place of the lower limit, from 0
    # The upper tail is counted from its own end: 1 minus a sum would lose small chances.
    above = _binomial_at_most(len(ordered), 1 - q)
    high = len(ordered) - sum(chance <= tail for chance in above)
    middle = max(0, math.ceil(len(ordered) * q - 1e-9) - 1)  # 100 * 0.07 is 7.000000000000001
    return Interval(
        ordered[middle],
        ordered[low] if low >= 0 else -math.inf,
        ordered[high] if high < len(ordered) else math.inf,
    )


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The chance that a positive scores above a negative, ties counting half. O(n log n).

    Args:
        positive: scores of the cases that should score high.
        negative: scores of the others.

    Raises:
        ValueError: one of the two is empty or holds a NaN.
    """
    ordered = _ordered(negative)
    wins = sum(bisect_left(ordered, score) + bisect_right(ordered, score) for score in _ordered(positive))
    return wins / (2 * len(positive) * len(negative))


def auroc_interval(positive: Sequence[float], negative: Sequence[float], z: float = 1.96) -> Interval:
    """Hanley and McNeil's interval for the AUROC, with their variance taken at the limits.

    A limit is the AUROC under which the one observed lies ``z`` standard errors off (Newcombe 2006), just
    as Wilson's is for a share.  So a perfect 1.0 has an honest lower limit, where DeLong's has none.

    Args:
        positive: scores of the cases that should score high.
        negative: scores of the others.
        z: standard deviations of the normal curve; 1.96 for 95 percent.

    Raises:
        ValueError: one of the two is empty or holds a NaN.
    """
    area = auroc(positive, negative)
    sizes = len(positive), len(negative)
    low = _first_true(lambda limit: area - limit <= z * _hanley_mcneil(limit, *sizes), 0.0, area)
    high = _first_true(lambda limit: limit - area >= z * _hanley_mcneil(limit, *sizes), area, 1.0)
    return Interval(area, low, high)


def _ordered(values: Sequence[float]) -> list[float]:
    if not values or any(math.isnan(value) for value in values):
        raise ValueError("values are needed, and none of them NaN")
    return sorted(values)


def _binomial_at_most(draws: int, chance: float) -> list[float]:
    """The chances of at most 0, 1, ..., ``draws - 1`` hits. Logarithms, for big factorials overflow."""
    yes, no = math.log(chance), math.log1p(-chance)
    total, sums = 0.0, []
    for hits in range(draws):
        ways = math.lgamma(draws + 1) - math.lgamma(hits + 1) - math.lgamma(draws - hits + 1)
        total += math.exp(ways + hits * yes + (draws - hits) * no)
        sums.append(total)
    return sums


def _hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    """The standard error of an AUROC whose true value is ``area`` (Hanley and McNeil 1982)."""
    two_positives = area / (2 - area) - area**2
    two_negatives = 2 * area**2 / (1 + area) - area**2
    spread = area * (1 - area) + (positives - 1) * two_positives + (negatives - 1) * two_negatives
    return math.sqrt(max(0.0, spread) / (positives * negatives))


def _first_true(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that is false on the left and true on the right begins to hold, by halving."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
