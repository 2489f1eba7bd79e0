"""Chunks of a stream → events, from our own server: every event comes as it left the engine.

Nothing is rebuilt on trust: every event is checked against its class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, Protocol

from pydantic import TypeAdapter

from langchain_ssd.errors import ConfigError, ProtocolError
from langchain_ssd.events import KINDS, Event, Finished


class Reader(Protocol):
    """Turns the chunks of one stream into events."""

    def read(self, chunk: Mapping[str, Any]) -> list[Event]:
        """The events of a chunk."""

    def end(self) -> list[Event]:
        """What is left to say when the stream has ended without an error."""


class ProtectedReader:
    """Reads the ``ssd`` field of chunks.

    Args:
        enforce: the request is to be protected, so an answer that was only watched fails.
    """

    def __init__(self, *, enforce: bool) -> None:
        self._enforce = enforce

    def read(self, chunk: Mapping[str, Any]) -> list[Event]:
        """The event of a chunk, if it carries one.

        Raises:
            ProtocolError: it carries something that is no event.
            ConfigError: nothing was enforced.
        """
        wire = chunk.get("ssd")
        event = None if wire is None else event_of(wire)
        if self._enforce and isinstance(event, Finished) and not event.summary.enforced:
            raise not_enforced()
        return [] if event is None else [event]

    def end(self) -> list[Event]:
        """Nothing: the last event was ``Finished``, or the contract's check will say so."""
        return []


def not_enforced() -> ConfigError:
    """A server in shadow mode, for a request that wants protection."""
    return ConfigError(
        "the server at base_url is in shadow mode and enforces nothing; serve without --shadow, or set "
        "enforce=False to take its answers as they are"
    )


def event_of(wire: Any) -> Event:
    """One event from its JSON object.

    Raises:
        ProtocolError: it is none of ours.
    """
    kind = KINDS.get(str(wire.get("kind"))) if isinstance(wire, dict) else None
    if kind is None:
        raise ProtocolError("the server sent an event of an unknown kind; its version may be another")
    values = {name: value for name, value in wire.items() if name != "kind"}
    try:
        if values.keys() - {field.name for field in fields(kind)}:
            raise ValueError("unknown fields")
        return _adapter(kind.kind).validate_python(values)
    except ValueError:  # pydantic's own is one
        raise ProtocolError(f"the server sent a broken event of kind {kind.kind}") from None


@cache
def _adapter(kind: str) -> TypeAdapter[Event]:
    return TypeAdapter(KINDS[kind])
