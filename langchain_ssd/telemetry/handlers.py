"""Typed hooks for the risk of a response.  No hook sees a word of a prompt or of an answer.

A hook that raises never breaks a request: the first error is logged, and no other.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.outputs import LLMResult

from ..events import BinScored, Event, Finished, ModeChanged, PrefillScored, Queued, Refused
from .reading import RiskRun, RunReader

HOOKS: dict[type[Event], str] = {
    Queued: "on_queued",
    PrefillScored: "on_prefill_scored",
    BinScored: "on_bin_scored",
    ModeChanged: "on_mode_changed",
    Refused: "on_refusal",
    Finished: "on_response_finished",
}


class SSDCallbackHandler(BaseCallbackHandler):
    """Override the hooks you need. They fire on every path: calls, streams, chains, agents, graphs.

    Example:
        .. code-block:: python

            class Alarm(SSDCallbackHandler):
                def on_refusal(self, event, run):
                    print("refused", run.metadata.get("thread_id"), event.reason)


            chain.invoke(question, config={"callbacks": [Alarm()]})

    Args:
        keep_text: let hooks read ``run.prompt`` and ``run.answer``. Off: a handler never holds a word.
    """

    def __init__(self, *, keep_text: bool = False) -> None:
        self._reader = RunReader(keep_text)

    def on_queued(self, event: Queued, run: RiskRun) -> None:
        """The request was accepted; told with the response's first chunk, to disturb no timing of that."""

    def on_prefill_scored(self, event: PrefillScored, run: RiskRun) -> None:
        """A prefilled answer was scored before the first new token."""

    def on_bin_scored(self, event: BinScored, run: RiskRun) -> None:
        """A bin of tokens was judged."""

    def on_mode_changed(self, event: ModeChanged, run: RiskRun) -> None:
        """Decoding switched between utility and safety."""

    def on_refusal(self, event: Refused, run: RiskRun) -> None:
        """A refusal was decided; ``event.enforced`` is false in shadow mode."""

    def on_response_finished(self, event: Finished, run: RiskRun) -> None:
        """A response is complete; ``event.summary`` has its numbers."""

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
        """Note whose events will come."""
        self._reader.start(run_id, parent_run_id, tags, metadata, messages)

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        """Tell what the chunk carries."""
        for run, event in self._reader.of_chunk(run_id, chunk):
            self._tell(run, event)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell what was not told yet, and the end."""
        for run, event in self._reader.of_result(run_id, response):
            self._tell(run, event)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell the end of a response that ``on_refusal="raise"`` turned into an error; forget the run."""
        for run, event in self._reader.of_error(run_id, error):
            self._tell(run, event)

    def _tell(self, run: RiskRun, event: Event) -> None:
        hook = HOOKS.get(type(event))
        if hook is None:
            return
        try:
            getattr(self, hook)(event, run)
        except Exception as error:  # telemetry must not break what it watches
            self._reader.complain(hook, error)


class AsyncSSDCallbackHandler(AsyncCallbackHandler):
    """As :class:`SSDCallbackHandler`, with hooks that may wait."""

    def __init__(self, *, keep_text: bool = False) -> None:
        self._reader = RunReader(keep_text)

    async def on_queued(self, event: Queued, run: RiskRun) -> None:
        """The request was accepted; told with the response's first chunk, to disturb no timing of that."""

    async def on_prefill_scored(self, event: PrefillScored, run: RiskRun) -> None:
        """A prefilled answer was scored before the first new token."""

    async def on_bin_scored(self, event: BinScored, run: RiskRun) -> None:
        """A bin of tokens was judged."""

    async def on_mode_changed(self, event: ModeChanged, run: RiskRun) -> None:
        """Decoding switched between utility and safety."""

    async def on_refusal(self, event: Refused, run: RiskRun) -> None:
        """A refusal was decided; ``event.enforced`` is false in shadow mode."""

    async def on_response_finished(self, event: Finished, run: RiskRun) -> None:
        """A response is complete; ``event.summary`` has its numbers."""

    async def on_chat_model_start(
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
        """Note whose events will come."""
        self._reader.start(run_id, parent_run_id, tags, metadata, messages)

    async def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        """Tell what the chunk carries."""
        for run, event in self._reader.of_chunk(run_id, chunk):
            await self._tell(run, event)

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell what was not told yet, and the end."""
        for run, event in self._reader.of_result(run_id, response):
            await self._tell(run, event)

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell the end of a response that ``on_refusal="raise"`` turned into an error; forget the run."""
        for run, event in self._reader.of_error(run_id, error):
            await self._tell(run, event)

    async def _tell(self, run: RiskRun, event: Event) -> None:
        hook = HOOKS.get(type(event))
        if hook is None:
            return
        try:
            await getattr(self, hook)(event, run)
        except Exception as error:  # telemetry must not break what it watches
            self._reader.complain(hook, error)
