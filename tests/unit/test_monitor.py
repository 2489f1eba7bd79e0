"""Both monitors and the refusal rule: thresholds, bins, what is cleared for showing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from langchain_ssd.decoding.monitor import (
    BinVerdict,
    Evidence,
    LinearLogOdds,
    Monitor,
    PaperMonitor,
    PaperSettings,
    SequentialMonitor,
    SequentialSettings,
)
from langchain_ssd.decoding.refusal import RefusalRule

CALM = Evidence(0, agreement=True, kl=0.1, total_variation=0.1, entropy_target=1.0, entropy_draft=1.0)
DIFFERS = replace(CALM, agreement=False)
FORCED = replace(DIFFERS, scored=False)


def step(monitor: Monitor, evidence: Evidence, accepted: bool) -> BinVerdict | None:
    monitor.observe(evidence)
    return monitor.settle(accepted)


def bins(monitor: PaperMonitor, accepted: list[int], evidence: Evidence = CALM) -> list[BinVerdict]:
    """One bin for every count of accepted tokens."""
    size, out = monitor.settings.bin_size, []
    for n in accepted:
        out += [v for i in range(size) if (v := step(monitor, evidence, i < n)) is not None]
    return out


def test_theta_falls_to_exactly_zero_while_the_mode_stays() -> None:
    monitor = PaperMonitor(PaperSettings())
    verdicts = bins(monitor, [7] * 8)
    assert [v.threshold for v in verdicts] == [0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, 0.0]
    assert {v.verdict for v in verdicts} == {"utility"}
    assert [v.index for v in verdicts] == list(range(8))


@pytest.mark.parametrize(("theta", "decay", "expected"), [(0.5, 0.1, [0.5, 0.4, 0.3]), (0.9, 0.0, [0.9] * 3)])
def test_theta_table(theta: float, decay: float, expected: list[float]) -> None:
    monitor = PaperMonitor(PaperSettings(theta=theta, theta_decay=decay))
    assert [v.threshold for v in bins(monitor, [7, 7, 7])] == expected


def test_a_bin_at_the_threshold_is_calm_and_one_below_is_not() -> None:
    settings = PaperSettings(bin_size=10, theta=0.6)
    assert bins(PaperMonitor(settings), [6])[0].verdict == "utility"
    assert bins(PaperMonitor(settings), [5])[0].verdict == "safety"


def test_a_change_puts_theta_and_alpha_back() -> None:
    monitor = PaperMonitor(PaperSettings(alpha_utility=0.45, alpha_floor=0.0, alpha_decay=0.15))
    bins(monitor, [7, 7])
    assert (monitor.theta, monitor.alpha) == (0.4, 0.15)
    assert bins(monitor, [0])[0].verdict == "safety"
    assert (monitor.theta, monitor.alpha, monitor.mode) == (0.6, 0.8, "safety")
    bins(monitor, [0])  # safety stays: theta falls there too
    assert (monitor.theta, monitor.alpha, monitor.mode) == (0.5, 0.8, "safety")
    bins(monitor, [7])
    assert (monitor.theta, monitor.alpha, monitor.mode) == (0.6, 0.45, "utility")


def test_alpha_decays_to_its_floor_and_not_below() -> None:
    monitor = PaperMonitor(PaperSettings(alpha_utility=0.45, alpha_floor=0.1, alpha_decay=0.15))
    seen = []
    for _ in range(5):
        seen.append(monitor.observe(CALM).alpha)
        bins(monitor, [7])
    assert seen == [0.45, 0.3, 0.15, 0.1, 0.1]


def test_the_default_alpha_does_not_move() -> None:
    monitor = PaperMonitor(PaperSettings())
    bins(monitor, [7] * 10)
    assert monitor.observe(CALM).alpha == 0.3


def test_a_verdict_rules_the_next_bin_and_not_its_own() -> None:
    monitor = PaperMonitor(PaperSettings(bin_size=2))
    modes = []
    for accepted in (False, False, True, True, True):
        modes.append(monitor.observe(CALM).mode)
        monitor.settle(accepted)
    assert modes == ["utility", "utility", "safety", "safety", "utility"]


def test_beta_counts_accepted_and_the_match_ratio_agreeing() -> None:
    monitor = PaperMonitor(PaperSettings(bin_size=4))
    step(monitor, CALM, False)
    step(monitor, CALM, False)
    step(monitor, CALM, False)
    verdict = step(monitor, DIFFERS, True)
    assert verdict == BinVerdict(0, 0.75, 0.25, 0.6, "utility", "safety")


def test_unscored_positions_fill_the_bin_and_beta_but_not_the_match_ratio() -> None:
    monitor = PaperMonitor(PaperSettings(bin_size=4))
    for evidence in (CALM, FORCED, FORCED):
        assert step(monitor, evidence, True) is None
    verdict = step(monitor, DIFFERS, False)
    assert verdict is not None
    assert (verdict.match_ratio, verdict.acceptance) == (0.5, 0.75)


@pytest.mark.parametrize("accepted", [True, False])
def test_a_bin_with_nothing_scored_has_match_ratio_1(accepted: bool) -> None:
    for monitor in (PaperMonitor(PaperSettings(bin_size=3)), sequential(bin_size=3)):
        for _ in range(2):
            assert step(monitor, FORCED, accepted) is None
        verdict = step(monitor, FORCED, accepted)
        assert verdict is not None
        assert (verdict.match_ratio, verdict.acceptance) == (1.0, float(accepted))


def test_bins_start_afresh() -> None:
    first, second = bins(PaperMonitor(PaperSettings()), [0, 7])
    assert (first.acceptance, second.acceptance) == (0.0, 1.0)
    assert (first.mode, first.verdict, second.mode, second.verdict) == (
        "utility",
        "safety",
        "safety",
        "utility",
    )


def test_paper_clears_a_bin_when_it_and_the_next_have_passed() -> None:
    monitor = PaperMonitor(PaperSettings(bin_size=2, theta_decay=0.0))
    cleared = []
    for accepted in (2, 2, 2, 0, 2, 2, 0, 0, 2, 2):
        bins(monitor, [accepted])
        cleared.append(monitor.cleared)
    #                 bin: 0  1  2  3: low   4  5  6, 7: low    8  9
    assert cleared == [0, 2, 4, 4, 4, 10, 10, 10, 10, 18]


def test_paper_clears_nothing_inside_a_bin() -> None:
    monitor = PaperMonitor(PaperSettings(bin_size=5))
    for n in range(1, 20):
        step(monitor, CALM, True)
        assert monitor.cleared == max(0, n // 5 - 1) * 5


def fixed(monitor_scores: list[float]) -> LinearLogOdds:
    """Log-odds from a script."""
    values = iter(monitor_scores)
    return lambda evidence: next(values)  # type: ignore[return-value]


def sequential(scores: list[float] | None = None, **changes: float) -> SequentialMonitor:
    log_odds = LinearLogOdds() if scores is None else fixed(scores)
    return SequentialMonitor(SequentialSettings(**{**DEFAULTS, "log_odds": log_odds, **changes}))


DEFAULTS = {"h_safety": 4.0, "h_release": 1.0, "h_refuse": 24.0}


def test_sequential_keeps_its_mode_between_the_thresholds() -> None:
    monitor = sequential([2, 1.9, 0.1, -2, -0.9, -0.1, 2, -9])
    seen = [(monitor.observe(CALM).mode, monitor.statistic) for _ in range(8)]
    assert [mode for mode, _ in seen] == ["utility"] * 2 + ["safety"] * 3 + ["utility"] * 3
    assert [s for _, s in seen] == pytest.approx([2, 3.9, 4.0, 2.0, 1.1, 1.0, 3.0, 0.0])


def test_sequential_weights() -> None:
    monitor = sequential([5, -5], alpha_utility=0.2, alpha_safety=0.9)
    assert monitor.observe(CALM).alpha == 0.9
    assert monitor.observe(CALM).alpha == 0.2


def test_sequential_refuses_at_its_threshold() -> None:
    monitor = sequential([12, 11.5, 0.5])
    assert [monitor.observe(CALM).refuse for _ in range(3)] == [False, False, True]
    never = sequential([1e9], h_refuse=math.inf)
    assert never.observe(CALM).refuse is False


def test_sequential_does_not_move_on_an_unscored_position() -> None:
    monitor = sequential()
    for _ in range(50):
        assert monitor.observe(replace(FORCED, kl=100.0)).mode == "utility"
        assert monitor.statistic == 0.0


def test_sequential_clears_up_to_the_last_calm_token() -> None:
    #                      utility  rising   safety    falling     calm   calm rising
    monitor = sequential([0.0, 0.5, 1.5, 0.5, 2.0, 0.0, -2.0, -1.0, -0.6, -0.9, 1.2])
    cleared = []
    for _ in range(11):
        step(monitor, CALM, True)
        cleared.append(monitor.cleared)
    assert cleared == [1, 2, 2, 2, 2, 2, 2, 2, 9, 10, 10]


def test_sequential_bins_are_telemetry() -> None:
    monitor = sequential([-1] * 20, bin_size=2)
    step(monitor, CALM, False)
    assert step(monitor, DIFFERS, False) == BinVerdict(0, 0.5, 0.0, None, "utility", "utility")
    assert monitor.mode == "utility"


@pytest.mark.parametrize("make", [lambda: PaperMonitor(PaperSettings()), sequential])
def test_settling_what_was_not_observed_is_an_error(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RuntimeError, match="observe"):
        make().settle(True)


def test_log_odds_are_linear() -> None:
    e = Evidence(6, False, 2.0, 0.5, 1.5, 0.25)
    model = LinearLogOdds(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, clip=100)
    assert model(e) == pytest.approx(0.1 + 0.2 + 0.6 + 0.2 + 0.75 + 0.15 + 0.7 * math.log(7))
    assert model(replace(e, agreement=True)) == pytest.approx(model(e) - 0.2)


def test_one_position_moves_the_statistic_at_most_by_the_clip() -> None:
    model = LinearLogOdds(clip=4.0)
    assert model(replace(DIFFERS, kl=1e9)) == 4.0
    assert LinearLogOdds(bias=-50.0)(CALM) == -4.0


@pytest.mark.parametrize("kl", [math.inf, math.nan])
def test_evidence_that_is_no_number_counts_as_attack(kl: float) -> None:
    """Whatever goes wrong in the arithmetic must not look calm."""
    monitor = sequential(h_safety=3.0)
    assert monitor.observe(replace(CALM, kl=kl)).mode == "safety"
    assert monitor.statistic == 4.0


def low(mode: str = "safety", verdict: str = "safety", ratio: float = 0.1) -> BinVerdict:
    return BinVerdict(0, ratio, 0.0, 0.6, mode, verdict)  # type: ignore[arg-type]


def test_refusal_needs_patience_low_bins_in_a_row() -> None:
    rule = RefusalRule(patience=3, refuse_below=0.3)
    assert [rule.refuses(low()) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("other", [low(mode="utility"), low(verdict="utility"), low(ratio=0.3)])
def test_any_other_bin_starts_the_count_again(other: BinVerdict) -> None:
    rule = RefusalRule(patience=2, refuse_below=0.3)
    assert [rule.refuses(v) for v in (low(), other, low(), low())] == [False, False, False, True]


def test_refusal_can_be_switched_off() -> None:
    rule = RefusalRule(patience=1, refuse_below=-1.0)
    assert not any(rule.refuses(low(ratio=0.0)) for _ in range(20))
