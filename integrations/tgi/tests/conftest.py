"""Shared set-up: no hub, servers that outlive a test end with the session, and CI's deadline."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from .serving import close_all

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture(scope="session", autouse=True)
def _servers() -> Iterator[None]:
    yield
    close_all()


_DEADLINE = float(os.environ.get("LANGCHAIN_SSD_TEST_DEADLINE", "inf"))


def pytest_runtest_setup() -> None:
    """As in the core's tests: none begins after the deadline, in seconds of the epoch."""
    if time.time() > _DEADLINE:
        pytest.skip("left out: the deadline has passed; run it with make test-slow")
