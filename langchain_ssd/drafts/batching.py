"""Examples of different lengths → batches of one shape with little padding."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MAX_PADDING = 0.15
"""No batch of :func:`pack_batches` wastes a larger share of its positions, unless it holds one example."""


class Padded(NamedTuple):
    """A batch on the right-padded grid: causal attention needs no mask for padding on the right.

    Attributes:
        ids: ``(B, L)`` token ids, zero where padded.
        lengths: the real length of each row.
    """

    ids: Tensor
    lengths: list[int]


def pad(rows: Sequence[Sequence[int]]) -> Padded:
    """Put rows side by side."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *([0] * (width - len(row)))] for row in rows])
    return Padded(ids, [len(row) for row in rows])


def pack_batches(lengths: Sequence[int], budget: int, rng: random.Random | None = None) -> list[list[int]]:
    """Group examples by length.

    Args:
        lengths: of every example.
        budget: positions of one batch, padding counted; a longer example is a batch of its own.
        rng: shuffles the batches; their order is by length if omitted.

    Returns:
        indices of each batch's examples; every example is in exactly one.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    width = total = 0
    for i in order:
        size = len(batches[-1]) + 1 if batches else 1
        fits = size * width <= budget and 1 - (total + lengths[i]) / (size * max(width, 1)) <= MAX_PADDING
        if batches and fits:
            batches[-1].append(i)
            total += lengths[i]
        else:
            batches.append([i])
            width = total = lengths[i]
    if rng is not None:
        rng.shuffle(batches)
    return batches


def padding_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """The share of all positions that is padding."""
    positions = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    return 1 - sum(lengths) / positions if positions else 0.0
