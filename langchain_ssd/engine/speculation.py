"""THE PAGE: one speculative step on a batch: draft → verify → emit → rewind (algorithm, section 2).

A step drafts up to g tokens per sequence, scores them all in one target pass, walks every sequence's
positions, and takes back what was not accepted. If a whole block was accepted, the target has scored
one position more: its row is kept, and the next block's first proposal is checked against it at once
(the bonus token), before any further drafting and without a target pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..decoding.evidence import rows
from ..decoding.sampling import keyed_uniform
from ..decoding.verify import Refusal, RowSettings, Scored, propose, score, walk
from .block import Block, DraftRows, extend
from .models import CachedModel
from .outbox import Outbox, no_finite
from .sequence import Sequence


class Speculation:
    """One step; built anew for every step.

    Args:
        target: the model that verifies.
        draft: the model that proposes.
        ready: sequences whose prompts are cached, with their rows.
        out: takes the events.
    """

    def __init__(
        self, target: CachedModel, draft: CachedModel, ready: list[tuple[int, Sequence]], out: Outbox
    ) -> None:
        self._target, self._draft, self._out = target, draft, out
        self._blocks = [Block(row, s, min(s.request.safety.block_size, s.room)) for row, s in ready]
        self._drafted = DraftRows()

    def run(self) -> None:
        """Draft, verify, emit, rewind."""
        for turn in range(max((b.size for b in self._blocks), default=0)):
            growing = [b for b in self._blocks if b.open and turn < b.size]
            if growing:
                self._propose(growing)
            if turn == 0:
                self._check_bonus([b for b in growing if b.open and b.sequence.bonus is not None])
        self._verify([b for b in self._blocks if b.open and b.unchecked])

    def _propose(self, blocks: list[Block]) -> None:
        """One draft pass: every block that still grows gets its next proposal."""
        logits = extend(self._draft, blocks, [b.sequence.draft_tokens for b in blocks])
        last = [
            b.sequence.penalties.apply(new[-1], b.unchecked) for b, new in zip(blocks, logits, strict=True)
        ]
        p_draft = rows(torch.stack(last))  # (B, V)
        tokens, q = propose(p_draft, [b.sequence.rule for b in blocks], [_coin(b) for b in blocks])
        numbers = self._drafted.add(p_draft, q)
        finite = p_draft.finite.tolist()
        for b, token, number, ok in zip(blocks, tokens, numbers, finite, strict=True):
            b.sequence.tally.draft_passes += 1
            b.sequence.tally.drafted += 1
            b.proposals.append(token)
            b.drafted.append(number)
            if not ok:
                self._fail(b, "draft")

    def _check_bonus(self, blocks: list[Block]) -> None:
        """Hold first proposals against rows the target has already made: no target pass is needed."""
        kept = [b.sequence.bonus for b in blocks]
        for b in blocks:
            b.sequence.bonus = None
        self._judge(blocks, [[row] for row in kept if row is not None])
        for b in blocks:
            b.checked = 1

    def _verify(self, blocks: list[Block]) -> None:
        """One target pass over everything proposed, then the walks."""
        if not blocks:
            return
        logits = extend(self._target, blocks, [b.sequence.target_tokens for b in blocks])
        for b in blocks:
            b.sequence.tally.target_passes += 1
        # Of each block's rows the last but one n predict its n proposals; the last is one position more.
        wanted = [list(new[-len(b.unchecked) - 1 : -1]) for b, new in zip(blocks, logits, strict=True)]
        self._judge(blocks, wanted)
        for b, new in zip(blocks, logits, strict=True):
            if b.open:
                b.sequence.bonus = new[-1].clone()

    def _judge(self, blocks: list[Block], logits: list[list[Tensor]]) -> None:
        """Score proposals of all blocks at once, then walk each block.

        Args:
            blocks: B blocks.
            logits: for each block the target's raw rows ``(V,)`` that predict its next unchecked proposals.
        """
        if not blocks:
            return
        processed: list[Tensor] = []
        numbers: list[int] = []
        settings: list[RowSettings] = []
        positions: list[int] = []
        for b, new in zip(blocks, logits, strict=True):
            s, ahead = b.sequence, b.unchecked
            processed += [s.penalties.apply(row, ahead[:i]) for i, row in enumerate(new)]
            numbers += b.drafted[b.checked : b.checked + len(new)]
            settings += [s.row_settings()] * len(new)
            positions += range(s.position, s.position + len(new))
        p_target = rows(torch.stack(processed))  # (R, V)
        scored = score(p_target, *self._drafted.take(numbers), settings, positions)
        finite = p_target.finite.tolist()
        first = 0
        for b, new in zip(blocks, logits, strict=True):
            here = range(first, first + len(new))
            first += len(new)
            if all(finite[i] for i in here):
                self._walk(b, scored, here)
            else:
                self._fail(b, "target")

    def _walk(self, block: Block, scored: Scored, here: range) -> None:
        """Emit one block's tokens, then rewind both caches to what was accepted."""
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

    def _fail(self, block: Block, role: str) -> None:
        block.open = False
        self._out.fail(block.sequence, no_finite(role))


def _coin(block: Block) -> float:
    """The number the next proposal is drawn with."""
    s = block.sequence
    if s.rule.greedy:
        return 0.0
    return keyed_uniform(s.seed, s.position + len(block.unchecked), "propose")
