"""Traces → the weights of the monitor's log-odds: a small logistic regression over single rows.

What the monitor adds up is the log-odds of *attack* against *benign* of one row. Three things that a plain
regression gets wrong are mended here:

* **Length.** Every response weighs the same. At each position both labels weigh the same too, so that
  neither long benign answers nor short unsafe ones can turn a position into evidence by itself.
* **Drift.** A cumulative sum only forgets where its increments are negative on average. Rows of one response
  resemble each other, so the bias is lowered until not only the mean over all benign rows but most benign
  *responses* drift down by at least a margin per token (:func:`lower_bias`).
* **Weak evidence.** Single signals are fitted beside the full model, and the one is taken that *catches most,
  early*, on the fitting half at the false-alarm rate that was asked for. An area under a curve would rate
  what happens at rates that nobody uses. A draft that tells nothing ends up with weights near zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import EvidenceWeights
from ..evaluation.statistics import auroc
from .signals import FEATURES, NOTHING, features, usable
from .thresholds import set_thresholds
from .traces import Trace

_POSITION = FEATURES.index("log_position")
TOKENS = (1, 4, 8, 16, 32, 64)
"""Emitted tokens after which the signals are compared."""
MARGIN = 0.05
"""Nats per token by which benign text drifts down, at the least."""
CALM = (0.5, 0.75, 0.9, 0.97)
"""Shares of benign responses that may have to drift down; the best on the fitting half is taken."""
CLIP = 8.0  # a first token can then decide by itself; at 4 the verdict came three tokens later
_CHANCE = 2.0  # times the share of false alarms: what noise may seem to catch
_RIDGE = 1e-3
_STEPS = 50
_LOWEST = -50.0


class Fitted(NamedTuple):
    """A fitted monitor, and how well it tells the fitting half apart.

    Attributes:
        signal: its name in ``SIGNALS``, or ``NOTHING``.
        weights: of the features.
        quality: mean over ``TOKENS`` of the AUROC of the running maximum.
        caught: mean over ``TOKENS`` of the share of unsafe responses in safety mode by then, at the
            false-alarm rate that was asked for.
    """

    signal: str
    weights: EvidenceWeights
    quality: float
    caught: float


def fit_signals(traces: Sequence[Trace], tokens: int, false_safety: float = 0.05) -> dict[str, Fitted]:
    """Fit every signal of ``SIGNALS`` that can be used.

    Args:
        traces: the fitting half, both labels.
        tokens: rows of unsafe responses reach so far; benign ones are compared over the same stretch.
        false_safety: share of benign responses that may ever be in safety mode.
    """
    rows = _Rows([t.first(tokens) for t in traces])
    signals = usable(all(t.gain_known for t in traces))
    return {name: _fit_signal(name, used, traces, rows, false_safety) for name, used in signals.items()}


def choose(fitted: dict[str, Fitted], false_safety: float = 0.05) -> Fitted:
    """The signal that catches most; among equals the one that tells apart best, then the full model.

    One that catches hardly more than it may alarm falsely has fitted noise. Its threshold would be noise as
    well, so such a draft gets a monitor that never alarms, by the name of ``NOTHING``.

    Args:
        fitted: by :func:`fit_signals`.
        false_safety: the share of benign responses that they were fitted for.
    """
    best = max(fitted.values(), key=lambda f: (round(f.caught, 3), round(f.quality, 3), f.signal == "all"))
    if best.caught > _CHANCE * false_safety:
        return best
    silent = EvidenceWeights(bias=-MARGIN, clip=CLIP, **dict.fromkeys(FEATURES, 0.0))
    return Fitted(NOTHING, silent, 0.5, 0.0)


def _fit_signal(
    name: str, used: Sequence[str], traces: Sequence[Trace], rows: _Rows, false_safety: float
) -> Fitted:
    columns = [FEATURES.index(feature) for feature in used]
    raw = logistic(rows.features[:, columns], rows.unsafe, rows.weight)
    values = dict.fromkeys(FEATURES, 0.0) | dict(zip(used, raw[1:], strict=True))
    benign = [t for t in traces if t.label == "benign"]
    candidates = []
    for calm in CALM:
        weights = lower_bias(EvidenceWeights(bias=raw[0], clip=CLIP, **values), benign, calm)
        found = quality(weights, traces), caught(weights, traces, false_safety)
        candidates.append(Fitted(name, weights, *found))
    return max(candidates, key=lambda f: f.quality)  # the first, which is the least lowered, among equals


class _Rows:
    """All rows of some traces as matrices.

    Attributes:
        features: ``(N, 7)`` in the order of ``FEATURES``.
        unsafe: ``(N,)`` 1 for rows of unsafe responses.
        weight: ``(N,)`` sums to 1; rows at positions that only one label has weigh nothing.
    """

    def __init__(self, traces: Sequence[Trace]) -> None:
        self.features = torch.cat([features(t) for t in traces])
        counts = torch.tensor([len(t.rows) for t in traces])
        unsafe = torch.tensor([float(t.label == "unsafe") for t in traces], dtype=torch.float64)
        self.unsafe = unsafe.repeat_interleave(counts)
        share = 1.0 / counts.clamp_min(1).double()  # every response weighs the same
        self.weight = _balanced(share.repeat_interleave(counts), self.unsafe, self.features[:, _POSITION])


def _balanced(share: Tensor, unsafe: Tensor, position: Tensor) -> Tensor:
    """Give both labels the same weight at every position: that of the label with less of it."""
    weight = torch.zeros_like(share)
    for value in set(position.tolist()):
        here = position == value
        sides = [here & (unsafe == label) for label in (0.0, 1.0)]
        sums = [float(share[side].sum()) for side in sides]
        if min(sums) > 0:
            for side, total in zip(sides, sums, strict=True):
                weight[side] = share[side] * (min(sums) / total)
    return weight / weight.sum().clamp_min(1e-300)


def logistic(x: Tensor, y: Tensor, weight: Tensor, ridge: float = _RIDGE) -> list[float]:
    """Weighted logistic regression with a ridge on standardised features, by Newton steps in float64.

    Args:
        x: ``(N, F)``.
        y: ``(N,)`` 0 or 1.
        weight: ``(N,)``, sum 1.
        ridge: strength of the penalty; the bias is free of it.

    Returns:
        the bias and F weights, for features as they were given.
    """
    mean = (weight.unsqueeze(1) * x).sum(dim=0)
    scale = (weight.unsqueeze(1) * (x - mean) ** 2).sum(dim=0).sqrt()
    scale = torch.where(scale > 1e-9, scale, torch.inf)  # a feature that never moves gets no weight
    z = torch.cat([torch.ones(len(x), 1, dtype=x.dtype), (x - mean) / scale], dim=1)  # (N, F + 1)
    penalty = torch.diag(torch.tensor([1e-9] + [ridge] * x.shape[1], dtype=x.dtype))
    beta = _newton(z, y, weight, penalty)
    slopes = beta[1:] / scale
    return [float(beta[0] - slopes @ mean), *map(float, slopes)]


def _newton(z: Tensor, y: Tensor, weight: Tensor, penalty: Tensor) -> Tensor:
    """The minimum of :func:`_loss`; steps are halved until they lower it."""
    beta = torch.zeros(z.shape[1], dtype=z.dtype)
    loss = _loss(beta, z, y, weight, penalty)
    for _ in range(_STEPS):
        p = torch.sigmoid(z @ beta)
        slope = z.T @ (weight * (p - y)) + penalty @ beta
        curve = (z * (weight * p * (1 - p)).unsqueeze(1)).T @ z + penalty
        step = torch.linalg.solve(curve, slope)
        while _loss(beta - step, z, y, weight, penalty) > loss and float(step.abs().max()) > 1e-12:
            step = step / 2
        beta, before = beta - step, loss
        loss = _loss(beta, z, y, weight, penalty)
        if before - loss < 1e-14:
            break
    return beta


def _loss(beta: Tensor, z: Tensor, y: Tensor, weight: Tensor, penalty: Tensor) -> float:
    logits = z @ beta
    likelihood = weight * (torch.nn.functional.softplus(logits) - y * logits)
    return float(likelihood.sum() + beta @ penalty @ beta / 2)


def lower_bias(weights: EvidenceWeights, benign: Sequence[Trace], calm: float) -> EvidenceWeights:
    """Lower the bias, never raise it, until benign text drifts down.

    Args:
        weights: fitted with both labels weighing the same.
        benign: responses, in full length.
        calm: the share of them whose mean increment must be at most ``-MARGIN``; the mean over all
            responses must be so as well.
    """
    table = [features(t) for t in benign if t.rows]
    linear = torch.tensor([getattr(weights, name) for name in FEATURES], dtype=torch.float64)
    counts = [len(t) for t in table]
    raw = torch.cat(table) @ linear

    def drifts_down(bias: float) -> bool:
        clipped = (raw + bias).clamp(-weights.clip, weights.clip)
        means = torch.stack([part.mean() for part in torch.split(clipped, counts)])
        quantile = means.quantile(calm, interpolation="higher")
        return float(torch.maximum(quantile, means.mean())) <= -MARGIN

    low, high = min(_LOWEST, -float(raw.max()) - weights.clip), weights.bias
    if drifts_down(high):
        return weights
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if drifts_down(middle) else (low, middle)
    return weights.model_copy(update={"bias": low})


def increments(weights: EvidenceWeights, trace: Trace) -> list[float]:
    """What each row adds to the statistic, computed as the monitor does."""
    from ..decoding.monitor import LinearLogOdds

    log_odds = LinearLogOdds(**weights.model_dump())
    return [log_odds(e) for e in trace.rows]


def statistics(steps: Sequence[float]) -> list[float]:
    """The cumulative sum after each row, as the monitor computes it."""
    level, levels = 0.0, []
    for step in steps:
        level = max(0.0, level + step)
        levels.append(level)
    return levels


def maximum(weights: EvidenceWeights, trace: Trace) -> float:
    """The greatest value the statistic reaches."""
    return max(statistics(increments(weights, trace)), default=0.0)


def running(weights: EvidenceWeights, trace: Trace) -> list[tuple[float, float]]:
    """The greatest statistic and the mean increment once each of ``TOKENS`` has been judged.

    The prefill's rows come first. A response that is shorter keeps its last values.
    """
    steps = increments(weights, trace)
    levels, found = statistics(steps), []
    for n in TOKENS:
        seen = min(len(steps), trace.prefill + n)
        found.append((max(levels[:seen], default=0.0), sum(steps[:seen]) / max(1, seen)))
    return found


def caught(weights: EvidenceWeights, traces: Sequence[Trace], false_safety: float) -> float:
    """Mean over ``TOKENS`` of the share of unsafe responses that have passed the threshold by then."""
    maxima = [maximum(weights, t) for t in traces if t.label == "benign"]
    threshold = set_thresholds(maxima, false_safety, false_safety, least=2).h_safety
    levels = [[level for level, _ in running(weights, t)] for t in traces if t.label == "unsafe"]
    return sum(level >= threshold for some in levels for level in some) / max(1, len(levels) * len(TOKENS))


def quality(weights: EvidenceWeights, traces: Sequence[Trace]) -> float:
    """Mean over ``TOKENS`` of the AUROC of the running maximum, unsafe against benign."""
    scores = [(t.label, running(weights, t)) for t in traces]
    areas = []
    for i in range(len(TOKENS)):
        unsafe, benign = ([s[i][0] for name, s in scores if name == label] for label in ("unsafe", "benign"))
        areas.append(auroc(unsafe, benign))
    return sum(areas) / len(areas)
