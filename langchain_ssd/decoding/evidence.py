"""Two rows → the numbers a monitor reads (algorithm, sections 3 and 5). Vectorised over rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .composite import Spaces, weigh
from .ranking import argmax

_FLOOR = -1e4  # finite stand-in for a logit of minus infinity: exp() of it is still 0


class Rows(NamedTuple):
    """R next-token distributions of one model.

    Dense today; a remote target will bring a top-N with its tail mass and set ``exact`` to false.

    Attributes:
        logits: ``(R, V)`` after penalties and bias, finite.
        probs: ``(R, V)`` their softmax at temperature 1.
        log_z: ``(R,)`` log of the softmax denominator.
        finite: ``(R,)`` false where the row had NaN, +inf, or no finite entry at all.
    """

    logits: Tensor
    probs: Tensor
    log_z: Tensor
    finite: Tensor
    exact: bool = True


class Features(NamedTuple):
    """Per row ``(R,)``: divergences and entropies in nats; ``kl`` is KL(p_m || p_M)."""

    agreement: Tensor
    kl: Tensor
    total_variation: Tensor
    entropy_target: Tensor
    entropy_draft: Tensor


def rows(logits: Tensor) -> Rows:
    """Turn raw logits ``(R, V)`` into rows, in float32 (float64 stays float64)."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    peak = logits.amax(dim=-1)  # (R,): NaN and infinities show here
    logits = logits.clamp_min(_FLOOR)
    probs = logits.softmax(dim=-1)
    log_z = peak - probs.amax(dim=-1).log()
    return Rows(logits, probs, log_z, peak.isfinite())


def select(rows: Rows, index: Sequence[int]) -> Rows:
    """Some of the rows, in the order given; nothing is copied when that is all of them."""
    if list(index) == list(range(len(rows.log_z))):
        return rows
    at = torch.tensor(index, dtype=torch.long, device=rows.probs.device)
    return Rows(rows.logits[at], rows.probs[at], rows.log_z[at], rows.finite[at], rows.exact)


def join(parts: Sequence[Rows]) -> Rows:
    """Rows of several forward passes, one after the other."""
    if len(parts) == 1:
        return parts[0]
    logits, probs, log_z, finite, exact = zip(*parts, strict=True)
    return Rows(torch.cat(logits), torch.cat(probs), torch.cat(log_z), torch.cat(finite), all(exact))


def features(target: Rows, draft: Rows, spaces: Spaces, alpha_start: float | Tensor) -> Features:
    """What the two rows say, whatever the mode, the temperature or the proposal.

    Agreement is ``argmax p_m == argmax composite_utility`` at the start value of alpha. Entropy is
    ``log Z - sum p l`` and ``KL = sum p_m (l_m - l_M) - log Z_m + log Z_M``, so that no logarithm of a
    whole row is taken.
    """
    cross = torch.linalg.vecdot(draft.probs, target.logits)  # (R,)
    own = torch.linalg.vecdot(draft.probs, draft.logits)
    entropy_target = target.log_z - torch.linalg.vecdot(target.probs, target.logits)
    kl = own - cross - draft.log_z + target.log_z
    tv = (target.probs - draft.probs).abs_().sum(dim=-1) / 2
    return Features(
        spaces.best_draft == best_utility(spaces, alpha_start),
        kl.clamp_min_(0),
        tv,
        entropy_target.clamp_min_(0),
        (draft.log_z - own).clamp_min_(0),
    )


def best_utility(spaces: Spaces, alpha: float | Tensor) -> Tensor:
    """``argmax`` ``(R,)`` of the utility composite, the lowest id among equals."""
    mixed = weigh(spaces.utility, alpha)
    at = argmax(mixed.probs).unsqueeze(1)  # ids ascend, so the first of equals is the lowest id
    return torch.where(mixed.whole_target, spaces.best_target, mixed.ids.gather(1, at)[:, 0])
