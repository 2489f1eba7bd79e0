"""Agents for the tests of the guard: a model that calls tools by script, and a look into every checkpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import Field

from langchain_ssd import ChatSSD
from langchain_ssd.guard import SSDGuardMiddleware
from langchain_ssd.testing import ScriptedBackend, refusal

UNSAFE = "xyzzy-unsafe"
NO = "Not this one."
REFUSED = refusal(NO, after=f"Sure, {UNSAFE} and")
THREAD = {"configurable": {"thread_id": "t"}}
ASKED: Any = {"messages": [("user", "hi")]}


def scripted(*replies: Any, **settings: Any) -> ChatSSD:
    return ChatSSD(backend=ScriptedBackend(*replies), max_retries=0, **settings)


def ssd(
    *, emitted: int = 10, safety: int = 0, match: float = 1.0, refused: bool = False, **more: Any
) -> dict[str, Any]:
    """Metadata as ChatSSD writes it."""
    why = {"category": "suspected_jailbreak", "reason": "evidence", "language": "en", "enforced": True}
    summary = {"emitted": emitted, "scored": emitted, "match_ratio": match, "safety_tokens": safety}
    return {
        "finish_reason": "refusal" if refused else "stop",
        "ssd": {**summary, "refusal": why if refused else None, **more},
    }


def says(text: str, *calls: ToolCall, rated: str | None = "utility", **metadata: Any) -> AIMessage:
    """An answer; ``rated`` is the mode of all its tool calls, ``None`` leaves them unrated."""
    if rated is not None and calls:
        rows = [{"id": c["id"], "name": c["name"], "mode": rated, "match_ratio": 0.5} for c in calls]
        metadata = {**metadata, "tool_calls": rows}
    return AIMessage(text, tool_calls=list(calls), response_metadata=ssd(**metadata))


def call(name: str, number: int = 1, **args: Any) -> ToolCall:
    return ToolCall(name=name, args=args, id=f"call-{number}", type="tool_call")


class ToolModel(BaseChatModel):
    """Gives its answers in order, the last one for ever after, and keeps what it was asked."""

    answers: list[Any]
    asked: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "tool-model"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self.bind(**kwargs)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(list(messages))
        if isinstance(answer, Exception):
            raise answer
        return ChatResult(generations=[ChatGeneration(message=answer.model_copy(deep=True))])


class Desk:
    """Two tools, and what they were told to do."""

    def __init__(self, result: str = "done") -> None:
        self.done: list[str] = []

        @tool
        def send_email(to: str) -> str:
            """Send an e-mail."""
            self.done.append(f"send {to}")
            return result

        @tool
        def look_up(word: str) -> str:
            """Look a word up."""
            self.done.append(f"look {word}")
            return result

        self.tools = [send_email, look_up]


def guarded(
    model: Any, *others: Any, tools: Sequence[Any] = (), first: bool = False, **settings: Any
) -> tuple[Any, InMemorySaver]:
    """An agent whose guard is the last (or the first) in the list, and its checkpoints."""
    saver, guard = InMemorySaver(), SSDGuardMiddleware(**settings)
    middleware = [guard, *others] if first else [*others, guard]
    return create_agent(model, list(tools), middleware=middleware, checkpointer=saver), saver


def everything(saver: InMemorySaver) -> str:
    """All that the checkpoints hold, as text."""
    return f"{dict(saver.storage)}{dict(saver.blobs)}{dict(saver.writes)}"


async def _drain(stream: Any) -> list[Any]:
    return [item async for item in stream]


def _stream(mode: str) -> Callable[[Any, Any], Any]:
    return lambda agent, asked: list(agent.stream(asked, THREAD, stream_mode=mode))


def _astream(mode: str) -> Callable[[Any, Any], Any]:
    return lambda agent, asked: asyncio.run(_drain(agent.astream(asked, THREAD, stream_mode=mode)))


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "invoke": lambda agent, asked: agent.invoke(asked, THREAD),
    "ainvoke": lambda agent, asked: asyncio.run(agent.ainvoke(asked, THREAD)),
    **{f"stream {mode}": _stream(mode) for mode in ("values", "updates", "messages")},
    **{f"astream {mode}": _astream(mode) for mode in ("values", "updates", "messages")},
    "v3": lambda agent, asked: agent.stream_events(asked, THREAD, version="v3").output,
}
"""Every surface of an agent."""


def last(agent: Any) -> BaseMessage:
    """The newest message of the thread."""
    message: BaseMessage = agent.get_state(THREAD).values["messages"][-1]
    return message


def notes(agent: Any) -> dict[str, Any]:
    """The guard's notes of the thread."""
    kept: dict[str, Any] = agent.get_state(THREAD).values["ssd_guard"]
    return kept
