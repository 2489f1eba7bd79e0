"""Two rows → the numbers a monitor reads (algorithm, sections 3 and 5). Vectorised over rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .ranking import best, block_maxima

_FLOOR = -1e4  # finite stand-in for a logit of minus infinity: exp() of it is still 0


class Rows(NamedTuple):
    """R next-token distributions of one model.

    Dense today; a remote target will bring a top-N with its tail mass and set ``exact`` to false.

    Attributes:
        logits: ``(R, V)`` after penalties and bias.
        probs: ``(R, V)`` their softmax at temperature 1.
        maxima: ``(R, ceil(V / 32))`` block maxima of the probabilities.
        best: ``(R,)`` argmax of the probabilities, the lowest id among equals.
        best_prob: ``(R,)`` its probability.
        log_z: ``(R,)`` log of the softmax denominator.
        finite: ``(R,)`` false where the row had NaN, +inf, or no finite entry at all.
    """

    logits: Tensor
    probs: Tensor
    maxima: Tensor
    best: Tensor
    best_prob: Tensor
    log_z: Tensor
    finite: Tensor
    exact: bool = True


class Features(NamedTuple):
    """Per row ``(R,)``: divergences and entropies in nats; ``kl`` is KL(p_m || p_M).

    ``refusal_gain`` is how much more probability the draft than the target gives to the tokens that open a
    refusal, at least 0: of all ways to differ, the one that an attack makes.
    """

    kl: Tensor
    total_variation: Tensor
    entropy_target: Tensor
    entropy_draft: Tensor
    refusal_gain: Tensor


def rows(logits: Tensor, probs: Tensor | None = None) -> Rows:
    """Turn processed logits ``(R, V)``, float32 or float64, into rows.

    Args:
        logits: kept, not copied.
        probs: where to write the probabilities; a new tensor if omitted.
    """
    probs = torch.softmax(logits, dim=-1, out=probs)
    maxima = block_maxima(probs)
    best_prob, at = best(probs, maxima)
    log_z = logits.gather(1, at.unsqueeze(1))[:, 0] - best_prob.log()
    # NaN, +inf, or nothing but -inf anywhere in a row leaves NaN in all of its softmax.
    return Rows(logits, probs, maxima, at, best_prob, log_z, best_prob > 0)


def restrict(whole: Rows, legal: Tensor) -> Rows:
    """The same rows over the legal tokens ``(R, V)`` alone: all others lose their mass.

    By way of logits, for the probabilities of the legal ones may have underflowed to 0.
    """
    return rows(torch.where(legal, whole.logits, -torch.inf))


def pick(some: Rows, at: Sequence[int]) -> Rows:
    """Rows by number; all of them, in order, are not copied."""
    if len(at) == len(some.probs):
        return some
    return Rows._make([*(x[list(at)] for x in some[:-1]), some.exact])


def on_device(rows: Rows, device: torch.device) -> Rows:
    """The same rows on another device; nothing is copied if they are there."""
    if rows.probs.device == device:
        return rows
    return Rows._make([*(x.to(device) for x in rows[:-1]), rows.exact])


def features(target: Rows, draft: Rows, refusal_ids: Sequence[int] = ()) -> Features:
    """What the two rows say, whatever the mode, the temperature or the proposal.

    Entropy is ``log Z - sum p l`` and ``KL = sum p_m (l_m - l_M) - log Z_m + log Z_M``, so that no
    logarithm of a whole row is taken.

    Args:
        target: R rows.
        draft: the draft's at the same positions.
        refusal_ids: tokens that open a refusal; without any, nobody gains.
    """
    gain = _gain(target.probs, draft.probs, refusal_ids)
    found = _features(target, draft, target.logits, draft.logits, gain)
    if bool(found.kl.isnan().any() | found.entropy_target.isnan().any()):
        # A logit of minus infinity makes 0 * -inf; a floor of e^-10000 changes nothing else.
        floored = target.logits.clamp_min(_FLOOR), draft.logits.clamp_min(_FLOOR)
        found = _features(target, draft, *floored, gain)
    return found


def _gain(p_target: Tensor, p_draft: Tensor, refusal_ids: Sequence[int]) -> Tensor:
    if not refusal_ids:
        return p_draft.new_zeros(len(p_draft))
    at = torch.tensor(refusal_ids, device=p_draft.device)
    return (p_draft.index_select(1, at) - p_target.index_select(1, at)).sum(dim=1)  # (R,)


def _features(
    target: Rows, draft: Rows, logits_M: Tensor, logits_m: Tensor, refusal_gain: Tensor
) -> Features:
    cross = torch.linalg.vecdot(draft.probs, logits_M)  # (R,)
    own = torch.linalg.vecdot(draft.probs, logits_m)
    entropy_target = target.log_z - torch.linalg.vecdot(target.probs, logits_M)
    kl = own - cross - draft.log_z + target.log_z
    tv = 1 - torch.minimum(target.probs, draft.probs).sum(dim=-1)
    return Features._make(x.clamp_min(0) for x in (kl, tv, entropy_target, draft.log_z - own, refusal_gain))
