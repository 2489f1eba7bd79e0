"""From the token on at which the risk rises, nothing reaches a consumer, a handler or a tracer.

A scripted pair: both models want the same token until token k, where the draft turns away. Under the default
hold-back no text from k on may be in anything that anybody received, on any streaming surface.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers import BaseTracer
from langchain_core.tracers.schemas import Run
from langgraph.checkpoint.memory import InMemorySaver

from langchain_ssd import ChatSSD
from langchain_ssd.config import SSDConfig
from langchain_ssd.testing.byte_tokenizer import byte_tokenizer

from .engine_backend import EngineBackend, scripted_pair

# In an order in which no two neighbours stand in any name or id, so that they are found in a repr.
ALPHABET = "QzX|jW;qV!kK$vZ%xJ&wY?gP@hH^rB#sG+tF=uL/mD<n{C>oN*pM"
LAST = 40
NO = "no."
SEQUENTIAL = SSDConfig(monitor="sequential", common_tokens=1)
PAPER = SSDConfig(common_tokens=1, alpha_safety=0.0)  # a weak draft: a confident one is never refused


class Everything(BaseCallbackHandler):
    """Keeps whatever a handler is given."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **_: Any) -> None:
        self.seen += [{"text": token}, chunk]

    def on_llm_end(self, response: Any, **_: Any) -> None:
        self.seen.append(response)

    def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        self.seen.append(data)

    def on_stream_event(self, event: Any, **_: Any) -> None:
        self.seen.append(event)


class Tracer(BaseTracer):
    """Keeps whole runs, as LangSmith's does."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def _persist_run(self, run: Run) -> None:
        self.seen += [run.outputs, run.events]


async def _collect(stream: Any) -> list[Any]:
    return [item async for item in stream]


def _agent(model: ChatSSD, config: Any) -> list[Any]:
    agent: Any = create_agent(model, tools=[], checkpointer=InMemorySaver())
    config = {**config, "configurable": {"thread_id": "1"}}
    received = list(agent.stream({"messages": [("human", "hi")]}, config, stream_mode="messages"))
    return [received, list(agent.get_state_history(config))]


SURFACES: dict[str, Callable[[ChatSSD, Any], Any]] = {
    "stream": lambda m, c: list(m.stream("hi", c)),
    "astream": lambda m, c: asyncio.run(_collect(m.astream("hi", c))),
    "astream_events": lambda m, c: asyncio.run(_collect(m.astream_events("hi", c, version="v2"))),
    "agent's messages": _agent,
    "event stream v3": lambda m, c: list(m.stream_events("hi", c, version="v3")),
    "invoke": lambda m, c: m.invoke("hi", c),
}


def pair_at(monkeypatch: pytest.MonkeyPatch, k: int) -> EngineBackend:
    tokenizer = byte_tokenizer()
    wanted = tokenizer.encode(ALPHABET, add_special_tokens=False)
    turned = tokenizer.encode("~", add_special_tokens=False) * (len(wanted) - k)
    return scripted_pair(monkeypatch, wanted, wanted[:k] + turned)


def leaked(received: Any, k: int) -> set[str]:
    """Letters from token k on, as a text or with a neighbour, and the draft's, in whatever was received."""
    said = repr(received)
    late = ALPHABET[k:]
    pairs = {late[n : n + 2] for n in range(len(late) - 1)}
    alone = {f"{field}'{letter}'" for letter in late for field in ("content=", "'text': ", "text=")}
    texts = alone | pairs | {"~"}
    return {text for text in texts if text in said}


def answer(backend: EngineBackend, surface: str, ssd: SSDConfig) -> tuple[list[Any], Any]:
    handler, tracer = Everything(), Tracer()
    model = ChatSSD(backend=backend, ssd=ssd, max_tokens=48, refusal={"templates": {"en": NO}})  # type: ignore[arg-type]
    received = SURFACES[surface](model, {"callbacks": [handler, tracer]})
    return [received, handler.seen, tracer.seen], received


@pytest.mark.filterwarnings("ignore:.*in beta")  # version 3 of the event stream is
@pytest.mark.parametrize("surface", SURFACES)
def test_no_token_from_the_rise_of_risk_on_is_seen_anywhere(
    monkeypatch: pytest.MonkeyPatch, surface: str
) -> None:
    for k in range(LAST + 1):
        with monkeypatch.context() as patch:
            everything, received = answer(pair_at(patch, k), surface, SEQUENTIAL)
        assert leaked(everything, k) == set(), k
        assert NO in repr(received), k
        assert "'refusal'" in repr(received), k


@pytest.mark.parametrize("surface", ["stream", "invoke"])
def test_the_papers_monitor_holds_back_a_bin_and_the_next(
    monkeypatch: pytest.MonkeyPatch, surface: str
) -> None:
    for k in range(22):  # later the threshold has decayed to nothing
        with monkeypatch.context() as patch:
            everything, received = answer(pair_at(patch, k), surface, PAPER)
        assert NO in repr(received), k
        assert leaked(everything, k) == set(), k


def test_what_was_calm_is_shown_and_without_hold_back_the_rest_is_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The search would find a leak: without hold-back there is one."""
    k = 20
    with monkeypatch.context() as patch:
        everything, received = answer(pair_at(patch, k), "stream", SEQUENTIAL)
    assert "".join(chunk.text for chunk in received).startswith(ALPHABET[: k - 1])
    with monkeypatch.context() as patch:
        bare = SEQUENTIAL.model_copy(update={"hold_back": "none"})
        everything, _ = answer(pair_at(patch, k), "stream", bare)
    assert leaked(everything, k) != set()
