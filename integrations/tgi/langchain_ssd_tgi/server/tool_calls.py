"""Tool calls out of events: the one place where the two meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_ssd.events import Event, ToolCallPart


def _part(event: ToolCallPart) -> list[dict[str, Any]]:
    """Name and id come with the first part of a call, as OpenAI streams them."""
    function = {"arguments": event.arguments}
    if not event.call_id:
        return [{"index": event.call, "function": function}]
    named = {"name": event.name, **function}
    return [{"index": event.call, "id": event.call_id, "type": "function", "function": named}]


READERS: dict[type[Event], Callable[[Any], list[dict[str, Any]]]] = {ToolCallPart: _part}
"""How each kind of event that carries parts of tool calls is read."""


def tool_call_deltas(event: Event) -> list[dict[str, Any]]:
    """The parts of tool calls that an event carries, in the shape of ``delta.tool_calls``."""
    read = READERS.get(type(event))
    return [] if read is None else read(event)
