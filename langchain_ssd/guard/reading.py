"""What an answer says about its own safety. Metadata only: no words are read, and blocks are not trusted.

LangChain's third event stream drops refusal blocks, and metadata survives every road; so a refusal is what
the metadata calls one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from langchain_core.messages import AIMessage, BaseMessage

from ..events import Mode

Stop = Literal["refusal", "conversation_risk", "unprotected"]


class CallRisk(TypedDict):
    """How one tool call was decoded."""

    mode: Mode
    match_ratio: float | None


class Summary(TypedDict):
    """The numbers of a response that a guard reads."""

    emitted: int
    scored: int
    match_ratio: float
    safety_tokens: int


def summary_of(message: BaseMessage) -> Summary | None:
    """The numbers of a response, or ``None`` if no SSD protected it or they make no sense."""
    ssd = _ssd(message)
    if ssd.get("protected") is False:  # of a server that has no SSD
        return None
    try:
        summary = Summary(
            emitted=int(ssd["emitted"]),
            scored=int(ssd["scored"]),
            match_ratio=float(ssd["match_ratio"]),
            safety_tokens=int(ssd["safety_tokens"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
    sane = 0 <= summary["safety_tokens"] <= summary["emitted"] and summary["scored"] >= 0
    return summary if sane and 0 <= summary["match_ratio"] <= 1 else None


def is_refusal(message: BaseMessage) -> bool:
    """Whether SSD withheld this answer. One that was only reported (shadow mode) is none."""
    refusal = _ssd(message).get("refusal")
    enforced = isinstance(refusal, Mapping) and refusal.get("enforced") is not False
    return enforced or message.response_metadata.get("finish_reason") == "refusal"


def why_refused(message: BaseMessage) -> dict[str, str]:
    """Category, reason and language of a refusal; names, never words of the conversation."""
    refusal = _ssd(message).get("refusal")
    known = refusal if isinstance(refusal, Mapping) else {}
    return {name: str(known.get(name) or "") for name in ("category", "reason", "language")}


def call_risks(message: AIMessage) -> dict[str, CallRisk]:
    """How each tool call of an answer was decoded, by its id.

    Where calls are not rated one by one, all share the answer's: safety mode if any token was. What is not
    known counts as safety mode.
    """
    rated = _ssd(message).get("tool_calls")
    ids = [str(call["id"]) for call in message.tool_calls if call["id"]]
    if not isinstance(rated, Sequence) or isinstance(rated, str):
        mode: Mode = "utility" if _calm(message) else "safety"
        return {call_id: CallRisk(mode=mode, match_ratio=None) for call_id in ids}
    known = {str(one.get("id")): one for one in rated if isinstance(one, Mapping)}
    return {call_id: _rating(known.get(call_id, {})) for call_id in ids}


def _rating(rated: Mapping[str, Any]) -> CallRisk:
    ratio = rated.get("match_ratio")
    mode: Mode = "utility" if rated.get("mode") == "utility" else "safety"
    return CallRisk(mode=mode, match_ratio=float(ratio) if isinstance(ratio, int | float) else None)


def _calm(message: AIMessage) -> bool:
    summary = summary_of(message)
    trace = message.response_metadata.get("ssd_trace") or []
    alarmed = any(isinstance(token, Mapping) and token.get("mode") != "utility" for token in trace)
    return summary is not None and summary["safety_tokens"] == 0 and not alarmed


def _ssd(message: BaseMessage) -> Mapping[str, Any]:
    ssd = message.response_metadata.get("ssd")
    return ssd if isinstance(ssd, Mapping) else {}
