"""An answer taken back, in place: the same id, new words, and nothing of the old ones anywhere in it.

A message of another id would stand beside the first one in an agent's state, and stay in its checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from ..refusal_text import FALLBACK, TEXTS
from .reading import why_refused

# Numbers and names. Everything else of the metadata may quote the answer: log probabilities spell it out.
_KEPT = ("finish_reason", "model_name", "model_provider", "ssd", "ssd_events", "ssd_trace")
WITHHELD = "This answer was withheld, because it does not come from a protected model."


def replaced(message: AIMessage, text: str) -> AIMessage:
    """The message with other words, marked as a refusal: no tool calls, no reasoning, no old text."""
    metadata = {name: message.response_metadata[name] for name in _KEPT if name in message.response_metadata}
    ssd = metadata.get("ssd")
    if isinstance(ssd, Mapping):
        metadata["ssd"] = {name: value for name, value in ssd.items() if name != "tool_calls"}
    return message.model_copy(
        update={
            "content": text,
            "additional_kwargs": {},
            "response_metadata": {**metadata, "finish_reason": "refusal"},
            "tool_calls": [],
            "invalid_tool_calls": [],
        }
    )


def refusal_words(message: BaseMessage) -> str:
    """The refusal's own words, without the text that a stream had released before them.

    They are in the refusal's block; where that was lost on the way, the built-in text stands in.
    """
    blocks = message.content if isinstance(message.content, list) else []
    for block in map(_unwrapped, blocks):
        if block.get("type") == "refusal" and isinstance(block.get("refusal"), str):
            return str(block["refusal"])
    language = why_refused(message)["language"].lower().split("-")[0]
    return TEXTS.get(language, TEXTS[FALLBACK])


def marked(message: AIMessage) -> AIMessage:
    """The same words with a refusal block beside them, where standard readers look for one."""
    why = why_refused(message)
    extras = {name: why[name] for name in ("category", "reason")}
    block: dict[str, Any] = {"type": "refusal", "refusal": message.text, "extras": extras}
    return message.model_copy(update={"content": [{"type": "text", "text": message.text}, block]})


def _unwrapped(block: Any) -> Mapping[str, Any]:
    value = block.get("value") if isinstance(block, Mapping) else None
    return value if isinstance(value, Mapping) else block if isinstance(block, Mapping) else {}
