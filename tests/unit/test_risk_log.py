"""A risk log read back: responses, the live view, the page, and the schema of its lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from langchain_ssd import ChatSSD
from langchain_ssd.cli import app
from langchain_ssd.events import BinScored, Event, Finished, ModeChanged, Refused, Summary, Token
from langchain_ssd.telemetry import JsonlRiskLogger
from langchain_ssd.telemetry.conversations import RiskLog, follow, spark, totals
from langchain_ssd.telemetry.schema import line_schema
from langchain_ssd.testing import ScriptedBackend

runner = CliRunner()
CALM: list[Event] = [
    Token(0, 0, "hi"),
    BinScored(0, 1.0),
    Finished("stop", 3, 1, summary=Summary(emitted=1, scored=1, agreeing=1, match_ratio=1.0)),
]
BAD: list[Event] = [
    Token(0, 0, "so"),
    BinScored(0, 0.2, mode="utility", verdict="safety"),
    ModeChanged(1, "safety"),
    Refused(1, "evidence", text="No."),
    Finished("refusal", 3, 1, summary=Summary(emitted=1, scored=1, agreeing=0, match_ratio=0.2)),
]

TOKENS: list[Event] = [
    Token(0, 0, "so", statistic=0.5),
    ModeChanged(1, "safety"),
    Token(1, 1, "<me", mode="safety", agreement=False, statistic=3.0),
    Finished("stop", 3, 2, summary=Summary(emitted=2)),
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "risk.jsonl"
    handler = JsonlRiskLogger(path)
    model = ChatSSD(backend=ScriptedBackend(CALM, BAD))
    model.invoke("a", {"callbacks": [handler], "metadata": {"thread_id": "calm"}})
    model.invoke("b", {"callbacks": [handler], "metadata": {"thread_id": "<b>bad</b>"}})
    return path


def read(path: Path) -> RiskLog:
    found = RiskLog()
    found.read(follow(path, 0)[0])
    return found


def test_what_was_logged_is_read_back(log: Path) -> None:
    found = read(log)
    assert found.skipped == 0
    worst, calm = found.riskiest(5)
    assert (worst.thread_id, worst.refused, worst.bins, worst.mode) == (
        "<b>bad</b>",
        "evidence",
        [0.2],
        "safety",
    )
    assert (calm.finish, calm.match_ratio, calm.mode) == ("stop", 1.0, "utility")
    assert totals(found.responses.values()) == {
        "responses": 2,
        "finished": 2,
        "refused": 1,
        "would have been refused": 0,
        "ever in safety mode": 1,
        "mean match ratio": 0.6,
    }


def test_lines_that_are_no_events_are_counted(log: Path) -> None:
    with log.open("a") as file:
        file.write('not json\n[1]\n{"schema_version": 99}\n{"schema_version": 1, "event": "ssd.refusal"}\n')
    assert read(log).skipped == 4


def test_lines_of_the_version_before_are_read_too(log: Path) -> None:
    now = log.read_text()
    log.write_text(now.replace('"schema_version":2', '"schema_version":1'))
    assert '"schema_version":1' in log.read_text()
    assert (read(log).skipped, len(read(log).responses)) == (0, 2)


def test_following_takes_whole_lines_only_and_notices_rotation(log: Path) -> None:
    lines, offset = follow(log, 0)
    assert follow(log, offset) == ([""], offset)
    whole = log.read_bytes()
    with log.open("ab") as file:
        file.write(b'{"half')
    assert follow(log, offset) == ([""], offset)
    log.write_bytes(whole[: whole.index(b"\n") + 1])
    again, after = follow(log, offset)
    assert (again[0], after) == (lines[0], log.stat().st_size)


def test_the_live_view_shows_the_worst_by_name(log: Path) -> None:
    shown = runner.invoke(app, ["watch", str(log), "--once"], env={"COLUMNS": "140"})
    assert shown.exit_code == 0, shown.output
    for word in ("calm", "<b>bad</b>", "refused (evidence)", "responses 2"):
        assert word in shown.output


def test_the_page_stands_alone_and_escapes(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "risk.html"
    shown = runner.invoke(app, ["report", str(log), "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    page = out.read_text()
    assert "&lt;b&gt;bad&lt;/b&gt;" in page
    assert "<b>bad" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert page.index("bad&lt;") < page.index(">calm<")  # the riskiest first
    assert 'aria-label="0.20"' in page


def test_the_page_shows_every_token_and_the_text_only_where_it_was_logged(tmp_path: Path) -> None:
    path, out = tmp_path / "risk.jsonl", tmp_path / "risk.html"
    for text in (False, True):
        path.unlink(missing_ok=True)
        handler = JsonlRiskLogger(path, include_text=text)
        ChatSSD(backend=ScriptedBackend(TOKENS)).invoke("b", {"callbacks": [handler]})
        runner.invoke(app, ["report", str(path), "--out", str(out)])
        page = out.read_text()
        assert page.count('<rect class="u1"') == 1
        assert page.count('<rect class="s0"') == 1
        assert 'aria-label="2 tokens, 1 of them in safety mode"' in page
        assert page.count("<polyline") == 1
        assert ('<span class="u1">so</span><span class="s0">&lt;me</span>' in page) == text


def test_a_log_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for command in ("watch", "report"):
        shown = runner.invoke(app, [command, str(tmp_path / "none.jsonl")])
        assert shown.exit_code == 2
        assert "none.jsonl cannot be read" in shown.output


@pytest.mark.parametrize(("share", "block"), [(0.0, "▁"), (1.0, "█"), (-1.0, "▁"), (7.0, "█")])
def test_sparks_stay_in_their_range(share: float, block: str) -> None:
    assert spark([share]) == block


def test_every_line_fits_the_schema_that_is_printed(log: Path) -> None:
    shown = runner.invoke(app, ["schema"])
    schema: dict[str, Any] = json.loads(shown.output)
    assert schema == line_schema()
    check = jsonschema.Draft202012Validator(schema)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for row in rows:
        check.validate(row)
    wrong = {**rows[0], "event": "ssd.something"}
    assert not check.is_valid(wrong)
    (end, *_) = [row for row in rows if row["event"] == "ssd.response_finished"]
    assert not check.is_valid({**end, "trace": {"mode": "x"}})
    assert not check.is_valid({k: v for k, v in rows[0].items() if k != "run_id"})
    (scored, *_) = [row for row in rows if row["event"] == "ssd.bin_scored"]
    assert not check.is_valid({**scored, "match_ratio": "high"})
