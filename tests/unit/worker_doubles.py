"""What the tests of the parent's side share: a supervisor without a process, and a few short names."""

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import ModelSpec
from langchain_ssd.errors import Cancelled, WorkerDied
from langchain_ssd.events import Event, Token
from langchain_ssd.worker.client import LocalBackend

T, D = ModelSpec(name="target"), ModelSpec(name="draft")
HELLO = ChatRequest((ChatMessage("user", "hello"),))


def tokens(*numbers: int) -> list[Event]:
    return [Token(number, number, f"w{number} ") for number in numbers]


class FakeSupervisor:
    made: ClassVar[list["FakeSupervisor"]] = []

    def __init__(self, command: Any, hello: Any, config: Any, listener: LocalBackend, delay: float) -> None:
        self.delay, self.listener = delay, listener
        self.info: dict[str, Any] | None = None
        self.running = self.queued = 0
        self.stalled = 0.0
        self.pid = len(self.made) + 1
        self.sent: list[Any] = []
        self.made.append(self)

    def start(self) -> None: ...

    def send(self, frame: Any) -> None:
        self.sent.append(frame)

    def send_later(self, make: Callable[[], bytes]) -> None:
        self.sent.append(make())

    def stop(self) -> None:
        self.listener.on_exit(self, Cancelled("closed"))

    def join(self) -> None: ...

    def become_ready(self) -> None:
        self.info = {"vocabulary": 5}
        self.listener.on_ready(self.info)

    def answer(self, number: int, *events: Event) -> None:
        wires = [event.to_wire() for event in events]
        self.listener.on_reply({"type": "events", "id": number, "events": wires})

    def die(self, error: Exception | None = None) -> None:
        self.listener.on_exit(self, error or WorkerDied("it died"))


def call_in_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def wait_until(condition: Callable[[], bool], seconds: float = 3.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
