"""A real server on a real socket, in a thread of the test process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from langchain_ssd.backend import Backend, ChatRequest, EventStream, Health, TextToken
from langchain_ssd.errors import SSDError
from langchain_ssd.events import Failed
from langchain_ssd.testing import ScriptedBackend
from langchain_ssd_tgi.server.run import ListenConfig, make_server
from langchain_ssd_tgi.server.service import Service
from langchain_ssd_tgi.server.settings import ServerConfig

KEY = "sk-0123456789abcdef"


class Switch(Backend):
    """Whatever backend the present test has, for a server that outlives it."""

    def __init__(self) -> None:
        self.current: Any = None

    def submit(self, request: ChatRequest) -> EventStream:
        stream: EventStream = self.current.submit(request)
        return stream

    def token_ids(self, text: str) -> list[int]:
        ids: list[int] = self.current.token_ids(text)
        return ids

    def tokenize(self, source: Any) -> list[TextToken]:
        tokens: list[TextToken] = self.current.tokenize(source)
        return tokens

    def warm_up(self) -> Health:
        return self.health()

    def health(self) -> Health:
        health: Health = self.current.health() if self.current else Health("idle")
        return health

    def close(self) -> None: ...


class Running:
    """A server that runs."""

    def __init__(self, service: Service, listen: dict[str, Any]) -> None:
        self.service = service
        self.server = make_server(service, ListenConfig(**{"port": 0, "grace": 1.0, **listen}))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_until(lambda: self.server.started or not self.thread.is_alive(), 20)
        assert self.server.started
        self.port: int = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.backend: Any = service.backend
        # Without TLS contexts, whose making takes longer than most tests.
        self.client = httpx.Client(base_url=self.url, timeout=20, trust_env=False, verify=False)

    def close(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        if body is None:
            options = {"content": b"null", "headers": {"content-type": "application/json"}, **options}
            return self.client.post(path, **options)
        return self.client.post(path, json=body, **options)

    def events(self, path: str, body: Any, **options: Any) -> list[Any]:
        """The events of a stream; ``[DONE]`` as a text."""
        with self.client.stream("POST", path, json=body, **options) as response:
            assert response.status_code == 200, response.read()
            assert response.headers["content-type"].startswith("text/event-stream")
            return list(read_events(response.iter_lines()))

    def metric(self, name: str, **labels: str) -> float:
        return self.service.metrics._registry.get_sample_value(name, labels) or 0.0


def read_events(lines: Iterator[str]) -> Iterator[Any]:
    for line in lines:
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield data if data == "[DONE]" else json.loads(data)


_pool: dict[str, Running] = {}


@contextmanager
def serving(backend: Backend, **settings: Any) -> Iterator[Running]:
    """Serve ``backend`` until the block ends, by a server that other tests with these settings use too."""
    name = repr(sorted(settings.items(), key=str))
    if name not in _pool:
        _pool[name] = Running(Service(Switch(), ServerConfig(**settings)), {})
    running = _pool[name]
    running.service.backend.current = running.backend = backend  # type: ignore[attr-defined]
    yield running
    wait_until(lambda: running.service.admission.running == 0)


@contextmanager
def serving_alone(
    backend: Backend, listen: dict[str, Any] | None = None, **settings: Any
) -> Iterator[Running]:
    """Serve ``backend`` by a server of this test's own, for those that end it or count what it did."""
    running = Running(Service(backend, ServerConfig(**settings)), listen or {})
    try:
        yield running
    finally:
        running.close()


def close_all() -> None:
    while _pool:
        _pool.popitem()[1].close()


def wait_until(true: Any, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.005)


def chat(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


class Exact(ScriptedBackend):
    """A scripted pair that sends exactly its script."""

    def _script(self, request: Any, reply: Any) -> Any:
        return [Failed(reply.code, reply.message)] if isinstance(reply, SSDError) else reply
