"""The program around the application: sockets, TLS, signals, and a drain that loses no accepted request.

The first signal closes the door: health turns red, new requests get 503, what runs goes on for a grace and
then ends with an error of its own.  A second signal ends everything at once.  The exit status is 0.
"""

from __future__ import annotations

import logging
import time
from types import FrameType
from typing import Any, cast

import uvicorn
from pydantic import Field

from langchain_ssd.backend import Backend
from langchain_ssd.config import Settings

from .app import build
from .http1 import bounded
from .logs import logger
from .service import Service
from .settings import ServerConfig

_LAST_WORDS = 5  # seconds for errors to reach clients after the grace


class ListenConfig(Settings):
    """Where and how to listen."""

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8080, ge=0, le=65_535)
    tls_certificate: str | None = Field(None, description="A PEM file with the certificate chain.")
    tls_key: str | None = Field(None, description="A PEM file with its key.")
    grace: float = Field(90.0, ge=0, description="Seconds that running requests get after a signal.")
    max_connections: int = Field(1024, ge=1, le=100_000)
    max_header_bytes: int = Field(16_384, ge=1024, le=1_000_000)
    head_timeout: float = Field(10.0, gt=0, description="Seconds until a request's head must be there.")
    idle_timeout: int = Field(5, ge=1, description="Seconds that an idle connection stays open.")


class Server(uvicorn.Server):
    """A server that drains.

    Args:
        config: uvicorn's.
        service: what is to be drained.
        grace: seconds that running requests get.
    """

    def __init__(self, config: uvicorn.Config, service: Service, grace: float) -> None:
        super().__init__(config)
        self._service = service
        self._grace = grace
        self._deadline: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends. Called between two instructions: it only takes notes."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._grace
        else:
            self.should_exit = self.force_exit = True

    def drain(self) -> None:
        """Do what a first signal does; from any thread."""
        self.handle_exit(0, None)

    async def on_tick(self, counter: int) -> bool:
        """Uvicorn's heartbeat, ten times a second."""
        if self._deadline is not None and not self.should_exit:
            if not self._service.admission.closing:
                self._service.close_door()
                logger.info("draining", extra={"fields": {"running": self._service.admission.running}})
            late = time.monotonic() >= self._deadline
            if late:
                self._service.abort()
            self.should_exit = late or not self._service.admission.running
        return await super().on_tick(counter)


def make_server(service: Service, listen: ListenConfig) -> Server:
    """A server that is ready to run."""
    config = uvicorn.Config(
        build(service),
        host=listen.host,
        port=listen.port,
        loop="asyncio",
        http=cast("Any", bounded(listen.head_timeout)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=listen.max_connections,
        timeout_keep_alive=listen.idle_timeout,
        timeout_graceful_shutdown=_LAST_WORDS,
        h11_max_incomplete_event_size=listen.max_header_bytes,
        ssl_certfile=listen.tls_certificate,
        ssl_keyfile=listen.tls_key,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    return Server(config, service, listen.grace)


def run(backend: Backend, config: ServerConfig, listen: ListenConfig) -> None:
    """Serve until a signal; the backend is closed afterwards."""
    try:
        make_server(Service(backend, config), listen).run()
    finally:
        backend.close()
