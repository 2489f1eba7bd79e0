"""Equal configurations share one worker; it ends when its last user lets go."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Sequence

from ..backend import Backend, ChatMessage, ChatRequest, Health, TextToken
from ..config import EngineConfig, ModelSpec
from ..errors import WorkerError
from .calls import Progress
from .client import DEFAULT_ENGINE, LocalBackend
from .lifecycle import WeakBag
from .stream import MailboxStream, ended_stream
from .wire import hello


class _Entry:
    """A worker and the number of its users."""

    def __init__(self, key: str, local: LocalBackend) -> None:
        self.key = key
        self.local = local
        self.holders = 0


_entries: dict[str, _Entry] = {}
_lock = threading.Lock()
_dropped: deque[_Entry] = deque()  # holds that the garbage collector found


class SharedBackend(Backend):
    """One user's hold on a worker that others may use too.

    It behaves as a backend of its own: :meth:`close` ends this user's requests and gives the hold back, and
    only the last one to do so ends the process.  A hold that is dropped without being closed is given back
    by the garbage collector, so keep it for as long as the worker should stay loaded.
    """

    def __init__(self, entry: _Entry) -> None:
        self._entry = entry
        self._local = entry.local
        self._held = [None]  # emptied by whoever gives the hold back first: list.pop is atomic
        self._streams: WeakBag[MailboxStream] = WeakBag()

    def submit(self, request: ChatRequest) -> MailboxStream:
        """Hand a request over; every failure arrives as a ``Failed`` event."""
        if not self._held:
            return ended_stream(_closed())
        stream = self._local.submit(request)
        self._streams.add(stream)
        stream.keep(self)  # or dropping this hold would end the worker under its own response
        return stream

    def token_ids(self, text: str) -> list[int]:
        """See :meth:`LocalBackend.token_ids`."""
        self._check()
        return self._local.token_ids(text)

    def tokenize(self, source: str | Sequence[ChatMessage]) -> list[TextToken]:
        """See :meth:`LocalBackend.tokenize`."""
        self._check()
        return self._local.tokenize(source)

    def warm_up(self, on_progress: Progress | None = None) -> Health:
        """See :meth:`LocalBackend.warm_up`."""
        self._check()
        return self._local.warm_up(on_progress)

    def health(self) -> Health:
        """See :meth:`LocalBackend.health`."""
        return self._local.health() if self._held else Health("closed")

    def close(self) -> None:
        """End this user's requests and give the hold back; the last one ends the worker. Idempotent."""
        if not self._let_go():
            return
        for stream in self._streams.items():
            stream.cancel()
        with _lock:
            last = _count_down(self._entry)
        if last:
            self._local.close()
        _collect_dropped()

    @property
    def pid(self) -> int | None:
        """The process id of the present worker."""
        return self._local.pid

    def __del__(self) -> None:
        if self._let_go():
            _dropped.append(self._entry)
            _collect_dropped()

    def _let_go(self) -> bool:
        try:
            self._held.pop()
        except IndexError:
            return False
        return True

    def _check(self) -> None:
        if not self._held:
            raise _closed()


def shared_backend(
    target: ModelSpec, draft: ModelSpec, config: EngineConfig, *, engine: str = DEFAULT_ENGINE
) -> SharedBackend:
    """A hold on the worker for this configuration; each call is a hold of its own, to be closed on its own.

    Nothing is started yet: see :class:`LocalBackend`.

    Raises:
        ConfigError: the settings are not plain values.
    """
    key = _key(target, draft, config, engine)
    with _lock:
        entry = _entries.get(key)
        if entry is None or entry.local.exhausted:  # a worker its users gave up does not bind new ones
            entry = _entries[key] = _Entry(key, LocalBackend(target, draft, config, engine=engine))
        entry.holders += 1
    _collect_dropped()
    return SharedBackend(entry)


def _key(target: ModelSpec, draft: ModelSpec, config: EngineConfig, engine: str) -> str:
    """Names a configuration. It covers the tokens too, so it is a digest: nobody can read them off it."""
    canonical = json.dumps([hello(target, draft, config), engine], sort_keys=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _count_down(entry: _Entry) -> bool:
    """Take one user off; whether it was the last. The lock is held."""
    entry.holders -= 1
    if entry.holders == 0 and _entries.get(entry.key) is entry:
        del _entries[entry.key]
    return entry.holders == 0


def _collect_dropped() -> None:
    """Give back what the garbage collector found, unless someone holds the lock, who then does it next.

    A finalizer runs in any thread at any moment, also in one that holds the lock: it must not wait for it.
    """
    while _dropped and _lock.acquire(blocking=False):
        try:
            finished = [entry for entry in _drain() if _count_down(entry)]
        finally:
            _lock.release()
        for entry in finished:
            entry.local.dismiss()


def _drain() -> list[_Entry]:
    drained = []
    while _dropped:
        drained.append(_dropped.popleft())
    return drained


def _closed() -> WorkerError:
    return WorkerError("this model is closed; create a new one")


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it at the fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
