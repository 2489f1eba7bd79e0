"""What a user may observe: the telemetry schema, versioned. Plain values, no torch, no LangChain.

A response is a stream of events that ends with exactly one :class:`Finished` or :class:`Failed`.
Only :class:`Token` and :class:`Refused` carry text, and a token's event is sent only once its text
has been released by the hold-back rule, so nothing withheld ever leaves the worker.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal

SCHEMA_VERSION = 1

Mode = Literal["utility", "safety"]
FinishReason = Literal["stop", "length", "refusal"]


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
    """One response in numbers. One that is not ``protected`` comes from a model that no SSD watched."""

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
    refusal: dict[str, Any] | None = None
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


KINDS: dict[str, type[Event]] = {
    kind.kind: kind
    for kind in (Queued, PrefillScored, Token, BinScored, ModeChanged, Refused, Finished, Failed)
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
