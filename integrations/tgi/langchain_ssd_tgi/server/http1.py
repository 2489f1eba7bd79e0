"""uvicorn's HTTP/1.1 protocol with two things it lacks: a deadline for a request's head, and an abort.

Without a deadline a connection that sends its head byte by byte stays for ever; without an abort one that
reads nothing keeps its buffer.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class BoundedProtocol(H11Protocol):
    """One connection.

    Args:
        head_timeout: seconds until a request's head must be there.
        options: uvicorn's own.
    """

    def __init__(self, *, head_timeout: float, **options: Any) -> None:
        super().__init__(**options)
        self._head_timeout = head_timeout
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "abort": transport.abort}
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived; the deadline runs from the first byte of a head to its last."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head_is_there()
        elif self._head_timer is None:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._head_is_there()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self._head_timeout, self._too_slow)

    def _head_is_there(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.abort()


def bounded(head_timeout: float) -> Any:
    """Uvicorn's ``http`` option."""
    return partial(BoundedProtocol, head_timeout=head_timeout)
