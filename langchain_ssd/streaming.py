"""One request, answered: from a backend to a stream of events that keeps the contract.

Here is what does not depend on LangChain: the terminal rule (exactly one end, nothing after it, no
text after a refusal), retries of what was never accepted, and cancellation when the consumer leaves.
Sync and async share everything but the loop itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import replace

from .backend import Backend, ChatRequest, EventStream
from .errors import ProtocolError, QueueTimeout, SSDError, from_wire
from .events import Event, Failed, Finished, Refused, Token, ToolCallPart

_FIRST_DELAY = 0.25
_LONGEST_DELAY = 8.0
_LONGEST_ASKED = 30.0  # seconds; a server that asks for more is not waited for any longer than this


def run(backend: Backend, request: ChatRequest, max_retries: int) -> Generator[Event]:
    """Yield the events of one response; the last one is its ``Finished``.

    Raises:
        SSDError: the request failed. It was retried only if the backend had not accepted it.
    """
    attempts = _Attempts(request, max_retries)
    while True:
        check, stream = _Check(), None
        try:
            stream = backend.submit(attempts.request())
            for event in stream:
                if check.passes(event):
                    yield event
            yield check.finished()
            return
        except SSDError as error:
            delay = attempts.delay_after(error, accepted=check.accepted)
        finally:
            _let_go(stream)
        time.sleep(delay)


async def arun(backend: Backend, request: ChatRequest, max_retries: int) -> AsyncGenerator[Event]:
    """Like :func:`run`, without blocking the event loop."""
    attempts = _Attempts(request, max_retries)
    while True:
        check, stream = _Check(), None
        try:
            stream = backend.submit(attempts.request())
            async for event in stream:
                if check.passes(event):
                    yield event
            yield check.finished()
            return
        except SSDError as error:
            delay = attempts.delay_after(error, accepted=check.accepted)
        finally:
            _let_go(stream)
        await asyncio.sleep(delay)


def _let_go(stream: EventStream | None) -> None:
    if stream is not None:
        stream.cancel()  # a no-op once the stream has ended


class _Check:
    """Holds one stream to the backend contract, and fails closed where it is broken."""

    def __init__(self) -> None:
        self.accepted = False
        self._finished: Finished | None = None
        self._refused = False

    def passes(self, event: Event) -> bool:
        """Whether the event may go on at once; the final one waits until the stream has ended.

        Raises:
            SSDError: what a ``Failed`` event says, or ``ProtocolError``.
        """
        if self._finished is not None:
            raise ProtocolError("the backend sent an event after the end of a response")
        if isinstance(event, Failed):
            raise _error_of(event)
        self.accepted = True
        if isinstance(event, Finished):
            self._finished = event
            return False
        if self._refused and isinstance(event, Token | ToolCallPart):
            raise ProtocolError("the backend sent a token after a refusal")
        self._refused |= isinstance(event, Refused) and event.enforced
        return True

    def finished(self) -> Finished:
        """The one final event, once the stream has ended."""
        if self._finished is None:
            raise ProtocolError("the backend ended a response without saying how")
        if self._refused != (self._finished.finish_reason == "refusal"):
            raise ProtocolError("the backend's refusal and its finish reason contradict each other")
        return self._finished


def _error_of(event: Failed) -> SSDError:
    error = from_wire(event.code, event.message)
    error.retry_after = event.retry_after
    return error


class _Attempts:
    """Retries with jittered exponential backoff; one deadline covers them all.

    What a busy server asks for comes first and the jitter on top, so that those who were told the same do
    not come back at once.
    """

    def __init__(self, request: ChatRequest, limit: int) -> None:
        self._request = request
        self._left = limit
        self._longest = _FIRST_DELAY
        self._deadline = None if request.timeout is None else time.monotonic() + request.timeout

    def request(self) -> ChatRequest:
        """The request with what is left of its time."""
        return replace(self._request, timeout=self._remaining())

    def delay_after(self, error: SSDError, *, accepted: bool) -> float:
        """Seconds until the next attempt.

        Raises:
            SSDError: the same error, if trying again would be wrong (something was accepted, so work
                may have been done) or useless.
        """
        delay = min(error.retry_after or 0.0, _LONGEST_ASKED) + random.uniform(0, self._longest)
        if accepted or not error.retryable or self._left <= 0:
            raise error
        remaining = self._remaining()
        if remaining is not None and delay >= remaining:
            raise error
        self._left -= 1
        self._longest = min(2 * self._longest, _LONGEST_DELAY)
        return delay

    def _remaining(self) -> float | None:
        if self._deadline is None:
            return None
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise QueueTimeout("the deadline passed before the request was accepted; raise timeout")
        return remaining
