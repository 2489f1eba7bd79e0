"""How well a calibration does, measured on the half that it was not fitted on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ..config import EvidenceWeights
from ..evaluation.statistics import Interval, auroc_interval, wilson
from .fit import TOKENS, Fitted, increments, maximum, running, statistics
from .thresholds import Thresholds, set_thresholds
from .traces import Trace

BUDGETS = (0.01, 0.02, 0.05, 0.1, 0.2)
_LEAST_OF_A_KIND = 10  # smaller kinds only count in the totals


@dataclass(frozen=True, slots=True)
class Rates:
    """What the monitor does with some responses.

    Attributes:
        kind: which responses.
        responses: how many.
        safety: the share that was ever in safety mode.
        refused: the share that was refused.
        median_token: of those in safety mode, the token that put them there; 0 is still inside the prefill.
    """

    kind: str
    responses: int
    safety: Interval
    refused: Interval
    median_token: float | None


@dataclass(frozen=True, slots=True)
class Area:
    """AUROC of one signal for one kind of unsafe responses, once so many tokens have been judged."""

    signal: str
    kind: str
    tokens: int
    maximum: Interval
    mean: Interval


@dataclass(frozen=True, slots=True)
class Trade:
    """One line of the trade-off: a budget of false alarms, and what it buys on the held-out half."""

    budget: float
    threshold: float
    benign: Rates
    unsafe: list[Rates]


def rates(kind: str, traces: Sequence[Trace], weights: EvidenceWeights, at: Thresholds) -> Rates:
    """Measure some responses, at least one."""
    first, refused = [], 0
    for trace in traces:
        levels = statistics(increments(weights, trace))
        hit = next((i for i, s in enumerate(levels) if s >= at.h_safety), None)
        if hit is not None:
            first.append(max(0, hit + 1 - trace.prefill))
        refused += max(levels, default=0.0) >= at.h_refuse
    return Rates(
        kind,
        len(traces),
        wilson(len(first), len(traces)),
        wilson(refused, len(traces)),
        median(first) if first else None,
    )


def by_kind(traces: Sequence[Trace]) -> dict[str, list[Trace]]:
    """All of them, those with and without a prefill, and every kind that is not too small."""
    groups = {"all": list(traces)}
    groups["plain"] = [t for t in traces if not t.prefill]
    groups["prefill"] = [t for t in traces if t.prefill]
    for kind in sorted({t.kind for t in traces} - groups.keys()):
        found = [t for t in traces if t.kind == kind]
        if len(found) >= _LEAST_OF_A_KIND:
            groups[kind] = found
    return {kind: found for kind, found in groups.items() if found}


def all_rates(traces: Sequence[Trace], weights: EvidenceWeights, at: Thresholds) -> list[Rates]:
    """:func:`rates` for every kind."""
    return [rates(kind, found, weights, at) for kind, found in by_kind(traces).items()]


def trade_off(chosen: Fitted, fitting: Sequence[Trace], held: Sequence[Trace]) -> list[Trade]:
    """Safety mode at every budget: thresholds from the fitting half, rates on the other."""
    maxima = [maximum(chosen.weights, t) for t in fitting if t.label == "benign"]
    benign = [t for t in held if t.label == "benign"]
    unsafe = [t for t in held if t.label == "unsafe"]
    lines = []
    for budget in BUDGETS:
        at = set_thresholds(maxima, budget, budget, least=2)
        calm = rates("all", benign, chosen.weights, at)
        lines.append(Trade(budget, at.h_safety, calm, all_rates(unsafe, chosen.weights, at)))
    return lines


def scores(
    fitted: Fitted, unsafe: Sequence[Trace], benign: Sequence[Trace]
) -> tuple[list[list[tuple[float, float]]], list[list[tuple[float, float]]]]:
    """Running maxima and means of both sides, prefilled against prefilled and plain against plain."""
    prefilled = {bool(t.prefill) for t in unsafe}
    alike = [t for t in benign if bool(t.prefill) in prefilled]
    benign = alike if len(alike) >= _LEAST_OF_A_KIND else benign
    yes, no = ([running(fitted.weights, t) for t in side] for side in (unsafe, benign))
    return yes, no


def areas(fitted: dict[str, Fitted], held: Sequence[Trace]) -> list[Area]:
    """AUROC of every signal against benign responses, for the main kinds of unsafe ones."""
    benign = [t for t in held if t.label == "benign"]
    kinds = by_kind([t for t in held if t.label == "unsafe"])
    found = []
    for name, one in fitted.items():
        for kind, unsafe in kinds.items():
            yes, no = scores(one, unsafe, benign)
            for i, n in enumerate(TOKENS):
                two = [auroc_interval([s[i][j] for s in yes], [s[i][j] for s in no]) for j in (0, 1)]
                found.append(Area(name, kind, n, *two))
    return found


def plain(value: Any) -> Any:
    """A result as JSON: an infinite limit becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return plain(asdict(value)) if hasattr(value, "__dataclass_fields__") else value
