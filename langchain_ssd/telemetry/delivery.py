"""A queue that a thread of its own empties: batches of events, tried again until they are delivered or lost.

Whoever puts an event never waits: a full queue drops its oldest event and counts it.
"""

from __future__ import annotations

import atexit
import logging
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol
from uuid import uuid4

_log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
_LONGEST_ASKED = 600.0
"""Seconds: a receiver that asks for more gets no more than this."""
_AT_EXIT = 5.0


class Refusal(Exception):
    """A batch was not taken.

    Attributes:
        again: whether another attempt can help.
        after: seconds that the receiver asked to wait.
    """

    def __init__(self, said: str, *, again: bool, after: float = 0.0) -> None:
        super().__init__(said)
        self.again, self.after = again, min(after, _LONGEST_ASKED)


class Sender(Protocol):
    """What takes a batch to its receiver; it is used by one thread only."""

    def send(self, lines: list[dict[str, Any]], name: str, dropped: int, seconds: float | None) -> None:
        """Deliver a batch, in at most so many seconds; a repeated one has the same name.

        Raises:
            Refusal: it was not taken.
        """

    def close(self) -> None:
        """Let go of connections."""


class Delivery:
    """Events on their way.

    Args:
        sender: made by the thread, and closed by it.
        batch_size: most events of a batch.
        interval: seconds that the first event of a batch waits for others.
        queue_size: most events that wait.
        attempts: how often a batch is tried before it is lost.

    Attributes:
        sent: events that were delivered.
        dropped: events that were lost, for want of room or because nobody took them.
    """

    def __init__(
        self,
        sender: Callable[[], Sender],
        *,
        batch_size: int,
        interval: float,
        queue_size: int,
        attempts: int,
    ) -> None:
        self._make_sender = sender
        self._batch_size, self._interval = batch_size, interval
        self._queue_size, self._attempts = queue_size, attempts
        self._closing = False
        self._give_up = float("inf")
        self.reset()
        _LIVE.add(self)

    def reset(self) -> None:
        """Begin anew, as a forked child must: the lock may be held, and the events are its parent's."""
        self._change = threading.Condition()
        self._queue: deque[tuple[float, dict[str, Any]]] = deque()
        self._thread: threading.Thread | None = None
        self._sender: Sender | None = None  # the thread's own
        self._warned = False
        self.sent = self.dropped = 0

    def put(self, line: dict[str, Any]) -> None:
        """Queue an event; after :meth:`close` it is dropped."""
        with self._change:
            if self._closing:
                self.dropped += 1
                return
            if len(self._queue) >= self._queue_size:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append((time.monotonic(), line))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ssd-webhook", daemon=True)
                self._thread.start()
            self._change.notify_all()

    def close(self, timeout: float) -> bool:
        """Deliver what waits, for at most so many seconds, and end the thread.

        Returns:
            Whether the thread has ended; if not, it does with the request that it is in.
        """
        thread = self.stop(timeout)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
            return not thread.is_alive()
        return True

    def stop(self, timeout: float) -> threading.Thread | None:
        """As :meth:`close`, without waiting for it."""
        with self._change:
            self._closing = True
            self._give_up = min(self._give_up, time.monotonic() + timeout)
            self._change.notify_all()
            return self._thread

    # The thread

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                self._deliver(batch)
        finally:
            if self._sender is not None:
                self._sender.close()

    def _next_batch(self) -> list[dict[str, Any]]:
        """Wait until a batch is full, or old enough, or the last one; empty once all is done."""
        with self._change:
            while not self._closing and len(self._queue) < self._batch_size:
                age = time.monotonic() - self._queue[0][0] if self._queue else 0.0
                if age >= self._interval:
                    break
                self._change.wait(self._interval - age if self._queue else None)
            if time.monotonic() > self._give_up:
                self.dropped += len(self._queue)
                self._queue.clear()
            count = min(len(self._queue), self._batch_size)
            return [self._queue.popleft()[1] for _ in range(count)]

    def _deliver(self, batch: list[dict[str, Any]]) -> None:
        name, longest = f"msg_{uuid4().hex}", _FIRST_PAUSE
        for attempt in range(1, self._attempts + 1):
            try:
                self._sender = self._sender or self._make_sender()
                self._sender.send(batch, name, self.dropped, self._seconds_left())
            except Refusal as refusal:
                pause = max(refusal.after, random.uniform(0, longest))
                if not refusal.again or attempt == self._attempts or not self._pause(pause):
                    return self._lose(batch, str(refusal))
            except Exception as error:  # the thread must live on
                return self._lose(batch, type(error).__name__)
            else:
                with self._change:
                    self.sent += len(batch)
                return None
            longest = min(2 * longest, _LONGEST_PAUSE)
        return None

    def _seconds_left(self) -> float | None:
        with self._change:
            return max(0.1, self._give_up - time.monotonic()) if self._closing else None

    def _pause(self, seconds: float) -> bool:
        """Wait before another attempt; false at once if it would come too late."""
        until = time.monotonic() + seconds
        with self._change:
            while until <= self._give_up and (left := until - time.monotonic()) > 0:
                self._change.wait(left)
            return until <= self._give_up

    def _lose(self, batch: list[dict[str, Any]], said: str) -> None:
        with self._change:
            self.dropped += len(batch)
            first, self._warned = not self._warned, True
        if first:
            _log.warning("a batch of %d events was lost (%s); more losses are only counted", len(batch), said)


_LIVE: weakref.WeakSet[Delivery] = weakref.WeakSet()


def _close_all() -> None:
    """At the exit of the process, while daemon threads still run."""
    until = time.monotonic() + _AT_EXIT
    deliveries = list(_LIVE)
    for delivery in deliveries:
        delivery.stop(_AT_EXIT)
    for delivery in deliveries:
        delivery.close(max(0.0, until - time.monotonic()))


def _reset_all() -> None:
    for delivery in list(_LIVE):
        delivery.reset()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
