"""Results of tools, scored before the model reads them, by the evidence of the pair itself.

A result that is to be asked about is withheld when the tool has run, and asked about in a step of its own:
LangGraph repeats a step that was interrupted, and a tool must not run twice. Until an answer comes, and if
none ever comes, all that the model could read is that the result is withheld.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langgraph.types import Command

from ..errors import ConfigError
from .asking import ask_result
from .scoring import TextScore
from .settings import GuardSettings

_NOTE = "ssd_guard"  # among the message's additional arguments
_BLOCKED = "The result of this tool was withheld: it looks as if it held instructions of somebody else."
_WAITING = "The result of this tool is withheld until somebody has looked at it."
Result = ToolMessage | Command[Any]


@dataclass(frozen=True, slots=True)
class ResultGuard:
    """What happens to results that alarm."""

    settings: GuardSettings

    def texts(self, result: Result) -> list[str]:
        """The texts of a result that the model would read."""
        return [str(message.text) for message in _messages(result)]

    def judged(self, result: Result, scores: Sequence[TextScore]) -> Result:
        """The result as it may go on; ``scores`` belong to its texts, in order.

        Raises:
            ConfigError: the scores have no statistic, so nothing could ever alarm.
        """
        left = iter(scores)
        return _mapped(result, lambda message: self._judged(message, next(left)))

    def _judged(self, message: ToolMessage, score: TextScore) -> ToolMessage:
        if not self._alarms(score):
            return message
        note: dict[str, Any] = {
            "mode": score.mode,
            "statistic": score.statistic,
            "match_ratio": score.match_ratio,
        }
        if self.settings.on_injection == "flag":
            return _noted(message, {"score": note})
        if self.settings.on_injection == "block":
            return _noted(message, {"score": note}, _BLOCKED, status="error", artifact=None)
        return _noted(message, {"score": note, "withheld": message.content}, _WAITING)

    def _alarms(self, score: TextScore) -> bool:
        if score.windows and score.statistic is None:
            raise ConfigError(
                "the scorer's monitor has no statistic, so no result could alarm; use the sequential monitor"
            )
        threshold = self.settings.injection_threshold
        if threshold is None:
            return score.mode == "safety"
        return (score.statistic or 0.0) >= threshold


def asked(messages: Sequence[AnyMessage]) -> list[ToolMessage]:
    """Ask about every result that is withheld since the last answer; returns them with what was decided."""
    return [_decided(message) for message in _newest(messages) if "withheld" in _note(message)]


def _decided(message: ToolMessage) -> ToolMessage:
    note = _note(message)
    content, score = note["withheld"], note["score"]
    rest = {_NOTE: {"score": score}}
    kept = {name: value for name, value in message.additional_kwargs.items() if name != _NOTE}
    if ask_result(message.name, message.tool_call_id, content, score):
        return message.model_copy(update={"content": content, "additional_kwargs": {**kept, **rest}})
    update = {"content": _BLOCKED, "status": "error", "artifact": None}
    return message.model_copy(update={**update, "additional_kwargs": {**kept, **rest}})


def _noted(message: ToolMessage, note: dict[str, Any], text: str | None = None, **update: Any) -> ToolMessage:
    words = {} if text is None else {"content": text}
    kwargs = {**message.additional_kwargs, _NOTE: note}
    return message.model_copy(update={**words, **update, "additional_kwargs": kwargs})


def _note(message: ToolMessage) -> dict[str, Any]:
    note = message.additional_kwargs.get(_NOTE)
    return note if isinstance(note, dict) else {}


def _newest(messages: Sequence[AnyMessage]) -> list[ToolMessage]:
    last = max((i for i, message in enumerate(messages) if isinstance(message, AIMessage)), default=-1)
    return [message for message in messages[last + 1 :] if isinstance(message, ToolMessage)]


def _messages(result: Result) -> list[ToolMessage]:
    found: list[ToolMessage] = []

    def note(message: ToolMessage) -> ToolMessage:
        found.append(message)
        return message

    _mapped(result, note)
    return found


def _mapped(result: Result, change: Callable[[ToolMessage], ToolMessage]) -> Result:
    """The result with its tool messages changed, also those that a command would write."""
    if isinstance(result, ToolMessage):
        return change(result)
    update = result.update
    if isinstance(update, dict) and "messages" in update:
        update = {**update, "messages": _changed(update["messages"], change)}
    elif isinstance(update, list | tuple):
        update = [(key, _changed(value, change) if key == "messages" else value) for key, value in update]
    return replace(result, update=update)


def _changed(messages: Any, change: Callable[[ToolMessage], ToolMessage]) -> Any:
    if isinstance(messages, list | tuple):
        return [change(m) if isinstance(m, ToolMessage) else m for m in messages]
    return change(messages) if isinstance(messages, ToolMessage) else messages
