"""What prompts say about tools: by the template itself where it knows how, else in plain words.

Both models are asked for the same format, the target's, whatever their own templates know. Everything here is
ordinary message text, so that the renderer's checks for control tokens see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..backend import ChatRequest
from ..constraint import Constraint
from ..tool_formats import Call, ToolFormat
from ..tool_formats.base import json_text

Message = dict[str, Any]
_PARAGRAPH = "\n\n"


@dataclass(frozen=True, slots=True)
class Offer:
    """What one request offers the models.

    Attributes:
        format: how calls are written.
        tools: that may be called.
        form: tells what an answer in words must look like; empty if it is free.
    """

    format: ToolFormat
    tools: tuple[dict[str, Any], ...] = ()
    form: str = ""

    def native(self, messages: Sequence[Message]) -> list[Message]:
        """The conversation for a template that writes this format itself."""
        return with_system_text([self.format.native_message(m) for m in messages], self.form)

    def in_words(self, messages: Sequence[Message]) -> list[Message]:
        """The conversation for a template that knows no tools."""
        section = self.format.instruction(self.tools) if self.tools else ""
        text = _PARAGRAPH.join(part for part in (section, self.form) if part)
        return with_system_text(_joined(self._said(m) for m in messages), text)

    def _said(self, message: Message) -> Message:
        """A call as the model would have written it; a result as the user would pass it on."""
        if message.get("tool_calls"):
            calls = self.format.render_calls([_call(call) for call in message["tool_calls"]])
            content = "\n".join(part for part in (message["content"], calls) if part)
            return {"role": message["role"], "content": content}
        if message["role"] == "tool":
            text = self.format.render_result(
                message.get("name", ""), message["content"], message.get("tool_call_id", "")
            )
            return {"role": "user", "content": text}
        return message


def offer_of(request: ChatRequest, format_: ToolFormat) -> Offer | None:
    """What a request offers; ``None`` for plain talk. With the choice "none" no tool is even mentioned."""
    tools = offered(request)
    form = _form(request.constraint, bool(tools))
    if tools or form or any(m.tool_calls or m.role == "tool" for m in request.messages):
        return Offer(format_, tools, form)
    return None


def offered(request: ChatRequest) -> tuple[dict[str, Any], ...]:
    """The tools that may be called."""
    return () if request.tool_choice == "none" else request.tools


def with_system_text(messages: list[Message], text: str) -> list[Message]:
    """The messages with a text at the end of the system message, which is made if there is none."""
    if not text:
        return messages
    if messages and messages[0]["role"] == "system":
        content = _PARAGRAPH.join(part for part in (messages[0]["content"], text) if part)
        return [{**messages[0], "content": content}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _form(constraint: Constraint | None, beside_tools: bool) -> str:
    when = "When you call no function, answer" if beside_tools else "Answer"
    if constraint is None or constraint.kind not in ("json_schema", "json_object"):
        return ""
    if constraint.kind == "json_object":
        return f"{when} with one JSON object and nothing else."
    schema = {key: value for key, value in constraint.value.items() if key != "x-guidance"}
    return f"{when} with JSON and nothing else. It must fit this JSON Schema:\n{json_text(schema)}"


def _call(call: Mapping[str, Any]) -> Call:
    function = call["function"]
    return Call(function["name"], function["arguments"], call.get("id") or "")


def _joined(messages: Iterable[Message]) -> list[Message]:
    """Neighbours of one role as one message: results of several calls come from the user now."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1]["role"] == message["role"] != "system":
            content = "\n".join(part for part in (joined[-1]["content"], message["content"]) if part)
            joined[-1] = {**joined[-1], "content": content}
        else:
            joined.append(message)
    return joined
