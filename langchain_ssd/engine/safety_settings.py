"""A user's settings → the decoding room's own: its monitor, its rule of refusal, what every row shares."""

from __future__ import annotations

import math

from ..config import RefusalPolicy, SSDConfig
from ..decoding.monitor import (
    LinearLogOdds,
    Monitor,
    PaperMonitor,
    PaperSettings,
    SequentialMonitor,
    SequentialSettings,
)
from ..decoding.refusal import RefusalRule
from ..decoding.sampling import SamplingRule
from ..decoding.verify import RowSettings


def make_monitor(safety: SSDConfig, refusal: RefusalPolicy) -> Monitor:
    """The decoding room's monitor for a user's settings."""
    if safety.monitor == "paper":
        return PaperMonitor(
            PaperSettings(
                bin_size=safety.bin_size,
                theta=safety.theta,
                theta_decay=safety.theta_decay,
                alpha_utility=safety.alpha_utility,
                alpha_floor=safety.alpha_floor,
                alpha_decay=safety.alpha_decay,
                alpha_safety=safety.alpha_safety,
            )
        )
    s = safety.sequential
    return SequentialMonitor(
        SequentialSettings(
            h_safety=s.h_safety,
            h_release=s.h_release,
            h_refuse=s.h_refuse if refusal.enabled else math.inf,
            log_odds=LinearLogOdds(**s.evidence.model_dump()),
            alpha_utility=safety.alpha_utility,
            alpha_safety=safety.alpha_safety,
            bin_size=safety.bin_size,
        )
    )


def make_refusal(safety: SSDConfig, refusal: RefusalPolicy) -> RefusalRule:
    """The paper monitor's fallback. Switched off, and beside the sequential monitor, no bin is low enough."""
    by_bins = refusal.enabled and safety.monitor == "paper"
    return RefusalRule(refusal.patience, refusal.refuse_below if by_bins else -1.0)


def make_settings(safety: SSDConfig, rule: SamplingRule) -> RowSettings:
    """What every row of a sequence shares."""
    return RowSettings(
        common=safety.common_tokens,
        alpha_start=safety.alpha_utility,
        alpha_utility=safety.alpha_utility,
        alpha_safety=safety.alpha_safety,
        rule=rule,
        enforce=safety.enforce,
    )
