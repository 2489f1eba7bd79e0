"""Shared set-up: no hub, and servers that outlive a test end with the session."""

from __future__ import annotations

import os
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
