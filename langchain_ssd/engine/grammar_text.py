"""A constraint → the text of a grammar. Nothing is compiled here.

What the grammar library cannot promise is refused here, so that an answer that comes to its end is valid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..constraint import Constraint
from ..errors import InvalidRequest, UnsupportedConstraint
from .json_schemas import patterns, prepared
from .refusal_branch import REFUSAL

_DENSE = 4  # a byte of Lark or of a regular expression says more than one of a schema: a quarter of the limit
_INLINE = "%json"
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


def grammar_text(
    constraint: Constraint, limit: int, thinking: Thinking | None = None, *, trusted: bool = False
) -> str:
    """The grammar as the library reads it.

    Args:
        constraint: from a request, so it may be anything.
        limit: bytes it may have.
        thinking: of a model that thinks before it answers.
        trusted: the worker wrote it, with schemas inside that came with a request.

    Raises:
        InvalidRequest: the value is not of the constraint's kind, or too large.
        UnsupportedConstraint: it asks for what cannot be enforced.
    """
    make, wanted = _KINDS[constraint.kind]
    try:
        answer = make(constraint.value)
        _check_size(answer, limit, trusted)
        if not trusted:
            _check_operators(constraint)
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest(f"the value of a {constraint.kind} constraint must be {wanted}") from None
    return _whole(answer, thinking)


def _check_size(answer: dict[str, Any], limit: int, trusted: bool) -> None:
    size, dense = len(json.dumps(answer).encode()), _dense_bytes(answer, trusted)
    if size > limit or dense > limit // _DENSE:
        limit, what = (limit, "grammar is") if size > limit else (limit // _DENSE, "patterns or rules are")
        raise InvalidRequest(f"the {what} larger than {limit} bytes; send less")


def _check_operators(constraint: Constraint) -> None:
    """No "and" and no "not" of regular expressions: the library's work doubles with every one of them.

    They are looked for without reading the rules, so that there is nothing to fool.
    """
    if constraint.kind == "lark" and set("&~") & set("".join(_split(constraint.value)[0])):
        raise UnsupportedConstraint(
            "the lark constraint is refused: it has '&' or '~'; in a text write \\u0026 or \\u007e"
        )


def _dense_bytes(answer: dict[str, Any], trusted: bool) -> int:
    """How much of a grammar is somebody's regular expressions or Lark, of which little can mean much."""
    lark = answer.get("lark_grammar", "")
    if "json_schema" in answer:
        texts = patterns(answer["json_schema"])
    elif trusted:
        texts = [text for schema in _split(lark)[1] for text in patterns(schema)]
    else:
        texts = [] if lark.startswith(_CHOICE) else [lark]
    return sum(len(text.encode()) for text in texts)


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
    return f"{_INLINE} " + json.dumps(prepared(schema)).replace("%", "\\u0025")  # no second inline schema


def _json_schema(value: Any) -> dict[str, Any]:
    return {"json_schema": prepared(value)}


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
    """The same grammar, with the schemas inside made ready like any other."""
    found = _NO_ROLLBACK.search(_text(value))
    if found:
        raise UnsupportedConstraint(
            f"the lark constraint is refused: '{found[1]}' cannot be undone; leave it out"
        )
    rules, inline = _split(value)
    pieces = [piece for pair in zip(map(json_rule, inline), rules[1:], strict=True) for piece in pair]
    return {"lark_grammar": rules[0] + "".join(pieces)}


def _split(lark: str) -> tuple[list[str], list[Any]]:
    """The rules before, between and after inline schemas, and the schemas."""
    first, *rest = lark.split(_INLINE)
    rules, inline = [first], []
    for part in map(str.lstrip, rest):
        schema, end = json.JSONDecoder().raw_decode(part)
        inline.append(schema)
        rules.append(part[end:])
    return rules, inline


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
    if re.search(r"nsatisfiable|NoExtension|is empty", message):
        return "nothing can satisfy it; check it"
    return "it is not valid, or uses what this grammar library does not know; check it"
