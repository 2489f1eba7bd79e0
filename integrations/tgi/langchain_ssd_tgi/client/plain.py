"""Chunks of a stream → events, from a plain text-generation-inference server: nothing there is protected.

The first and the last event say so (``protected`` is false), so that a guard finds out before the first word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from langchain_ssd.errors import InvalidRequest, ProtocolError
from langchain_ssd.events import Event, Finished, FinishReason, Queued, Summary, Token

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
}
_NO_MONITOR = "none"


class PlainReader:
    """Reads the text and the usage of one stream."""

    def __init__(self) -> None:
        self._begun = False
        self._count = 0
        self._reason: FinishReason | None = None
        self._usage: Mapping[str, Any] = {}

    def read(self, chunk: Mapping[str, Any]) -> list[Event]:
        """A token for every piece of text.

        Raises:
            ProtocolError: the chunk is none.
        """
        events: list[Event] = []
        if not self._begun:
            self._begun = True
            events.append(Queued(protected=False))
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        for choice in chunk.get("choices") or ():
            events += self._choice(choice)
        return events

    def _choice(self, choice: Mapping[str, Any]) -> list[Event]:
        reason = choice.get("finish_reason")
        if reason is not None:
            if reason not in _REASONS:
                raise ProtocolError("the server ended an answer for a reason that is not known here")
            self._reason = _REASONS[reason]
        delta = choice.get("delta") or {}
        if delta.get("tool_calls"):
            raise InvalidRequest("tool calls of plain servers are not read; leave out tools")
        text = delta.get("content") or ""
        return [self._token(text, choice)] if text else []

    def _token(self, text: str, choice: Mapping[str, Any]) -> Token:
        index, self._count = self._count, self._count + 1
        entries = (choice.get("logprobs") or {}).get("content") or ()
        logprob = entries[0].get("logprob") if entries else None
        probability = math.exp(min(0.0, logprob)) if isinstance(logprob, int | float) else 0.0
        return Token(index, 0, text, agreement=False, p_target=probability, p_composite=probability)

    def end(self) -> list[Event]:
        """The one ``Finished``, if the server said how it ended."""
        if self._reason is None:
            return []
        emitted = _count(self._usage.get("completion_tokens"), self._count)
        summary = Summary(
            monitor=_NO_MONITOR, enforced=False, emitted=emitted, match_ratio=0.0, protected=False
        )
        return [Finished(self._reason, _count(self._usage.get("prompt_tokens"), 0), emitted, summary=summary)]


def _count(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and value >= 0 else otherwise
