"""Two probability rows → the composite row a token is drawn from (algorithm, section 1).

Everything is vectorised over R rows: a row is one position of one sequence. The sample space never
depends on the weight alpha, so it is found once (:func:`sample_spaces`) and weighted as often as the
monitor changes its mind (:func:`weigh`).

Source: Wang, Zhu, Cheng, "Speculative Safety-Aware Decoding", EMNLP 2025; degenerate rows are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .ranking import block_maxima, top, top_ids_of_pair

_FIRST_TOP = 32  # ranks looked at before the search doubles
_PADDING = torch.iinfo(torch.int64).max  # sorts behind every id


@dataclass(frozen=True, slots=True)
class SampleSpace:
    """The tokens a composite may give mass to, for R rows of width W.

    Attributes:
        ids: ``(R, W)`` ascending token ids; -1 pads.
        target: ``(R, W)`` p_M at those ids, 0 at padding.
        draft: ``(R, W)`` p_m at those ids, 0 at padding.
        target_stands: ``(R,)`` the utility exception: the composite is p_M itself.
        fallback_to_target: what replaces a composite without mass: p_M, or p_m on this space.
    """

    ids: Tensor
    target: Tensor
    draft: Tensor
    target_stands: Tensor
    fallback_to_target: bool

    def __getitem__(self, rows: slice) -> SampleSpace:
        return SampleSpace(
            self.ids[rows],
            self.target[rows],
            self.draft[rows],
            self.target_stands[rows],
            self.fallback_to_target,
        )


class Composite(NamedTuple):
    """R composite rows: sparse, except where the target's own row stands.

    ``ids`` and ``probs`` are ``(R, W)``, ids ascending and padded with -1; ``best`` ``(R,)`` is the column of
    the argmax, taken before normalising, which can make neighbouring floats equal. Where ``whole_target``
    ``(R,)`` is true the composite is p_M itself and the sparse entries mean nothing.
    """

    ids: Tensor
    probs: Tensor
    best: Tensor
    whole_target: Tensor


@dataclass(slots=True)
class SampleSpaces:
    """Both sample spaces of R rows; the safety one is only built if a row asks for it."""

    utility: SampleSpace
    _rows: tuple[Tensor, Tensor]
    _tops: tuple[Tensor, Tensor]
    _common: Tensor
    _safety: SampleSpace | None = None

    @property
    def safety(self) -> SampleSpace:
        """The union of both rows' top ``c``."""
        if self._safety is None:
            self._safety = _union(*self._rows, *self._tops, self._common)
        return self._safety


def sample_spaces(
    p_target: Tensor, p_draft: Tensor, common: int | Tensor, maxima: Tensor | None = None
) -> SampleSpaces:
    """Find the intersection and the union of both rows' top tokens.

    The intersection takes the smallest ``k`` whose two top-k sets share at least ``common`` tokens. A token
    is in both iff the worse of its two ranks is below ``k``, so ``k - 1`` is the ``common``-th smallest of
    those worse ranks. It is read off a partial top-K, widened until the answer is provably exact.

    Args:
        p_target: ``(R, V)`` p_M.
        p_draft: ``(R, V)`` p_m.
        common: ``c``, one number or one per row ``(R, 1)``; capped at ``V``.
        maxima: ``(2R, ceil(V / 32))`` block maxima of both, where they are known already.
    """
    R, V = p_target.shape
    c = torch.as_tensor(common, device=p_target.device).expand(R, 1).clamp_max(V)
    widest = int(c.max())
    K = min(V, max(_FIRST_TOP, 2 * widest))
    if maxima is None:
        maxima = torch.cat([block_maxima(p_target), block_maxima(p_draft)])
    ids_M, ids_m = top_ids_of_pair(p_target, p_draft, K, maxima)  # (R, K) each
    utility = _utility(p_target, p_draft, ids_M, ids_m, c, widest)
    return SampleSpaces(utility, (p_target, p_draft), (ids_M[:, :widest], ids_m[:, :widest]), c)


def _utility(
    p_target: Tensor, p_draft: Tensor, ids_M: Tensor, ids_m: Tensor, c: Tensor, widest: int
) -> SampleSpace:
    """The intersection from both top-K lists ``(R, K)``; rows for which K is too small get a larger one."""
    K, V = ids_M.shape[1], p_target.shape[1]
    rank_m = _draft_ranks(ids_M, ids_m, V)
    space = _intersection(p_target, p_draft, ids_M, ids_m, rank_m, c, widest)
    shared = (rank_m < K).sum(dim=1, keepdim=True)  # (R, 1)
    short = (shared < c)[:, 0].nonzero()[:, 0]
    if K == V or not len(short):
        return space
    # Unrelated rows share about K * K / V of their top K tokens; related ones need a little more each time.
    unrelated = int(1.25 * (widest * V) ** 0.5) if int(shared.min()) < widest / 4 else 0
    wider = min(V, max(2 * K, unrelated))
    if len(short) < len(p_target):
        p_target, p_draft, c = p_target[short], p_draft[short], c[short]
    rest = _utility(p_target, p_draft, top(p_target, wider)[1], top(p_draft, wider)[1], c, widest)
    if len(rest.ids) == len(space.ids):
        return rest
    for name in ("ids", "target", "draft", "target_stands"):
        getattr(space, name)[short] = getattr(rest, name)
    return space


def _draft_ranks(ids_M: Tensor, ids_m: Tensor, V: int) -> Tensor:
    """The draft's rank of each of the target's top K tokens, or K: ``(R, K)``."""
    R, K = ids_M.shape
    if K <= 128:  # compare all pairs: K * K is then less than a row
        same = ids_M.unsqueeze(2) == ids_m.unsqueeze(1)  # (R, K, K)
        return torch.where(same.any(dim=2), same.to(torch.uint8).argmax(dim=2), K)
    ranks = torch.full((R, V), K, dtype=torch.int32, device=ids_M.device)
    ranks.scatter_(1, ids_m, torch.arange(K, dtype=torch.int32, device=ids_M.device).expand(R, K))
    return ranks.gather(1, ids_M).long()


def _intersection(
    p_target: Tensor, p_draft: Tensor, ids_M: Tensor, ids_m: Tensor, rank_m: Tensor, c: Tensor, widest: int
) -> SampleSpace:
    K = ids_M.shape[1]
    rank_M = torch.arange(K, device=ids_M.device)
    worse = torch.maximum(rank_M, rank_m)  # (R, K); K where not shared; too few shared: see _utility
    cut = worse.topk(widest, dim=1, largest=False).values.gather(1, c - 1)  # (R, 1): k - 1
    inside = (worse <= cut) & (worse < K)  # c or c + 1 tokens: at most two share a worst rank
    width = min(widest + 1, K)
    ids = torch.where(inside, ids_M, _PADDING).topk(width, dim=1, largest=False).values
    best_in_draft = (ids_m == ids_M[:, :1]) & (rank_M <= cut)  # is argmax p_M in top_k(p_m)?
    return _gather(p_target, p_draft, ids, ~best_in_draft.any(dim=1), fallback_to_target=True)


def _union(p_target: Tensor, p_draft: Tensor, ids_M: Tensor, ids_m: Tensor, c: Tensor) -> SampleSpace:
    beyond = torch.arange(ids_M.shape[1], device=c.device) >= c  # (R, widest)
    ids = torch.cat([ids_M, ids_m], dim=1).masked_fill(beyond.repeat(1, 2), _PADDING).sort(dim=1).values
    twice = torch.zeros_like(ids, dtype=torch.bool)
    twice[:, 1:] = ids[:, 1:] == ids[:, :-1]
    ids = ids.masked_fill(twice, _PADDING).sort(dim=1).values  # (R, 2 widest)
    never = torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)
    return _gather(p_target, p_draft, ids, never, fallback_to_target=False)


def _gather(
    p_target: Tensor, p_draft: Tensor, ids: Tensor, target_stands: Tensor, *, fallback_to_target: bool
) -> SampleSpace:
    """Read both rows at ``ids`` ``(R, W)``."""
    padding = ids == _PADDING
    at = ids.masked_fill(padding, 0)
    target = p_target.gather(1, at).masked_fill_(padding, 0.0)
    draft = p_draft.gather(1, at).masked_fill_(padding, 0.0)
    return SampleSpace(ids.masked_fill(padding, -1), target, draft, target_stands, fallback_to_target)


def weigh(space: SampleSpace, alpha: float | Tensor) -> Composite:
    """The composite ``f / sum(f)`` with ``f = max(0, (1 - alpha) p_M + alpha p_m)`` on the space.

    Args:
        space: R sample spaces of one scheme.
        alpha: one weight, or one per row ``(R, 1)``. This form is exact at 0 and at 1.
    """
    f = ((1 - alpha) * space.target + alpha * space.draft).clamp_min_(0)
    total = f.sum(dim=1, keepdim=True)  # (R, 1)
    empty = total == 0
    if space.fallback_to_target:
        stands, total = space.target_stands | empty[:, 0], total.masked_fill(empty, 1)
    else:
        stands, f = space.target_stands, torch.where(empty, space.draft, f)
        total = f.sum(dim=1, keepdim=True)
    best = f.max(dim=1).indices  # ids ascend, so the first of equals is the lowest id
    return Composite(space.ids, f / total, best, stands)


def composite(p_target: Tensor, p_draft: Tensor, scheme: str, alpha: float | Tensor, common: int) -> Tensor:
    """The dense composite of R rows ``(R, V)``; the plain way in, for tests and for reading.

    Args:
        p_target: ``(R, V)`` p_M.
        p_draft: ``(R, V)`` p_m.
        scheme: ``"utility"`` (intersection) or ``"safety"`` (union).
        alpha: the scheme's weight.
        common: ``c``.
    """
    spaces = sample_spaces(p_target, p_draft, common)
    mixed = weigh(spaces.utility if scheme == "utility" else spaces.safety, alpha)
    dense = torch.zeros_like(p_target)
    dense.scatter_add_(1, mixed.ids.clamp_min(0), mixed.probs)
    return torch.where(mixed.whole_target.unsqueeze(1), p_target, dense)
