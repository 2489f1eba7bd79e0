"""What an answer has said so far, as all three interfaces need it."""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from langchain_ssd.events import SCHEMA_VERSION, Event, Finished, Refused, Token, ToolCallPart

from .asking import Asked
from .tool_calls import JSON, Calls

_PARAGRAPH = "\n\n"  # between text that was released and the refusal that ends it
_LEAST = -9999.0  # JSON has no infinity; OpenAI's interface says this for "very unlikely"


@dataclass(slots=True)
class Transcript:
    """Gathers one answer.

    Attributes:
        with_stops: the request had stop strings, so that an end by one can be told from the model's own.
        parts: what the last event adds to the calls of a stream.
        appends: a refusal stands behind what had been released, also in a whole answer.
        tells: the answer is to hold telemetry.
    """

    with_stops: bool = False
    appends: bool = False
    tells: bool = False
    shown: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    besides: list[Event] = field(default_factory=list)
    calls: Calls = field(default_factory=Calls)
    parts: list[JSON] = field(default_factory=list)
    refused: Refused | None = None
    finished: Finished | None = None

    def add(self, event: Event) -> str:
        """Take an event in; the text that it adds to a stream.

        Raises:
            ProtocolError: the event is a part of a call that is not open.
        """
        self.parts = self.calls.deltas(event)
        if isinstance(event, Token):
            self.tokens.append(event)
            (self.thinking if event.thinking else self.shown).append(event.text)
            return "" if event.thinking else event.text
        if isinstance(event, Finished):
            self.finished = event
            return ""
        if isinstance(event, ToolCallPart):
            return ""
        self.besides.append(event)
        if isinstance(event, Refused) and event.enforced:
            text = (_PARAGRAPH if any(self.shown) else "") + event.text
            self.refused = event
            self.shown.append(text)
            return text
        return ""

    @property
    def streamed(self) -> str:
        """All text of a stream."""
        return "".join(self.shown)

    @property
    def text(self) -> str:
        """The text of a whole answer: a refusal stands alone, unless the policy is to append it."""
        return self.streamed if self.refused is None or self.appends else self.refused.text

    @classmethod
    def of(cls, asked: Asked) -> Transcript:
        """An empty one for the answer to a request."""
        request = asked.request
        return cls(bool(request.sampling.stop), request.refusal.on_refusal == "append", asked.telemetry)

    @property
    def end(self) -> Finished:
        """The last event; only once the answer is complete."""
        return self.finished or Finished()

    @property
    def native_reason(self) -> str:
        """How it ended, by text-generation-inference's names, of which there is none for a refusal."""
        if self.end.finish_reason == "length":
            return "length"
        # An end token is counted and has no event of its own; what completes a stop string has one.
        by_string = bool(self.tokens) and self.tokens[-1].index == self.end.completion_tokens - 1
        return "stop_sequence" if self.with_stops and self.refused is None and by_string else "eos_token"

    @property
    def openai_reason(self) -> str:
        """How it ended, by OpenAI's names."""
        return self.end.finish_reason if self.refused is None else "content_filter"

    def usage(self) -> dict[str, Any]:
        """Tokens, by OpenAI's names."""
        end = self.end
        usage: dict[str, Any] = {
            "prompt_tokens": end.prompt_tokens,
            "completion_tokens": end.completion_tokens,
            "total_tokens": end.prompt_tokens + end.completion_tokens,
        }
        if end.thinking_tokens:
            usage["completion_tokens_details"] = {"reasoning_tokens": end.thinking_tokens}
        return usage

    def told(self, event: Event) -> JSON:
        """The ``ssd`` field of one chunk, if telemetry was asked for."""
        return {"ssd": event.to_wire()} if self.tells else {}

    def told_whole(self) -> JSON:
        """The ``ssd`` field of a whole answer: its numbers without a word of it."""
        if not self.tells:
            return {}
        events = [event.to_wire() for event in self.besides]
        for event in events:
            event.pop("text", None)
        summary = asdict(self.end.summary)
        return {"ssd": {"schema_version": SCHEMA_VERSION, "summary": summary, "events": events}}

    def headers(self) -> dict[str, str]:
        """The same for clients that look at headers only."""
        if not self.tells:
            return {}
        summary = self.end.summary
        return {
            "x-ssd-finish-reason": self.end.finish_reason,
            "x-ssd-monitor": summary.monitor,
            "x-ssd-enforced": str(summary.enforced).lower(),
            "x-ssd-match-ratio": f"{summary.match_ratio:.4f}",
            "x-ssd-final-mode": summary.final_mode,
            "x-ssd-safety-tokens": str(summary.safety_tokens),
            "x-ssd-mode-changes": str(summary.mode_changes),
        }


def openai_head(kind: str, model: str) -> JSON:
    """What every chunk of an answer repeats in OpenAI's interfaces; ``kind`` begins its id."""
    return {
        "id": f"{kind}-{secrets.token_hex(12)}",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": "langchain-ssd",
    }


def logprob(token: Token) -> float:
    """The log probability that a token was drawn with."""
    return math.log(token.p_composite) if token.p_composite > 0 else _LEAST
