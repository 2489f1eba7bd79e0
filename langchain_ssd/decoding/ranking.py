"""The exact top of probability rows, ties broken towards the lower id.

A full sort of 50,000 entries costs milliseconds. The top k entries lie in the k blocks with the
greatest maxima, so it is enough to rank block maxima and then the entries of those blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 32
_LOW = 0xFFFFFFFF
_GREATEST_ID = 2**31


def block_maxima(p: Tensor, block: int = BLOCK) -> Tensor:
    """Greatest entry of every block of ``block`` ids: ``(R, V)`` → ``(R, ceil(V / block))``."""
    V = p.shape[1]
    whole = V - V % block
    maxima = p[:, :whole].view(len(p), -1, block).amax(-1)
    return maxima if whole == V else torch.cat([maxima, p[:, whole:].amax(-1, keepdim=True)], dim=1)


def best(p: Tensor, maxima: Tensor) -> tuple[Tensor, Tensor]:
    """Greatest probability ``(R,)`` and the lowest id ``(R,)`` that has it.

    Args:
        p: ``(R, V)``.
        maxima: its :func:`block_maxima`.
    """
    value, blocks = maxima.max(dim=1, keepdim=True)  # torch promises the first of equals
    ids = _ids_of(blocks)  # (R, BLOCK)
    at = p.gather(1, ids.clamp_max(p.shape[1] - 1)).max(dim=1, keepdim=True).indices
    return value[:, 0], ids.gather(1, at)[:, 0]


def top(p: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k greatest entries of each row, greatest first; equal entries in ascending id.

    Args:
        p: ``(R, V)`` float32 or float64, non-negative but for entries of -1, which come last in any order.
        k: how many, at most ``V``.

    Returns:
        values ``(R, k)`` and ids ``(R, k)``.
    """
    V = p.shape[1]
    block = 1 << max(2, int((V / k) ** 0.5).bit_length() - 1)  # V / block maxima, then k * block entries
    if 4 * k * block >= V or p.dtype != torch.float32:
        return _rank(p, k)
    ids = _ids_of(_top_blocks(block_maxima(p, block), k), block)  # (R, k * block)
    return _rank(_candidates(p, ids, block), k, ids)


def top_ids_of_pair(p: Tensor, q: Tensor, k: int, maxima: Tensor) -> tuple[Tensor, Tensor]:
    """Ids ``(R, k)`` of the top of two models' rows ``(R, V)``, ranked together but never copied whole.

    Args:
        p: one model's rows.
        q: the other's.
        k: how many.
        maxima: ``(2R, ceil(V / BLOCK))`` block maxima of ``p``, then of ``q``.
    """
    R, V = p.shape
    if 4 * k * BLOCK >= V or p.dtype != torch.float32:
        return top(p, k)[1], top(q, k)[1]
    ids = _ids_of(_top_blocks(maxima, k))  # (2R, k * BLOCK)
    entries = torch.cat([_candidates(p, ids[:R]), _candidates(q, ids[R:])])
    ids = _rank(entries, k, ids)[1]
    return ids[:R], ids[R:]


def _top_blocks(maxima: Tensor, k: int) -> Tensor:
    """The k blocks ``(R, k)`` with the greatest maxima, the lower block among equals, in any order."""
    last = maxima.shape[1] - 1
    return last - (
        _keys(maxima, torch.arange(last, -1, -1, device=maxima.device)).topk(k, sorted=False)[0] & _LOW
    )


def _ids_of(blocks: Tensor, block: int = BLOCK) -> Tensor:
    """All ids of the given blocks: ``(R, k)`` → ``(R, k * block)``; the last block may reach beyond V."""
    return (blocks.unsqueeze(-1) * block + torch.arange(block, device=blocks.device)).flatten(1)


def _candidates(p: Tensor, ids: Tensor, block: int = BLOCK) -> Tensor:
    """Entries at ``ids``; ids beyond the row read as -0, whose bits lose against every real entry's."""
    V = p.shape[1]
    if V % block == 0:
        return p.gather(1, ids)
    return p.gather(1, ids.clamp_max(V - 1)).masked_fill_(ids >= V, -0.0)


def _rank(p: Tensor, k: int, ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Like :func:`top`, over all entries of ``p`` ``(R, W)``, named by column or by ``ids`` ``(R, W)``."""
    if p.dtype != torch.float32:  # float64 is for equality tests: plain and slow
        values, columns = p.sort(dim=-1, descending=True, stable=True)
        return values[:, :k], columns[:, :k]
    last = _GREATEST_ID if ids is not None else p.shape[1] - 1
    reverse = last - ids if ids is not None else torch.arange(last, -1, -1, device=p.device)
    keys = _keys(p, reverse).topk(k, dim=-1).values  # sorted, greatest first
    return (keys >> 32).int().view(torch.float32), last - (keys & _LOW)


def _keys(p: Tensor, reverse: Tensor) -> Tensor:
    """The bits of a non-negative float order like the float, those of -1 come before all of them.

    Value above, reversed id below: all keys are distinct.
    """
    return (p.contiguous().view(torch.int32).long() << 32) | reverse
