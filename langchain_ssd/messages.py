"""LangChain messages in, plain chat messages out: roles, text and tool calls, checked. No tokenizer here.

Neighbouring messages of one role become one (many chat templates raise otherwise), and a trailing AI
message becomes the start of the answer.  Errors say which message is wrong and never quote it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages import ChatMessage as RoleMessage

from .backend import ChatMessage, Role
from .errors import InvalidRequest, UnsupportedContent
from .plain_text import check_text, texts

_CLASSES: tuple[tuple[type[BaseMessage], Role], ...] = (
    (SystemMessage, "system"),
    (HumanMessage, "user"),
    (AIMessage, "assistant"),
    (ToolMessage, "tool"),
)
_ROLE_NAMES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
}
_PARAGRAPH = "\n\n"  # between two messages that become one
# Parts of earlier AI turns that a template must not see again, or that travel as tool calls.
_NOT_REPLAYED = frozenset(
    {"reasoning", "reasoning_content", "thinking", "redacted_thinking", "tool_call", "tool_call_chunk"}
    | {"invalid_tool_call", "tool_use", "function_call", "input_json_delta"}
)


def to_chat(messages: Sequence[BaseMessage]) -> tuple[tuple[ChatMessage, ...], str]:
    """Translate a conversation into chat messages and the start of the answer.

    Returns:
        The messages without a trailing AI turn, and the text of that turn exactly as given ("" if
        there is none).

    Raises:
        InvalidRequest: nothing to answer, a prefill without a question, or text that is not Unicode.
        UnsupportedContent: an image, audio, a file, or a role that chat templates do not know.
    """
    if not messages:
        raise InvalidRequest("there are no messages; give at least one user message")
    turns = _merge(_turn(message, f"message {number}") for number, message in enumerate(messages, 1))
    prefill = _take_prefill(turns)
    if not any(turn.content.strip() or turn.tool_calls for turn in turns):
        raise InvalidRequest(
            "an answer was begun but nothing was asked; put a user or system message before it"
            if prefill
            else "the messages hold no text; give at least one user message with text"
        )
    return tuple(turns), prefill


def _turn(message: BaseMessage, where: str) -> ChatMessage:
    role = _role(message, where)
    text = _text(message, role, where)
    return ChatMessage(
        role=role,
        content=check_text(text, where),
        name=check_text(message.name, where) if message.name else None,
        tool_calls=_tool_calls(message, where) if isinstance(message, AIMessage) else (),
        tool_call_id=check_text(message.tool_call_id, where) if isinstance(message, ToolMessage) else None,
    )


def _role(message: BaseMessage, where: str) -> Role:
    if isinstance(message, RoleMessage) and message.role.lower() in _ROLE_NAMES:
        return _ROLE_NAMES[message.role.lower()]
    for kind, role in _CLASSES:
        if isinstance(message, kind):
            return role
    raise UnsupportedContent(
        f"{where} has a role that chat templates do not know; use system, user, assistant or tool messages"
    )


def _text(message: BaseMessage, role: Role, where: str) -> str:
    if isinstance(message.content, str):
        text = message.content
    else:
        text = ""
        for block in message.content:
            text += block if isinstance(block, str) else _block_text(block, role, where, text)
    refusal = message.additional_kwargs.get("refusal")  # where some providers put it
    return refusal if role == "assistant" and not text and isinstance(refusal, str) else text


def _block_text(block: dict[Any, Any], role: Role, where: str, before: str) -> str:
    """The text of one content block; ``before`` is the text of the blocks in front of it."""
    if block.get("type") == "non_standard" and isinstance(block.get("value"), dict):
        block = block["value"]
    kind = block.get("type")
    if kind == "text" and isinstance(block.get("text"), str):
        return str(block["text"])
    if role == "assistant" and kind in _NOT_REPLAYED:
        return ""
    if role == "assistant" and kind == "refusal" and isinstance(block.get("refusal"), str):
        # Our own refusals carry the same words as text and as a refusal block.
        return "" if block["refusal"] in before else str(block["refusal"])
    raise UnsupportedContent(f"{where} holds something other than text; this model reads text only")


def _tool_calls(message: AIMessage, where: str) -> tuple[dict[str, Any], ...]:
    """Tool calls in OpenAI's shape, but with the arguments as a mapping: so chat templates read them.

    Arguments that were not valid JSON stay the text they are. Calls of a refused answer were withdrawn.
    """
    if message.response_metadata.get("finish_reason") == "refusal":
        return ()
    calls = [(call["id"], call["name"], call["args"]) for call in message.tool_calls]
    broken = [(call["id"], call["name"], call["args"]) for call in message.invalid_tool_calls]
    for text in texts([*calls, *broken]):
        check_text(text, where)
    return tuple(
        {"id": call_id, "type": "function", "function": {"name": name or "", "arguments": arguments or {}}}
        for call_id, name, arguments in [*calls, *broken]
    )


def _merge(turns: Iterator[ChatMessage]) -> list[ChatMessage]:
    merged: list[ChatMessage] = []
    for turn in turns:
        last = merged[-1] if merged else None
        if last is not None and last.role == turn.role != "tool" and not last.tool_calls:
            merged[-1] = _join(last, turn)
        else:
            merged.append(turn)
    return merged


def _join(first: ChatMessage, second: ChatMessage) -> ChatMessage:
    return replace(
        second,
        content=_PARAGRAPH.join(text for text in (first.content, second.content) if text),
        name=second.name if first.name == second.name else None,
    )


def _take_prefill(turns: list[ChatMessage]) -> str:
    if turns[-1].role != "assistant":
        return ""
    last = turns.pop()
    if last.tool_calls:
        raise InvalidRequest("the last message holds tool calls; put their tool messages after it")
    return last.content
