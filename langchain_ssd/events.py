"""What a user may observe: the telemetry schema, versioned. Plain values, no torch, no LangChain.

A response is a stream of events that ends with exactly one :class:`Finished` or :class:`Failed`.
Only :class:`Token`, :class:`ToolCallPart` and :class:`Refused` carry text, and the first two are sent only
once their text has been released by the hold-back rule, so nothing withheld ever leaves the worker.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal

from .errors import SSDError

SCHEMA_VERSION = 2

Mode = Literal["utility", "safety"]
FinishReason = Literal["stop", "length", "refusal", "tool_calls"]
CallState = Literal["open", "complete", "broken"]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events; ``kind`` names the class on the wire."""

    kind: ClassVar[str] = "event"

    def to_wire(self) -> dict[str, Any]:
        """The event as a JSON object."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Queued(Event):
    """The request was valid and waits for a place in the batch; not ``protected``: nothing will watch it."""

    kind: ClassVar[str] = "queued"
    prompt_tokens: int = 0
    draft_prompt_tokens: int = 0
    prefill_tokens: int = 0
    protected: bool = True


@dataclass(frozen=True, slots=True)
class PrefillScored(Event):
    """The positions of a prefilled answer were scored before the first new token."""

    kind: ClassVar[str] = "prefill_scored"
    tokens: int = 0
    match_ratio: float = 1.0
    statistic: float | None = None
    mode: Mode = "utility"


@dataclass(frozen=True, slots=True)
class Token(Event):
    """One released token; entropies and divergences in nats.

    ``p_target`` and ``p_draft`` are at temperature 1, ``p_composite`` is what the token was drawn with.
    ``scored`` is false where a grammar left no choice: such a token says nothing about the risk. ``text`` is
    the answer's own: a token that is part of a call to a tool has none.
    """

    kind: ClassVar[str] = "token"
    index: int = 0
    token_id: int = 0
    text: str = ""
    thinking: bool = False
    mode: Mode = "utility"
    agreement: bool = True
    accepted: bool = True
    p_target: float = 0.0
    p_draft: float = 0.0
    p_composite: float = 0.0
    kl: float = 0.0
    total_variation: float = 0.0
    entropy_target: float = 0.0
    entropy_draft: float = 0.0
    statistic: float | None = None
    scored: bool = True
    refusal_gain: float = 0.0


@dataclass(frozen=True, slots=True)
class ToolCallPart(Event):
    """A slice of a call to a tool, released as its tokens are.

    Attributes:
        call: which call of the answer, from 0.
        call_id: what the tool's result will refer to; in the first part of a call only.
        name: of the tool; in the first part only, and empty if the model wrote none.
        arguments: the next slice of the arguments, which join to a JSON object.
        state: "open" while more may come; "complete", or "broken" if the arguments are no JSON object.
    """

    kind: ClassVar[str] = "tool_call_part"
    call: int = 0
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    state: CallState = "open"


@dataclass(frozen=True, slots=True)
class BinScored(Event):
    """One bin of emitted tokens was judged (also reported for the sequential monitor)."""

    kind: ClassVar[str] = "bin_scored"
    index: int = 0
    match_ratio: float = 1.0
    acceptance: float = 1.0
    threshold: float | None = None
    mode: Mode = "utility"
    verdict: Mode = "utility"


@dataclass(frozen=True, slots=True)
class ModeChanged(Event):
    """Decoding switched scheme; ``position`` is the first token under the new mode."""

    kind: ClassVar[str] = "mode_changed"
    position: int = 0
    mode: Mode = "utility"
    statistic: float | None = None


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """The refusal question was settled against the request. ``enforced`` is false in shadow mode."""

    kind: ClassVar[str] = "refused"
    position: int = 0
    reason: str = "low_match_ratio"
    category: str = "suspected_jailbreak"
    language: str = "en"
    text: str = ""
    enforced: bool = True


@dataclass(frozen=True, slots=True)
class Summary:
    """One response in numbers. One that is not ``protected`` comes from a model that no SSD watched.

    ``scored`` counts the tokens that somebody had a choice about, and ``accepted`` and ``drafted`` only such
    tokens. ``declined``: the answer took the refusal in words that its grammar allows.
    ``tool_calls`` has one object a call: its ``id``, its ``name`` (``None`` if no such tool was offered), and
    how its tokens were decoded: ``mode`` is "safety" if any of them was, ``match_ratio`` is theirs alone.
    """

    monitor: str = "paper"
    calibrated: bool = False
    enforced: bool = True
    emitted: int = 0
    scored: int = 0
    agreeing: int = 0
    match_ratio: float = 1.0
    drafted: int = 0
    accepted: int = 0
    acceptance_rate: float = 1.0
    target_passes: int = 0
    draft_passes: int = 0
    mode_changes: int = 0
    safety_tokens: int = 0
    final_mode: Mode = "utility"
    statistic: float | None = None
    max_statistic: float | None = None
    prefill_tokens: int = 0
    seed: int = 0
    declined: bool = False
    refusal: dict[str, Any] | None = None
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    time_to_first_token: float | None = None
    queue_seconds: float | None = None
    seconds: float | None = None
    protected: bool = True


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """The response is complete."""

    kind: ClassVar[str] = "finished"
    finish_reason: FinishReason = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    thinking_tokens: int = 0
    summary: Summary = field(default_factory=Summary)


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The response will not be completed; ``code`` names a class of :mod:`langchain_ssd.errors`.

    ``retry_after`` is how many seconds the backend asks to wait before another attempt, if it asks.
    """

    kind: ClassVar[str] = "failed"
    code: str = "ssd_error"
    message: str = ""
    retry_after: float | None = None

    @classmethod
    def of(cls, error: SSDError) -> Failed:
        """The event that ends a response with an error."""
        return cls(code=error.code, message=error.message, retry_after=error.retry_after)


KINDS: dict[str, type[Event]] = {
    kind.kind: kind
    for kind in (
        Queued,
        PrefillScored,
        Token,
        ToolCallPart,
        BinScored,
        ModeChanged,
        Refused,
        Finished,
        Failed,
    )
}


def event_from_wire(wire: dict[str, Any]) -> Event:
    """Rebuild an event from :meth:`Event.to_wire`.

    Raises:
        KeyError: for an unknown kind.
        TypeError: for unknown fields.
    """
    values = dict(wire)
    kind = KINDS[values.pop("kind")]
    if kind is Finished:
        values["summary"] = Summary(**values["summary"])
    unknown = values.keys() - {f.name for f in fields(kind)}
    if unknown:
        raise TypeError(f"unknown fields in event {kind.kind}")
    return kind(**values)
