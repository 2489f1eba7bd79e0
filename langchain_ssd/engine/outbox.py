"""Where a step's events gather, and how a request's trouble ends that request."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ..errors import GenerationFailed, NonFiniteLogits, OutOfMemory, SSDError
from ..events import Event, Failed
from .sequence import Sequence


class Outbox:
    """(request id, event) pairs in the order they happened."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Event]] = []

    def emit(self, sequence: Sequence, events: Iterable[Event]) -> None:
        """Add a sequence's events."""
        self._events += [(sequence.request_id, event) for event in events]

    def fail(self, sequence: Sequence, error: Exception) -> None:
        """End a request with a typed error: fail closed, the target never goes on alone."""
        if not sequence.done:
            sequence.done = True
            self._events.append((sequence.request_id, Failed.of(as_typed(error))))

    def take(self) -> list[tuple[str, Event]]:
        """Everything so far; empties the box."""
        events, self._events = self._events, []
        return events


def as_typed(error: Exception) -> SSDError:
    """What a request is told when a pass raised; the exception's own text may hold anything."""
    if isinstance(error, SSDError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return OutOfMemory("the device ran out of memory; lower max_batch or max_context")
    return GenerationFailed(f"decoding failed with {type(error).__name__}; the request was stopped")


def no_finite(role: str) -> NonFiniteLogits:
    """The error for a row without any finite probability."""
    return NonFiniteLogits(f"the {role} produced no finite probability; the request was stopped")
