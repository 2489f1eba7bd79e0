"""Backends over a real worker process with the scripted engine; nothing may be left of them."""

import threading
from typing import Any

import psutil
import pytest

from langchain_ssd.config import EngineConfig, ModelSpec
from langchain_ssd.worker import child, client
from langchain_ssd.worker.client import LocalBackend

from .driving import ENGINE


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    """Shorter pauses than users get."""
    monkeypatch.setattr(child, "PATIENCE", 0.5)
    monkeypatch.setattr(client, "_BACKOFF_START", 0.1)


@pytest.fixture
def start():
    """Make backends; whatever a test does to them, no process or thread may be left."""
    threads = set(threading.enumerate())
    made: list[LocalBackend] = []

    def make(target: str = "scripted", **config: Any) -> LocalBackend:
        backend = LocalBackend(
            ModelSpec(name=target), ModelSpec(name="draft"), EngineConfig(**config), engine=ENGINE
        )
        made.append(backend)
        return backend

    yield make
    for backend in made:
        backend.close()
    assert psutil.Process().children() == []
    assert set(threading.enumerate()) <= threads


@pytest.fixture
def backend(start):
    return start()
