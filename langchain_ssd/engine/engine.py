"""The page: one step is draft → verify → emit → rewind, on a batch of sequences.

A step drafts up to g tokens per sequence, scores them all in one target pass, walks every sequence's
positions, and takes back what was not accepted. If a whole block was accepted, the target has scored
one position more: its row is kept, and the next block's first proposal is checked against it at once
(the bonus token). Nothing here reads a clock, prints or logs; times belong to the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..backend import ChatRequest
from ..config import EngineConfig
from ..decoding.evidence import Rows, join, rows, select
from ..decoding.sampling import keyed_uniform
from ..decoding.verify import Refusal, RowSettings, Scored, propose, score, walk
from ..errors import GenerationFailed, NonFiniteLogits, OutOfMemory, SSDError
from ..events import Event, Failed, Queued
from .models import CachedModel
from .pair import Pair
from .requests import open_sequence
from .scheduler import Scheduler
from .sequence import Sequence as Conversation

_PREFILL_ROWS = 32  # positions of a prefilled answer whose logits are in memory at once


@dataclass(slots=True)
class Block:
    """One sequence's proposals in the running step.

    Attributes:
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
        """Proposals that no row has been held against yet."""
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


class Engine:
    """Decodes many conversations at once with a pair of models.

    Args:
        pair: the loaded models.
        config: batch and queue sizes.
    """

    def __init__(self, pair: Pair, config: EngineConfig) -> None:
        self._pair = pair
        self._target, self._draft_model = pair.target.model, pair.draft.model
        self._scheduler: Scheduler[Conversation] = Scheduler(config.max_batch, config.max_queue)
        self._prompt_chunk = config.prefill_chunk
        self._out: list[tuple[str, Event]] = []
        self.steps = 0

    # ── requests ──────────────────────────────────────────────────────────────────────────────────

    def submit(self, request_id: str, request: ChatRequest, now: float) -> Queued:
        """Check, render and queue a request, before any forward pass.

        Raises:
            InvalidRequest: it cannot be answered.
            TemplateError: a chat template refuses it.
            Overloaded: the queue is full.
        """
        sequence = open_sequence(self._pair, request_id, request, now)
        self._scheduler.submit(sequence)
        prefill = len(sequence.prefill)
        return Queued(len(sequence.target_tokens), len(sequence.draft_tokens), prefill)

    def cancel(self, request_id: str) -> None:
        """Forget a request, queued or running; unknown ones are ignored."""
        if not self._scheduler.drop_waiting(request_id):
            for sequence in [s for s in self._running if s.request_id == request_id]:
                self._retire(sequence)

    def step(self, now: float) -> list[tuple[str, Event]]:
        """One step for the whole batch; returns (request id, event) pairs in order.

        Trouble with a request ends that request with ``Failed``; the target never goes on alone.
        """
        self._out = []
        self._expire(now)
        for _ in self._scheduler.admit():
            self._target.join()
            self._draft_model.join()
        try:
            self._decode()
        except Exception as error:  # a model or the monitor raised: fail closed, for everyone it served
            self._fail_all(error)
        for sequence in [s for s in self._running if s.done]:
            self._retire(sequence)
        self.steps += 1
        return self._out

    @torch.inference_mode()
    def _decode(self) -> None:
        self._prefill()
        blocks = [Block(row, s, min(s.request.safety.block_size, s.room)) for row, s in self._ready()]
        drafted = DraftRows()
        for turn in range(max((b.size for b in blocks), default=0)):
            growing = [b for b in blocks if b.open and turn < b.size]
            if not growing:
                break
            self._propose(growing, drafted)
            if turn == 0:
                self._check_bonus([b for b in growing if b.open and b.sequence.bonus is not None], drafted)
        self._verify([b for b in blocks if b.open and b.unchecked], drafted)

    # ── draft ─────────────────────────────────────────────────────────────────────────────────────

    def _propose(self, blocks: list[Block], drafted: DraftRows) -> None:
        """One draft pass: every growing block gets its next proposal."""
        logits = self._extend(self._draft_model, blocks, [b.sequence.draft_tokens for b in blocks])
        processed = torch.stack(
            [b.sequence.penalties.apply(new[-1], b.unchecked) for b, new in zip(blocks, logits, strict=True)]
        )  # (R, V)
        new = rows(processed)
        rules = [b.sequence.rule for b in blocks]
        uniforms = [self._coin(b) for b in blocks]
        tokens, q = propose(new, rules, uniforms)
        finite = new.finite.tolist()
        for b, token, number, ok in zip(blocks, tokens, drafted.add(new, q), finite, strict=True):
            b.sequence.tally.draft_passes += 1
            b.sequence.tally.drafted += 1
            b.proposals.append(token)
            b.drafted.append(number)
            if not ok:
                self._fail_block(
                    b, NonFiniteLogits("the draft produced no finite probability; the request was stopped")
                )

    @staticmethod
    def _coin(block: Block) -> float:
        s = block.sequence
        if s.rule.greedy:
            return 0.0
        return keyed_uniform(s.seed, s.position + len(block.unchecked), "propose")

    def _check_bonus(self, blocks: list[Block], drafted: DraftRows) -> None:
        """Hold first proposals against rows the target has already made: no target pass is needed."""
        if not blocks:
            return
        logits = [b.sequence.bonus for b in blocks]
        for b in blocks:
            b.sequence.bonus = None
        self._judge(blocks, [[row] for row in logits if row is not None], drafted)
        for b in blocks:
            b.checked = 1
            b.open = b.open and not b.sequence.done

    # ── verify ────────────────────────────────────────────────────────────────────────────────────

    def _verify(self, blocks: list[Block], drafted: DraftRows) -> None:
        """One target pass over everything proposed, then the walks."""
        if not blocks:
            return
        logits = self._extend(self._target, blocks, [b.sequence.target_tokens for b in blocks])
        wanted, beyond = [], []
        for b, scored in zip(blocks, logits, strict=True):
            b.sequence.tally.target_passes += 1
            n = len(b.unchecked)
            wanted.append(list(scored[-n - 1 : -1]))  # the rows that predict the n proposals
            beyond.append(scored[-1])  # the row after them: the bonus, if all are accepted
        self._judge(blocks, wanted, drafted)
        for b, row in zip(blocks, beyond, strict=True):
            if b.open and not b.sequence.done:
                b.sequence.bonus = row.clone()

    def _judge(self, blocks: list[Block], logits: list[list[Tensor]], drafted: DraftRows) -> None:
        """Score the unchecked proposals (one for a bonus row) of all blocks at once, then walk each block.

        Args:
            blocks: B blocks.
            logits: for each block the target's raw rows ``(V,)`` that predict those proposals.
            drafted: the draft's rows of this step.
        """
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
        target = rows(torch.stack(processed))
        draft, q = drafted.take(numbers)
        scored = score(target, draft, q, settings, positions)
        finite = target.finite.tolist()
        first = 0
        for b, new in zip(blocks, logits, strict=True):
            here = range(first, first + len(new))
            first += len(new)
            if all(finite[i] for i in here):
                self._walk(b, scored, here)
            else:
                self._fail_block(
                    b, NonFiniteLogits("the target produced no finite probability; the request was stopped")
                )

    def _walk(self, block: Block, scored: Scored, here: range) -> None:
        """Emit one block's tokens and rewind both caches to what was accepted."""
        s = block.sequence
        accepted = True
        for step in walk(scored, here, block.unchecked[: len(here)], s.monitor, s.refusal, s.seed):
            if isinstance(step, Refusal):
                self._emit(s, s.refuse(s.refusal_reason, step.statistic))
                break
            self._emit(s, s.take(step))
            accepted = step.accepted
            if s.done:
                break
        block.open = accepted and not s.done
        for model, tokens in ((self._target, s.target_tokens), (self._draft_model, s.draft_tokens)):
            # A token that replaced a proposal has not been run; everything before it has.
            known = len(tokens) if accepted else len(tokens) - 1
            model.rewind(block.row, min(model.lengths[block.row], known))

    # ── prompts ───────────────────────────────────────────────────────────────────────────────────

    def _prefill(self) -> None:
        """Advance every sequence whose prompt is not cached yet by one chunk."""
        for row, s in enumerate(self._running):
            if not s.ready and not s.done:
                try:
                    self._prefill_one(row, s)
                except Exception as error:  # only this sequence took part in the pass
                    self._fail(s, _typed(error))

    def _prefill_one(self, row: int, s: Conversation) -> None:
        waiting = False
        for model, tokens in self._both(s):
            cached, end = model.lengths[row], len(tokens) - len(s.prefill) - 1
            if cached < end:  # the prompt but for its last token, whose row predicts the answer
                chunk = tokens[cached : min(end, cached + self._prompt_chunk)]
                model.extend([chunk], first_row=row, rows_wanted=False)
                waiting = waiting or model.lengths[row] < end
        if not waiting and s.scored_prefill < len(s.prefill):
            self._score_prefill(row, s)
        s.ready = not waiting and s.scored_prefill == len(s.prefill)

    def _score_prefill(self, row: int, s: Conversation) -> None:
        """Show the monitor the rows that predict a prefilled answer, some positions at a time."""
        n = min(_PREFILL_ROWS, len(s.prefill) - s.scored_prefill)
        both = []
        for model, tokens in self._both(s):
            at = model.lengths[row]
            both.append(rows(model.extend([tokens[at : at + n]], first_row=row)))
        positions = range(s.scored_prefill, s.scored_prefill + n)
        if not bool((both[0].finite & both[1].finite).all()):
            self._fail(s, NonFiniteLogits("a model produced no finite probability; the request was stopped"))
            return
        q = both[1].probs  # nothing is drawn here; sampled rows only need some q
        scored = score(both[0], both[1], q, [s.row_settings()] * n, positions)
        self._emit(s, s.observe_prefill(scored.evidence))

    # ── helpers ───────────────────────────────────────────────────────────────────────────────────

    @property
    def _running(self) -> list[Conversation]:
        return self._scheduler.running

    def _ready(self) -> list[tuple[int, Conversation]]:
        return [(row, s) for row, s in enumerate(self._running) if s.ready and not s.done]

    def _both(self, s: Conversation) -> tuple[tuple[CachedModel, list[int]], tuple[CachedModel, list[int]]]:
        return (self._target, s.target_tokens), (self._draft_model, s.draft_tokens)

    @staticmethod
    def _extend(model: CachedModel, blocks: list[Block], tokens: list[list[int]]) -> list[Tensor]:
        """Run what a model has not cached yet; returns each block's rows ``(n, V)``."""
        new = {
            b.row: known[model.lengths[b.row] :] + b.unchecked[max(0, model.lengths[b.row] - len(known)) :]
            for b, known in zip(blocks, tokens, strict=True)
        }
        first, last = min(new), max(new)
        chunks = [new.get(row, []) for row in range(first, last + 1)]
        logits = model.extend(chunks, first_row=first)
        parts = torch.split(logits, [len(c) for c in chunks])
        by_row = dict(zip(range(first, last + 1), parts, strict=True))
        return [by_row[b.row] for b in blocks]

    def _emit(self, s: Conversation, events: Iterable[Event]) -> None:
        self._out += [(s.request_id, event) for event in events]

    def _fail(self, s: Conversation, error: SSDError) -> None:
        if not s.done:
            s.done = True
            self._out.append((s.request_id, Failed(error.code, error.message)))

    def _fail_block(self, block: Block, error: SSDError) -> None:
        block.open = False
        self._fail(block.sequence, error)

    def _fail_all(self, error: Exception) -> None:
        for s in self._running:
            self._fail(s, _typed(error))

    def _expire(self, now: float) -> None:
        for sequence, error in self._scheduler.expired(now):
            self._fail(sequence, error)
        for sequence in [s for s in self._running if s.done]:
            self._retire(sequence)

    def _retire(self, sequence: Conversation) -> None:
        row = self._scheduler.retire(sequence)
        self._target.leave(row)
        self._draft_model.leave(row)

    # ── what callers ask ──────────────────────────────────────────────────────────────────────────

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """Sequences that wait for a place."""
        return len(self._scheduler.waiting)

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self.running or self.queued)

    def token_ids(self, text: str) -> list[int]:
        """Ids of plain text by the target's tokenizer."""
        return self._pair.target.renderer.encode(text)

    def info(self) -> dict[str, Any]:
        """A JSON-able description of the pair."""
        return self._pair.info()

    def close(self) -> None:
        """Drop every sequence."""
        for sequence in list(self._running):
            self._retire(sequence)
        self._scheduler.waiting.clear()


def _typed(error: Exception) -> SSDError:
    """What a request is told when a pass raised; the exception's own text may hold anything."""
    if isinstance(error, SSDError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return OutOfMemory("the device ran out of memory; lower max_batch or max_context")
    return GenerationFailed(f"decoding failed with {type(error).__name__}; the request was stopped")
