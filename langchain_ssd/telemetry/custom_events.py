"""The same events as LangChain custom events, named ``ssd.*``, with the run id of the model itself.

LangChain's own ``dispatch_custom_event`` fails in a model that is called directly, and inside a chain it
names the chain as the source.  A streamed call does not tell a model its run id either.  So a handler of
the model's own, which is told it, passes the events on; and only where a parent run exists.  On asynchronous
paths LangChain runs it in a thread, so that no handler of the application can block the event loop.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langchain_core.callbacks import (
    AsyncCallbackManager,
    BaseCallbackHandler,
    BaseCallbackManager,
    CallbackManager,
    Callbacks,
)
from langchain_core.callbacks.manager import dispatch_custom_event
from langchain_core.outputs import LLMResult
from langchain_core.runnables.config import ensure_config

from ..events import SCHEMA_VERSION, Event
from .logs import NAMES
from .reading import RiskRun, RunReader


class CustomEvents(BaseCallbackHandler):
    """Passes the events of every response that has a parent run on to the handlers of that run."""

    def __init__(self) -> None:
        self._reader = RunReader()

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

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        """Pass on what the chunk carries."""
        for run, event in self._reader.of_chunk(run_id, chunk):
            self._pass_on(run, event)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Pass on what was not told yet, and the end."""
        for run, event in self._reader.of_result(run_id, response):
            self._pass_on(run, event)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """The same for a refusal that was raised."""
        for run, event in self._reader.of_error(run_id, error):
            self._pass_on(run, event)

    def _pass_on(self, run: RiskRun, event: Event) -> None:
        above = ensure_config().get("callbacks")
        if not isinstance(above, CallbackManager | AsyncCallbackManager):
            return
        values = event.to_wire()
        values.pop("kind")
        values.pop("text", None)
        own = CallbackManager(
            handlers=above.handlers,
            inheritable_handlers=above.inheritable_handlers,
            parent_run_id=run.run_id,
            tags=list(run.tags),
            metadata=run.metadata,
        )
        try:
            data = {"schema_version": SCHEMA_VERSION, **values}
            dispatch_custom_event(NAMES[type(event)], data, config={"callbacks": own})
        except Exception as error:  # telemetry must not break what it watches
            self._reader.complain("on_custom_event", error)

    def __deepcopy__(self, memo: dict[int, Any]) -> CustomEvents:
        return self

    def __reduce__(self) -> str:
        return "CUSTOM_EVENTS"


CUSTOM_EVENTS = CustomEvents()
"""One for all models of a process: runs are told apart by their ids."""


def with_custom_events(callbacks: Callbacks) -> Callbacks:
    """A model's own callbacks, with :data:`CUSTOM_EVENTS` among them once."""
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        manager.add_handler(CUSTOM_EVENTS, inherit=False)
        return manager
    return [*(h for h in callbacks or () if h is not CUSTOM_EVENTS), CUSTOM_EVENTS]
