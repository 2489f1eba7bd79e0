"""Handlers that follow a run from its start to its end, also one that fails or that its consumer leaves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from langchain_core.outputs import LLMResult

from ..chunks import PROVIDER
from ..errors import Cancelled, SSDError
from .handlers import SSDCallbackHandler
from .reading import RiskRun

UNEXPECTED = "unexpected"
"""The code of a failure that is none of :mod:`langchain_ssd.errors`."""


def code_of(error: BaseException) -> str:
    """What a failure is called in telemetry: the typed code and never the message."""
    if isinstance(error, SSDError):
        return error.code
    left = isinstance(error, GeneratorExit | asyncio.CancelledError)
    return Cancelled.code if left else UNEXPECTED


class RunHandler(SSDCallbackHandler):
    """As :class:`SSDCallbackHandler`, with hooks for a run's start and end, for runs of ``ChatSSD`` only.

    Nothing that goes wrong inside reaches the request, or LangChain's log, which would quote it.
    """

    run_inline = True  # hooks take microseconds; a hop to a thread for every token would cost more

    def __init__(self) -> None:
        super().__init__()
        self._running: dict[UUID, RiskRun] = {}
        self._lock = threading.Lock()

    def on_run_start(self, run: RiskRun, settings: dict[str, Any]) -> None:
        """A model has been called; ``settings`` are what the call asks for."""

    def on_chunk(self, run: RiskRun) -> None:
        """A chunk of a stream has arrived; its events come next."""

    def on_run_failed(self, run: RiskRun, code: str) -> None:
        """The run ends without a response: an error's code, or "cancelled" if its consumer has left."""

    def on_run_end(self, run: RiskRun) -> None:
        """The run has ended, in whatever way: the last hook of a run."""

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[Any]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin to follow a run, if it is one of ``ChatSSD``."""
        if (metadata or {}).get("ls_provider") != PROVIDER:
            return
        with self._guarded("on_chat_model_start"):
            self._reader.start(run_id, parent_run_id, tags, metadata)
            run = RiskRun(run_id, parent_run_id, tuple(tags or ()), dict(metadata or {}))
            with self._lock:
                self._running[run_id] = run
            self.on_run_start(run, kwargs.get("invocation_params") or {})

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        """Tell what the chunk carries."""
        run = self._running.get(run_id)
        if run is not None:
            with self._guarded("on_llm_new_token"):
                self.on_chunk(run)
                super().on_llm_new_token(token, chunk=chunk, run_id=run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell what was not told yet, and the end."""
        with self._ending("on_llm_end", run_id) as run:
            if run is not None:
                super().on_llm_end(response, run_id=run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell that the run has failed, or how a refusal ended that came as an error."""
        with self._ending("on_llm_error", run_id) as run:
            told = list(self._reader.of_error(run_id, error))
            for whose, event in told:
                self._tell(whose, event)
            if run is not None and not told:
                self.on_run_failed(run, code_of(error))

    @contextmanager
    def _ending(self, hook: str, run_id: UUID) -> Iterator[RiskRun | None]:
        """The run, for the last time."""
        with self._lock:
            run = self._running.pop(run_id, None)
        with self._guarded(hook):
            yield run
        if run is not None:
            with self._guarded("on_run_end"):
                self.on_run_end(run)

    @contextmanager
    def _guarded(self, hook: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # telemetry must not break what it watches
            self._reader.complain(hook, error)
