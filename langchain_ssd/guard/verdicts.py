"""What the guard makes of a model's answer, and the notes it keeps of it in the agent's state. Pure values.

The verdict is reached inside the model call, where the answer has not been written to the state yet, and it
is carried out in a step after it, outside of every retry and fallback.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict
from uuid import uuid4

from langchain_core.messages import AIMessage

from .reading import CallRisk, Stop, call_risks, is_refusal, summary_of, why_refused
from .replacing import WITHHELD, refusal_words, replaced
from .risk import answer_score, next_risk
from .settings import GuardSettings


class GuardNotes(TypedDict):
    """What the guard keeps of a conversation: numbers and names, checkpointed with the thread.

    Attributes:
        message: id of the answer that was judged last.
        stop: why it must not stand, if so.
        why: category, reason and language of a refusal.
        risk: of the conversation so far.
        score: of that answer alone.
        answers: how many have been judged.
        calls: how each of its tool calls was decoded, by id.
    """

    message: str
    stop: Stop | None
    why: dict[str, str]
    risk: float
    score: float
    answers: int
    calls: dict[str, CallRisk]


def risk_of(notes: Mapping[str, Any] | None) -> float:
    """The risk of the conversation so far; 0 before the first answer."""
    return float(notes["risk"]) if notes else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard makes of one answer.

    Attributes:
        answer: as it may enter the state.
        stands: whether that is the model's own.
        notes: what is kept of it.
    """

    answer: AIMessage
    stands: bool
    notes: GuardNotes


def judge(settings: GuardSettings, message: AIMessage, notes: GuardNotes | None) -> Verdict:
    """Judge one answer."""
    if message.id is None:  # to be replaced or told apart later, it needs one
        message = message.model_copy(update={"id": str(uuid4())})
    refused, summary = is_refusal(message), summary_of(message)
    risk, score = risk_of(notes), 0.0
    if summary is not None or refused:
        score = answer_score(summary, refused)
        risk = next_risk(risk, score, settings.decay)
    stop = _stop(settings, refused, summary is not None, risk)
    words = _instead(settings, message, stop)
    answer = message if words is None else replaced(message, words)
    kept = GuardNotes(
        message=str(message.id),
        stop=stop,
        why=why_refused(message),
        risk=risk,
        score=score,
        answers=(notes["answers"] if notes else 0) + 1,
        calls=call_risks(answer),
    )
    return Verdict(answer, words is None, kept)


def _stop(settings: GuardSettings, refused: bool, protected: bool, risk: float) -> Stop | None:
    if not protected and settings.require_ssd:
        return "unprotected"
    if refused:
        return "refusal"
    return "conversation_risk" if over_limit(settings, risk) else None


def over_limit(settings: GuardSettings, risk: float) -> bool:
    """Whether a conversation's risk has passed its limit."""
    return settings.max_conversation_risk is not None and risk > settings.max_conversation_risk


def _instead(settings: GuardSettings, message: AIMessage, stop: Stop | None) -> str | None:
    """What is said in place of an answer; ``None`` if it stands, also until a human has decided."""
    if stop == "refusal":
        return settings.refusal_text or refusal_words(message)
    if stop == "unprotected":
        return WITHHELD
    asked = settings.on_conversation_risk == "ask"
    return settings.risk_text if stop == "conversation_risk" and not asked else None
