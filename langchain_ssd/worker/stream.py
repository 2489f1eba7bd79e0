"""One response in flight, on the parent's side: a mailbox that threads fill and one consumer empties.

The producer's half (:class:`Mailbox`) and the consumer's half (:class:`MailboxStream`) are two objects, so
that dropping the stream unread is noticed and cancels the request.  Nothing here takes a lock: the
garbage collector may cancel a stream from any thread at any moment, also from one that is just
delivering, and a lock would then wait for itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from queue import Empty, SimpleQueue

from ..backend import EventStream
from ..errors import Cancelled, QueueTimeout, RequestTimeout, SSDError
from ..events import Event, Failed
from .wire import is_terminal

DEADLINE_GRACE = 2.0  # seconds; the worker enforces the deadline itself, this is for one that cannot
UNREAD_LIMIT = 100_000  # events; a consumer so far behind has stopped reading
_SLICE = 1.0  # waits are cut into slices, or Ctrl-C could not interrupt them on every platform


def ended_stream(error: SSDError) -> MailboxStream:
    """A response that failed before it began."""
    mailbox = Mailbox(lambda: None)
    mailbox.fail(error)
    return MailboxStream(mailbox)


class Mailbox:
    """The producer's half: takes events from any thread until the first terminal one."""

    def __init__(self, on_cancel: Callable[[], None]) -> None:
        self._on_cancel = on_cancel
        self._batches: SimpleQueue[list[Event]] = SimpleQueue()
        self._open = [None]  # emptied by whoever ends the stream first: list.pop is atomic
        self._delivered = 0  # written by the worker's reader, and once by whoever ends the stream
        self._taken = 0  # written by the consumer alone
        self._wake: Callable[[], object] | None = None

    def deliver(self, events: Sequence[Event]) -> bool:
        """Append what one step did; what follows a terminal event is dropped.

        Returns:
            Whether the stream has ended.
        """
        last = next((i for i, event in enumerate(events) if is_terminal(event)), None)
        if not self._open or (last is not None and not self._settle()):
            return True
        self._put(list(events if last is None else events[: last + 1]))
        if last is None and self._delivered - self._taken > UNREAD_LIMIT:
            self.abort(Cancelled("the consumer stopped reading, so the request was cancelled"))
        return not self._open

    def fail(self, error: SSDError) -> None:
        """End the stream with an error, unless it has ended."""
        if self._settle():
            self._put([Failed.of(error)])

    def abort(self, error: SSDError) -> None:
        """End the stream with an error and stop the work behind it, unless it has ended."""
        if self._settle():
            self._put([Failed.of(error)])
            self._on_cancel()

    def orphan(self, error: SSDError) -> None:
        """In a forked child: the threads that filled this mailbox stayed in the parent process."""
        self._batches = SimpleQueue()  # another thread may have held the old one's lock at the fork
        self._wake = None  # an event loop's wake-up pipe is the parent's, too
        self.fail(error)

    def poll(self, timeout: float = 0.0) -> list[Event]:
        """The next batch; empty when none came within ``timeout`` seconds."""
        try:
            batch = self._batches.get(block=timeout > 0, timeout=timeout or None)
        except Empty:
            return []
        self._taken += len(batch)
        return batch

    def wake_with(self, wake: Callable[[], object] | None) -> None:
        """Have ``wake`` called, in the delivering thread, after each delivery."""
        self._wake = wake

    @property
    def untouched(self) -> bool:
        """Whether nothing has been delivered yet: the worker never got to this request."""
        return self._delivered == 0

    def _settle(self) -> bool:
        """Whether this call is the one that ends the stream."""
        try:
            self._open.pop()
        except IndexError:
            return False
        return True

    def _put(self, batch: list[Event]) -> None:
        self._batches.put(batch)
        self._delivered += len(batch)
        wake = self._wake
        if wake is not None:
            try:
                wake()
            except RuntimeError:  # the consumer's event loop is closed: nobody will ever read
                self.abort(Cancelled("the event loop that read this response was closed"))


class MailboxStream(EventStream):
    """The consumer's half: iterate it once, in a thread or in an event loop.

    Leaving early, by ``break``, exception, task cancellation or by dropping the stream, cancels the request.
    """

    def __init__(self, mailbox: Mailbox, timeout: float | None = None) -> None:
        self._mailbox = mailbox
        self._expires = None if timeout is None else time.monotonic() + timeout + DEADLINE_GRACE
        self._claimed = False
        self._kept: object = None

    def keep(self, owner: object) -> None:
        """Hold ``owner`` for as long as this stream is held."""
        self._kept = owner

    def __iter__(self) -> Iterator[Event]:
        self._claim()
        return self._read()

    def __aiter__(self) -> AsyncIterator[Event]:
        self._claim()
        return self._aread()

    def cancel(self) -> None:
        """Stop the work. Idempotent, never blocks, from any thread."""
        self._mailbox.abort(Cancelled("the request was cancelled"))

    def __del__(self) -> None:
        self.cancel()

    def _claim(self) -> None:
        if self._claimed:
            raise RuntimeError("a response can be iterated only once")
        self._claimed = True

    def _read(self) -> Iterator[Event]:
        try:
            ended = False
            while not ended:
                batch = self._mailbox.poll(self._patience())
                if batch:
                    yield from batch
                    ended = is_terminal(batch[-1])
                else:
                    self._check_deadline()
        finally:
            self.cancel()

    async def _aread(self) -> AsyncIterator[Event]:
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        self._mailbox.wake_with(lambda: loop.call_soon_threadsafe(news.set))
        # A little late, so that the deadline has surely passed when the alarm rings its only time.
        alarm = None if self._expires is None else loop.call_later(self._left() + 0.01, news.set)
        try:
            ended = False
            while not ended:
                news.clear()  # before looking, so that what arrives after the look wakes us
                batch = self._mailbox.poll()
                for event in batch:
                    yield event
                ended = bool(batch) and is_terminal(batch[-1])
                if batch:
                    await asyncio.sleep(0)  # a long backlog must not keep the loop from its other tasks
                elif not self._check_deadline():
                    await news.wait()
        finally:
            if alarm is not None:
                alarm.cancel()
            self._mailbox.wake_with(None)
            self.cancel()

    def _left(self) -> float:
        return _SLICE if self._expires is None else max(0.0, self._expires - time.monotonic())

    def _patience(self) -> float:
        return min(_SLICE, self._left())

    def _check_deadline(self) -> bool:
        """End the stream if its deadline, and the worker's chance to say so itself, have passed."""
        if self._expires is None or time.monotonic() < self._expires:
            return False
        if self._mailbox.untouched:
            self._mailbox.abort(QueueTimeout("the deadline passed before the worker took the request"))
        else:
            self._mailbox.abort(RequestTimeout("the deadline passed and the worker does not answer"))
        return True
