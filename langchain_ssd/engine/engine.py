"""Decodes many conversations at once with a pair of models; the step itself is on the speculation page.

Nothing here reads a clock, prints or logs: ``now`` comes from the caller, and events go back to it.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from functools import partial
from typing import Any

import torch

from ..backend import ChatMessage, ChatRequest, TextToken
from ..config import EngineConfig
from ..events import Event, Queued
from .grammar_library import Grammars
from .outbox import Outbox
from .pair import Pair
from .prompts import PromptReader
from .requests import open_sequence
from .scheduler import Scheduler
from .sequence import Sequence
from .speculation import Speculation, Workspace
from .text import TokenDecoder


class Engine:
    """A pair, a batch and a queue.

    Args:
        pair: the loaded models.
        config: batch and queue sizes.
    """

    def __init__(self, pair: Pair, config: EngineConfig) -> None:
        self._pair = pair
        self._target, self._draft = pair.target.model, pair.draft.model
        self._grammars = Grammars(pair, config.max_grammar_bytes)
        self._scheduler: Scheduler[Sequence] = Scheduler(config.max_batch, config.max_queue)
        self._out = Outbox()
        self._workspace = Workspace.of(self._target, self._draft, pair.refusal_ids)
        self._reader = PromptReader(
            self._target,
            self._draft,
            config.prefill_chunk,
            self._out,
            self._workspace.dtype,
            pair.refusal_ids,
        )
        self.steps = 0

    def submit(self, request_id: str, request: ChatRequest, now: float) -> Queued:
        """Check, render and queue a request, before any forward pass.

        Raises:
            InvalidRequest: it cannot be answered, or not in the form asked for.
            ConfigError: it asks for a grammar, and the grammar library is missing.
            TemplateError: a chat template refuses it.
            Overloaded: the queue is full.
        """
        sequence = open_sequence(self._pair, request_id, request, now, self._grammars)
        self._scheduler.submit(sequence)
        return Queued(len(sequence.target_tokens), len(sequence.draft_tokens), len(sequence.prefill))

    def cancel(self, request_id: str) -> None:
        """Forget a request, queued or running; unknown ones are ignored."""
        if not self._scheduler.drop_waiting(request_id):
            for sequence in [s for s in self._scheduler.running if s.request_id == request_id]:
                self._retire(sequence)

    def step(self, now: float) -> list[tuple[str, Event]]:
        """One step for the whole batch; returns (request id, event) pairs in order.

        Trouble with a request ends that request with ``Failed``; the target never goes on alone.
        """
        self._expire(now)
        self._admit()
        try:
            self._decode()
        except Exception as error:  # a model or the monitor raised: fail closed, for everyone it served
            for sequence in self._scheduler.running:
                self._out.fail(sequence, error)
        self._retire_done()
        self.steps += 1
        return self._out.take()

    @torch.inference_mode()
    def _decode(self) -> None:
        self._read_prompts()
        ready = [(row, s) for row, s in enumerate(self._scheduler.running) if s.ready and not s.done]
        Speculation(self._target, self._draft, ready, self._out, self._workspace).run()

    def _read_prompts(self) -> None:
        for row, sequence in enumerate(self._scheduler.running):
            if not sequence.ready and not sequence.done:
                try:
                    self._reader.advance(row, sequence)
                except Exception as error:  # only this sequence took part in the pass
                    self._out.fail(sequence, error)

    def _admit(self) -> None:
        """Rows of both models are in the scheduler's order."""
        for _ in self._scheduler.admit():
            self._target.join()
            self._draft.join()

    def _expire(self, now: float) -> None:
        for sequence, error in self._scheduler.expired(now):
            self._out.fail(sequence, error)
        self._retire_done()

    def _retire_done(self) -> None:
        for sequence in [s for s in self._scheduler.running if s.done]:
            self._retire(sequence)

    def _retire(self, sequence: Sequence) -> None:
        row = self._scheduler.retire(sequence)
        self._target.leave(row)
        self._draft.leave(row)

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self._scheduler.running)

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

    def tokenize(self, source: str | Many[ChatMessage]) -> list[TextToken]:
        """Tokens of plain text, or of a conversation in the target's template; control tokens are shown.

        Raises:
            InvalidRequest: the text would become a control token.
            TemplateError: the template refuses the conversation.
        """
        renderer = self._pair.target.renderer
        ids = renderer.encode(source) if isinstance(source, str) else renderer.render(source)
        decoder = TokenDecoder(partial(renderer.tokenizer.decode, skip_special_tokens=False))
        texts = [decoder.push(token) for token in ids]
        if texts:
            texts[-1] += decoder.flush()
        return [TextToken(token, text) for token, text in zip(ids, texts, strict=True)]

    def info(self) -> dict[str, Any]:
        """A JSON-able description of the pair."""
        return self._pair.info()

    def close(self) -> None:
        """Drop every sequence."""
        for sequence in list(self._scheduler.running):
            self._retire(sequence)
        self._scheduler.waiting.clear()
