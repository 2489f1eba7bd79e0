"""The page: skeleton, style, scripts and data in one file.

Answers to attacks may hold anything, markup too.  So they only travel as JSON in which no ``<`` is left,
the scripts put them nowhere but into text nodes, and the page's policy forbids every request.
"""

from __future__ import annotations

import html
import json
import math
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...errors import ConfigError

_OF_CASE = ("key", "suite", "safe", "request", "prefill")
_SCRIPTS = ("charts.js", "tokens.js", "viewer.js", "report.js")


def write_report(data: dict[str, Any], path: Path) -> None:
    """Write the page; whoever has the old one open never sees half of the new one.

    Args:
        data: as :func:`~langchain_ssd.evaluation.results.page_data` makes it.
        path: of the page; its folder is made.

    Raises:
        ConfigError: the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.tmp")
    text = _page(data)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ConfigError(f"{path.name} cannot be written; choose another folder with --out") from None


def _page(data: dict[str, Any]) -> str:
    figures = {name: value for name, value in data.items() if name != "answers"}
    parts = {
        "title": html.escape(data["title"]),
        "css": _asset("report.css"),
        "js": "\n".join(_asset(name) for name in _SCRIPTS),
        "figures": _json(figures),
        "answers": _json(_packed(data["answers"])),
    }
    # In one pass: a text that looks like a placeholder is never filled in.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("report.html"))


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _packed(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Answers without their cases, which every system shares: it is asked the same."""
    places: dict[str, int] = {}
    cases: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for answer in answers:
        case = {name: answer[name] for name in _OF_CASE}
        place = places.setdefault(json.dumps(case), len(cases))
        if place == len(cases):
            cases.append(case)
        rest.append({"case": place, **{n: v for n, v in answer.items() if n not in _OF_CASE}})
    return {"cases": cases, "answers": rest}


def _json(value: Any) -> str:
    """JSON that may stand in a script element.

    Only ASCII: a model may write half a surrogate pair, which no UTF-8 file can hold.
    """
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    """The same with nothing in place of what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
