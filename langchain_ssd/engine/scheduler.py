"""Who runs next: admission, deadlines, cancellation. Pure Python, knows nothing of models."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from ..errors import Overloaded, QueueTimeout, RequestTimeout, SSDError


class Schedulable(Protocol):
    """What the scheduler needs to know of a request."""

    @property
    def request_id(self) -> str:
        """Its name."""

    @property
    def deadline(self) -> float | None:
        """When it fails, on the caller's clock."""


S = TypeVar("S", bound=Schedulable)


@dataclass
class Scheduler(Generic[S]):
    """First come, first served, into a batch of at most ``max_batch``.

    ``running`` is in row order: the sequence at index i owns row i of both models.
    """

    max_batch: int
    max_queue: int
    waiting: deque[S] = field(default_factory=deque)
    running: list[S] = field(default_factory=list)

    def submit(self, sequence: S) -> None:
        """Queue a sequence.

        Raises:
            Overloaded: the queue is full; nothing is left behind.
        """
        free = self.max_batch - len(self.running)
        if len(self.waiting) >= self.max_queue + free:
            raise Overloaded(f"{self.max_queue} requests are waiting already; try again later")
        self.waiting.append(sequence)

    def admit(self) -> list[S]:
        """Move waiting sequences into free places; returns the new ones, in row order."""
        new = []
        while self.waiting and len(self.running) < self.max_batch:
            new.append(self.waiting.popleft())
            self.running.append(new[-1])
        return new

    def expired(self, now: float) -> list[tuple[S, SSDError]]:
        """Sequences whose deadline has passed, with the error each gets; waiting ones leave the queue."""
        out: list[tuple[S, SSDError]] = []
        for sequence in [s for s in self.waiting if _late(s, now)]:
            self.waiting.remove(sequence)
            out.append(
                (sequence, QueueTimeout("the deadline passed in the queue; raise timeout or max_batch"))
            )
        for sequence in self.running:
            if _late(sequence, now):
                out.append((sequence, RequestTimeout("the deadline passed while decoding; raise timeout")))
        return out

    def drop_waiting(self, request_id: str) -> bool:
        """Forget a waiting sequence; false if it is not waiting."""
        for sequence in self.waiting:
            if sequence.request_id == request_id:
                self.waiting.remove(sequence)
                return True
        return False

    def retire(self, sequence: S) -> int:
        """Free a running sequence's place; the last one moves there. Returns the row that was freed."""
        row = self.running.index(sequence)
        last = self.running.pop()
        if last is not sequence:
            self.running[row] = last
        return row


def _late(sequence: Schedulable, now: float) -> bool:
    return sequence.deadline is not None and now >= sequence.deadline
