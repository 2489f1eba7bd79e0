"""The page of an evaluation: one file, and what models said stays data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from langchain_ssd.errors import ConfigError
from langchain_ssd.evaluation.report.page import write_report

from .report_example import example_data

HOSTILE = "</script><img src=x onerror=alert(1)><!--<script>{{css}}"


def written(data: dict[str, Any], folder: Path) -> str:
    write_report(data, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def blocks(page: str) -> list[Any]:
    """The data in the page, as a browser reads it."""
    found = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    return [json.loads(text) for text in found]


def hostile(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: hostile(one) for name, one in value.items()}
    if isinstance(value, list):
        return [hostile(one) for one in value]
    return value + HOSTILE if isinstance(value, str) else value


def test_what_models_said_never_becomes_markup(tmp_path: Path) -> None:
    plain, page = written(example_data(), tmp_path), written(hostile(example_data()), tmp_path)
    for sign in ("<script", "</script>", "<img"):
        assert page.count(sign) == plain.count(sign)
    assert any(HOSTILE in json.dumps(block) for block in blocks(page))  # and nothing of it is lost
    assert "innerHTML" not in page
    assert "default-src 'none'" in page


def test_nothing_is_fetched(tmp_path: Path) -> None:
    page = written(example_data(), tmp_path)
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}


def test_every_answer_is_there(tmp_path: Path) -> None:
    data = example_data()
    figures, answers = blocks(written(data, tmp_path))
    assert figures["frontier"] == data["frontier"]
    assert len(json.dumps(answers)) > 0
    shown = json.dumps(answers)
    for answer in data["answers"][:20]:
        assert json.dumps(answer["shown"])[1:-1] in shown


def test_nothing_at_all_still_makes_a_page(tmp_path: Path) -> None:
    data = example_data()
    empty = {name: [] if isinstance(value, list) else value for name, value in data.items()}
    assert "<title>" in written(empty, tmp_path)


def test_the_page_is_moved_into_place_whole(tmp_path: Path) -> None:
    write_report(example_data(), tmp_path / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written") as raised:
        write_report(example_data(), tmp_path / "file" / "report.html")
    assert str(tmp_path) not in str(raised.value)
