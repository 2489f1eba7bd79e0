"""From events to an answer, as a whole or one server-sent event after the other. Interfaces only write."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import aclosing
from typing import Any, Protocol

from langchain_ssd.errors import SSDError
from langchain_ssd.events import Event, Failed

from .asking import Asked
from .connection import Connection
from .flights import Flight
from .problems import Problem, problem_of
from .service import Service
from .transcript import Transcript

JSON = dict[str, Any]


class Writer(Protocol):
    """Writes one interface's answers."""

    transcript: Transcript
    ends_with_done: bool

    def frames(self, event: Event) -> Iterator[JSON]:
        """What a stream says at an event; the last event is ``Finished``.

        Raises:
            ProtocolError: the backend has mixed up the parts of an answer.
        """

    def whole(self) -> Any:
        """The answer as one value, once it is complete."""

    def headers(self) -> dict[str, str]:
        """Headers of a whole answer."""


async def answer(service: Service, connection: Connection, asked: Asked, writer: Writer) -> None:
    """Answer as a whole.

    Raises:
        Problem: the request failed; nothing has been sent.
        ClientLeft: the work was cancelled.
    """
    async with service.flight(connection, asked) as flight:
        await _while_there(connection, _gather(flight, writer.transcript))
    await connection.reply(writer.whole(), headers=writer.headers())


async def stream(service: Service, connection: Connection, asked: Asked, writer: Writer) -> None:
    """Answer event by event; what is refused before it begins has a status code of its own.

    Raises:
        Problem: the request failed, perhaps after events were sent.
        ClientLeft: the work was cancelled.
    """
    async with service.flight(connection, asked) as flight:
        try:
            await _while_there(connection, _send(flight, connection, writer, service.config.keep_alive))
        except Problem as problem:
            if connection.started and asked.telemetry:  # an error event has no place for it
                for frame in writer.frames(Failed(problem.code, problem.message)):
                    await connection.event(frame)
            raise


async def _while_there(connection: Connection, work: Coroutine[Any, Any, None]) -> None:
    """What a backend mixes up may show only where its events are written down: a problem like any other."""
    try:
        await connection.while_there(work)
    except SSDError as error:
        raise problem_of(error) from None


async def _gather(flight: Flight, transcript: Transcript) -> None:
    async with aclosing(flight.events()) as events:
        async for event in events:
            transcript.add(event)


async def _send(flight: Flight, connection: Connection, writer: Writer, keep_alive: float) -> None:
    async with aclosing(flight.events()) as events:
        first = await anext(events)
        async with connection.events(keep_alive):
            for frame in writer.frames(first):
                await connection.event(frame)
            async for event in events:
                for frame in writer.frames(event):
                    await connection.event(frame)
            if writer.ends_with_done:
                await connection.done()
            await connection.finish()
