"""Shared test setup: no hub, one thread (tiny models only lose time to a second), and CI's deadline."""

from __future__ import annotations

import os
import time

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

_DEADLINE = float(os.environ.get("LANGCHAIN_SSD_TEST_DEADLINE", "inf"))


def pytest_runtest_setup() -> None:
    """No test begins after the deadline, in seconds of the epoch; it is skipped, and counted as such."""
    if time.time() > _DEADLINE:
        pytest.skip("left out: the deadline has passed; run it with make test-slow")
