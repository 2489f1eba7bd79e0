"""THE PAGE: one speculative step on a batch: draft → verify → emit → rewind (algorithm, section 2).

A step drafts up to g tokens per sequence, scores them all in one target pass, walks every sequence's
positions, and takes back what was not accepted. If a whole block was accepted, the target has scored
one position more: its row is kept, and the next block's first proposal is checked against it at once
(the bonus token), before any further drafting and without a target pass.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..decoding.sampling import keyed_uniform
from ..decoding.verify import Refusal, Scored, propose, score, walk
from .block import Block, RowStore, extend
from .models import CachedModel
from .outbox import Outbox, no_finite
from .sequence import Sequence


@dataclass(frozen=True, slots=True)
class Workspace:
    """Buffers that outlive a step: the draft's rows and the target's, in one precision for both models."""

    dtype: torch.dtype
    draft: RowStore
    target: RowStore

    @classmethod
    def of(cls, target: CachedModel, draft: CachedModel) -> Workspace:
        """Float64 if either model is, else float32."""
        precise = torch.float64 in (target.dtype, draft.dtype)
        dtype = torch.float64 if precise else torch.float32
        return cls(dtype, RowStore(dtype), RowStore(dtype))


class Speculation:
    """One step; built anew for every step.

    Args:
        target: the model that verifies.
        draft: the model that proposes.
        ready: sequences whose prompts are cached, with their rows.
        out: takes the events.
        workspace: the engine's buffers.
    """

    def __init__(
        self,
        target: CachedModel,
        draft: CachedModel,
        ready: list[tuple[int, Sequence]],
        out: Outbox,
        workspace: Workspace,
    ) -> None:
        self._target, self._draft, self._out = target, draft, out
        self._blocks = [Block(row, s, min(s.request.safety.block_size, s.room)) for row, s in ready]
        self._drafted, self._verified = workspace.draft, workspace.target
        self._drafted.clear()

    def run(self) -> None:
        """Draft, verify, emit, rewind."""
        for turn in range(max((b.size for b in self._blocks), default=0)):
            growing = [b for b in self._blocks if b.open and turn < b.size]
            self._closed(self._propose, growing)
            if turn == 0:
                waiting = [b for b in growing if b.open and b.sequence.bonus is not None]
                self._closed(self._check_bonus, waiting)
        self._closed(self._verify, [b for b in self._blocks if b.open and b.unchecked])

    def _closed(self, work: Callable[[list[Block]], None], blocks: list[Block]) -> None:
        """Fail closed: what raises ends every request that took part in it, and no other."""
        try:
            if blocks:
                work(blocks)
        except Exception as error:
            for b in blocks:
                self._fail(b, error)

    def _propose(self, blocks: list[Block]) -> None:
        """One draft pass: every block that still grows gets its next proposal."""
        logits, ends = extend(self._draft, blocks, [b.sequence.draft_tokens for b in blocks])
        if not self._drafted.count:
            self._drafted.reserve(sum(b.size for b in self._blocks), logits)
        if len(logits) != len(ends):
            logits = logits[[end - 1 for end in ends]]
        p_draft = self._drafted.add(logits, [b.sequence for b in blocks], [b.unchecked for b in blocks])
        tokens, q = propose(p_draft, [b.sequence.rule for b in blocks], [_coin(b) for b in blocks])
        self._drafted.keep_q(q)
        numbers = range(self._drafted.count - len(blocks), self._drafted.count)
        for b, token, number, ok in zip(blocks, tokens, numbers, p_draft.finite.tolist(), strict=True):
            b.sequence.tally.draft_passes += 1
            b.sequence.tally.drafted += 1
            b.proposals.append(token)
            b.drafted.append(number)
            if not ok:
                self._fail(b, no_finite("draft"))

    def _check_bonus(self, blocks: list[Block]) -> None:
        """Hold first proposals against rows the target has already made: no target pass is needed."""
        kept = [b.sequence.bonus for b in blocks]
        for b in blocks:
            b.sequence.bonus = None
        self._judge(blocks, torch.stack([row for row in kept if row is not None]), range(len(blocks)), 1)
        for b in blocks:
            b.checked = 1

    def _verify(self, blocks: list[Block]) -> None:
        """One target pass over everything proposed, then the walks."""
        logits, ends = extend(self._target, blocks, [b.sequence.target_tokens for b in blocks])
        for b in blocks:
            b.sequence.tally.target_passes += 1
        # Of each block's rows the last but one n predict its n proposals; the last is one position more.
        starts = [end - 1 - len(b.unchecked) for b, end in zip(blocks, ends, strict=True)]
        self._judge(blocks, logits, starts, None)
        for b, end in zip(blocks, ends, strict=True):
            if b.open:
                b.sequence.bonus = logits[end - 1].clone()

    def _judge(self, blocks: list[Block], logits: Tensor, starts: Seq[int], count: int | None) -> None:
        """Score proposals of all blocks at once, then walk each block.

        Args:
            blocks: the blocks that take part.
            logits: ``(N, V)`` the target's raw rows.
            starts: for each block, which of them predicts its first unchecked proposal.
            count: proposals to look at in every block; all of them if ``None``.
        """
        # Rows in the order in which the draft made theirs, so that those need not be copied.
        items = sorted(
            (b.drafted[b.checked + i], start + i, i, n)
            for n, (b, start) in enumerate(zip(blocks, starts, strict=True))
            for i in range(len(b.unchecked) if count is None else count)
        )
        numbers, at, depths, owners = (list(column) for column in zip(*items, strict=True))
        sequences = [blocks[n].sequence for n in owners]
        ahead = [blocks[n].unchecked[:i] for n, i in zip(owners, depths, strict=True)]
        self._verified.clear()
        self._verified.reserve(len(items), logits)
        p_target = self._verified.add(logits[at], sequences, ahead)
        per_block = [b.sequence.row_settings() for b in blocks]
        settings = [per_block[n] for n in owners]
        positions = [s.position + i for s, i in zip(sequences, depths, strict=True)]
        scored = score(p_target, *self._drafted.read(numbers, p_target.probs.device), settings, positions)
        finite = p_target.finite.tolist()
        for n, b in enumerate(blocks):
            here = [row for row, owner in enumerate(owners) if owner == n]
            if all(finite[row] for row in here):
                self._closed(partial(self._walk, scored=scored, here=here), [b])
            else:
                self._fail(b, no_finite("target"))

    def _walk(self, blocks: list[Block], scored: Scored, here: list[int]) -> None:
        """Emit one block's tokens, then rewind both caches to what was accepted."""
        (block,) = blocks
        s, accepted = block.sequence, True
        for step in walk(scored, here, block.unchecked[: len(here)], s.monitor, s.refusal, s.seed):
            if isinstance(step, Refusal):
                self._out.emit(s, s.refuse(s.refusal_reason, step.statistic))
                break
            self._out.emit(s, s.take(step))
            accepted = step.accepted
            if s.done:
                break
        block.open = accepted and not s.done
        for model, tokens in ((self._target, s.target_tokens), (self._draft, s.draft_tokens)):
            # A token that replaced a proposal has not been run; everything before it has.
            known = len(tokens) if accepted else len(tokens) - 1
            model.rewind(block.row, min(model.lengths[block.row], known))

    def _fail(self, block: Block, error: Exception) -> None:
        block.open = False
        self._out.fail(block.sequence, error)


def _coin(block: Block) -> float:
    """The number the next proposal is drawn with."""
    s = block.sequence
    if s.rule.greedy:
        return 0.0
    return keyed_uniform(s.seed, s.position + len(block.unchecked), "propose")
