"""The format of Hermes and Qwen: ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .base import Call, CallParser, Mark, ToolFormat, element_json, object_rule, quote
from .parsing import MarkedParser

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


class HermesFormat(ToolFormat):
    """One element a call."""

    name = "hermes"
    opener = _OPEN
    markers = (_OPEN, _CLOSE)

    def recognises(self, template: str) -> bool:
        """By the element, with JSON in it (others have the element too, but no JSON)."""
        plain = template.replace('\\"', '"')
        return _OPEN in plain and '"name"' in plain and '"arguments"' in plain

    def how_to_call(self) -> str:
        """The words these models were trained with."""
        return (
            "For each function call, return a JSON object with the function's name and arguments within "
            f"{_OPEN}{_CLOSE}:\n"
            f'{_OPEN}\n{{"name": <function-name>, "arguments": <args-json-object>}}\n{_CLOSE}'
        )

    def render_calls(self, calls: Sequence[Call]) -> str:
        """One element a call."""
        bodies = (element_json({"name": call.name, "arguments": call.arguments}) for call in calls)
        return "\n".join(f"{_OPEN}\n{body}\n{_CLOSE}" for body in bodies)

    def parser(self, names: Collection[str]) -> CallParser:
        """Finds elements anywhere in the answer."""
        return MarkedParser(_OPEN, _CLOSE)

    def call_grammar(self, name: str, arguments: str, mark: Mark) -> str:
        """The object of one element."""
        return object_rule(name, arguments)

    def calls_grammar(self, call: str, parallel: bool, mark: Mark) -> str:
        """Elements with a line break between them."""
        one = f"{quote(chr(10))} {call} {quote(chr(10))} {mark(_CLOSE)}"
        return f"{one} ({quote(chr(10))} {mark(_OPEN)} {one})*" if parallel else one
