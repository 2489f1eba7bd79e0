"""Questions to a human, through LangGraph interrupts: what is asked, and how answers are read.

Whatever is no clear approval is a rejection: a typing error in an answer must not let anything through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.types import interrupt

from .reading import CallRisk


def ask_refusal(why: Mapping[str, str]) -> str | None:
    """Ask what to say in place of a refusal; ``None`` if the refusal stands."""
    decision = interrupt({"type": "ssd_refusal", **why, "decisions": ["accept", "respond"]})
    return message_of(decision) if kind_of(decision) == "respond" else None


def ask_risk(risk: float, limit: float) -> bool:
    """Ask whether a conversation may go on."""
    question = {"type": "ssd_conversation_risk", "risk": risk, "limit": limit}
    return kind_of(interrupt({**question, "decisions": ["approve", "reject"]})) == "approve"


def ask_call(call: Mapping[str, Any], risk: CallRisk) -> tuple[bool, str | None]:
    """Ask whether a tool call may run; also returns the reviewer's words. They see the call's arguments."""
    question = {"type": "ssd_tool_call", "tool_call_id": call["id"], "name": call["name"], **risk}
    question |= {"args": call["args"], "decisions": ["approve", "reject"]}
    decision = interrupt(question)
    return kind_of(decision) == "approve", message_of(decision)


def ask_result(name: str | None, call_id: str, content: Any, score: Mapping[str, Any]) -> bool:
    """Ask whether the model may read a tool's result. The reviewer sees the result."""
    question = {"type": "ssd_tool_result", "tool_call_id": call_id, "name": name, "content": content}
    return kind_of(interrupt({**question, **score, "decisions": ["approve", "reject"]})) == "approve"


def kind_of(decision: Any) -> str:
    """The kind of a decision such as ``{"type": "approve"}``; a bare name will do."""
    kind = decision.get("type") if isinstance(decision, Mapping) else decision
    return kind if isinstance(kind, str) else ""


def message_of(decision: Any) -> str | None:
    """The words of a decision, if it has some."""
    message = decision.get("message") if isinstance(decision, Mapping) else None
    return message if isinstance(message, str) and message.strip() else None
