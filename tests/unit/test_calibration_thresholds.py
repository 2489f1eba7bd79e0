"""Thresholds keep the false-alarm rates they promise, whatever the distribution."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from langchain_ssd.calibration.fit import fit_signals, maximum
from langchain_ssd.calibration.thresholds import set_thresholds
from langchain_ssd.config import SequentialConfig
from langchain_ssd.errors import ConfigError

from .calibration_helpers import gaussian

DRAWS: dict[str, Callable[[random.Random], float]] = {
    "exponential": lambda rng: rng.expovariate(1.0),
    "heavy": lambda rng: rng.paretovariate(1.0),
    "mostly zero": lambda rng: 0.0 if rng.random() < 0.9 else 1 + rng.random(),
    "two values": lambda rng: float(rng.random() < 0.5) * 2,
}


@pytest.mark.parametrize("name", DRAWS)
def test_future_responses_pass_no_more_often_than_asked(name: str) -> None:
    """Mean over 400 calibrations of 120 responses each, five new ones after each."""
    rng, draw = random.Random(name), DRAWS[name]
    safety = refused = 0
    for _ in range(400):
        at = set_thresholds([draw(rng) for _ in range(120)], 0.05, 0.01)
        new = [draw(rng) for _ in range(5)]
        safety += sum(x >= at.h_safety for x in new)
        refused += sum(x >= at.h_refuse for x in new)
        assert at.bounded
    # Standard errors of 2,000 draws are 0.005 and 0.0022.
    assert safety / 2000 <= 0.05 + 0.012
    assert refused / 2000 <= 0.01 + 0.006
    if name in ("exponential", "heavy"):
        assert safety / 2000 >= 0.03


def test_ranks_are_exact() -> None:
    at = set_thresholds([float(n) for n in range(1, 100)], 0.05, 0.01)
    assert at.h_safety == pytest.approx(95)
    assert at.h_refuse == pytest.approx(99)
    assert at.h_safety > 95  # the value itself raises no alarm
    assert at.h_release == pytest.approx(at.h_safety / 2)
    assert at.safety.low <= at.safety.value <= 95 <= at.safety.high
    assert at.bounded
    assert at.responses == 99


def test_median_response_is_never_withheld_where_the_threshold_is_far_above_it() -> None:
    values = [1.0] * 70 + [2 + n / 10 for n in range(50)]
    assert set_thresholds(values, 0.05, 0.01).h_release == 1.0


def test_too_few_responses_for_a_rate_continue_along_the_tail_and_say_so() -> None:
    rng = random.Random(7)
    values = [rng.expovariate(1.0) for _ in range(60)]
    at = set_thresholds(values, 0.05, 0.01)
    assert not at.bounded
    assert max(values) < at.h_refuse < max(values) + 3
    assert at.h_safety < max(values)
    assert at.refuse.high == float("inf")


def test_thresholds_are_always_in_an_order_that_the_settings_take() -> None:
    for values in ([0.0] * 60, [3.0] * 60, [0.0] * 59 + [100.0], [float(n) for n in range(60)]):
        at = set_thresholds(values, 0.05, 0.01)
        SequentialConfig(h_safety=at.h_safety, h_release=at.h_release, h_refuse=at.h_refuse)


def test_few_responses_and_odd_rates_are_typed_errors() -> None:
    with pytest.raises(ConfigError, match="49 benign responses are too few"):
        set_thresholds([1.0] * 49, 0.05, 0.01)
    for rates in ((0.01, 0.05), (1.0, 0.1), (0.1, 0.0)):
        with pytest.raises(ConfigError, match="rates"):
            set_thresholds([1.0] * 60, *rates)


@pytest.mark.parametrize("gap", [0.0, 0.6])
def test_false_alarms_stay_within_the_budget_also_for_a_draft_that_tells_nothing(gap: float) -> None:
    weights = fit_signals(gaussian(60, 60, gap, seed=1), 64)["all"].weights
    at = set_thresholds([maximum(weights, t) for t in gaussian(300, 0, gap, seed=2)], 0.05, 0.01)
    new = [maximum(weights, t) for t in gaussian(500, 0, gap, seed=3)]
    assert sum(x >= at.h_safety for x in new) / 500 <= 0.05 + 0.03
    assert sum(x >= at.h_refuse for x in new) / 500 <= 0.01 + 0.015
    unsafe = [maximum(weights, t) for t in gaussian(0, 100, gap, seed=4)]
    detected = sum(x >= at.h_safety for x in unsafe) / 100
    assert detected > 0.9 if gap else detected < 0.2
