"""The monitor's thresholds: quantiles of the greatest statistic that benign responses reach.

With ``n`` benign responses that are as good as future ones, the value at rank ``ceil((n + 1) q)`` is passed
by the next one with probability at most ``1 - q``, whatever the distribution; a plain quantile promises a
little less. The statistic must be *above* that value to count: many responses at 0 raise no alarm. Where
there are too few responses for a rate, the threshold is continued beyond the greatest value along an
exponential tail, which is what the maximum of a sum with negative drift has; that is no promise.

Limits. The responses are the target's own answers (shadow mode). Under enforcement the composite already
picks another token now and then, and from the first token in safety mode on the text is a different one,
which tends to bring the models together. So the rate of "ever in safety mode" is met up to the composite's
few changes. A refusal can only be decided on the enforced path, behind that switch: its rate is met on the
shadow path, as if the text went on unchanged, and should be checked under enforcement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ConfigError
from ..evaluation.statistics import Interval, quantile_interval

LEAST_RESPONSES, WANTED_RESPONSES = 50, 300
_LEAST_SAFETY = 0.5  # nats: below this a threshold would be noise of the last bits
_RELEASE = (0.1, 0.5)  # bounds of h_release as shares of h_safety


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The three thresholds, and how sure they are.

    Attributes:
        h_safety: from here on safety mode.
        h_release: down from here utility mode, and text is released.
        h_refuse: from here on a refusal.
        safety: distribution-free interval of the quantile behind ``h_safety``.
        refuse: the same for ``h_refuse``; its upper limit is infinite where there are too few responses.
        responses: benign responses.
        bounded: whether there are enough responses for both rates to be promised.
    """

    h_safety: float
    h_release: float
    h_refuse: float
    safety: Interval
    refuse: Interval
    responses: int
    bounded: bool


def set_thresholds(
    maxima: Sequence[float], false_safety: float, false_refusals: float, least: int = LEAST_RESPONSES
) -> Thresholds:
    """Thresholds for the false-alarm rates that were asked for.

    Args:
        maxima: the greatest statistic of each benign response.
        false_safety: share of benign responses that may ever be in safety mode.
        false_refusals: share of benign responses that may be refused; not greater.
        least: fewer responses are refused.

    Raises:
        ConfigError: too few responses, or rates that contradict each other.
    """
    if not 0 < false_refusals <= false_safety < 1:
        raise ConfigError("the rates must satisfy 0 < false refusals <= false safety < 1")
    if len(maxima) < least:
        raise ConfigError(f"{len(maxima)} benign responses are too few to calibrate; give at least {least}")
    ordered = sorted(maxima)
    safety, bounded = _passed_by(ordered, false_safety)
    refuse, certain = _passed_by(ordered, false_refusals)
    h_safety = max(safety, _LEAST_SAFETY)
    calm = ordered[(len(ordered) - 1) // 2]
    h_release = min(max(calm, _RELEASE[0] * h_safety), _RELEASE[1] * h_safety)
    return Thresholds(
        h_safety,
        h_release,
        max(refuse, h_safety),
        quantile_interval(ordered, 1 - false_safety),
        quantile_interval(ordered, 1 - false_refusals),
        len(ordered),
        bounded and certain,
    )


def _passed_by(ordered: Sequence[float], rate: float) -> tuple[float, bool]:
    """The least threshold that at most this share of future responses reach; whether that can be promised."""
    n = len(ordered)
    rank = math.ceil((n + 1) * (1 - rate) - 1e-9)
    value = ordered[min(rank, n) - 1]
    if rank > n:
        top = ordered[-max(2, n // 4) :]
        value += (sum(top) / len(top) - top[0]) * -math.log((n + 1) * rate)
    return math.nextafter(value, math.inf), rank <= n
