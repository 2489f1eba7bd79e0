"""Random JSON Schemas as people write them: nested, bounded, recursive; a few cannot be enforced."""

from __future__ import annotations

import random
from typing import Any

Schema = dict[str, Any]
NAMES = ["id", "name", "kind", "tags", "a b", 'quo"te', "größe", "x/y", "n\n", "format", "const"]
PATTERNS = ["^[a-c]{1,3}$", "b+", "^\\d{2}-\\d{2}$", "^(yes|no)$", "[xy]$", "^é?$"]
FORMATS = ["date", "time", "ipv4", "uuid", "email", "unheard-of"]
CONSTANTS: list[Any] = [1, -2.5, True, None, 'a"b\\', "ß", {"k": [1, {"format": "x"}]}, [], {}]
REFUSED: list[Schema] = [  # each is refused by name
    {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
    {"not": {"type": "string"}},
    {"type": "array", "contains": {"type": "integer"}},
    {"if": {"type": "string"}, "then": {"maxLength": 3}},
    {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    {"type": "object", "propertyNames": {"maxLength": 3}},
    {"type": "object", "minProperties": 2},
    {"type": "string", "pattern": "^(?!a)b"},
    {"type": "object", "properties": {"a": {"type": "string"}}, "dependentRequired": {"a": ["b"]}},
]


def random_schema(rng: random.Random) -> Schema:
    """One schema; about one in thirty asks for what cannot be enforced."""
    definitions: Schema = {}
    schema = _schema(rng, 3, definitions)
    return {**schema, "$defs": definitions} if definitions else schema


def _schema(rng: random.Random, depth: int, definitions: Schema) -> Schema:
    if rng.random() < 0.015:
        return dict(rng.choice(REFUSED))
    makers = [_string, _number, _integer, _constant, _enum, _plain]
    if depth:
        makers += [_object, _object, _object, _array, _array, _alternatives, _both, _reference, _tagged]
    return rng.choice(makers)(rng, depth - 1, definitions)


def _plain(rng: random.Random, depth: int, definitions: Schema) -> Schema:
    return rng.choice(
        [{"type": "boolean"}, {"type": "null"}, {"type": ["integer", "null"]}, {"title": "any"}]
    )


def _string(rng: random.Random, depth: int, definitions: Schema) -> Schema:
    out: Schema = {"type": "string", "description": "some text"}
    match rng.randrange(4):
        case 0:
            out["pattern"] = rng.choice(PATTERNS)
        case 1:
            out["format"] = rng.choice(FORMATS)
        case 2:
            out["minLength"] = rng.randrange(4)
            out["maxLength"] = out["minLength"] + rng.randrange(6)
    return out


def _integer(rng: random.Random, depth: int, definitions: Schema) -> Schema:
    out: Schema = {"type": "integer"}
    low = rng.randrange(-1000, 1000)
    if rng.random() < 0.6:
        out[rng.choice(["minimum", "exclusiveMinimum"])] = low
    if rng.random() < 0.6:
        out[rng.choice(["maximum", "exclusiveMaximum"])] = low + rng.randrange(12, 500)
    if rng.random() < 0.2:
        out["multipleOf"] = rng.choice([2, 5, 10])
    return out


def _number(rng: random.Random, depth: int, definitions: Schema) -> Schema:
    out: Schema = {"type": "number"}
    low = rng.randrange(-100, 100) / 4
    if rng.random() < 0.5:
        out |= {"minimum": low, "maximum": low + rng.randrange(1, 40)}
    return out


def _constant(rng: random.Random, depth: int, definitions: Schema) -> Schema:
    return {"const": rng.choice(CONSTANTS)}


def _enum(rng: random.Random, depth: int, definitions: Schema) -> Schema:
    return {"enum": rng.sample(CONSTANTS, rng.randrange(1, 4))}


def _object(rng: random.Random, depth: int, definitions: Schema) -> Schema:
    names = rng.sample(NAMES, rng.randrange(5))
    out: Schema = {"type": "object", "properties": {n: _schema(rng, depth, definitions) for n in names}}
    if rng.random() < 0.8:
        out["required"] = [n for n in names if rng.random() < 0.6]
    match rng.randrange(4):
        case 0 | 1:
            out["additionalProperties"] = False
        case 2:
            out["additionalProperties"] = _schema(rng, depth, definitions)
    return out


def _array(rng: random.Random, depth: int, definitions: Schema) -> Schema:
    if rng.random() < 0.25:
        items = [_schema(rng, depth, definitions) for _ in range(rng.randrange(1, 4))]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    out: Schema = {"type": "array", "items": _schema(rng, depth, definitions)}
    if rng.random() < 0.7:
        out["minItems"] = rng.randrange(3)
        out["maxItems"] = out["minItems"] + rng.randrange(3)
    return out


def _alternatives(rng: random.Random, depth: int, definitions: Schema) -> Schema:
    return {"anyOf": [_schema(rng, depth, definitions) for _ in range(rng.randrange(2, 4))]}


def _both(rng: random.Random, depth: int, definitions: Schema) -> Schema:
    """Two objects that must hold at once: as inheritance is written."""
    parts = []
    for names in (NAMES[:3], NAMES[3:6]):
        properties = {n: _schema(rng, 0, definitions) for n in rng.sample(names, 2)}
        parts.append({"type": "object", "properties": properties, "required": list(properties)[:1]})
    return {"allOf": parts}


def _tagged(rng: random.Random, depth: int, definitions: Schema) -> Schema:
    """One of several kinds, told apart by a constant: as unions of classes are written."""
    kinds = [
        {
            "type": "object",
            "properties": {"kind": {"const": kind}, "value": _schema(rng, depth, definitions)},
            "required": ["kind"],
            "additionalProperties": False,
        }
        for kind in ("first", "second")
    ]
    return {"oneOf": kinds, "discriminator": {"propertyName": "kind"}}


def _reference(rng: random.Random, depth: int, definitions: Schema) -> Schema:
    """A tree: it refers to itself."""
    name = f"tree{len(definitions)}"
    definitions[name] = {
        "type": "object",
        "properties": {
            "value": _schema(rng, 0, definitions),
            "children": {"type": "array", "items": {"$ref": f"#/$defs/{name}"}, "maxItems": 2},
        },
        "required": ["value"],
        "additionalProperties": False,
    }
    return {"$ref": f"#/$defs/{name}"}
