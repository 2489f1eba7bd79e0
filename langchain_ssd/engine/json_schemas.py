"""JSON Schemas made ready for the grammar library: in one style, and within what it can promise and bear.

The library enforces what it accepts and refuses what it does not know, but for two things that are seen to
here: keys that are written twice or spelled in another way, and texts that must satisfy many patterns at
once, whose cost doubles with each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

from ..errors import UnsupportedConstraint
from ..plain_text import texts
from .json_patterns import UNWRITABLE, safe

Schema = dict[str, Any]

# One line, as most models were trained to write it: nearly everything between two values is then forced.
# Without \u there is one way to write a key, or "\u0061" would pass for a key other than "a".
STYLE: Schema = {
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
_AT_ONCE = 8  # patterns, formats and lengths that one text may have to satisfy together


def prepared(schema: object) -> Schema:
    """A copy in our style, without its own name and without formats that are only notes.

    Who writes ``"x-guidance": {"lenient": true}`` asks for what cannot be enforced to be passed over.

    Raises:
        UnsupportedConstraint: it asks for what cannot be enforced, or would cost too much.
        TypeError: it is no JSON object.
        ValueError: it holds what is no JSON.
        RecursionError: it is nested too deeply.
    """
    if not isinstance(schema, dict):
        raise TypeError
    copy: Schema = json.loads(json.dumps(schema, allow_nan=False))
    wishes = copy.get("x-guidance")
    lenient = isinstance(wishes, dict) and wishes.get("lenient") is True
    for part in schemas(copy):
        if not lenient and _counts_keys(part):
            raise _refused("'minProperties' cannot be enforced; leave it out")
        if part.get("format") not in _FORMATS:
            part.pop("format", None)
        _check_texts(part, lenient)
        if {part.pop("$id", None), part.pop("id", None)} != {None} and part is not copy:
            raise _refused("a part of it has a name of its own ('$id'); leave it out")  # references go astray
    if _Conjunctions(copy).most(copy) > _AT_ONCE:
        raise _refused(f"a text has more than {_AT_ONCE} patterns to satisfy at once; put them into one")
    return {**copy, "x-guidance": {**STYLE, "lenient": lenient}}


def _check_texts(part: Schema, lenient: bool) -> None:
    """Make patterns safe, and refuse (or pass over) what holds characters that cannot be written."""
    if _mapping(part, "patternProperties"):
        part["patternProperties"] = {safe(key): of for key, of in part["patternProperties"].items()}
    if isinstance(part.get("pattern"), str):
        try:
            part["pattern"] = safe(part["pattern"])
        except UnsupportedConstraint:
            if not lenient:
                raise
            del part["pattern"]
    for name in ("const", "enum"):
        if any(UNWRITABLE.search(text) for text in texts(part.get(name))):
            if not lenient:
                raise _refused(f"its '{name}' holds a control character; leave it out")
            del part[name]


def patterns(schema: Schema) -> list[str]:
    """All regular expressions of a schema."""
    found = []
    for part in schemas(schema):
        found += [part.get("pattern"), *_mapping(part, "patternProperties")]
    return [text for text in found if isinstance(text, str)]


def schemas(root: Schema) -> Iterator[Schema]:
    """A schema and all it consists of, but not what looks like a schema in a ``const`` or an ``enum``.

    Raises:
        UnsupportedConstraint: it refers to something that is not inside it.
    """
    waiting: list[Any] = [root]
    seen: set[int] = set()
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict) and id(part) not in seen:
            seen.add(id(part))
            yield part
            waiting += [part.get(name) for name in _SINGLE]
            waiting += [child for name in _NAMED for child in _mapping(part, name).values()]
            waiting += [child for name in _LISTED for child in _list(part, name)]
            waiting += [_target(root, part["$ref"])] if "$ref" in part else []


def _counts_keys(part: Schema) -> bool:
    """Whether the number of keys matters: one that is written twice would be counted twice."""
    least, required = part.get("minProperties"), _list(part, "required")
    named = {name for name in required if isinstance(name, str)}
    return isinstance(least, int | float) and least > max(1, len(named))


class _Conjunctions:
    """How many patterns, formats and lengths a text inside a schema may have to satisfy at once; at most.

    Alternatives count as their worst, additions as their sum, wherever in their parts the text may lie.
    """

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._known: dict[int, int] = {}

    def most(self, part: object) -> int:
        if not isinstance(part, dict):
            return 0
        if id(part) not in self._known:
            self._known[id(part)] = 0  # a reference to itself adds nothing
            self._known[id(part)] = self._count(part)
        return self._known[id(part)]

    def _count(self, part: Schema) -> int:
        own = sum(
            bool(part.keys() & names) for names in ({"pattern"}, {"format"}, {"minLength", "maxLength"})
        )
        inside = [part.get(name) for name in _SINGLE]
        inside += [*_mapping(part, "properties").values(), *_list(part, "prefixItems"), *_list(part, "items")]
        by_pattern = self._worst(_mapping(part, "patternProperties").values())
        added = sum(map(self.most, _list(part, "allOf")))
        either = self._worst(_list(part, "anyOf")) + self._worst(_list(part, "oneOf"))
        referred = self.most(_target(self._root, part["$ref"])) if "$ref" in part else 0
        return max(own, self._worst(inside) + by_pattern) + added + either + referred

    def _worst(self, parts: Iterable[object]) -> int:
        return max(map(self.most, parts), default=0)


def _target(root: Schema, reference: object) -> object:
    """What a local reference points to."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise _refused("it refers to a schema elsewhere; use local references, '#/...'")
    place: Any = root
    for step in unquote(reference).split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(place, list) and step.isdecimal() and int(step) < len(place):
            place = place[int(step)]
        elif isinstance(place, dict) and step in place:
            place = place[step]
        else:
            raise _refused("it refers to a part that it does not have; check its references")
    return place


def _mapping(part: Schema, name: str) -> Schema:
    value = part.get(name)
    return value if isinstance(value, dict) else {}


def _list(part: Schema, name: str) -> list[Any]:
    value = part.get(name)
    return value if isinstance(value, list) else []


def _refused(why: str) -> UnsupportedConstraint:
    return UnsupportedConstraint(f"the schema is refused: {why}")
