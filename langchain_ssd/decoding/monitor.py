"""The risk monitor: floats and bits in, a mode out (algorithm, section 3). Pure Python.

``observe`` is called before a token is drawn and sees rows and history only, never the proposal or
the coin; ``settle`` is called after it with the speculation's own outcome. That order is what keeps
sampling exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

Mode = Literal["utility", "safety"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One position's rows in numbers.

    ``scored`` is false where a grammar left one legal token. ``refusal_gain`` (ours) is how much more
    probability the draft than the target gives to tokens that open a refusal, at least 0.
    """

    position: int
    agreement: bool
    kl: float
    total_variation: float
    entropy_target: float
    entropy_draft: float
    scored: bool = True
    refusal_gain: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """How the next token is drawn, or that it is not drawn at all."""

    mode: Mode
    alpha: float
    refuse: bool = False


@dataclass(frozen=True, slots=True)
class BinVerdict:
    """A full bin of emitted tokens. ``verdict`` is the mode it argues for, ``mode`` the one it ran in."""

    index: int
    match_ratio: float
    acceptance: float
    threshold: float | None
    mode: Mode
    verdict: Mode


class Monitor(Protocol):
    """What the speculative walk needs of a monitor.

    Attributes:
        statistic: the number the verdicts come from, or ``None``.
        cleared: how many leading emitted tokens may be shown: their risk question is settled.
    """

    statistic: float | None
    cleared: int

    def observe(self, evidence: Evidence) -> Decision:
        """Judge one position before its token is drawn."""

    def settle(self, accepted: bool) -> BinVerdict | None:
        """Record one emitted token; returns the bin it completed, if it did."""


@dataclass(slots=True)
class _Bin:
    """Bits of the bin being filled."""

    size: int
    index: int = 0
    tokens: int = 0
    accepted: int = 0
    scored: int = 0
    agreeing: int = 0

    def add(self, evidence: Evidence, accepted: bool) -> bool:
        self.tokens += 1
        self.accepted += accepted
        if evidence.scored:
            self.scored += 1
            self.agreeing += evidence.agreement
        return self.tokens == self.size

    @property
    def match_ratio(self) -> float:
        return self.agreeing / self.scored if self.scored else 1.0

    @property
    def acceptance(self) -> float:
        return self.accepted / self.tokens

    def next(self) -> _Bin:
        return _Bin(self.size, self.index + 1)


@dataclass(frozen=True, slots=True)
class PaperSettings:
    """Names as in the table of section 3."""

    bin_size: int = 7
    theta: float = 0.6
    theta_decay: float = 0.1
    alpha_utility: float = 0.3
    alpha_floor: float = 0.3
    alpha_decay: float = 0.15
    alpha_safety: float = 0.8


@dataclass(slots=True)
class PaperMonitor:
    """The published monitor: bins of accepted bits against a decaying threshold, holes included."""

    settings: PaperSettings
    mode: Mode = "utility"
    statistic: float | None = None
    cleared: int = 0
    _unchanged: int = 0
    _bin: _Bin = field(init=False)
    _seen: Evidence | None = None
    _calm: int = 0

    def __post_init__(self) -> None:
        self._bin = _Bin(self.settings.bin_size)

    @property
    def theta(self) -> float:
        """The threshold in force. A product, never repeated subtraction: float dust would keep it above 0."""
        return max(0.0, round(self.settings.theta - self._unchanged * self.settings.theta_decay, 9))

    @property
    def alpha(self) -> float:
        """The weight of the mode in force; the utility weight decays while the mode stays."""
        s = self.settings
        if self.mode == "safety":
            return s.alpha_safety
        return max(s.alpha_floor, round(s.alpha_utility - self._unchanged * s.alpha_decay, 9))

    def observe(self, evidence: Evidence) -> Decision:
        """Remember the row; the published monitor has no verdict before a bin is full."""
        self._seen = evidence
        return Decision(self.mode, self.alpha)

    def settle(self, accepted: bool) -> BinVerdict | None:
        """Count one emitted token; a full bin may switch the mode for the next."""
        if self._seen is None:
            raise RuntimeError("settle() without observe()")
        if not self._bin.add(self._seen, accepted):
            return None
        done = self._bin
        verdict: Mode = "safety" if done.acceptance < self.theta else "utility"
        report = BinVerdict(done.index, done.match_ratio, done.acceptance, self.theta, self.mode, verdict)
        self._unchanged = self._unchanged + 1 if verdict == self.mode else 0
        self.mode = verdict
        self._bin = done.next()
        self._clear(verdict)
        return report

    def _clear(self, verdict: Mode) -> None:
        """A token may be shown once its own bin and the next have both passed."""
        self._calm = self._calm + 1 if verdict == "utility" else 0
        if self._calm >= 2:
            self.cleared = (self._bin.index - 1) * self.settings.bin_size


@dataclass(frozen=True, slots=True)
class SequentialSettings:
    """Thresholds on the statistic, the weights of the two modes, and the telemetry's bin size."""

    h_safety: float
    h_release: float
    h_refuse: float
    log_odds: Callable[[Evidence], float]
    alpha_utility: float = 0.3
    alpha_safety: float = 0.8
    bin_size: int = 7


@dataclass(slots=True)
class SequentialMonitor:
    """A one-sided cumulative sum of log-odds, *attack* against *benign*, over rows (ours).

    It never disarms, has a verdict at the first token, and does not flap: between the two thresholds
    the mode stays.
    """

    settings: SequentialSettings
    mode: Mode = "utility"
    statistic: float | None = 0.0
    cleared: int = 0
    _bin: _Bin = field(init=False)
    _seen: Evidence | None = None
    _emitted: int = 0

    def __post_init__(self) -> None:
        self._bin = _Bin(self.settings.bin_size)

    def observe(self, evidence: Evidence) -> Decision:
        """Move the statistic by this row and decide the very token it predicts."""
        s = self.settings
        self._seen = evidence
        if evidence.scored:
            self.statistic = max(0.0, (self.statistic or 0.0) + s.log_odds(evidence))
        level = self.statistic or 0.0
        if level >= s.h_safety:
            self.mode = "safety"
        elif level <= s.h_release:
            self.mode = "utility"
        alpha = s.alpha_safety if self.mode == "safety" else s.alpha_utility
        return Decision(self.mode, alpha, refuse=level >= s.h_refuse)

    def settle(self, accepted: bool) -> BinVerdict | None:
        """Count one emitted token; bins are telemetry here and decide nothing."""
        if self._seen is None:
            raise RuntimeError("settle() without observe()")
        self._emitted += 1
        if self.mode == "utility" and (self.statistic or 0.0) <= self.settings.h_release:
            self.cleared = self._emitted
        if not self._bin.add(self._seen, accepted):
            return None
        done, self._bin = self._bin, self._bin.next()
        return BinVerdict(done.index, done.match_ratio, done.acceptance, None, self.mode, self.mode)


@dataclass(frozen=True, slots=True)
class LinearLogOdds:
    """Log-odds of attack against benign: a linear model over one position's features.

    One position moves the statistic at most ``clip``, so that no single odd token can decide a response.
    """

    bias: float = -1.0
    disagreement: float = 0.5
    kl: float = 1.0
    total_variation: float = 0.0
    entropy_target: float = 0.0
    entropy_draft: float = 0.0
    log_position: float = 0.0
    refusal_gain: float = 0.0
    clip: float = 4.0

    def __call__(self, e: Evidence) -> float:
        """The clipped log-odds of one position."""
        score = (
            self.bias
            + self.disagreement * (not e.agreement)
            + self.kl * e.kl
            + self.total_variation * e.total_variation
            + self.entropy_target * e.entropy_target
            + self.entropy_draft * e.entropy_draft
            + self.log_position * math.log1p(e.position)
            + self.refusal_gain * e.refusal_gain
        )
        return max(-self.clip, min(self.clip, score))
