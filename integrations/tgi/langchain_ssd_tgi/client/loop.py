"""One event loop in a thread of its own, for all requests of a process: no caller's loop is ever blocked."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from huggingface_hub import AsyncInferenceClient, get_async_session

T = TypeVar("T")
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_owner = 0
_session: Any = None  # httpx's pool of connections; it belongs to the loop


def _running() -> asyncio.AbstractEventLoop:
    """The loop; started if there is none, or if it stayed behind in the process that forked this one."""
    global _loop, _owner, _session
    with _lock:
        if _loop is None or _owner != os.getpid():
            _loop, _owner, _session = asyncio.new_event_loop(), os.getpid(), None
            threading.Thread(target=_loop.run_forever, name="langchain-ssd-tgi", daemon=True).start()
        return _loop


def start(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Begin ``work`` there; its future can be cancelled from any thread."""
    return asyncio.run_coroutine_threadsafe(work, _running())


@atexit.register
def _leave() -> None:
    """Close idle connections in good order when the process ends."""
    if _loop is not None and _session is not None and _owner == os.getpid():
        with suppress(Exception):
            start(_close()).result(1.0)


async def _close() -> None:
    await _session.aclose()
    await asyncio.sleep(0)  # the round in which transports let go of their sockets


class PooledClient(AsyncInferenceClient):
    """huggingface_hub's client for one request, on the pool of connections that all requests share.

    By itself it would make a pool of its own, with TLS contexts that take longer to make than a short answer.

    Args:
        url: the server's address.
        key: its key.
        timeout: seconds of silence.
    """

    def __init__(self, url: str, key: str, timeout: float) -> None:
        super().__init__(base_url=url, provider="hf-inference", api_key=key, timeout=timeout)
        global _session
        if _session is None:
            _session = get_async_session()
            # It refuses all connections when HF_HUB_OFFLINE is set, but this server is not the hub.
            _session.event_hooks = {"request": [], "response": _session.event_hooks["response"]}
        self._async_client = _session

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One short exchange with a route that huggingface_hub does not know; httpx's response."""
        headers = {"authorization": f"Bearer {self.token}"}
        url = f"{self.model}{path}"
        return await _session.request(method, url, json=body, headers=headers, timeout=self.timeout)
