"""JSON Schemas narrowed, so that a model does not go on with members that nobody asked for. Pure Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "definitions"})


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose objects have no members that it does not name, so that an end is always near.

    Whatever fits the result fits the schema. Where schemas are added to each other nothing is changed.
    """
    if any("allOf" in node or {"$ref", "properties"} <= node.keys() for node in _nodes(schema)):
        return schema
    narrowed: dict[str, Any] = _close(schema)
    return narrowed


def _nodes(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _nodes(inner)


def _close(node: Any) -> Any:
    if not isinstance(node, Mapping):
        return node
    own = "properties" in node
    out = {key: _close_member(key, value, own) for key, value in node.items()}
    mixed = {"anyOf", "oneOf", "$ref", "additionalProperties", "unevaluatedProperties"} & node.keys()
    return {**out, "additionalProperties": False} if own and not mixed and _names_all(node) else out


def _close_member(key: str, value: Any, own: bool) -> Any:
    if key in _SCHEMAS and isinstance(value, Mapping):
        return {name: _close(schema) for name, schema in value.items()}
    if key in ("items", "additionalProperties"):
        return _close(value)
    if key in ("anyOf", "oneOf") and not own and isinstance(value, list):
        return [_close(schema) for schema in value]
    return value


def _names_all(node: Mapping[str, Any]) -> bool:
    """Whether the members that a schema demands are among those that it names."""
    named, required = node["properties"], node.get("required", [])
    least = node.get("minProperties", 0)
    if not isinstance(named, Mapping) or not isinstance(required, list) or not isinstance(least, int | float):
        return False
    return all(isinstance(name, str) and name in named for name in required) and least <= len(named)
