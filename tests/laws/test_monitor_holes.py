"""Holes 1, 2, 3, 5, 7, 8 and 9 of the published monitor: each is there in `paper`, and not in `sequential`.

Holes 4 and 6 are about the pair, not the rule: they need calibration.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from langchain_ssd.decoding.composite import composite
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

CALM = Evidence(0, agreement=True, kl=0.05, total_variation=0.05, entropy_target=1.0, entropy_draft=1.0)
HOSTILE = Evidence(0, agreement=False, kl=6.0, total_variation=0.95, entropy_target=0.5, entropy_draft=0.2)


def paper() -> PaperMonitor:
    return PaperMonitor(PaperSettings())


def sequential(h_refuse: float = 24.0) -> SequentialMonitor:
    return SequentialMonitor(SequentialSettings(4.0, 1.0, h_refuse, LinearLogOdds()))


def feed(monitor: Monitor, evidence: Evidence, accepted: list[bool]) -> list[str]:
    """Run tokens through a monitor; returns the mode each was drawn in."""
    modes = []
    for bit in accepted:
        modes.append(monitor.observe(evidence).mode)
        monitor.settle(bit)
    return modes


def test_hole_1_a_calm_preamble_disarms_the_paper_monitor() -> None:
    monitor = paper()
    feed(monitor, CALM, [True] * 42)
    assert monitor.theta == 0.0
    assert set(feed(monitor, HOSTILE, [False] * 700)) == {"utility"}


def test_hole_1_eighteen_accepted_tokens_are_enough() -> None:
    monitor = paper()
    # Bins of 7 need 0.6, 0.5, … of their tokens accepted: 5, 4, 3, 3, 2, 1 pass, 18 in all.
    for needed in (5, 4, 3, 3, 2, 1):
        feed(monitor, CALM, [True] * needed + [False] * (7 - needed))
        assert monitor.mode == "utility"
    assert monitor.theta == 0.0
    assert set(feed(monitor, HOSTILE, [False] * 70)) == {"utility"}


def test_hole_1_is_not_in_sequential() -> None:
    monitor = sequential()
    feed(monitor, CALM, [True] * 4200)
    assert feed(monitor, HOSTILE, [False]) == ["safety"]


def test_hole_2_the_first_bin_is_blind() -> None:
    assert feed(paper(), HOSTILE, [False] * 7) == ["utility"] * 7


def test_hole_2_is_not_in_sequential() -> None:
    assert feed(sequential(), HOSTILE, [False] * 7) == ["safety"] * 7


def hostile_request_to_a_confident_draft(monitor: Monitor, tokens: int) -> tuple[list[str], list[BinVerdict]]:
    """The draft wins its own composite in safety, so everything is accepted there, and nothing in utility.

    p_M = (.95, .05), p_m = (.1, .9): the composites decide, not an assumption.
    """
    p_target, p_draft = torch.tensor([[0.95, 0.05]]), torch.tensor([[0.1, 0.9]])
    accepted = {
        mode: int(composite(p_target, p_draft, mode, alpha, 10).argmax()) == 1
        for mode, alpha in (("utility", 0.3), ("safety", 0.8))
    }
    modes, verdicts = [], []
    for _ in range(tokens):
        modes.append(monitor.observe(HOSTILE).mode)
        verdict = monitor.settle(accepted[modes[-1]])
        verdicts += [verdict] if verdict else []
    return modes, verdicts


def changes(modes: list[str]) -> int:
    return sum(a != b for a, b in itertools.pairwise(modes))


def test_hole_3_the_paper_monitor_flaps() -> None:
    modes, _ = hostile_request_to_a_confident_draft(paper(), 140)
    assert changes(modes) == 19


def test_hole_3_is_not_in_sequential() -> None:
    modes, _ = hostile_request_to_a_confident_draft(sequential(), 140)
    assert changes(modes) == 0
    assert set(modes) == {"safety"}


# The target is sure of token 0, which the draft ranks last of all.
TARGET_ROW = torch.tensor([[0.98, *[0.02 / 19] * 19]])
DRAFT_ROW = torch.tensor([[1e-6, 0.9, *[(0.1 - 1e-6) / 18] * 18]])


def test_hole_5_the_draft_has_no_weight_where_it_objects_most() -> None:
    decision = paper().observe(HOSTILE)
    assert decision.mode == "utility"
    Q = composite(TARGET_ROW, DRAFT_ROW, decision.mode, decision.alpha, 5)
    assert torch.equal(Q, TARGET_ROW)  # the target as it is: nothing the draft says can change it
    assert torch.equal(composite(TARGET_ROW, DRAFT_ROW, decision.mode, 2.0, 5), TARGET_ROW)


def test_hole_5_is_not_in_sequential() -> None:
    decision = sequential().observe(HOSTILE)  # the verdict rules the very token it was reached at
    assert decision.mode == "safety"
    assert int(composite(TARGET_ROW, DRAFT_ROW, decision.mode, decision.alpha, 5).argmax()) == 1


def test_hole_7_safety_expires_with_nothing_accepted() -> None:
    monitor = paper()
    modes = feed(monitor, HOSTILE, [False] * 70)
    assert modes[:7] == ["utility"] * 7  # the blind bin
    assert modes[7:56] == ["safety"] * 49  # seven bins, theta 0.6 … 0
    assert modes[56:63] == ["utility"] * 7  # and utility is back, although nothing was ever accepted


def test_hole_7_is_not_in_sequential() -> None:
    assert set(feed(sequential(h_refuse=1e9), HOSTILE, [False] * 700)) == {"safety"}


def test_hole_8_a_flapping_paper_monitor_never_refuses() -> None:
    rule = RefusalRule(patience=2, refuse_below=0.3)
    _, verdicts = hostile_request_to_a_confident_draft(paper(), 140)
    assert len(verdicts) == 20
    assert not any(rule.refuses(v) for v in verdicts)


def test_hole_8_is_not_in_sequential() -> None:
    monitor = sequential()
    decisions = []
    for _ in range(140):
        decisions.append(monitor.observe(HOSTILE))
        if decisions[-1].refuse:
            break
        monitor.settle(True)
    assert decisions[-1].refuse
    assert len(decisions) == 6  # 24 at no more than 4 a token


def _padded(monitor: Monitor, tokens: int) -> list[str]:
    """Two models that never agree, in a form that leaves four of five tokens no choice."""
    modes = []
    for at in range(tokens):
        free = at % 5 == 0
        modes.append(monitor.observe(replace(HOSTILE, scored=free)).mode)
        monitor.settle(not free)
    return modes


def test_hole_9_a_form_that_forces_most_tokens_keeps_the_paper_monitor_calm() -> None:
    monitor = paper()
    assert set(_padded(monitor, 700)) == {"utility"}
    assert monitor.cleared > 600  # and what was said may be shown


def test_hole_9_is_not_in_sequential() -> None:
    monitor = sequential(h_refuse=1e9)
    assert set(_padded(monitor, 700)) == {"safety"}
    assert monitor.cleared == 0


@pytest.mark.parametrize("decay", [0.1, 0.15, 0.3])
def test_thresholds_come_back_to_exactly_zero(decay: float) -> None:
    monitor = PaperMonitor(PaperSettings(theta=0.6, theta_decay=decay))
    feed(monitor, CALM, [True] * 7 * 10)
    assert monitor.theta == 0.0
