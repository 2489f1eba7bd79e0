"""What the routes share: the backend, places, health, metrics, and every request in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from langchain_ssd.backend import Backend

from .admission import Admission
from .asking import Asked
from .connection import ClientLeft, Connection
from .flights import Flight, Record
from .health import HealthCheck
from .metrics import Metrics
from .problems import Problem, shutting_down
from .settings import ApiKey, ServerConfig

KEY, RECORD = "langchain_ssd.key", "langchain_ssd.record"  # in ASGI's scope
_ENGINE_FAULTS = (424, 500, 503)


class Service:
    """One server's state.

    Args:
        backend: what answers; closed by whoever made it.
        config: how the server behaves.
    """

    def __init__(self, backend: Backend, config: ServerConfig) -> None:
        self.backend = backend
        self.config = config
        self.admission = Admission(config, time.monotonic)
        self.health = HealthCheck(backend, config, lambda: self.admission.running)
        self.metrics = Metrics(backend.health, lambda: self.admission.running, config.refusal.category)
        self.flights: set[Flight] = set()

    @asynccontextmanager
    async def flight(self, connection: Connection, asked: Asked) -> AsyncIterator[Flight]:
        """Take a place for a request, and give it back whatever happens.

        Raises:
            Problem: there is no place, or the request failed.
        """
        key: ApiKey | None = connection.scope.get(KEY)
        record: Record = connection.scope.get(RECORD, {})
        self.admission.enter(key)
        flight = Flight(self.backend, asked.request, self.config.max_input_tokens, record)
        self.flights.add(flight)
        self.metrics.accepted()
        try:
            yield flight
            self.health.succeeded()
            self.metrics.finished(flight, time.monotonic() - flight.began)
        except Problem as problem:
            if problem.status in _ENGINE_FAULTS and problem.error_type != "shutdown":
                self.health.failed()
            raise
        except ClientLeft:
            self.metrics.failed("dropped")
            raise
        finally:
            self.flights.discard(flight)
            self.admission.leave(key, flight.tokens)
            self.metrics.left(flight)
            _note(record, flight)

    def close_door(self) -> None:
        """Accept nothing more; what runs goes on."""
        self.admission.closing = self.health.closing = True

    def abort(self) -> None:
        """End everything that still runs with an error."""
        for flight in list(self.flights):
            flight.abort(shutting_down())

    async def close(self) -> None:
        """Leave no task behind."""
        self.close_door()
        self.abort()
        await self.health.close()
        while self.flights:
            await asyncio.sleep(0.01)


def _note(record: Record, flight: Flight) -> None:
    record["prompt_tokens"], record["completion_tokens"] = flight.prompt_tokens, flight.emitted
    if flight.finished is not None:
        record["finish_reason"] = flight.finished.finish_reason
        record["final_mode"] = flight.finished.summary.final_mode
    if flight.refused is not None:
        record["refusal_reason"] = flight.refused.reason
