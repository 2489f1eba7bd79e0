"""A backend over an engine in this process, for tests of everything between a model's rows and a consumer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import count
from typing import Any

import pytest
import torch

from langchain_ssd.backend import Backend, ChatRequest, EventStream, Health
from langchain_ssd.config import EngineConfig
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.models import CachedModel
from langchain_ssd.engine.pair import Pair
from langchain_ssd.events import Event, Finished, Queued
from langchain_ssd.testing.tiny_pair import tiny_pair

SURE = 12.0  # the logit of the one token that a scripted model wants; all others have 0


class EngineBackend(Backend):
    """One request at a time; ``starts`` are the positions that predict the answer's first token."""

    def __init__(self, pair: Pair) -> None:
        self._engine = Engine(pair, EngineConfig(max_batch=1))
        self._names = count()
        self.starts = {"target": 0, "draft": 0}

    def submit(self, request: ChatRequest) -> EventStream:
        name = str(next(self._names))
        queued = self._engine.submit(name, request, 0.0)
        self.starts = {"target": queued.prompt_tokens - 1, "draft": queued.draft_prompt_tokens - 1}
        return EngineStream(self._engine, name, queued)

    def token_ids(self, text: str) -> list[int]:
        return self._engine.token_ids(text)

    def warm_up(self) -> Health:
        return self.health()

    def health(self) -> Health:
        return Health("ready")

    def close(self) -> None:
        """Nothing to release."""


class EngineStream(EventStream):
    def __init__(self, engine: Engine, name: str, queued: Queued) -> None:
        self._engine, self._name, self._queued = engine, name, queued

    def __iter__(self) -> Iterator[Event]:
        yield self._queued
        while self._engine.busy:
            for _, event in self._engine.step(0.0):
                yield event
                if isinstance(event, Finished):
                    return

    async def __aiter__(self) -> AsyncIterator[Event]:
        for event in self:
            yield event

    def cancel(self) -> None:
        self._engine.cancel(self._name)


def scripted_pair(
    monkeypatch: pytest.MonkeyPatch, target: Sequence[int], draft: Sequence[int]
) -> EngineBackend:
    """A pair whose models each want the tokens of a list, one after another, whatever came before."""
    pair = tiny_pair(end_ids=frozenset())
    backend = EngineBackend(pair)
    for name, side, wanted in (("target", pair.target, target), ("draft", pair.draft, draft)):
        _follow(monkeypatch, backend, name, side.model, wanted)
    return backend


def _follow(
    monkeypatch: pytest.MonkeyPatch,
    backend: EngineBackend,
    name: str,
    model: CachedModel,
    wanted: Sequence[int],
) -> None:
    extend = model.extend

    def scripted(tokens: Any, first_row: int = 0, **options: Any) -> torch.Tensor:
        base = model.lengths[first_row]
        logits = torch.zeros_like(extend(tokens, first_row=first_row, **options))
        for row in range(len(logits)):
            place = base + row - backend.starts[name]
            if 0 <= place < len(wanted):
                logits[row, wanted[place]] = SURE
        return logits

    monkeypatch.setattr(model, "extend", scripted)
