"""Two systems on the same prompts: McNemar's test, intervals of differences, equivalence. Pure Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .statistics import Interval

MARGIN = 0.03  # "as helpful as": within three points
_Z95, _Z90 = 1.959964, 1.644854


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """Of ``n`` prompts: those that count only under A, and those that count only under B."""

    n: int
    only_a: int
    only_b: int


def count_pairs(a: Sequence[bool], b: Sequence[bool]) -> PairedCounts:
    """Discordant pairs of two systems' outcomes on the same prompts.

    Raises:
        ValueError: the two are not equally long.
    """
    pairs = list(zip(a, b, strict=True))
    return PairedCounts(len(pairs), sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs))


def mcnemar(counts: PairedCounts) -> float:
    """The exact two-sided p-value: under no difference, discordant pairs fall either way like a coin."""
    flips = counts.only_a + counts.only_b
    fewer = min(counts.only_a, counts.only_b)
    tail = sum(math.comb(flips, k) for k in range(fewer + 1)) / 2**flips
    return float(min(1.0, 2 * tail))


def paired_difference(counts: PairedCounts, z: float = _Z95) -> Interval:
    """Share under A minus share under B, with the adjusted Wald interval of Bonett and Price (2012).

    Raises:
        ValueError: there are no pairs.
    """
    if counts.n <= 0:
        raise ValueError("a difference needs at least one pair")
    n = counts.n + 2
    a, b = (counts.only_a + 1) / n, (counts.only_b + 1) / n
    reach = z * math.sqrt((a + b - (a - b) ** 2) / n)
    value = (counts.only_a - counts.only_b) / counts.n
    low, high = max(-1.0, a - b - reach), min(1.0, a - b + reach)
    return Interval(value, min(low, value), max(high, value))


def are_equivalent(counts: PairedCounts, margin: float = MARGIN) -> bool:
    """Two one-sided tests at 5 %: the 90 % interval of the difference lies within the margin."""
    interval = paired_difference(counts, _Z90)
    return -margin < interval.low and interval.high < margin


def mean_difference(differences: Sequence[float], z: float = _Z95) -> Interval:
    """The mean of paired differences of any kind, with the normal interval.

    Raises:
        ValueError: fewer than two of them.
    """
    n = len(differences)
    if n < 2:
        raise ValueError("an interval needs at least two differences")
    mean = math.fsum(differences) / n
    variance = math.fsum((d - mean) ** 2 for d in differences) / (n - 1)
    reach = z * math.sqrt(variance / n)
    return Interval(mean, mean - reach, mean + reach)


def means_are_equivalent(differences: Sequence[float], margin: float = MARGIN) -> bool:
    """As :func:`are_equivalent`, for the mean of paired differences."""
    interval = mean_difference(differences, _Z90)
    return -margin < interval.low and interval.high < margin


def kappa(a: Sequence[bool], b: Sequence[bool]) -> float | None:
    """Cohen's kappa of two judges; ``None`` where chance alone would make them agree always."""
    n = len(a)
    agreed = sum(x == y for x, y in zip(a, b, strict=True)) / n if n else 1.0
    both = sum(a) / n * sum(b) / n + (1 - sum(a) / n) * (1 - sum(b) / n) if n else 1.0
    return None if both >= 1 else (agreed - both) / (1 - both)
