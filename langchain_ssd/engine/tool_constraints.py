"""Tools and their choice → one grammar for the whole answer, in llguidance's Lark dialect. No torch.

A call that opens is legal: it names a tool that was offered, and its arguments fit the tool's JSON Schema.
Where a call is not demanded, any text is legal too, up to where a call opens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..backend import ChatRequest
from ..constraint import Constraint
from ..errors import InvalidRequest
from ..tool_formats import ToolFormat
from ..tool_formats.base import quote
from .grammar_text import json_rule
from .tool_prompts import offered

_TEXT = r"(.|\n)*"
_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "definitions"})


def constraint_of(
    request: ChatRequest, format_: ToolFormat, controls: Mapping[str, int]
) -> Constraint | None:
    """What an answer must look like, without what the model thinks first; ``None`` for free text.

    Args:
        request: its tools, their choice, and the form of an answer in words.
        format_: how calls are written.
        controls: the tokenizer's control tokens, as they are written, with their ids.

    Raises:
        InvalidRequest: the choice names no tool, or the request combines what cannot be combined.
    """
    tools = offered(request)
    if not tools:
        return request.constraint
    forced = request.tool_choice != "auto"
    if request.tool_choice not in ("auto", "required"):
        tools = tuple(tool for tool in tools if tool["function"]["name"] == request.tool_choice)
        if not tools:
            raise InvalidRequest("tool_choice names no tool of this request; check its name")
    writer = _Writer(format_, controls, tools)
    # Whoever names one tool wants one call.
    several = request.parallel_tool_calls and request.tool_choice in ("auto", "required")
    words = None if forced or request.constraint is None else writer.words(request.constraint)
    lark = writer.grammar(forced=forced, several=several, words=words)
    asked = request.constraint is not None and request.constraint.may_refuse
    return Constraint("lark", lark, may_refuse=forced or asked)


def arguments_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a function's arguments, for the grammar.

    ``strict: true`` makes an error of a keyword that the grammar cannot hold the model to, ``strict: false``
    takes any JSON object; without either, such keywords are passed over.

    Raises:
        InvalidRequest: the parameters describe something other than an object.
    """
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        raise InvalidRequest("the parameters of a tool must be the JSON Schema of an object")
    strict = function.get("strict")
    if strict is False:
        schema: dict[str, Any] = {"type": "object"}
    else:
        implied = {} if {"$ref", "anyOf", "oneOf", "allOf"} & parameters.keys() else {"type": "object"}
        schema = closed({**implied, **parameters})
    return {**schema, "x-guidance": {"lenient": strict is not True}}


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose objects have no members that it does not name, so that an end is always near.

    Whatever fits the result fits the schema. Where schemas are added to each other nothing is changed.
    """
    if '"allOf"' in json.dumps(schema):
        return schema
    narrowed: dict[str, Any] = _close(schema)
    return narrowed


def _close(node: Any) -> Any:
    if not isinstance(node, Mapping):
        return node
    own = "properties" in node
    out = {key: _close_member(key, value, own) for key, value in node.items()}
    mixed = {"anyOf", "oneOf", "$ref", "additionalProperties", "unevaluatedProperties"} & node.keys()
    return {**out, "additionalProperties": False} if own and not mixed else out


def _close_member(key: str, value: Any, own: bool) -> Any:
    if key in _SCHEMAS and isinstance(value, Mapping):
        return {name: _close(schema) for name, schema in value.items()}
    if key in ("items", "additionalProperties"):
        return _close(value)
    if key in ("anyOf", "oneOf") and not own and isinstance(value, list):
        return [_close(schema) for schema in value]
    return value


class _Writer:
    """Writes the grammar of one request."""

    def __init__(
        self, format_: ToolFormat, controls: Mapping[str, int], tools: tuple[dict[str, Any], ...]
    ) -> None:
        self._format, self._controls = format_, controls
        self._names = [str(tool["function"]["name"]) for tool in tools]
        self._schemas = [arguments_schema(tool["function"]) for tool in tools]
        self._rules: list[str] = []

    def grammar(self, *, forced: bool, several: bool, words: str | None) -> str:
        """The whole grammar; ``words`` is the rule of an answer without calls, ``None`` for free text."""
        call = " | ".join(f"call_{n}" for n in range(len(self._names)))
        calls = self._format.calls_grammar("call", several, self.mark)
        if forced:
            body = self._opened(calls)
        elif words is not None:
            body = f"{words} | {self._opened(calls)}"
        else:
            body = self._after_free_text(calls, several)
        rules = self._calls(as_json=words is not None and self._format.opener is None)
        lines = ["%llguidance {}", f"start: {body}", f"call: {call}", *rules, *self._rules]
        return "\n".join(lines) + "\n"

    def words(self, constraint: Constraint) -> str:
        """The rule of an answer that is no call."""
        match constraint.kind:
            case "json_schema":
                self._rules.append(f"answer: {json_rule(closed(dict(constraint.value)))}")
            case "json_object":
                self._rules.append(f"answer: {json_rule({'type': 'object'})}")
            case "choice":
                self._rules.append(f"answer: {' | '.join(quote(str(text)) for text in constraint.value)}")
            case "regex":
                self._rules.append(f"answer: ANSWER\nANSWER: /{_slashed(str(constraint.value))}/")
            case _:
                raise InvalidRequest(
                    "a grammar of your own and tools cannot be combined; leave one of them out"
                )
        return "answer"

    def mark(self, text: str) -> str:
        """A marker: the control token, if the tokenizer has it as one."""
        return f"<[{self._controls[text]}]>" if text in self._controls else quote(text)

    def _calls(self, *, as_json: bool) -> list[str]:
        """The rules of the tools. Beside other JSON a call is JSON too, or the two would not mix."""
        lines = []
        for n, (name, schema) in enumerate(zip(self._names, self._schemas, strict=True)):
            if as_json:
                lines.append(f"call_{n}: {json_rule(self._format.call_schema(name, schema))}")
                continue
            lines.append(f"call_{n}: {self._format.call_grammar(name, f'arguments_{n}', self.mark)}")
            lines.append(f"arguments_{n}: {json_rule(schema)}")
        return lines

    def _opened(self, calls: str) -> str:
        opener = self._format.opener
        return calls if opener is None else f"{self.mark(opener)} {calls}"

    def _after_free_text(self, calls: str, several: bool) -> str:
        """Free text is what holds no opening; from an opening on there is only the call."""
        opener = self._format.opener
        if opener is None:
            return self._unmarked(several)
        escaped = _slashed(re.escape(opener))
        self._rules.append(f"FREE: /{_TEXT}/ & ~/{_TEXT}{escaped}{_TEXT}/")
        if opener in self._controls:  # and it cannot be spelled in letters either
            return f"FREE | FREE? {self.mark(opener)} {calls}"
        self._rules.append(f"open[lazy]: /{_TEXT}{escaped}/")
        return f"FREE | open {calls}"

    def _unmarked(self, several: bool) -> str:
        """Free text begins unlike any call; from the name of a tool on there is only the call."""
        ways, regexes = ["FREE"], list[str]()
        for n, name in enumerate(self._names):
            for beginning in self._format.beginnings(name, f"arguments_{n}", "call", several):
                number = len(regexes)
                regexes.append(beginning.regex)
                if beginning.rest is not None:
                    self._rules.append(f"begin_{number}[lazy]: /{beginning.regex}/")
                    ways.append(f"begin_{number} {beginning.rest}")
        self._rules.append(f"FREE: /{_TEXT}/ & ~/({'|'.join(regexes)}){_TEXT}/")
        return " | ".join(ways)


_SPELLED = {"/": r"\/", "%": r"\x25", r"\%": r"\x25"}


def _slashed(regex: str) -> str:
    """What goes between slashes: nothing in it ends it, or begins an inline schema."""
    return re.sub(r"\\.|[/%]", lambda found: _SPELLED.get(found[0], found[0]), regex, flags=re.DOTALL)
