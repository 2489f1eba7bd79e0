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

from ..decoding.evidence import pick, restrict
from ..decoding.sampling import keyed_uniform
from ..decoding.verify import Refusal, Scored, propose, score, walk
from .block import Block, RowStore, draft_rows, extend
from .constraints import legal_rows
from .models import CachedModel
from .outbox import Outbox, no_finite
from .sequence import Sequence


@dataclass(frozen=True, slots=True)
class Workspace:
    """What outlives a step: buffers for the draft's rows and the target's, in one precision for both models.

    ``refusal_ids`` are the tokens that open a refusal.
    """

    dtype: torch.dtype
    draft: RowStore
    target: RowStore
    refusal_ids: Seq[int] = ()

    @classmethod
    def of(cls, target: CachedModel, draft: CachedModel, refusal_ids: Seq[int] = ()) -> Workspace:
        """Float64 if either model is, else float32."""
        precise = torch.float64 in (target.dtype, draft.dtype)
        dtype = torch.float64 if precise else torch.float32
        return cls(dtype, RowStore(dtype), RowStore(dtype), refusal_ids)


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
        self._refusal_ids = workspace.refusal_ids
        self._drafted.clear()

    def run(self) -> None:
        """Draft, verify, emit, rewind."""
        for turn in range(max((b.size for b in self._blocks), default=0)):
            for b in [b for b in self._blocks if b.growing and turn < b.size]:
                self._closed(_force, [b])
            growing = [b for b in self._blocks if b.growing and turn < b.size]
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
        """One draft pass: every block that still grows gets its next proposal, and rows for forced ones."""
        logits, ends = extend(self._draft, blocks, [b.sequence.draft_tokens for b in blocks])
        if not self._drafted.count:
            self._drafted.reserve(sum(b.size for b in self._blocks), logits)
        wanted, before = draft_rows(blocks, ends), self._drafted.count
        kept = logits if len(wanted.at) == len(logits) else logits[wanted.at]
        p_draft = self._drafted.add(kept, wanted.sequences, wanted.ahead)
        drawn = pick(p_draft, wanted.last)  # where the proposals come from
        legal = legal_rows([b.sequence.form.front for b in blocks], drawn.probs)
        drawn = drawn if legal is None else restrict(drawn, legal)
        tokens, q = propose(drawn, [b.sequence.rule for b in blocks], [_coin(b) for b in blocks])
        self._drafted.keep_q(q, wanted.last)
        finite = p_draft.finite.tolist()
        for b, token, span, ok in zip(blocks, tokens, wanted.spans, drawn.finite.tolist(), strict=True):
            if ok and all(finite[row] for row in span):
                numbers = range(before + span.start, before + span.stop)
                self._closed(partial(_draw, token=token, rows=numbers), [b])
            else:
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
        """Score proposals, then walk each block; those with a grammar apart, so that others pay nothing.

        Args:
            blocks: the blocks that take part.
            logits: ``(N, V)`` the target's raw rows.
            starts: for each block, which of them predicts its first unchecked proposal.
            count: proposals to look at in every block; all of them if ``None``.
        """
        free = [b.sequence.form.legal(0).bits is None for b in blocks]
        for kind in (True, False):
            alike = [i for i, is_free in enumerate(free) if is_free is kind]
            if alike:
                self._judge_alike([blocks[i] for i in alike], logits, [starts[i] for i in alike], count)

    def _judge_alike(self, blocks: list[Block], logits: Tensor, starts: Seq[int], count: int | None) -> None:
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
        p_draft, q = self._drafted.read(numbers, p_target.probs.device)
        legal = legal_rows([s.form.legal(i) for s, i in zip(sequences, depths, strict=True)], p_target.probs)
        scored = score(p_target, p_draft, q, settings, positions, legal, self._refusal_ids)
        finite = (p_target.finite & scored.target.finite).tolist()
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
        if not block.open:
            s.form.rewind()
        for model, tokens in ((self._target, s.target_tokens), (self._draft, s.draft_tokens)):
            # A token that replaced a proposal has not been run; everything before it has.
            known = len(tokens) if accepted else len(tokens) - 1
            model.rewind(block.row, min(model.lengths[block.row], known))

    def _fail(self, block: Block, error: Exception) -> None:
        block.open = False
        self._out.fail(block.sequence, error)


def _force(blocks: list[Block]) -> None:
    for b in blocks:
        b.force()


def _draw(blocks: list[Block], token: int, rows: range) -> None:
    for b in blocks:
        b.draw(token, rows)


def _coin(block: Block) -> float:
    """The number the next proposal is drawn with."""
    s = block.sequence
    if s.rule.greedy:
        return 0.0
    return keyed_uniform(s.seed, s.position + len(block.unchecked), "propose")
