"""Tool calls out of events: the one place where the two meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_ssd.events import Event

READERS: dict[type[Event], Callable[[Any], list[dict[str, Any]]]] = {}
"""How each kind of event that carries parts of tool calls is read; in this version none does."""


def tool_call_deltas(event: Event) -> list[dict[str, Any]]:
    """The parts of tool calls that an event carries, in the shape of ``delta.tool_calls``."""
    read = READERS.get(type(event))
    return [] if read is None else read(event)
