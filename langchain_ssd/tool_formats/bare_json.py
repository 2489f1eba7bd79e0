"""Formats without an opener: the answer itself is a call, as JSON.

Llama 3 calls the arguments "parameters" and makes one call a turn; ``json`` is what other templates ask for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from .base import Call, CallParser, Mark, ToolFormat, element_json, json_text, quote
from .parsing import BareParser

_PYTHON_TAG = "<|python_tag|>"
_OTHER_MARKER = re.compile(r"<[^<>\s]*tool[^<>\s]*call[^<>\s]*>")
_SPACE = r"/[ \t\r\n]{1,4}/?"


class _BareFormat(ToolFormat):
    """What both have in common."""

    key = "arguments"
    prefix = ""

    def parser(self, names: Collection[str]) -> CallParser:
        """Looks at the beginning of the answer only."""
        return BareParser(names, self.prefix)

    def call_grammar(self, name: str, arguments: str, mark: Mark) -> str:
        """An object; blank space is free, as the free text next to it cannot begin like this either."""
        parts = [quote("{"), quote('"name"'), quote(":"), quote(json_text(name)), quote(",")]
        parts += [quote(f'"{self.key}"'), quote(":"), arguments, quote("}")]
        return f" {_SPACE} ".join(parts)

    def call_beginning(self, names: Sequence[str]) -> str:
        """An object whose first member is the name of a tool."""
        some = "|".join(re.escape(json_text(name)).replace("/", r"\/") for name in names)
        return rf'[ \t\r\n]*(\[[ \t\r\n]*)?\{{[ \t\r\n]*"name"[ \t\r\n]*:[ \t\r\n]*({some})(.|\n)*'


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
        several = f"{quote('[')} {call} ({quote(', ')} {call})* {quote(']')}"
        return f"({call} | {several})" if parallel else call


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
