"""One HTTP exchange: its body, its answer, and its client, who may leave or stop reading at any moment.

ASGI directly: a server must notice that a client has gone while it computes in silence, and not only when
sending fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from ..protocol import ASK_HEADER
from .parsing import parse, read_body, too_large
from .problems import Problem

T = TypeVar("T")
B = TypeVar("B", bound=BaseModel)
_DONE = b"data: [DONE]\n\n"
_COMMENT = b": keep-alive\n\n"
_STREAM_HEADERS = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no"))


class ClientLeft(Exception):
    """The client has closed the connection, or reads no more."""


class Connection:
    """The client's side of one exchange.

    Args:
        scope: ASGI's description of the request.
        receive: ASGI's source.
        send: ASGI's sink.
        write_timeout: seconds that a reader may stall.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, write_timeout: float) -> None:
        self.scope = scope
        self._receive = receive
        self._send_raw = send
        self._write_timeout = write_timeout
        self._frames = 0
        self.started = False

    def header(self, name: str) -> str:
        """A request header; empty if it is missing."""
        wanted = name.encode("ascii")
        return next((value.decode("latin-1") for key, value in self.scope["headers"] if key == wanted), "")

    @property
    def asks_for_telemetry(self) -> bool:
        """Whether the header asks for telemetry; the body may say otherwise."""
        return self.header(ASK_HEADER).strip().lower() in ("1", "true", "yes", "on")

    async def read(self, model: type[B], limit: int, seconds: float) -> B:
        """The body as a value of ``model``.

        Raises:
            Problem: it is none.
        """
        if self.header("content-type").partition(";")[0].strip().lower() != "application/json":
            raise Problem(415, "unsupported_media_type", "send JSON, with content-type: application/json")
        length = self.header("content-length")
        if length.isdecimal() and int(length[:20]) > limit:
            raise too_large(limit)
        return parse(model, await read_body(self._receive, limit, seconds))

    async def while_there(self, work: Coroutine[Any, Any, T]) -> T:
        """Do ``work``, unless the client leaves first: then it is cancelled.

        Raises:
            ClientLeft: it was.
        """
        working = asyncio.ensure_future(work)
        watching = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done() or working.cancelled():
                raise ClientLeft
            return working.result()
        finally:
            for task in (working, watching):
                task.cancel()
            await asyncio.gather(working, watching, return_exceptions=True)

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def reply(self, payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Send one whole answer as JSON."""
        await self.reply_bytes(to_json(payload, inf_nan_mode="null"), b"application/json", status, headers)

    async def reply_bytes(
        self, body: bytes, media_type: bytes, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send one whole answer."""
        extra = [(k.encode("ascii"), v.encode("ascii")) for k, v in (headers or {}).items()]
        length = (b"content-length", str(len(body)).encode("ascii"))
        await self._start(status, [(b"content-type", media_type), length, *extra])
        await self._send({"type": "http.response.body", "body": body})

    async def fail(self, problem: Problem) -> None:
        """Answer with an error; in a stream that has begun, as its last event."""
        if self.started:
            with suppress(ClientLeft):
                await self._frame(_data(problem.body()))
                await self.finish()
            return
        headers = {} if problem.retry_after is None else {"retry-after": str(problem.retry_after)}
        if problem.status == 401:
            headers["www-authenticate"] = problem.challenge
        await self.reply(problem.body(), problem.status, headers)

    # Server-sent events

    @asynccontextmanager
    async def events(self, keep_alive: float) -> AsyncIterator[None]:
        """Begin a stream of events; while it is open, silence is broken by comments."""
        await self._start(200, list(_STREAM_HEADERS))
        beating = asyncio.ensure_future(self._beat(keep_alive))
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def event(self, payload: Any) -> None:
        """Send one event.

        Raises:
            ClientLeft: the client reads no more.
        """
        await self._frame(_data(payload))

    async def done(self) -> None:
        """Send the event by which OpenAI's clients know the end."""
        await self._frame(_DONE)

    async def finish(self) -> None:
        """End the stream."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _beat(self, seconds: float) -> None:
        while True:
            before = self._frames
            await asyncio.sleep(seconds)
            if self._frames == before:
                with suppress(ClientLeft):
                    await self._frame(_COMMENT)

    async def _frame(self, body: bytes) -> None:
        self._frames += 1
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._write_timeout):
                await self._send_raw(message)
        except (TimeoutError, OSError):
            # A reader that stalls would otherwise keep its buffer for as long as it likes.
            abort = (self.scope.get("state") or {}).get("abort")
            if abort is not None:
                abort()
            raise ClientLeft from None


def _data(payload: Any) -> bytes:
    return b"data: " + to_json(payload, inf_nan_mode="null") + b"\n\n"
