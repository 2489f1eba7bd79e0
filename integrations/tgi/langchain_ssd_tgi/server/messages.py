"""Messages as OpenAI writes them → plain chat messages, by the rules that ``ChatSSD`` has for LangChain's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)

from langchain_ssd.backend import ChatMessage
from langchain_ssd.messages import to_chat
from langchain_ssd.plain_text import check_text

from .openai_bodies import CalledTool, MessageBody
from .problems import invalid


def conversation(messages: Sequence[MessageBody]) -> tuple[tuple[ChatMessage, ...], str]:
    """The conversation, and the start of the answer if its last message is the assistant's.

    Raises:
        InvalidRequest: nothing to answer, or text that is not Unicode.
        UnsupportedContent: something other than text.
        Problem: a message misses what its role needs.
    """
    return to_chat([_message(message, number) for number, message in enumerate(messages, 1)])


def question(text: str) -> tuple[ChatMessage, ...]:
    """One user message.

    Raises:
        InvalidRequest: it holds no text, or text that is not Unicode.
    """
    return to_chat([HumanMessage(check_text(text, "inputs"))])[0]


def _message(body: MessageBody, number: int) -> BaseMessage:
    content: Any = "" if body.content is None else body.content
    if body.role == "assistant":
        return _assistant(body, content)
    if body.tool_calls or body.refusal:
        raise invalid(f"messages.{number}: only assistant messages hold tool_calls or a refusal")
    if body.role == "tool":
        if not body.tool_call_id:
            raise invalid(f"messages.{number}: a tool message needs a tool_call_id")
        return ToolMessage(content, tool_call_id=body.tool_call_id, name=body.name)
    kind = HumanMessage if body.role == "user" else SystemMessage
    return kind(content, name=body.name)


def _assistant(body: MessageBody, content: Any) -> AIMessage:
    calls: list[ToolCall] = []
    broken: list[InvalidToolCall] = []
    for call in body.tool_calls or ():
        _sort_call(call, calls, broken)
    return AIMessage(
        content,
        name=body.name,
        tool_calls=calls,
        invalid_tool_calls=broken,
        additional_kwargs={"refusal": body.refusal} if body.refusal else {},
    )


def _sort_call(call: CalledTool, calls: list[ToolCall], broken: list[InvalidToolCall]) -> None:
    """Arguments that are no JSON object stay the text they are."""
    name, arguments = call.function.name, call.function.arguments
    values: Any = arguments
    if isinstance(arguments, str):
        try:
            values = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            values = None
    if isinstance(values, dict):
        calls.append(ToolCall(name=name, args=values, id=call.id, type="tool_call"))
    else:
        text = arguments if isinstance(arguments, str) else ""
        broken.append(InvalidToolCall(name=name, args=text, id=call.id, error=None, type="invalid_tool_call"))
