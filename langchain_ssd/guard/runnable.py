"""A guard for chains: an SSD model as a Runnable that returns, replaces or raises on a refusal.

It stays on the outside. Fallbacks and retries that are added to it go between it and the model, where a
refusal is an ordinary answer and no error, so nothing tries it again and no other model is asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, closing
from typing import Any, cast

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from .policy import ChainPolicy, OnRefusal, refused
from .reading import is_refusal, summary_of, why_refused
from .replacing import marked, refusal_words, replaced
from .streams import StreamGuard, unprotected

Model = Runnable[LanguageModelInput, Any]


def guard(
    model: Model,
    *,
    on_refusal: OnRefusal = "return",
    replacement: str | None = None,
    require_ssd: bool = True,
) -> GuardedModel:
    """Guard an SSD model, or a chain that ends with one, for LCEL.

    Args:
        model: the ``ChatSSD``, bound or not.
        on_refusal: "return" gives the refusal, cleaned of all that a stream had released before it;
            "replace" gives words of yours; "raise" raises ``RequestRefused``.
        replacement: those words.
        require_ssd: an answer without SSD's metadata is an error. Otherwise it passes as it is.

    Raises:
        ConfigError: an unknown policy, or a replacement that does not fit it.
    """
    return GuardedModel(model, ChainPolicy(on_refusal, replacement, require_ssd))


class GuardedModel(Runnable[LanguageModelInput, BaseMessage]):
    """What :func:`guard` makes.

    Calls raise ``RequestRefused`` if told to, and ``UnprotectedAnswer`` for an answer that does not come from
    SSD. In a stream, what had been released before a refusal has been said; the refusal, the replacement or
    the error is its ending.
    """

    def __init__(self, model: Model, policy: ChainPolicy) -> None:
        self.model = model
        self.policy = policy

    # Calls

    def invoke(
        self,
        input: LanguageModelInput,  # noqa: A002 - Runnable's own name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> BaseMessage:
        """Answer once."""
        return self._judged(self.model.invoke(input, config, **kwargs))

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002 - Runnable's own name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> BaseMessage:
        """Answer once, without blocking the event loop."""
        return self._judged(await self.model.ainvoke(input, config, **kwargs))

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002 - Runnable's own name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[BaseMessage]:
        """Pass chunks on as they come."""
        watch = StreamGuard(self.policy)
        chunks = cast("Any", self.model.stream(input, config, **kwargs))
        with closing(chunks):
            for chunk in chunks:
                passed = self._passed(watch, chunk)
                if passed is not None:
                    yield passed
        watch.end()

    async def astream(
        self,
        input: LanguageModelInput,  # noqa: A002 - Runnable's own name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[BaseMessage]:
        """Pass chunks on as they come, without blocking the event loop."""
        watch = StreamGuard(self.policy)
        chunks = cast("Any", self.model.astream(input, config, **kwargs))
        async with aclosing(chunks):
            async for chunk in chunks:
                passed = self._passed(watch, chunk)
                if passed is not None:
                    yield passed
        watch.end()

    def _judged(self, answer: Any) -> BaseMessage:
        if not isinstance(answer, AIMessage) or (self.policy.require_ssd and summary_of(answer) is None):
            raise unprotected()
        if not is_refusal(answer):
            return answer
        if self.policy.on_refusal == "raise":
            raise refused(why_refused(answer)["reason"])
        return marked(replaced(answer, self.policy.replacement or refusal_words(answer)))

    def _passed(self, watch: StreamGuard, chunk: Any) -> BaseMessage | None:
        if isinstance(chunk, AIMessageChunk):
            return watch.take(chunk)
        answer = self._judged(chunk)  # a model that does not stream gives its answer as a whole
        watch.protected = True
        return answer

    # What is added to the model stays inside of the guard

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> GuardedModel:
        """The same guard around the model with tools."""
        return self._around(cast("Any", self.model).bind_tools(tools, **kwargs))

    def with_fallbacks(  # type: ignore[override]
        self, fallbacks: Sequence[Runnable[Any, Any]], **kwargs: Any
    ) -> GuardedModel:
        """The same guard around the model and its fallbacks: they are for errors, and never see a refusal.

        A fallback that is guarded itself loses its own guard to this one.
        """
        bare = [fallback.model if isinstance(fallback, GuardedModel) else fallback for fallback in fallbacks]
        return self._around(self.model.with_fallbacks(bare, **kwargs))

    def with_retry(self, **kwargs: Any) -> GuardedModel:
        """The same guard around the model with retries: a refusal is not tried again."""
        return self._around(self.model.with_retry(**kwargs))

    def _around(self, model: Model) -> GuardedModel:
        return GuardedModel(model, self.policy)
