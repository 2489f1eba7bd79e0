"""Tool calls that were decoded in safety mode: whether they run. Asked when a call is about to run.

That is the one place every call passes, whatever other middleware did before. What comes back is always one
tool message, so the history stays valid for the next model call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain.agents.middleware import ToolCallRequest
from langchain_core.messages import ToolMessage

from .asking import ask_call
from .reading import CallRisk
from .settings import GuardSettings

_UNKNOWN = CallRisk(mode="safety", match_ratio=None)
_BLOCKED = (
    "This call was not executed: the safety monitor was alarmed while it was written. "
    "Do not repeat it; answer without it."
)
_REJECTED = "A human reviewer rejected this call. It was not executed; do not repeat it."


def stopped_call(settings: GuardSettings, request: ToolCallRequest) -> ToolMessage | None:
    """What the model is told in place of a call's result, or ``None`` if the call may run.

    May interrupt the run to ask a human.
    """
    call = request.tool_call
    policy = settings.policy_of(call["name"])
    if policy == "allow":
        return None
    risk = _risk_of(request.state, call["id"])
    if risk["mode"] == "utility":
        return None
    if policy == "block":
        return _instead(call, _BLOCKED)
    approved, words = ask_call(call, risk)
    return None if approved else _instead(call, f"{_REJECTED} They said: {words}" if words else _REJECTED)


def _risk_of(state: Any, call_id: str | None) -> CallRisk:
    """How a call was decoded, from the guard's own notes; a call that it has not seen is a risky one."""
    notes = state.get("ssd_guard") if isinstance(state, Mapping) else None
    risk: CallRisk = (notes or {}).get("calls", {}).get(call_id, _UNKNOWN)
    return risk


def _instead(call: Mapping[str, Any], text: str) -> ToolMessage:
    return ToolMessage(text, name=call["name"], tool_call_id=call["id"], status="error")
