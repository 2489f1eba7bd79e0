"""A pytest plugin: backends of tests are reached through a server, so that tests become contract tests.

``pytest -p`` with this runs tests that know nothing of servers.  What they give to ``ChatSSD`` as
a backend is asked over HTTP; what they look at afterwards is that backend itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from langchain_ssd.backend import ChatRequest, EventStream
from langchain_ssd.testing import ScriptedBackend
from langchain_ssd_tgi.client.backend import RemoteBackend
from langchain_ssd_tgi.server.service import Service
from langchain_ssd_tgi.server.settings import ServerConfig

from .serving import Running, Switch

_init = ScriptedBackend.__init__
_submits: dict[type, Any] = {ScriptedBackend: ScriptedBackend.submit}
asked = 0  # requests that went over HTTP


class Patient(list[int]):
    """A list that another thread fills: it may take a moment until it is what a test expects."""

    def __eq__(self, other: object) -> bool:
        end = time.monotonic() + 3
        while not super().__eq__(other):
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True

    __hash__ = None  # type: ignore[assignment]


class _Asked(Switch):
    """The server's side: hands requests to the test's backend itself."""

    def submit(self, request: ChatRequest) -> EventStream:
        kind = next(kind for kind in type(self.current).__mro__ if kind in _submits)
        stream: EventStream = _submits[kind](self.current, request)
        return stream


@pytest.fixture(scope="session", autouse=True)
def _through_a_server() -> Iterator[None]:
    switch = _Asked()
    config = ServerConfig(lock_safety=False, max_stop_sequences=64)
    server = Running(Service(switch, config), {})
    remote = RemoteBackend(server.url)

    def submit(self: Any, request: ChatRequest) -> EventStream:
        global asked
        asked += 1
        switch.current = self
        return remote.submit(request)

    def init(self: ScriptedBackend, *replies: Any, **options: Any) -> None:
        # An answer without pauses has been sent in full before a consumer can leave.
        _init(self, *replies, delay=options.get("delay") or 0.01)
        self.cancelled = Patient()

    patch = pytest.MonkeyPatch()
    with_engines = sys.modules.get("tests.unit.engine_backend")  # only then: it imports torch
    if with_engines is not None:
        _submits[with_engines.EngineBackend] = with_engines.EngineBackend.submit
    for kind in _submits:
        patch.setattr(kind, "submit", submit)
    patch.setattr(ScriptedBackend, "__init__", init)
    yield
    patch.undo()
    server.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"requests over HTTP: {asked}")
