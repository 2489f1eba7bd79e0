"""The JSON Schema of a risk log's lines, made from the events themselves."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from ..events import SCHEMA_VERSION, Finished
from .logs import EVIDENCE, NAMES

_TEXT = {"type": "string"}
_OR_NULL = {"type": ["string", "null"]}
_NUMBERS = {"type": "array", "items": {"type": ["number", "null"]}}
_AT_THE_END: dict[str, Any] = {  # what a logger may be asked for beside the numbers of a response
    "trace": {
        "type": "object",
        "properties": {
            "mode": {"type": "string", "pattern": "^[us]*$"},
            **{name: {"type": "string", "pattern": "^[01]*$"} for name in ("agreement", "scored")},
            **dict.fromkeys(("statistic", "characters", *EVIDENCE), _NUMBERS),
        },
    },
    "prompt": {"type": "array", "items": {"type": "object", "properties": {"role": _TEXT, "text": _TEXT}}},
    "answer": _TEXT,
}


def line_schema() -> dict[str, Any]:
    """One line: who and when, and one of the events."""
    definitions: dict[str, Any] = {}
    kinds = []
    for event, name in NAMES.items():
        one = TypeAdapter(event).json_schema(ref_template="#/$defs/{model}")
        definitions.update(one.pop("$defs", {}))
        fields = {k: v for k, v in one["properties"].items() if k != "text"}
        more = _AT_THE_END if event is Finished else {}
        kinds.append(
            {
                "title": name,
                "properties": {"event": {"const": name}, **fields, **more},
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
