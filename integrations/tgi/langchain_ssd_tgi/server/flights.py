"""One accepted request in flight: its place, its events, its end. Its place is given back by the service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from langchain_ssd.backend import Backend, ChatRequest
from langchain_ssd.errors import SSDError
from langchain_ssd.events import Event, Finished, ModeChanged, Queued, Refused, Token
from langchain_ssd.streaming import arun

from .problems import Problem, invalid, problem_of

Record = dict[str, Any]


class Flight:
    """The events of one request, held to the backend's contract: one end, and nothing after it.

    Args:
        backend: what answers.
        request: what was asked.
        max_input_tokens: longest prompt, if there is a limit.
        record: gets what the log and the metrics are to know.
    """

    def __init__(
        self, backend: Backend, request: ChatRequest, max_input_tokens: int | None, record: Record
    ) -> None:
        self._backend = backend
        self._request = request
        self._max_input_tokens = max_input_tokens
        self._record = record
        self._task: asyncio.Task[Any] | None = None
        self._error: Problem | None = None
        self.began = time.monotonic()
        self.finished: Finished | None = None
        self.refused: Refused | None = None
        self.turns: list[ModeChanged | Refused] = []
        self.prompt_tokens = 0
        self.emitted = 0

    @property
    def tokens(self) -> int:
        """Tokens that were used, of prompt and answer."""
        return self.prompt_tokens + self.emitted

    def abort(self, error: Problem) -> None:
        """End the request with an error; from the event loop's own thread."""
        if self._task is not None and self._error is None and not self._task.done():
            self._error = error
            self._task.cancel()

    async def events(self) -> AsyncGenerator[Event]:
        """The events; leaving early cancels the work.

        Raises:
            Problem: how it failed.
        """
        self._task = asyncio.current_task()
        try:
            async with aclosing(arun(self._backend, self._request, 0)) as events:
                async for event in events:
                    self._note(event)
                    yield event
        except SSDError as error:
            raise self._failed(problem_of(error)) from None
        except asyncio.CancelledError:
            if self._error is None or self._task is None:
                raise
            self._task.uncancel()
            raise self._failed(self._error) from None
        finally:
            self._task = None

    def _note(self, event: Event) -> None:
        if isinstance(event, Token):
            self.emitted = event.index + 1
        elif isinstance(event, Queued):
            self.prompt_tokens = event.prompt_tokens
            limit = self._max_input_tokens
            if limit is not None and event.prompt_tokens > limit:
                raise self._failed(
                    invalid(f"`inputs` must have at most {limit} tokens. Given: {event.prompt_tokens}")
                )
        elif isinstance(event, ModeChanged | Refused):
            self.turns.append(event)
            if isinstance(event, Refused) and event.enforced:
                self.refused = event
        elif isinstance(event, Finished):
            self.finished = event
            self.prompt_tokens, self.emitted = event.prompt_tokens, event.completion_tokens

    def _failed(self, problem: Problem) -> Problem:
        self._record["code"] = problem.code
        return problem
