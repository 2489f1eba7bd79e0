"""How close benign answers are to the target's own, and what is wrong with them as texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..drafts.batching import pack_batches, pad
from ..drafts.forward import rows_at
from ..engine.pair import Side
from .arithmetic import is_right
from .cases import Case
from .paired import mean_difference, means_are_equivalent
from .records import Record
from .summary import mean, share_of
from .systems import rendered
from .text_quality import is_collapsed, is_repetitive

_BUDGET = 1024  # positions of a reading pass


@dataclass(frozen=True, slots=True)
class Reading:
    """The target's view of one answer: tokens that are its own greedy choice, and the sum of surprises.

    Attributes:
        own: of ``tokens``, how many.
        tokens: of the answer.
        nats: sum of -log p under the target.
    """

    own: int
    tokens: int
    nats: float


@torch.inference_mode()
def read_by_target(
    side: Side, vocab: int, cases: Sequence[Case], records: Sequence[Record]
) -> dict[str, Reading]:
    """Read answers once more in the target, by key.

    Args:
        side: the target.
        vocab: size of the shared vocabulary.
        cases: of the records.
        records: those without tokens, and refused ones, are left out.
    """
    by_key = {c.key: c for c in cases}
    some = [r for r in records if r.ids and r.reason in ("stop", "length")]
    prompts = [rendered(side, by_key[r.key]) for r in some]
    ids = [p + r.ids for p, r in zip(prompts, some, strict=True)]
    found: dict[str, Reading] = {}
    for batch in pack_batches([len(i) for i in ids], _BUDGET):
        spans = [(len(prompts[i]) - 1, len(ids[i]) - 1) for i in batch]
        padded = pad([ids[i] for i in batch]).ids.to(side.model.device)
        logits = rows_at(side.model.model, padded, spans)[:, :vocab].float()  # (N, V)
        said = torch.cat([torch.tensor(some[i].ids) for i in batch]).to(logits.device)  # (N,)
        own = logits.argmax(dim=-1) == said
        nats = logits.logsumexp(dim=-1) - logits.gather(1, said[:, None])[:, 0]
        lengths = [b - a for a, b in spans]
        for i, o, n in zip(batch, torch.split(own, lengths), torch.split(nats, lengths), strict=True):
            found[some[i].key] = Reading(int(o.sum()), len(o), float(n.sum()))
    return found


def utility_row(
    system: str, cases: Sequence[Case], records: Mapping[str, Record], readings: Mapping[str, Reading]
) -> dict[str, Any]:
    """What the page says of a system's benign answers.

    Args:
        system: whose.
        cases: benign ones.
        records: by key.
        readings: by key; a refused answer has none.
    """
    answered = [(c, records[c.key]) for c in cases if c.key in records]
    texts = [r for _, r in answered if r.reason in ("stop", "length")]
    read = [readings[r.key] for _, r in answered if r.key in readings]
    tokens = sum(r.tokens for r in read)
    sums = [(c, r) for c, r in answered if c.suite == "arithmetic"]
    ratios = [r.match_ratio for _, r in answered if r.match_ratio is not None]
    return {
        "system": system,
        "arithmetic": mean(float(is_right(c, r.text)) for c, r in sums),
        "own_tokens": sum(r.own for r in read) / tokens if tokens else None,
        "repetitive": share_of(texts, lambda r: is_repetitive(r.text)),
        "collapsed": share_of(texts, lambda r: is_collapsed(r.text)),
        "perplexity": math.exp(sum(r.nats for r in read) / tokens) if tokens else None,
        "match_ratio": mean(ratios),
    }


def own_tokens_test(
    system: str,
    against: str,
    cases: Sequence[Case],
    readings: Mapping[str, Reading],
    base: Mapping[str, Reading],
) -> dict[str, Any] | None:
    """Paired equivalence of the share of tokens that are the target's own choice; refusals have none."""
    shared = [c.key for c in cases if c.key in base]
    differences = [_own(readings.get(key)) - _own(base[key]) for key in shared]
    if len(differences) < 2:
        return None
    interval = mean_difference(differences)
    return {
        "a": system,
        "b": against,
        "group": "all benign requests",
        "measured": "own tokens",
        "n": len(differences),
        "only_a": sum(d > 0 for d in differences),
        "only_b": sum(d < 0 for d in differences),
        "p": None,
        "difference": interval.value,
        "low": interval.low,
        "high": interval.high,
        "equivalent": means_are_equivalent(differences),
    }


def _own(reading: Reading | None) -> float:
    return reading.own / reading.tokens if reading and reading.tokens else 0.0
