"""Short names for the fault tests: asking, reading, waiting. The engine is the scripted one."""

import os
import pathlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import psutil
import pytest

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.events import Event, Failed, Finished, Token
from langchain_ssd.worker.client import LocalBackend

ENGINE = "langchain_ssd.testing.engines:build_scripted"
ROOT = pathlib.Path(__file__).parents[2]
MARKER = "xyzzy-secret"
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals or fork")


def ask(text: str, **settings: Any) -> ChatRequest:
    return ChatRequest((ChatMessage("user", text),), **settings)


def texts(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token))


def words(count: int) -> str:
    return "".join(f"w{number} " for number in range(count))


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def the_only_failure(events: list[Event], code: str) -> Failed:
    """The last event, which must be the only terminal one."""
    assert [event for event in events if isinstance(event, Failed | Finished)] == events[-1:]
    failure = events[-1]
    assert isinstance(failure, Failed)
    assert failure.code == code
    return failure


def idle(backend: LocalBackend) -> Callable[[], bool]:
    return lambda: (backend.health().running, backend.health().queued) == (0, 0)


def undisturbed(backend: LocalBackend, pid: int | None) -> None:
    """The same worker, with nothing left to do, gives the same answer as a fresh one."""
    wait_until(idle(backend))
    assert texts(backend.submit(ask("echo 3"))) == words(3)
    assert backend.pid == pid
