"""Many answers at once from one model: continuous batching over the engine's caches.

A prompt joins the batch as soon as a row is free and leaves it with its last token, so that short
answers never wait for long ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..engine.models import CachedModel

Picker = Callable[[Tensor], Tensor]
"""Logits ``(B, V)`` to one token id per row ``(B,)``."""


def greedy(logits: Tensor) -> Tensor:
    """The most likely token of each row ``(B, V)``; the lowest id among equals."""
    return logits.argmax(dim=-1)


def sampled(temperature: float, top_p: float, seed: int) -> Picker:
    """A picker that draws at a temperature from the nucleus of mass ``top_p``."""
    generator = torch.Generator().manual_seed(seed)

    def pick(logits: Tensor) -> Tensor:
        probs = torch.softmax(logits.float().cpu() / temperature, dim=-1)
        ordered, ids = probs.topk(min(256, probs.shape[-1]), dim=-1)  # the nucleus of a peaked row is small
        before = ordered.cumsum(dim=-1) - ordered
        ordered = ordered.masked_fill(before >= top_p, 0.0)
        drawn = torch.multinomial(ordered, 1, generator=generator)  # (B, 1)
        return ids.gather(1, drawn)[:, 0].to(logits.device)

    return pick


@dataclass(slots=True)
class _Row:
    index: int
    waiting: list[int]  # tokens the model has not seen yet
    answer: list[int] = field(default_factory=list)


def generate(
    model: CachedModel,
    prompts: Sequence[Sequence[int]],
    end_ids: frozenset[int],
    max_tokens: int,
    *,
    batch: int = 32,
    pick: Picker = greedy,
    limits: Sequence[int] | None = None,
) -> Iterator[tuple[int, list[int], bool]]:
    """Answer every prompt; answers come as they end, not in order.

    Args:
        model: its rows must all be free.
        prompts: token ids, each with at least one.
        end_ids: tokens that end an answer; they are not part of it.
        max_tokens: length of the longest answer.
        batch: rows that run together.
        pick: how a token is chosen.
        limits: a length for each answer in place of ``max_tokens``.

    Yields:
        the prompt's index, its answer, and whether the answer ended by itself.
    """
    # Neighbours in length join together, so that few columns of the caches are padding.
    queue = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    rows: list[_Row] = []
    try:
        while queue or rows:
            while queue and len(rows) < batch:
                rows.append(_join(model, queue.pop(), prompts))
            logits = model.extend([row.waiting for row in rows])
            for row, token in zip(rows, pick(logits).tolist(), strict=True):
                row.waiting = [token]
            for at in reversed(range(len(rows))):
                done = _take(rows[at], end_ids, limits[rows[at].index] if limits else max_tokens)
                if done is not None:
                    yield done
                    _leave(model, rows, at)
    finally:
        while rows:
            _leave(model, rows, len(rows) - 1)


def _join(model: CachedModel, index: int, prompts: Sequence[Sequence[int]]) -> _Row:
    """Open a row and read the prompt, all but its last token."""
    row, prompt = model.join(), list(prompts[index])
    if len(prompt) > 1:
        model.extend([prompt[:-1]], first_row=row, rows_wanted=False)
    return _Row(index, prompt[-1:])


def _take(row: _Row, end_ids: frozenset[int], limit: int) -> tuple[int, list[int], bool] | None:
    """Append the row's new token; the finished answer if that was the last."""
    (token,) = row.waiting
    if token in end_ids:
        return row.index, row.answer, True
    row.answer.append(token)
    return (row.index, row.answer, False) if len(row.answer) >= limit else None


def _leave(model: CachedModel, rows: list[_Row], at: int) -> None:
    """Close a row; the last one takes its place, in the model as in the list."""
    model.leave(at)
    rows[at] = rows[-1]
    rows.pop()
