"""Callers that block until the worker has answered: how they wait, and what they can be told."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ..backend import TextToken
from ..errors import SSDError, StartupTimeout, from_wire

Progress = Callable[[str, float], None]
# (stage, fraction) of the loading, the pair's description, tokens, or what went wrong.
Reply = SimpleQueue[tuple[str, float] | dict[str, Any] | list[int] | list[TextToken] | SSDError]
Answer = TypeVar("Answer", dict[str, Any], list[Any])

_SLICE = 1.0  # seconds; waits are cut into slices, or Ctrl-C could not interrupt them on every platform


def wait_for(wanted: type[Answer], reply: Reply, limit: float, on_progress: Progress | None) -> Answer:
    """Block until an answer of the wanted type arrives.

    Args:
        wanted: what answers this call.
        reply: where the answer arrives.
        limit: seconds to wait at most.
        on_progress: called here, in the waiting thread, while the pair loads.

    Raises:
        SSDError: what arrived instead.
        StartupTimeout: nothing arrived.
    """
    deadline = time.monotonic() + limit
    while (left := deadline - time.monotonic()) > 0:
        try:
            notice = reply.get(timeout=min(left, _SLICE))
        except Empty:
            continue
        if isinstance(notice, SSDError):
            raise from_wire(notice.code, notice.message)  # a new one: other callers raise theirs
        if isinstance(notice, wanted):
            return notice
        if isinstance(notice, tuple) and on_progress is not None:
            on_progress(*notice)
    raise StartupTimeout(f"the worker gave no answer for {limit:g} s; raise EngineConfig.start_timeout")
