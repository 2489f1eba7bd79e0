"""Calls to tools → LangChain's chunks and messages.

LangChain reads the arguments of streamed calls leniently: it closes what was left open. A call that was cut
off, or whose answer was refused after it had been shown, would then be made all the same. So such calls get a
last slice that no reader can mend, and arrive as ``invalid_tool_calls`` on every road.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from langchain_core.messages import AIMessageChunk, InvalidToolCall, ToolCall
from langchain_core.messages.tool import ToolCallChunk, invalid_tool_call, tool_call, tool_call_chunk

from .errors import ProtocolError
from .events import CallState, ToolCallPart
from .tool_formats.scanning import ValueScanner, is_object

_WHY = "the arguments are no JSON object"


@dataclass(slots=True)
class Call:
    """One call so far."""

    call_id: str
    name: str
    arguments: str = ""
    state: CallState = "open"


class CallChunks:
    """The calls of one answer, as they come in.

    Attributes:
        calls: so far, in the order in which they began; none once a refusal has withdrawn them.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def part(self, part: ToolCallPart) -> AIMessageChunk:
        """The chunk that carries one part.

        Raises:
            ProtocolError: the part is of a call that has not begun, or is over.
        """
        first = part.call == len(self.calls)
        if first:
            self.calls.append(Call(part.call_id, part.name))
        call = self.calls[part.call] if 0 <= part.call < len(self.calls) else None
        if call is None or call.state != "open":
            raise ProtocolError("the backend sent a part of a call that is not open")
        call.arguments += part.arguments
        whole = part.state != "complete" or is_object(call.arguments)
        call.state = part.state if whole else "broken"
        added = part.arguments + (unmendable(call.arguments) if call.state == "broken" else "")
        return _message([self._chunk(part.call, added, first=first)])

    def withdraw(self) -> AIMessageChunk | None:
        """A refusal follows: no call of this answer may be made, not even a whole one."""
        shown = [
            self._chunk(number, unmendable(call.arguments))
            for number, call in enumerate(self.calls)
            if call.state != "broken"
        ]
        self.calls.clear()
        return _message(shown) if shown else None

    def valid(self) -> list[ToolCall]:
        """Calls that can be made."""
        return [
            tool_call(name=call.name, args=json.loads(call.arguments), id=call.call_id)
            for call in self.calls
            if call.state == "complete"
        ]

    def invalid(self) -> list[InvalidToolCall]:
        """The others, with what was written for arguments."""
        return [
            invalid_tool_call(name=call.name, args=call.arguments, id=call.call_id, error=_WHY)
            for call in self.calls
            if call.state != "complete"
        ]

    def _chunk(self, number: int, arguments: str, *, first: bool = False) -> ToolCallChunk:
        # A name and an id on two chunks of a call would be joined to nonsense.
        call = self.calls[number]
        name, call_id = (call.name, call.call_id) if first else (None, None)
        return tool_call_chunk(name=name, args=arguments, id=call_id, index=number)


def unmendable(arguments: str) -> str:
    """What makes the beginning of an object, or a whole one, unreadable for good."""
    reader = ValueScanner()
    for char in arguments:
        reader.feed(char)
    return reader.wrong_end()


def _message(chunks: list[ToolCallChunk]) -> AIMessageChunk:
    return AIMessageChunk(content="", tool_call_chunks=chunks)
