"""The times in a response's summary. The engine knows no clock; its caller supplies the instants."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..events import Event, Finished, Token


@dataclass(slots=True)
class _Times:
    submitted: float
    admitted: float | None = None
    first_token: float | None = None


class Stopwatch:
    """Follows every request in flight from submission to its end, in the order of submission."""

    def __init__(self) -> None:
        self._times: dict[str, _Times] = {}

    def submitted(self, request_id: str, at: float) -> None:
        """A request was handed to the engine; its caller submitted it at ``at``."""
        self._times[request_id] = _Times(at)

    def stepped(self, began: float, queued: int) -> None:
        """A step that began at ``began`` left the ``queued`` latest requests waiting.

        First come is first served, and what failed in the step must have been forgotten before.
        """
        waiting = [times for times in self._times.values() if times.admitted is None]
        for times in waiting[: max(0, len(waiting) - queued)]:
            times.admitted = began

    def stamp(self, request_id: str, event: Event, now: float) -> Event:
        """The event as it leaves the worker at ``now``: with times, if it is the summary."""
        times = self._times.get(request_id)
        if times is None:
            return event
        if isinstance(event, Token) and times.first_token is None:
            times.first_token = now
        if not isinstance(event, Finished):
            return event
        summary = replace(
            event.summary,
            time_to_first_token=_since(times.submitted, times.first_token),
            queue_seconds=_since(times.submitted, times.admitted),
            seconds=now - times.submitted,
        )
        return replace(event, summary=summary)

    def forget(self, request_id: str) -> None:
        """The request has ended, or was cancelled."""
        self._times.pop(request_id, None)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._times


def _since(start: float, end: float | None) -> float | None:
    return None if end is None else max(0.0, end - start)
