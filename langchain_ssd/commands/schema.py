"""``langchain-ssd schema``: what the lines of a risk log look like, as a JSON Schema."""

from __future__ import annotations

import json

import typer


def schema() -> None:
    """Print the JSON Schema of one line of a risk log, for those who read it with other tools."""
    from ..telemetry.schema import line_schema

    typer.echo(json.dumps(line_schema(), indent=2))
