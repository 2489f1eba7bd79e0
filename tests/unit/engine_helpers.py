"""Drive an engine over a tiny random pair, in float64: requests in, events out, and ways to break a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import EngineConfig, Sampling, SSDConfig
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.models import CachedModel
from langchain_ssd.engine.pair import Pair
from langchain_ssd.events import Event, Failed, Finished, Token
from langchain_ssd.testing.tiny_pair import tiny_pair

SHOWN = SSDConfig(hold_back="none")
NO_END: frozenset[int] = frozenset()
Events = dict[str, list[Event]]


def request(
    text: str = "hello",
    *,
    safety: SSDConfig = SHOWN,
    prefill: str = "",
    timeout: float | None = None,
    **sampling: Any,
) -> ChatRequest:
    return ChatRequest(
        (ChatMessage("user", text),),
        prefill=prefill,
        sampling=Sampling(**{"max_tokens": 12, **sampling}),
        safety=safety,
        timeout=timeout,
    )


def make(**options: Any) -> tuple[Engine, Pair]:
    """An engine and its pair; ``max_batch`` and the like go to the engine."""
    config = {k: options.pop(k) for k in list(options) if k in EngineConfig.model_fields}
    pair = tiny_pair(**{"end_ids": NO_END, **options})
    return Engine(pair, EngineConfig(**config)), pair


def drain(engine: Engine, into: Events | None = None, now: float = 0.0, steps: int = 500) -> Events:
    """Step until nothing is left to do."""
    events: Events = {} if into is None else into
    for _ in range(steps):
        if not engine.busy:
            return events
        for name, event in engine.step(now):
            events.setdefault(name, []).append(event)
    raise RuntimeError("the engine does not come to an end")


def answer(engine: Engine, asked: ChatRequest, name: str = "one") -> list[Event]:
    engine.submit(name, asked, 0.0)
    return drain(engine)[name]


def token_ids(events: Sequence[Event]) -> list[int]:
    return [e.token_id for e in events if isinstance(e, Token)]


def ended(events: Sequence[Event]) -> Finished:
    """The one last event of an answer that came to its end."""
    assert [e for e in events if isinstance(e, Finished | Failed)] == [events[-1]]
    assert isinstance(events[-1], Finished), events[-1]
    return events[-1]


def failed(events: Sequence[Event]) -> Failed:
    """The one last event of an answer that failed."""
    assert [e for e in events if isinstance(e, Finished | Failed)] == [events[-1]]
    assert isinstance(events[-1], Failed), events[-1]
    return events[-1]


def break_model(
    monkeypatch: pytest.MonkeyPatch, model: CachedModel, after: int, spoil: Callable[..., torch.Tensor]
) -> None:
    """From pass number ``after`` on, once: ``spoil(logits, tokens, first_row)`` makes the pass's result."""
    extend, passes = model.extend, [0]

    def broken(tokens: Any, first_row: int = 0, **options: Any) -> torch.Tensor:
        passes[0] += 1
        if passes[0] == after:
            return spoil(lambda: extend(tokens, first_row=first_row, **options), tokens, first_row)
        return extend(tokens, first_row=first_row, **options)

    monkeypatch.setattr(model, "extend", broken)


def raises(error: Exception) -> Callable[..., torch.Tensor]:
    def spoil(*_: Any) -> torch.Tensor:
        raise error

    return spoil


def in_row(row: int, value: float) -> Callable[..., torch.Tensor]:
    """Write a value over one sequence's logits, everywhere (NaN, -inf) or at one token (+inf)."""

    def spoil(
        run: Callable[[], torch.Tensor], tokens: Sequence[Sequence[int]], first_row: int
    ) -> torch.Tensor:
        logits = run().clone()
        start = sum(len(t) for t in tokens[: row - first_row])
        columns = slice(3, 4) if value == torch.inf else slice(None)
        logits[start : start + len(tokens[row - first_row]), columns] = value
        return logits

    return spoil
