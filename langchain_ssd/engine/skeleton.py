"""The same conversation and the same tools about nothing: what a template writes by itself.

Texts become letters, equal ones the same and different ones different, as some templates compare messages.
Blank texts, lengths, roles and everything else that templates look at stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LETTERS = "xyzwvutsrq"
_JSON_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null", "function"})
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions"})
# What a template may look at in a tool; every other key is somebody's own text.
_KEYWORDS = frozenset(
    {"type", "function", "name", "description", "parameters", "strict", "return", "properties", "required",
     "items", "enum", "const", "default", "title", "format", "pattern", "minimum", "maximum",
     "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems",
     "uniqueItems", "minProperties", "maxProperties", "additionalProperties", "patternProperties",
     "prefixItems", "anyOf", "oneOf", "allOf", "not", "$ref", "$defs", "definitions", "examples", "nullable"}
)  # fmt: skip


class Skeleton:
    """Makes one conversation about nothing."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._counts: dict[int, int] = {}

    def message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A message: every text in it, and every name of an argument, is somebody's own."""
        out = {k: v if k == "role" else self._value(v) for k, v in message.items() if k != "tool_calls"}
        if "tool_calls" in message:
            out["tool_calls"] = [self._call(call) for call in message["tool_calls"]]
        return out

    def tool(self, tool: Mapping[str, Any]) -> dict[str, Any]:
        """A tool: its texts are its author's own, and so is every key that is no word of JSON Schema."""
        nothing: dict[str, Any] = self._schema("", tool)
        return nothing

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        function = call.get("function", {})
        return {**call, "id": self._value(call.get("id", "")), "function": self._function(function)}

    def _function(self, function: Mapping[str, Any]) -> dict[str, Any]:
        return {key: self._value(value) for key, value in function.items()}

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {f"x{i}": self._value(item) for i, item in enumerate(value.values())}
        return [self._value(item) for item in value] if isinstance(value, list | tuple) else value

    def _schema(self, key: str, value: Any) -> Any:
        if isinstance(value, str):
            return value if key == "type" and value in _JSON_TYPES else self._text(value)
        if isinstance(value, Mapping):
            keep = frozenset() if key in _NAMED else _KEYWORDS
            keys = [name if name in keep else f"x{i}" for i, name in enumerate(value)]
            return {name: self._schema(name, item) for name, item in zip(keys, value.values(), strict=True)}
        return [self._schema(key, item) for item in value] if isinstance(value, list | tuple) else value

    def _text(self, text: str) -> str:
        if not text.strip():
            return text
        if text not in self._known:
            number = self._counts.get(len(text), 0)
            self._counts[len(text)] = number + 1
            self._known[text] = _letters(number, len(text))
        return self._known[text]


def _letters(number: int, length: int) -> str:
    """A number as letters."""
    written = ""
    while number:
        number, letter = divmod(number, len(_LETTERS))
        written += _LETTERS[letter]
    return written[:length].ljust(length, _LETTERS[0])


def skeletons(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A whole conversation and its tools about nothing."""
    skeleton = Skeleton()
    return [skeleton.message(m) for m in messages], [skeleton.tool(t) for t in tools]
