"""What one speculative step works on: a block of proposals per sequence, and the draft's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..decoding.evidence import Rows, join, select
from .models import CachedModel
from .sequence import Sequence as Conversation


@dataclass(slots=True)
class Block:
    """One sequence's proposals in the running step.

    Attributes:
        row: the sequence's row in both models.
        size: how many tokens may be proposed; shrinks at a context edge.
        drafted: for every proposal, which draft row of this step it was drawn from.
        checked: leading proposals already settled by the bonus row.
        open: false once the block can go no further.
    """

    row: int
    sequence: Conversation
    size: int
    proposals: list[int] = field(default_factory=list)
    drafted: list[int] = field(default_factory=list)
    checked: int = 0
    open: bool = True

    @property
    def unchecked(self) -> list[int]:
        """Proposals that no row of the target has been held against yet."""
        return self.proposals[self.checked :]


@dataclass(slots=True)
class DraftRows:
    """The draft's rows of one step, in the order they were made, and what proposals were drawn from."""

    parts: list[Rows] = field(default_factory=list)
    q_parts: list[Tensor | None] = field(default_factory=list)
    count: int = 0

    def add(self, new: Rows, q: Tensor | None) -> range:
        """Keep rows ``(R, V)``; returns their numbers."""
        self.parts.append(new)
        self.q_parts.append(q)
        self.count += len(new.log_z)
        return range(self.count - len(new.log_z), self.count)

    def take(self, numbers: Sequence[int]) -> tuple[Rows, Tensor | None]:
        """Some rows by number, and their ``q`` if any of this step's proposals was sampled."""
        drafted = select(join(self.parts), numbers)
        if all(q is None for q in self.q_parts):
            return drafted, None
        dense = [part.probs if q is None else q for part, q in zip(self.parts, self.q_parts, strict=True)]
        return drafted, torch.cat(dense)[list(numbers)]


def extend(model: CachedModel, blocks: list[Block], tokens: list[list[int]]) -> list[Tensor]:
    """Run what a model has not cached yet: the end of each prefix, then the unchecked proposals.

    Args:
        model: the target or the draft.
        blocks: the sequences that take part; rows between them are padded.
        tokens: for each block its model's whole prefix, without unchecked proposals.

    Returns:
        for each block its new rows of raw logits ``(n, V)``.
    """
    new = {}
    for b, known in zip(blocks, tokens, strict=True):
        cached = model.lengths[b.row]
        new[b.row] = known[cached:] + b.unchecked[max(0, cached - len(known)) :]
    first, last = min(new), max(new)
    chunks = [new.get(row, []) for row in range(first, last + 1)]
    parts = torch.split(model.extend(chunks, first_row=first), [len(c) for c in chunks])
    return [parts[b.row - first] for b in blocks]
