"""Calls to tools out of events, in OpenAI's shape.

Clients read the arguments of streamed calls leniently: they close what was left open. A call that was cut
off, or whose answer was refused after it had been shown, would then be made all the same. So such a call gets
a last slice that no reader can mend, as it does in ``ChatSSD``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_ssd.call_chunks import unmendable
from langchain_ssd.events import Event, Refused, ToolCallPart

JSON = dict[str, Any]


@dataclass(slots=True)
class _Call:
    call_id: str
    name: str
    arguments: str = ""
    broken: bool = False


class Calls:
    """The calls of one answer, as they come in."""

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}

    def deltas(self, event: Event) -> list[JSON]:
        """What an event adds to a stream, in the shape of ``delta.tool_calls``."""
        if isinstance(event, ToolCallPart):
            return [self._part(event)]
        if isinstance(event, Refused) and event.enforced:
            return self._withdraw()
        return []

    def whole(self) -> list[JSON]:
        """All calls, with the arguments that the model wrote; none if the answer was refused."""
        return [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for _, call in sorted(self._calls.items())
        ]

    def _part(self, part: ToolCallPart) -> JSON:
        first = part.call not in self._calls
        call = self._calls.setdefault(part.call, _Call(part.call_id, part.name))
        call.arguments += part.arguments
        call.broken = part.state == "broken"
        added = part.arguments + (unmendable(call.arguments) if call.broken else "")
        if not first:
            return {"index": part.call, "function": {"arguments": added}}
        function = {"name": call.name, "arguments": added}
        return {"index": part.call, "id": call.call_id, "type": "function", "function": function}

    def _withdraw(self) -> list[JSON]:
        """No call of a refused answer may be made, not even a whole one."""
        shown = [
            {"index": number, "function": {"arguments": unmendable(call.arguments)}}
            for number, call in self._calls.items()
            if not call.broken
        ]
        self._calls.clear()
        return shown
