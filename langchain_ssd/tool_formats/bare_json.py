"""Formats without an opener: the answer itself is a call, as JSON.

Llama 3 calls the arguments "parameters" and makes one call a turn; ``json`` is what other templates ask for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .base import Beginning, Call, CallParser, Mark, ToolFormat, element_json, json_text, quote
from .parsing import BareParser

_PYTHON_TAG = "<|python_tag|>"
_OTHER_MARKER = re.compile(r"<[^<>\s]*tool[^<>\s]*call[^<>\s]*>")
_OF_THE_ROOT = ("$defs", "definitions", "x-guidance")
_BLANK = r"[ \t\r\n]*"


class _BareFormat(ToolFormat):
    """What both have in common."""

    key = "arguments"
    prefix = ""

    def parser(self, names: Collection[str]) -> CallParser:
        """Looks at the beginning of the answer only."""
        return BareParser(names, self.prefix)

    def call_grammar(self, name: str, arguments: str, mark: Mark) -> str:
        """An object."""
        return f"""{quote(f'{{"name": {json_text(name)}')} {self._rest(arguments)}"""

    def beginnings(self, name: str, arguments: str, call: str, parallel: bool) -> list[Beginning]:
        """An object whose first member is the name of a tool."""
        return [Beginning(_object(name), self._rest(arguments))]

    def call_schema(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The object, with definitions and options where its references look for them."""
        inner = {key: value for key, value in arguments.items() if key not in _OF_THE_ROOT}
        return {
            "type": "object",
            "properties": {"name": {"const": name}, self.key: inner},
            "required": ["name", self.key],
            "additionalProperties": False,
            **{key: arguments[key] for key in _OF_THE_ROOT if key in arguments},
        }

    def _rest(self, arguments: str) -> str:
        return f"""{quote(f', "{self.key}": ')} {arguments} {quote("}")}"""


class BareJsonFormat(_BareFormat):
    """``{"name": ..., "arguments": {...}}``, or a list of several."""

    name = "json"

    def recognises(self, template: str) -> bool:
        """By the names of both members, where nothing else marks a call."""
        plain = template.replace('\\"', '"')
        return '"name"' in plain and '"arguments"' in plain and not _OTHER_MARKER.search(plain)

    def how_to_call(self) -> str:
        """The object, and the list."""
        return (
            "To call a function, answer with this JSON object and nothing else:\n"
            '{"name": <function-name>, "arguments": <args-json-object>}\n'
            "To call several, answer with a list of such objects."
        )

    def render_calls(self, calls: Sequence[Call]) -> str:
        """An object or a list."""
        bodies = [{"name": call.name, "arguments": call.arguments} for call in calls]
        return element_json(bodies[0] if len(bodies) == 1 else bodies)

    def calls_grammar(self, call: str, parallel: bool, mark: Mark) -> str:
        """An object or a list."""
        return f"({call} | {quote('[')} {call} {_more(call)})" if parallel else call

    def beginnings(self, name: str, arguments: str, call: str, parallel: bool) -> list[Beginning]:
        """An object, or the first one of a list."""
        more = f"{self._rest(arguments)} {_more(call)}" if parallel else None
        listed = Beginning(rf"{_BLANK}\[{_object(name)}", more)
        return [*super().beginnings(name, arguments, call, parallel), listed]


class Llama3Format(_BareFormat):
    """``{"name": ..., "parameters": {...}}``, one a turn."""

    name = "llama3"
    markers = (_PYTHON_TAG,)
    key = "parameters"
    prefix = _PYTHON_TAG

    def recognises(self, template: str) -> bool:
        """By the member that only these models call so."""
        plain = template.replace('\\"', '"')
        return '"name": ' in plain and '"parameters": ' in plain

    def how_to_call(self) -> str:
        """The words of Llama's own template."""
        return (
            "To call a function, answer with this JSON object and nothing else:\n"
            '{"name": function name, "parameters": dictionary of argument name and its value}\n'
            "Do not use variables. Call one function at a time."
        )

    def render_calls(self, calls: Sequence[Call]) -> str:
        """Objects, joined as Llama 3.2 joins them."""
        return "; ".join(element_json({"name": call.name, "parameters": call.arguments}) for call in calls)

    def calls_grammar(self, call: str, parallel: bool, mark: Mark) -> str:
        """One object."""
        return call


def _object(name: str) -> str:
    """The beginning of an object up to the name of a tool, however it is spaced."""
    escaped = re.escape(json_text(name)).replace("/", r"\/")
    return rf'{_BLANK}\{{{_BLANK}"name"{_BLANK}:{_BLANK}{escaped}'


def _more(call: str) -> str:
    return f"({quote(', ')} {call})* {quote(']')}"
