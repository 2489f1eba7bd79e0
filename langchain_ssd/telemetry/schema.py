"""The JSON Schema of a risk log's lines, made from the events themselves."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from ..events import SCHEMA_VERSION
from .logs import NAMES

_TEXT = {"type": "string"}
_OR_NULL = {"type": ["string", "null"]}


def line_schema() -> dict[str, Any]:
    """One line: who and when, and one of the events."""
    definitions: dict[str, Any] = {}
    kinds = []
    for event, name in NAMES.items():
        one = TypeAdapter(event).json_schema(ref_template="#/$defs/{model}")
        definitions.update(one.pop("$defs", {}))
        fields = {k: v for k, v in one["properties"].items() if k != "text"}
        kinds.append(
            {
                "title": name,
                "properties": {"event": {"const": name}, **fields},
                "required": ["event", *fields],
            }
        )
    common = {
        "schema_version": {"const": SCHEMA_VERSION},
        "time": {"type": "string", "format": "date-time"},
        "event": {"enum": list(NAMES.values())},
        "run_id": _TEXT,
        "parent_run_id": _OR_NULL,
        "thread_id": _OR_NULL,
        "tags": {"type": "array", "items": _TEXT},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One line of a langchain-ssd risk log",
        "type": "object",
        "properties": common,
        "required": list(common),
        "oneOf": kinds,
        "$defs": definitions,
    }
