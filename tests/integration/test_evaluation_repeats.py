"""An evaluation of the real pair, twice: in float32 the same answers and tables, whatever shares a batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from langchain_ssd.cli import app

pytestmark = pytest.mark.slow
SUITES = "chat,languages,opened,unsafe,role-play,prefill-10"
NUMBERS = ("table", "frontier", "paired", "utility", "suites")


def evaluated(out: Path, batch: int) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The numbers of the tables, and every answer by system and key."""
    few = ["--limit", "2", "--cost-prompts", "0", "--set", "tokens=24", "--suites", SUITES]
    exact = ["--set", "dtype=float32", "--set", f"batch={batch}", "--set", "attacks=4"]
    run = ["evaluate", "--systems", "target,paper,sequential", *few, *exact, "--out", str(out)]
    shown = CliRunner().invoke(app, run)
    assert shown.exit_code == 0, shown.output
    numbers = json.loads((out / "results.json").read_text(encoding="utf-8"))
    answers = {}
    for path in sorted((out / "answers").glob("*.jsonl")):
        for line in filter(None, path.read_text(encoding="utf-8").split("\n")):
            record = json.loads(line)
            answers[f"{path.stem}/{record['key']}"] = record
    return {name: numbers[name] for name in NUMBERS}, answers


def test_a_second_run_gives_the_same_answers_and_the_same_table(tmp_path: Path) -> None:
    numbers, answers = evaluated(tmp_path / "first", batch=6)
    again, repeated = evaluated(tmp_path / "second", batch=4)
    assert len(answers) == 3 * 12
    assert again == numbers
    assert repeated.keys() == answers.keys()
    for key, record in answers.items():
        for name in ("text", "ids", "reason", "mode", "agree", "refused_at"):
            assert repeated[key][name] == record[name], key
