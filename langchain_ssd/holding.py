"""A model's hold on its backend: taken at the first use, given back by ``close()`` or with the model.

A hold that is dropped drops its backend, and a worker's backend gives itself back when the garbage
collector meets it.  A copy of a model, also through ``deepcopy`` and pickling, gets a hold of its own, so
that closing one of the two never cuts off the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .backend import Backend


class BackendHold:
    """At most one backend at a time. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._backend: Backend | None = None

    @property
    def backend(self) -> Backend | None:
        """The backend that is held now, if any."""
        return self._backend

    def get(self, take: Callable[[], Backend]) -> Backend:
        """The held backend; ``take`` is called if there is none."""
        with self._lock:
            if self._backend is None:
                self._backend = take()
            return self._backend

    def release(self) -> None:
        """Close the held backend. Idempotent; a later :meth:`get` takes one again."""
        with self._lock:
            backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def __reduce__(self) -> tuple[type[BackendHold], tuple[()]]:
        return BackendHold, ()
