"""A constraint → the text of a grammar. Nothing is compiled here.

What the grammar library cannot promise is refused here, so that an answer that comes to its end is valid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..constraint import Constraint
from ..errors import InvalidRequest, UnsupportedConstraint
from .refusal_branch import REFUSAL

_DENSE = 4  # a byte of Lark or of a regular expression says more than one of a schema: a quarter of the limit
# One line, as most models were trained to write it: nearly everything between two values is then forced.
# Without \u there is one way to write a key, or "\u0061" would pass for a key other than "a".
STYLE = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "json_allowed_escapes": 'nrbtf\\"',
}
"""How JSON is written, as the library's options."""
# What the library enforces; by the standard any other format is a note to the reader.
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_SINGLE = ("items", "additionalProperties", "additionalItems", "not", "if", "then", "else", "contains")
_CHOICE = "start: CHOICE\nCHOICE: "
_NO_ROLLBACK = re.compile(r"\w\s*\[[^\]\n]*\b(stop|max_tokens|temperature)\s*=")


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a model marks its thinking, which may come before the answer.

    Attributes:
        open: the tag as a Lark symbol: a text in quotes, or a control token.
        close: the same of the closing tag.
        opened: the prompt has written the opening tag already.
    """

    open: str
    close: str
    opened: bool

    @property
    def rules(self) -> str:
        """Lark rules; ``thinking`` may be empty unless the prompt has opened it."""
        start = "thought" if self.opened else f"({self.open} thought)?"
        # A control token ends any text by itself; tags of plain text must be looked for.
        lazy = "" if self.close.startswith("<[") else "[lazy]"
        return f"thinking: {start}\nthought{lazy}: THOUGHT {self.close}\nTHOUGHT: /(?s:.*)/\n"


def grammar_text(constraint: Constraint, limit: int | None, thinking: Thinking | None = None) -> str:
    """The grammar as the library reads it.

    Args:
        constraint: from a request, so it may be anything.
        limit: bytes it may have; ``None`` for a grammar of our own.
        thinking: of a model that thinks before it answers.

    Raises:
        InvalidRequest: the value is not of the constraint's kind, or too large.
        UnsupportedConstraint: it asks for what cannot be enforced.
    """
    make, wanted = _KINDS[constraint.kind]
    try:
        answer = make(constraint.value)
        size, dense = len(json.dumps(answer).encode()), _dense_bytes(answer)
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest(f"the value of a {constraint.kind} constraint must be {wanted}") from None
    if limit is not None and (size > limit or dense > limit // _DENSE):
        limit, what = (limit, "grammar is") if size > limit else (limit // _DENSE, "patterns or rules are")
        raise InvalidRequest(f"the {what} larger than {limit} bytes; send less")
    return _whole(answer, thinking)


def _dense_bytes(answer: dict[str, Any]) -> int:
    """How much of a grammar is regular expressions or Lark, of which little can mean much."""
    lark = answer.get("lark_grammar", "")
    if lark.startswith(_CHOICE):
        return 0
    texts = [lark]
    for part in _schemas(answer.get("json_schema", {})):
        texts += [part.get("pattern", ""), *part.get("patternProperties", ())]
    return sum(len(text.encode()) for text in texts if isinstance(text, str))


def refusal_text(thinking: Thinking | None = None) -> str:
    """The grammar of a refusal in words, as the library reads it."""
    return _whole({"lark_grammar": REFUSAL}, thinking)


def _whole(answer: dict[str, Any], thinking: Thinking | None) -> str:
    start = "start: @answer\n" if thinking is None else f"start: thinking @answer\n{thinking.rules}"
    return json.dumps({"grammars": [{"lark_grammar": start}, {"name": "answer", **answer}]})


def json_rule(schema: dict[str, Any]) -> str:
    """A JSON Schema as the body of a Lark rule, in the style of every other JSON answer.

    Raises:
        UnsupportedConstraint: it asks for what cannot be enforced.
    """
    return "%json " + json.dumps(_prepared(schema))


def _json_schema(value: Any) -> dict[str, Any]:
    return {"json_schema": _prepared(value)}


def _json_object(value: Any) -> dict[str, Any]:
    if value is not None:
        raise TypeError
    return _json_schema({"type": "object"})


def _regex(value: Any) -> dict[str, Any]:
    from llguidance import regex_to_lark

    return {"lark_grammar": f"start: /{regex_to_lark(_text(value), 'd')}/"}


def _choice(value: Any) -> dict[str, Any]:
    if not isinstance(value, list | tuple) or not value:
        raise TypeError
    return {"lark_grammar": _CHOICE + " | ".join(json.dumps(_text(x)) for x in value)}


def _lark(value: Any) -> dict[str, Any]:
    found = _NO_ROLLBACK.search(_text(value))
    if found:
        raise UnsupportedConstraint(
            f"the lark constraint is refused: '{found[1]}' cannot be undone; leave it out"
        )
    return {"lark_grammar": value}


_KINDS: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "json_schema": (_json_schema, "a JSON Schema as a plain object"),
    "json_object": (_json_object, "left out"),
    "regex": (_regex, "a regular expression"),
    "choice": (_choice, "a list of texts"),
    "lark": (_lark, "the text of a Lark grammar"),
}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # a lone surrogate is no text
    return value


def _prepared(schema: Any) -> dict[str, Any]:
    """A copy in our style, without formats that are only notes; refuses what would not be enforced.

    Who writes ``"x-guidance": {"lenient": true}`` asks for what cannot be enforced to be passed over.
    """
    if not isinstance(schema, dict):
        raise TypeError
    copy: dict[str, Any] = json.loads(json.dumps(schema, allow_nan=False))
    wishes = copy.get("x-guidance")
    lenient = isinstance(wishes, dict) and wishes.get("lenient") is True
    for part in _schemas(copy):
        required, least = part.get("required"), part.get("minProperties")
        named = len(set(required)) if isinstance(required, list) else 0
        if isinstance(least, int | float) and least > max(1, named) and not lenient:
            # A key that was written twice would be counted twice.
            raise UnsupportedConstraint(
                "the schema is refused: 'minProperties' cannot be enforced; leave it out"
            )
        if part.get("format") not in _FORMATS:
            part.pop("format", None)
    return {**copy, "x-guidance": {**STYLE, "lenient": lenient}}


def _schemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema and all schemas inside it, but not what looks like one in a ``const`` or an ``enum``."""
    waiting: list[Any] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += [part.get(name) for name in _SINGLE]
            for name in _NAMED:
                waiting += part[name].values() if isinstance(part.get(name), dict) else ()
            for name in _LISTED:
                waiting += part[name] if isinstance(part.get(name), list) else ()


_KEYWORDS = (
    *("uniqueItems", "not", "if", "then", "else", "contains", "minContains", "maxContains", "propertyNames"),
    *("dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems"),
    *("oneOf", "allOf", "minProperties", "maxProperties", "patternProperties", "additionalItems"),
)
_KEYWORD = re.compile(rf"\b({'|'.join(_KEYWORDS)})\b")


def what_is_wrong(message: str) -> str:
    """The library's message in our words: it may quote the grammar, so nothing but known names is taken."""
    if "present in a registry" in message or "$ref" in message or "circular" in message:
        return "it refers to a schema elsewhere or to itself; use plain local references"
    if re.search(r"nimplemented|not supported|only supported", message):
        found = _KEYWORD.search(message.partition("\n")[0])
        return (
            f"'{found[1]}' cannot be enforced; leave it out"
            if found
            else "it cannot be enforced; simplify it"
        )
    if re.search(r"too (big|large|many)|limit|fuel|exhausted", message):
        return "it is too complex; simplify it"
    if re.search(r"nsatisfiable|NoExtension", message):
        return "nothing can satisfy it; check it"
    return "it is not valid, or uses what this grammar library does not know; check it"
