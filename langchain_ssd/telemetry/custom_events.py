"""The same events as LangChain custom events, named ``ssd.*``, with the run id of the model itself.

LangChain's own ``dispatch_custom_event`` fails in a model that is called directly, and inside a chain it
names the chain as the source.  A streamed call does not tell a model its run id either.  So a handler of
the model's own, which is told it, passes the events on; and only where a parent run exists.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from langchain_core.callbacks import (
    AsyncCallbackHandler,
    AsyncCallbackManager,
    BaseCallbackHandler,
    BaseCallbackManager,
    CallbackManager,
    Callbacks,
)
from langchain_core.callbacks.manager import adispatch_custom_event, dispatch_custom_event
from langchain_core.outputs import LLMResult
from langchain_core.runnables.config import ensure_config

from ..events import SCHEMA_VERSION, Event
from .logs import NAMES
from .reading import RiskRun, RunReader


class _Starts(BaseCallbackHandler):
    """Notes the runs that begin. At once: a hop to a thread would be a place to be cancelled at unseen."""

    run_inline = True
    ignore_llm = True

    def __init__(self, reader: RunReader) -> None:
        self._reader = reader

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
        """Note whose events will come, if anybody above can hear them."""
        if parent_run_id is not None:
            self._reader.start(run_id, parent_run_id, tags, metadata)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Starts:
        return self

    def __reduce__(self) -> str:
        return "_STARTS"


class CustomEvents(BaseCallbackHandler):
    """Passes the events of every response that has a parent run on to the handlers of that run."""

    run_inline = True
    ignore_chat_model = True

    def __init__(self, reader: RunReader) -> None:
        self._reader = reader

    @property
    def ignore_llm(self) -> bool:
        """In an event loop its twin does the work, which waits for asynchronous handlers."""
        return _in_a_loop()

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        """Pass on what the chunk carries."""
        self._pass_on(self._reader.of_chunk(run_id, chunk))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Pass on what was not told yet, and the end."""
        self._pass_on(self._reader.of_result(run_id, response))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """The same for a refusal that was raised."""
        self._pass_on(self._reader.of_error(run_id, error))

    def _pass_on(self, told: Iterable[tuple[RiskRun, Event]]) -> None:
        for run, event in told:
            try:
                above = _above()
                if above is not None:
                    own = CallbackManager(**_own(above, run))
                    dispatch_custom_event(NAMES[type(event)], _data(event), config={"callbacks": own})
            except Exception as error:  # telemetry must not break what it watches
                self._reader.complain("on_custom_event", error)

    def __deepcopy__(self, memo: dict[int, Any]) -> CustomEvents:
        return self

    def __reduce__(self) -> str:
        return "CUSTOM_EVENTS"


class AsyncCustomEvents(AsyncCallbackHandler):
    """As :class:`CustomEvents`, in an event loop. In order, and without a hop to a thread for every token."""

    run_inline = True
    ignore_chat_model = True

    def __init__(self, reader: RunReader) -> None:
        self._reader = reader

    @property
    def ignore_llm(self) -> bool:
        """Outside of an event loop its twin does the work."""
        return not _in_a_loop()

    async def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        """Pass on what the chunk carries."""
        await self._pass_on(self._reader.of_chunk(run_id, chunk))

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Pass on what was not told yet, and the end."""
        await self._pass_on(self._reader.of_result(run_id, response))

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """The same for a refusal that was raised."""
        await self._pass_on(self._reader.of_error(run_id, error))

    async def _pass_on(self, told: Iterable[tuple[RiskRun, Event]]) -> None:
        for run, event in told:
            try:
                above = _above()
                if above is not None:
                    own = AsyncCallbackManager(**_own(above, run))
                    await adispatch_custom_event(NAMES[type(event)], _data(event), config={"callbacks": own})
            except Exception as error:
                self._reader.complain("on_custom_event", error)

    def __deepcopy__(self, memo: dict[int, Any]) -> AsyncCustomEvents:
        return self

    def __reduce__(self) -> str:
        return "ASYNC_CUSTOM_EVENTS"


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _above() -> BaseCallbackManager | None:
    """The callbacks of the chain, agent or graph that the model is called in."""
    above = ensure_config().get("callbacks")
    return above if isinstance(above, BaseCallbackManager) else None


def _own(above: BaseCallbackManager, run: RiskRun) -> dict[str, Any]:
    return {
        "handlers": above.handlers,
        "inheritable_handlers": above.inheritable_handlers,
        "parent_run_id": run.run_id,
        "tags": list(run.tags),
        "metadata": run.metadata,
    }


def _data(event: Event) -> dict[str, Any]:
    values = event.to_wire()
    values.pop("kind")
    values.pop("text", None)
    return {"schema_version": SCHEMA_VERSION, **values}


_READER = RunReader()
_STARTS = _Starts(_READER)
CUSTOM_EVENTS = CustomEvents(_READER)
ASYNC_CUSTOM_EVENTS = AsyncCustomEvents(_READER)
_OURS: tuple[BaseCallbackHandler, ...] = (_STARTS, CUSTOM_EVENTS, ASYNC_CUSTOM_EVENTS)
"""One of each for all models of a process: runs are told apart by their ids."""


def with_custom_events(callbacks: Callbacks) -> Callbacks:
    """A model's own callbacks, with those of this page among them once."""
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        for handler in _OURS:
            manager.add_handler(handler, inherit=False)
        return manager
    return [*(h for h in callbacks or () if h not in _OURS), *_OURS]
