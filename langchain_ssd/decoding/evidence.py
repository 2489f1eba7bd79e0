"""Two rows → the numbers a monitor reads (algorithm, sections 3 and 5). Vectorised over rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_FLOOR = -1e4  # finite stand-in for a logit of minus infinity: exp() of it is still 0


class Rows(NamedTuple):
    """R next-token distributions of one model.

    Dense today; a remote target will bring a top-N with its tail mass and set ``exact`` to false.

    Attributes:
        logits: ``(R, V)`` after penalties and bias, finite.
        probs: ``(R, V)`` their softmax at temperature 1.
        best: ``(R,)`` argmax of the probabilities, the lowest id among equals.
        best_prob: ``(R,)`` its probability.
        log_z: ``(R,)`` log of the softmax denominator.
        finite: ``(R,)`` false where the row had NaN, +inf, or no finite entry at all.
    """

    logits: Tensor
    probs: Tensor
    best: Tensor
    best_prob: Tensor
    log_z: Tensor
    finite: Tensor
    exact: bool = True


class Features(NamedTuple):
    """Per row ``(R,)``: divergences and entropies in nats; ``kl`` is KL(p_m || p_M)."""

    kl: Tensor
    total_variation: Tensor
    entropy_target: Tensor
    entropy_draft: Tensor


def rows(logits: Tensor) -> Rows:
    """Turn raw logits ``(R, V)`` into rows, in float32 (float64 stays float64).

    The caller gives the logits away: float32 ones may be overwritten.
    """
    logits = logits.to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
    peak = logits.amax(dim=-1)  # (R,): NaN and infinities show here
    logits = logits.clamp_min_(_FLOOR)
    probs = logits.softmax(dim=-1)
    best_prob, best = probs.max(dim=-1)  # torch promises the first of equals
    return Rows(logits, probs, best, best_prob, peak - best_prob.log(), peak.abs() < torch.inf)


def select(rows: Rows, index: Sequence[int]) -> Rows:
    """Some of the rows, in the order given; nothing is copied when that is all of them."""
    if list(index) == list(range(len(rows.log_z))):
        return rows
    at = torch.tensor(index, dtype=torch.long, device=rows.probs.device)
    return Rows._make([*(x.index_select(0, at) for x in rows[:-1]), rows.exact])


def join(parts: Sequence[Rows]) -> Rows:
    """Rows of several forward passes, one after the other."""
    if len(parts) == 1:
        return parts[0]
    *tensors, exact = zip(*parts, strict=True)
    return Rows._make([*(torch.cat(x) for x in tensors), all(exact)])


def features(target: Rows, draft: Rows) -> Features:
    """What the two rows say, whatever the mode, the temperature or the proposal.

    Entropy is ``log Z - sum p l`` and ``KL = sum p_m (l_m - l_M) - log Z_m + log Z_M``, so that no
    logarithm of a whole row is taken.
    """
    cross = torch.linalg.vecdot(draft.probs, target.logits)  # (R,)
    own = torch.linalg.vecdot(draft.probs, draft.logits)
    entropy_target = target.log_z - torch.linalg.vecdot(target.probs, target.logits)
    kl = own - cross - draft.log_z + target.log_z
    tv = (target.probs - draft.probs).abs_().sum(dim=-1) / 2
    return Features(kl.clamp_min_(0), tv, entropy_target.clamp_min_(0), (draft.log_z - own).clamp_min_(0))
