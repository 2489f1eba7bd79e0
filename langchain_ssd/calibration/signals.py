"""What a monitor may look at: features of single rows, and the sets of them that are fitted and compared."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .traces import Trace

FEATURES = (
    "disagreement",
    "kl",
    "total_variation",
    "entropy_target",
    "entropy_draft",
    "log_position",
    "refusal_gain",
)
SIGNALS: dict[str, tuple[str, ...]] = {
    "all": FEATURES,
    "kl": ("kl",),
    "total_variation": ("total_variation",),
    "disagreement": ("disagreement",),
    "entropies": ("entropy_target", "entropy_draft"),
    "divergences": ("kl", "total_variation"),
    "refusals": ("refusal_gain",),
    "refusals and total variation": ("refusal_gain", "total_variation"),
}
NOTHING = "nothing"
"""The name of the signal of a draft that does not tell attacks from benign requests."""


def usable(gain_known: bool) -> dict[str, tuple[str, ...]]:
    """The signals and their features; without the ``refusal_gain`` if some log does not tell of it."""
    if gain_known:
        return SIGNALS
    without = {name: tuple(f for f in used if f != "refusal_gain") for name, used in SIGNALS.items()}
    return {name: used for name, used in without.items() if used == SIGNALS[name] or name == "all"}


def features(trace: Trace) -> Tensor:
    """``(rows, 7)`` float64, in the order of ``FEATURES``."""
    table = [
        (
            float(not e.agreement),
            e.kl,
            e.total_variation,
            e.entropy_target,
            e.entropy_draft,
            math.log1p(e.position),
            e.refusal_gain,
        )
        for e in trace.rows
    ]
    return torch.tensor(table, dtype=torch.float64).reshape(-1, len(FEATURES))
