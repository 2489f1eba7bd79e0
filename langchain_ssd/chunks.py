"""Events → LangChain: chunks for a stream, one result for a call. Both say the same.

LangChain merges the metadata of chunks (strings concatenate, unequal floats raise), so what is said
once rides on the one last chunk, and what is said per token or event is a one-element list of a
dictionary without a key named ``index``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import log
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import OutputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from .call_chunks import CallChunks
from .config import OnRefusal
from .errors import RequestRefused
from .events import (
    SCHEMA_VERSION,
    BinScored,
    Event,
    Finished,
    ModeChanged,
    PrefillScored,
    Queued,
    Refused,
    Token,
    ToolCallPart,
)

PROVIDER = "langchain-ssd"
_BESIDES = (BinScored, ModeChanged, PrefillScored, Refused)
_WORDS = frozenset({"text", "token_id", "index", "thinking"})
_NUMBERS = tuple(f.name for f in fields(Token) if f.name not in _WORDS)
_PARAGRAPH = "\n\n"  # between text that was released and the refusal that ends it


@dataclass(slots=True)
class ChunkWriter:
    """Writes one response as chunks.

    Attributes:
        model_name: reported in ``response_metadata``.
        logprobs: report the log probability of every shown token.
        include_thinking: show the thinking part, as ``additional_kwargs["reasoning_content"]``.
        on_refusal: see :class:`~langchain_ssd.config.RefusalPolicy`.
    """

    model_name: str
    logprobs: bool = False
    include_thinking: bool = False
    on_refusal: OnRefusal = "replace"
    _released: bool = False
    _verdict: Refused | None = None
    _calls: CallChunks = field(default_factory=CallChunks)
    _queued: list[dict[str, Any]] = field(default_factory=list)
    _written: list[ChatGenerationChunk] = field(default_factory=list)

    def write(self, event: Event) -> Iterator[ChatGenerationChunk]:
        """The chunks that carry one event: none, one, or a few for a refusal.

        Raises:
            RequestRefused: at the end of a refused response, if the policy says so.
        """
        if isinstance(event, Queued):
            # A chunk of its own would be taken for the first token by whoever times that.
            self._queued = [_plain(event)]
            return
        for chunk in self._write(event):
            if self._queued:
                info = chunk.generation_info or {}
                chunk.generation_info = {**info, "ssd_events": self._queued + info.get("ssd_events", [])}
                self._queued = []
            if self.on_refusal == "raise":
                self._written.append(chunk)
            yield chunk

    def _write(self, event: Event) -> Iterator[ChatGenerationChunk]:
        if isinstance(event, Token):
            yield self._token(event)
        elif isinstance(event, ToolCallPart):
            yield ChatGenerationChunk(message=self._calls.part(event))
        elif isinstance(event, Refused):
            yield from self._refusal(event)
        elif isinstance(event, _BESIDES):
            yield _chunk("", {"ssd_events": [_plain(event)]})
        elif isinstance(event, Finished):
            if self._raises:
                raise self._refused(event)
            message = AIMessageChunk(content="", usage_metadata=self._usage(event), chunk_position="last")
            yield ChatGenerationChunk(message=message, generation_info=self._final(event))

    def result(self, events: Sequence[Event]) -> ChatResult:
        """One whole response. A refusal stands alone, unless the policy says otherwise.

        Raises:
            RequestRefused: for a refusal, if the policy says so.
        """
        chunks = [chunk for event in events for chunk in self.write(event)]
        info = gather(chunks)
        thinking = "".join(chunk.message.additional_kwargs.get("reasoning_content", "") for chunk in chunks)
        content: str | list[str | dict[Any, Any]] = "".join(chunk.text for chunk in chunks)
        if self._verdict is not None and self._verdict.enforced:
            said = content if self.on_refusal == "append" else self._verdict.text
            content = [{"type": "text", "text": said}, _refusal_block(self._verdict)]
            thinking = ""
            info.pop("logprobs", None)  # they spell out the words that the refusal replaces
        message = AIMessage(
            content=content,
            tool_calls=self._calls.valid(),
            invalid_tool_calls=self._calls.invalid(),
            additional_kwargs={"reasoning_content": thinking} if thinking else {},
            usage_metadata=self._usage(events[-1]) if isinstance(events[-1], Finished) else None,
        )
        return ChatResult(generations=[ChatGeneration(message=message, generation_info=info)])

    def _token(self, token: Token) -> ChatGenerationChunk:
        shown = self.include_thinking or not token.thinking
        text = token.text if shown else ""
        self._released |= bool(text) and not token.thinking
        info: dict[str, Any] = {"ssd_trace": [_trace(token, len(text))]}
        if self.logprobs and shown:
            info["logprobs"] = {"content": [{"token": token.text, "logprob": _log(token.p_composite)}]}
        if not token.thinking:
            return _chunk(text, info)
        return _chunk("", info, {"reasoning_content": text} if text else {})

    def _refusal(self, event: Refused) -> Iterator[ChatGenerationChunk]:
        """The words as plain text, for those who print text, then the block that marks them."""
        self._verdict = event
        info = {"ssd_events": [_plain(event)]}
        if not event.enforced or self._raises:  # in shadow mode nothing is withheld, so nothing is said
            yield _chunk("", info)
            return
        withdrawn = self._calls.withdraw()
        if withdrawn is not None:
            yield ChatGenerationChunk(message=withdrawn)
        yield _chunk((_PARAGRAPH if self._released else "") + event.text, info)
        yield ChatGenerationChunk(message=AIMessageChunk(content=[_refusal_block(event)]))

    @property
    def _raises(self) -> bool:
        return self.on_refusal == "raise" and self._verdict is not None and self._verdict.enforced

    def _refused(self, event: Finished) -> RequestRefused:
        """The error in place of the end. It carries what a finished response would report."""
        verdict = self._verdict or Refused()
        error = RequestRefused(
            f"the response was refused ({verdict.reason}); catch RequestRefused and show its .text"
        )
        error.text, error.reason, error.category = verdict.text, verdict.reason, verdict.category
        error.response_metadata = {**gather(self._written), **self._final(event)}
        error.response_metadata.pop("logprobs", None)
        error.usage = dict(self._usage(event))
        return error

    def _final(self, event: Finished) -> dict[str, Any]:
        summary: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **asdict(event.summary)}
        if self._verdict is not None:
            summary["refusal"] = {**(summary["refusal"] or {}), **_why(self._verdict)}
        return {
            "model_name": self.model_name,
            "model_provider": PROVIDER,
            "finish_reason": event.finish_reason,
            "ssd": summary,
        }

    def _usage(self, event: Finished) -> UsageMetadata:
        usage = UsageMetadata(
            input_tokens=event.prompt_tokens,
            output_tokens=event.completion_tokens,
            total_tokens=event.prompt_tokens + event.completion_tokens,
        )
        if self.include_thinking:
            usage["output_token_details"] = OutputTokenDetails(reasoning=event.thinking_tokens)
        return usage


def _chunk(
    text: str, info: dict[str, Any], additional_kwargs: dict[str, Any] | None = None
) -> ChatGenerationChunk:
    message = AIMessageChunk(content=text, additional_kwargs=additional_kwargs or {})
    return ChatGenerationChunk(message=message, generation_info=info)


def gather(chunks: Sequence[ChatGenerationChunk]) -> dict[str, Any]:
    """The metadata of all chunks as LangChain would merge it, in linear time."""
    info: dict[str, Any] = {}
    for key, value in (item for chunk in chunks for item in (chunk.generation_info or {}).items()):
        if isinstance(value, list):
            info.setdefault(key, []).extend(value)
        elif key == "logprobs":
            info.setdefault(key, {"content": []})["content"].extend(value["content"])
        else:
            info[key] = value
    return info


def _trace(token: Token, characters: int) -> dict[str, Any]:
    """One token in numbers. ``characters`` says how much of the text it is; the words stay out."""
    numbers = {name: getattr(token, name) for name in _NUMBERS}
    return {"position": token.index, "characters": characters, "thinking": token.thinking, **numbers}


def _plain(event: Event) -> dict[str, Any]:
    wire = event.to_wire()
    wire.pop("text", None)
    if "index" in wire:
        wire["number"] = wire.pop("index")
    return wire


def _log(probability: float) -> float:
    # JSON has no infinity; this is what OpenAI's interface reports for "very unlikely".
    return log(probability) if probability > 0 else -9999.0


def _why(event: Refused) -> dict[str, Any]:
    return {
        "category": event.category,
        "reason": event.reason,
        "language": event.language,
        "position": event.position,
        "enforced": event.enforced,
    }


def _refusal_block(event: Refused) -> dict[str, Any]:
    extras = {"category": event.category, "reason": event.reason}
    return {"type": "refusal", "refusal": event.text, "extras": extras}
