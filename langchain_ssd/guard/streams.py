"""A guarded stream: chunks pass as they come, and the guard steps in at the first sign of a refusal.

What had passed before cannot be unsaid. A stream of a model that is no SSD model ends with an error before
its first word, for the chunks of an SSD model carry the trace of their tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessageChunk

from ..errors import UnprotectedAnswer
from .policy import ChainPolicy, refused
from .reading import is_refusal, summary_of, why_refused

_PARAGRAPH = "\n\n"  # between text that was released and what is said in place of the refusal
_SIGNS = ("ssd_trace", "ssd_events", "ssd")
_NOTHING: dict[str, Any] = {
    "tool_calls": [],
    "invalid_tool_calls": [],
    "tool_call_chunks": [],
    "additional_kwargs": {},
}


@dataclass(slots=True)
class StreamGuard:
    """Watches one stream.

    Attributes:
        policy: what happens to refusals.
        protected: the numbers of an SSD model have been seen.
    """

    policy: ChainPolicy
    protected: bool = False
    _vouched: bool = False  # by any sign of SSD so far: parts of calls carry none of their own
    _spoken: bool = False
    _refused: bool = False

    def take(self, chunk: AIMessageChunk) -> AIMessageChunk | None:
        """What goes on of a chunk, if anything.

        Raises:
            RequestRefused: here the refusal begins, and the policy is to raise.
            UnprotectedAnswer: the chunk has words and no sign of SSD, or a part of a call and there was
                none before it, or it says that there is none.
        """
        metadata = chunk.response_metadata
        signed = _signed(metadata)
        self._vouched |= signed
        bare = (chunk.text and not signed) or (chunk.tool_call_chunks and not self._vouched)
        if self.policy.require_ssd and (bare or _denied(metadata)):
            raise unprotected()
        self.protected |= summary_of(chunk) is not None
        reason = None if self._refused else _refused_for(chunk)
        if reason is not None:
            self._refused = True
            return self._first(chunk, reason)
        self._spoken |= bool(chunk.text)
        if not self._refused or self.policy.on_refusal == "return":
            return chunk
        # The refusal's block goes; the last chunk, with the numbers of the response, stays.
        return chunk.model_copy(update={"content": ""}) if metadata or chunk.usage_metadata else None

    def end(self) -> None:
        """The stream is over.

        Raises:
            UnprotectedAnswer: it did not end as an SSD model's does.
        """
        if self.policy.require_ssd and not self.protected:
            raise unprotected()

    def _first(self, chunk: AIMessageChunk, reason: str) -> AIMessageChunk:
        if self.policy.on_refusal == "raise":
            raise refused(reason)
        if self.policy.on_refusal == "return":
            return chunk
        words = (_PARAGRAPH if self._spoken else "") + str(self.policy.replacement)
        return chunk.model_copy(update={"content": words, **_NOTHING})


def _signed(metadata: Mapping[str, Any]) -> bool:
    return any(sign in metadata for sign in _SIGNS)


def _denied(metadata: Mapping[str, Any]) -> bool:
    """Whether the answer says of itself, in its first event or its numbers, that no SSD watches it."""
    told = [*(metadata.get("ssd_events") or ()), metadata.get("ssd")]
    return any(isinstance(one, Mapping) and one.get("protected") is False for one in told)


def _refused_for(chunk: AIMessageChunk) -> str | None:
    """Why the answer is refused, if the chunk is the first to say so."""
    for event in chunk.response_metadata.get("ssd_events") or ():
        if isinstance(event, Mapping) and event.get("kind") == "refused":
            return None if event.get("enforced") is False else str(event.get("reason"))
    return why_refused(chunk)["reason"] if is_refusal(chunk) else None


def unprotected() -> UnprotectedAnswer:
    """The error for an answer without SSD's metadata."""
    return UnprotectedAnswer("an answer does not come from SSD; guard SSD models only, fallbacks too")
