"""ChatSSD: LangChain in, LangChain out. No decoding happens here, and no tokenizer is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from types import TracebackType
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import RunnableSerializable
from langchain_core.runnables.utils import AnyConfigurableField

from .backend import Backend, ChatRequest, Health
from .chat_fields import ChatFields
from .chat_tools import ChatTools
from .chunks import ChunkWriter
from .errors import InvalidRequest
from .event_stream import Metadata
from .messages import to_chat
from .pairs import Borrowed, context_length, local, model_name, remote
from .plain_text import check_text
from .streaming import arun, run
from .tools import tool_use

_PLACE = frozenset({"target", "draft", "engine", "base_url", "api_key", "allow_unprotected", "backend"})


class ChatSSD(ChatTools):
    """A chat model that decodes with a big target and a small safe draft, in a worker process.

    There is one worker per distinct pair and engine setting. Equal models share it; it starts with the
    first call (or with :meth:`warm_up`) and ends when the last model lets go of it: by :meth:`close`, at
    the end of a ``with`` block, or when the model is garbage-collected.

    What the constructor is given is checked at once (pydantic's ``ValidationError``), and keyword
    arguments of a call when it is made (``InvalidRequest``). Both refuse names that they do not know.
    With ``lock_safety=True`` no call can change ``ssd``, ``refusal``, ``enforce`` or ``hold_back``.

    A refusal is a normal answer with ``response_metadata["finish_reason"] == "refusal"``: text for the
    reader, and a block of type "refusal". ``invoke`` returns it alone; in a stream it follows what had
    been released. ``response_metadata["ssd"]`` sums up every response.

    Example:
        .. code-block:: python

            from langchain_ssd import ChatSSD

            with ChatSSD(temperature=0.7, seed=1) as model:
                answer = model.invoke("Why is the sky blue?")
                print(answer.text, answer.response_metadata["ssd"]["match_ratio"])
    """

    # Calls

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request, writer = self._prepare(messages, stop, kwargs)
        return writer.result(list(run(self._backend(), request, self.max_retries)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request, writer = self._prepare(messages, stop, kwargs)
        async with aclosing(arun(await self._abackend(), request, self.max_retries)) as events:
            return writer.result([event async for event in events])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        request, writer = self._prepare(messages, stop, kwargs)
        metadata = Metadata(run_manager)
        with closing(run(self._backend(), request, self.max_retries)) as events:
            for event in events:
                for chunk in writer.write(event):
                    yield metadata.tell(chunk)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        request, writer = self._prepare(messages, stop, kwargs)
        metadata = Metadata(run_manager)
        async with aclosing(arun(await self._abackend(), request, self.max_retries)) as events:
            async for event in events:
                for chunk in writer.write(event):
                    yield await metadata.atell(chunk)

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        try:
            return await super()._agenerate_with_cache(messages, stop, run_manager, **kwargs)
        except asyncio.CancelledError as error:
            # LangChain tells handlers of every end but this one: their runs would stay open for ever.
            if run_manager is not None:
                await run_manager.on_llm_error(error)
            raise

    def _prepare(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> tuple[ChatRequest, ChunkWriter]:
        """Check a call and write it down; nothing has been computed for it yet."""
        given = options if stop is None else {**options, "stop": stop}
        settings = self._settings().override(given, locked=self.lock_safety)
        for text in settings.sampling.stop:
            check_text(text, "a stop string")
        chat, prefill = to_chat(messages)
        use = tool_use(options)
        request = ChatRequest(
            messages=chat,
            prefill=prefill,
            tools=use.tools,
            tool_choice=use.tool_choice,
            parallel_tool_calls=use.parallel_tool_calls,
            constraint=use.constraint,
            sampling=settings.sampling,
            safety=settings.safety,
            refusal=settings.refusal,
            include_thinking=settings.include_thinking,
            timeout=settings.timeout,
        )
        name = model_name(self.target)
        shown = settings.sampling.logprobs, settings.include_thinking
        return request, ChunkWriter(name, *shown, settings.refusal.on_refusal)

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        try:
            return super()._convert_input(model_input)
        except (ValueError, NotImplementedError):  # LangChain's own message quotes the prompt
            raise InvalidRequest(
                "the input cannot be read; give text or a list of system, user, assistant and tool messages"
            ) from None

    def configurable_fields(
        self, **kwargs: AnyConfigurableField
    ) -> RunnableSerializable[LanguageModelInput, Any]:
        """Make fields settable through a run's config; all runs share this model's worker.

        Raises:
            SafetyLocked: this model is locked, and a safety setting is among the fields.
        """
        self._refuse_if_locked(kwargs)
        if self.backend is not None or not _PLACE.isdisjoint(kwargs):
            return super().configurable_fields(**kwargs)
        # LangChain builds the model anew for every run; all of them are to use this model's hold.
        lent = super(ChatFields, self).model_copy(update={"backend": Borrowed(self._backend)})
        return super(ChatSSD, lent).configurable_fields(**kwargs)

    # Tokens

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids by the target's own tokenizer; starts the worker if it does not run yet."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self._backend().token_ids(check_text(text, "the text"))

    def get_num_tokens(self, text: str) -> int:
        """Number of tokens by the target's own tokenizer; starts the worker if it does not run yet."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return self._backend().count_tokens(check_text(text, "the text"))

    # The backend

    def warm_up(self) -> Health:
        """Start the worker if needed, and block until the pair is ready; ``profile`` then knows the context.

        Raises:
            ConfigError: the pair cannot work.
            WorkerError: the worker failed to start.
        """
        health = self._backend().warm_up()
        length = context_length(health)
        if length is not None:
            self.profile = {"max_input_tokens": length, **(self.profile or {})}
        return health

    async def awarm_up(self) -> Health:
        """Like :meth:`warm_up`, without blocking the event loop."""
        return await asyncio.to_thread(self.warm_up)

    def health(self) -> Health:
        """State at this moment; starts nothing and never blocks."""
        backend = self._hold.backend if self.backend is None else self.backend
        return Health("idle") if backend is None else backend.health()

    def close(self) -> None:
        """Let go of the worker; it ends when no other model uses it. Idempotent.

        A later call takes hold of a worker again, and starts one if there is none.
        """
        self._hold.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def _backend(self) -> Backend:
        return self._hold.get(self._take) if self.backend is None else self.backend

    async def _abackend(self) -> Backend:
        # Taking hold reads files the first time; that must not stop the event loop.
        if self.backend is not None or self._hold.backend is not None:
            return self._backend()
        return await asyncio.to_thread(self._backend)

    def _take(self) -> Backend:
        if self.base_url is not None:
            return remote(self.base_url, self.api_key, allow_unprotected=self.allow_unprotected)
        return local(self.target, self.draft, self.engine)
