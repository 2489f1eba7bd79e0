"""What one speculative step works on: a block of proposals per sequence, and the draft's rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from ..decoding.evidence import Rows, on_device, rows
from .models import CachedModel
from .sequence import Sequence as Conversation

MAX_FORCED = 32
"""Forced tokens per block: their rows are in memory together."""


@dataclass(slots=True)
class Block:
    """One sequence's proposals in the running step.

    Attributes:
        row: the sequence's row in both models.
        size: how many tokens may be drawn; shrinks at a context edge.
        proposals: drawn by the draft, or forced by a grammar.
        drafted: for every proposal, which draft row of this step predicts it; rows of forced ones come later.
        checked: leading proposals already settled by the bonus row.
        open: false once the block can go no further.
    """

    row: int
    sequence: Conversation
    size: int
    proposals: list[int] = field(default_factory=list)
    drafted: list[int] = field(default_factory=list)
    checked: int = 0
    forced: int = 0
    open: bool = True

    @property
    def unchecked(self) -> list[int]:
        """Proposals that no row of the target has been held against yet."""
        return self.proposals[self.checked :]

    @property
    def growing(self) -> bool:
        """Whether one more token may be proposed."""
        return self.open and len(self.unchecked) < self.sequence.room and not self.sequence.form.closed

    def force(self) -> None:
        """Propose what the grammar leaves no choice about: that takes no pass, the next one brings the rows.

        Every pass draws one proposal, so the last token that can be proposed is left to it.
        """
        form = self.sequence.form
        while (only := form.front.only) is not None and self.forced < MAX_FORCED:
            if len(self.unchecked) + 1 == self.sequence.room:
                return
            form.propose(only)
            if form.closed:
                form.retract()
                return
            self.proposals.append(only)
            self.forced += 1

    def draw(self, token: int, rows: Iterable[int]) -> None:
        """Take the proposal of a pass; ``rows`` are those of forced proposals before it, then its own."""
        sequence = self.sequence
        sequence.tally.draft_passes += 1
        sequence.tally.drafted += sequence.form.front.only is None
        self.drafted += rows
        self.proposals.append(token)
        sequence.form.propose(token)


class RowStore:
    """Buffers for the rows of a step, kept from step to step: fresh memory of this size costs page faults.

    Rows are added pass by pass; all that were added can be read as one :class:`Rows` without a copy.

    Args:
        dtype: float32, or float64 if one of the models is.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._buffers: list[Tensor] = []  # logits and probabilities, each (capacity, V)
        self._parts: list[Rows] = []
        self._q: list[Tensor | None] = []
        self.count = 0

    def clear(self) -> None:
        """Begin a new step; rows read before are overwritten from here on."""
        self._parts, self._q, self.count = [], [], 0

    def reserve(self, capacity: int, like: Tensor) -> None:
        """Make room for a step's rows; ``like`` ``(…, V)`` gives the width. What is stored stays."""
        if not self._buffers or len(self._buffers[0]) < capacity:
            shape = (capacity, like.shape[-1])
            old = self._buffers
            self._buffers = [torch.empty(shape, dtype=self._dtype, device=like.device) for _ in range(2)]
            for buffer, kept in zip(self._buffers, old, strict=False):
                buffer[: self.count] = kept[: self.count]

    def add(self, logits: Tensor, sequences: Sequence[Conversation], ahead: Sequence[Sequence[int]]) -> Rows:
        """Process raw logits ``(R, V)`` and keep their rows.

        Args:
            logits: as the model gave them.
            sequences: whose row it is; its penalties apply.
            ahead: for each row, proposals before it that count as emitted.
        """
        here = slice(self.count, self.count + len(logits))
        self.reserve(here.stop, logits)
        processed, probs = (buffer[here] for buffer in self._buffers)
        processed.copy_(logits)
        for row, s, before in zip(processed, sequences, ahead, strict=True) if _any_active(sequences) else ():
            s.penalties.apply_(row, before)
        new = rows(processed, probs)
        self._parts.append(new)
        self._q.append(None)
        self.count = here.stop
        return new

    def keep_q(self, q: Tensor | None, drawn: Sequence[int]) -> None:
        """Remember what proposals were drawn from.

        Args:
            q: ``(len(drawn), V)``, or ``None`` if all proposals were greedy.
            drawn: which of the rows added last; forced proposals were not drawn, whatever their rows say.
        """
        whole = self._parts[-1].probs
        if q is not None and len(q) < len(whole):
            q = whole.index_copy(0, torch.tensor(drawn, device=q.device), q)
        self._q[-1] = q

    def read(self, numbers: Sequence[int], device: torch.device) -> tuple[Rows, Tensor | None]:
        """Rows by ascending number, and their ``q`` if any of the step's proposals was sampled.

        Args:
            numbers: which rows.
            device: where they are wanted; the two models may sit on different ones.
        """
        small = [
            torch.cat(x) if len(x) > 1 else x[0] for x in zip(*(p[2:7] for p in self._parts), strict=True)
        ]
        whole = Rows._make([*(b[: self.count] for b in self._buffers), *small, True])
        sampled = any(q is not None for q in self._q)
        q = None
        if sampled:
            q = torch.cat([p.probs if x is None else x for p, x in zip(self._parts, self._q, strict=True)])
        if numbers[-1] - numbers[0] + 1 == len(numbers):  # without gaps: views instead of copies
            at: slice | Tensor = slice(numbers[0], numbers[-1] + 1)
        else:
            at = torch.tensor(numbers, dtype=torch.long, device=whole.probs.device)
        picked = on_device(Rows._make([*(x[at] for x in whole[:-1]), True]), device)
        return picked, None if q is None else q[at].to(device)


class DraftRows(NamedTuple):
    """Which rows of a draft pass are kept: those of forced proposals, then the one the next is drawn from.

    Attributes:
        at: their places in the pass, block after block.
        sequences: whose they are.
        ahead: for each the proposals before it.
        spans: for each block, which of them are its own.
    """

    at: list[int]
    sequences: list[Conversation]
    ahead: list[list[int]]
    spans: list[range]

    @property
    def last(self) -> list[int]:
        """For each block, which of them the next proposal is drawn from."""
        return [span[-1] for span in self.spans]


def draft_rows(blocks: list[Block], ends: list[int]) -> DraftRows:
    """Find them; ``ends`` as :func:`extend` gave them."""
    found = DraftRows([], [], [], [])
    for b, end in zip(blocks, ends, strict=True):
        first = len(found.at)
        for depth in range(len(b.drafted), len(b.proposals) + 1):
            found.at.append(end - 1 - len(b.proposals) + depth)
            found.sequences.append(b.sequence)
            found.ahead.append(b.proposals[b.checked : depth])
        found.spans.append(range(first, len(found.at)))
    return found


def _any_active(sequences: Sequence[Conversation]) -> bool:
    return any(s.penalties.active for s in sequences)


def extend(model: CachedModel, blocks: list[Block], tokens: list[list[int]]) -> tuple[Tensor, list[int]]:
    """Run what a model has not cached yet: the end of each prefix, then the unchecked proposals.

    Args:
        model: the target or the draft.
        blocks: the sequences that take part; rows between them are padded.
        tokens: for each block its model's whole prefix, without unchecked proposals.

    Returns:
        raw logits ``(N, V)`` of all new positions, block after block, and where each block's end.
    """
    new = {}
    for b, known in zip(blocks, tokens, strict=True):
        cached = model.lengths[b.row]
        new[b.row] = known[cached:] + b.unchecked[max(0, cached - len(known)) :]
    ends = list(accumulate(len(new[b.row]) for b in blocks))
    alone = {b.row for b in blocks if b.sequence.alone}
    shared = new.keys() - alone
    parts = {row: model.extend([new[row]], first_row=row) for row in alone}
    if shared:
        first, last = min(shared), max(shared)
        chunks = [new[row] if row in shared else [] for row in range(first, last + 1)]
        logits = model.extend(chunks, first_row=first)
        if not alone:
            return logits, ends
        split = zip(range(first, last + 1), torch.split(logits, [len(c) for c in chunks]), strict=True)
        parts |= {row: part for row, part in split if row in shared}
    return torch.cat([parts[b.row] for b in blocks]), ends
