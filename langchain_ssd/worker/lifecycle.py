"""What must happen to every worker when this process exits or forks."""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import weakref
from functools import partial
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")


class WeakBag(Generic[Item]):
    """Things that still live. It takes no lock, so finalizers and forked children can use it."""

    def __init__(self) -> None:
        self._refs: dict[int, weakref.ref[Item]] = {}
        self._keys = itertools.count()

    def add(self, item: Item) -> None:
        """Remember ``item`` for as long as something else holds it."""
        key = next(self._keys)
        self._refs[key] = weakref.ref(item, partial(self._refs.pop, key))

    def items(self) -> list[Item]:
        """What is still there."""
        return [item for ref in list(self._refs.values()) if (item := ref()) is not None]


class Owner(Protocol):
    """Something that owns a worker process."""

    def close(self) -> None:
        """End the worker and wait for it."""

    def forget(self) -> None:
        """In a forked child: let go of the parent's worker without touching it."""


_owners: WeakBag[Owner] = WeakBag()
_fork_gate = threading.RLock()


def fork_gate() -> threading.RLock:
    """Held while a worker is started, so that a fork cannot happen half-way.

    A child forked between the making of the pipes and the start of the process would keep ends of them
    open for ever, and neither side would see the other one end.
    """
    return _fork_gate


def track(owner: Owner) -> None:
    """Close ``owner`` when the interpreter exits; have it forget its worker in forked children."""
    _owners.add(owner)


def _close_all() -> None:
    for owner in _owners.items():
        owner.close()


def _before_fork() -> None:
    _fork_gate.acquire()


def _after_fork_in_parent() -> None:
    _fork_gate.release()


def _after_fork_in_child() -> None:
    global _fork_gate
    _fork_gate = threading.RLock()
    for owner in _owners.items():
        owner.forget()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
