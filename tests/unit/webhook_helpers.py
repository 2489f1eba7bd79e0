"""A server for webhooks to post to, and how tests fill and empty a webhook."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest

from langchain_ssd.events import ModeChanged
from langchain_ssd.telemetry import RiskRun, RiskWebhook, delivery

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789").decode()
Reply = tuple[int, dict[str, str]]


class Receiver:
    """A server that keeps what it is sent and answers as it is told: the next reply, then 200 for ever."""

    def __init__(self, *replies: int | Reply) -> None:
        self.replies = [(r, {}) if isinstance(r, int) else r for r in replies]
        self.posts: list[tuple[float, str, dict[str, str], bytes]] = []
        self.gate = threading.Event()
        self.gate.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.posts.append((time.monotonic(), self.path, dict(self.headers.items()), body))
                receiver.gate.wait(60)
                status, headers = receiver.replies.pop(0) if receiver.replies else (200, {})
                self.send_response(status)
                for name, value in {"content-length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that went away

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"

    @property
    def batches(self) -> list[list[dict[str, Any]]]:
        return [json.loads(body)["events"] for _, _, _, body in self.posts]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for batch in self.batches for event in batch]

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(*replies: int | Reply) -> Receiver:
        made.append(Receiver(*replies))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture
def fast_and_clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(delivery, "_FIRST_PAUSE", 0.02)
    yield
    until = time.monotonic() + 60
    while workers() and time.monotonic() < until:
        time.sleep(0.01)
    assert not workers()


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ssd-webhook"]


def until(happens: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def put(webhook: RiskWebhook, count: int, run: RiskRun | None = None) -> None:
    """Events as a request would cause them, numbered by their position."""
    for number in range(count):
        webhook._tell(run or RiskRun(uuid4()), ModeChanged(number, "safety"))


def flush(webhook: RiskWebhook) -> None:
    assert webhook.close(timeout=60)


def positions(receiver: Receiver) -> list[int]:
    return [event["position"] for event in receiver.events]
