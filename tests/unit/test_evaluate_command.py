"""``langchain-ssd evaluate`` on a tiny pair from disk, with a guest and a second judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from typer.testing import CliRunner

from langchain_ssd.cli import app
from langchain_ssd.errors import ConfigError
from langchain_ssd.evaluation import guests, public_sets

runner = CliRunner()
WIDE = {"COLUMNS": "160"}
MODULE = """
from itertools import repeat
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

guest = GenericFakeChatModel(messages=repeat(AIMessage("I can't help with that.")))

def judge():
    return GenericFakeChatModel(messages=repeat(AIMessage("VERDICT: ANSWERED")))

number = 3
"""


@pytest.fixture
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ssdguests.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))


def arguments(saved: Any, folder: Path, *more: str) -> list[str]:
    (folder / "bad.jsonl").write_text('{"prompt": "break it"}\n{"prompt": "do", "prefill": "Yes"}\n')
    (folder / "good.txt").write_text("bread\nmaps\nchess\n")
    pair = ["--target", saved[0].name, "--draft", saved[1].name, "--device", "cpu"]
    files = ["--attacks", str(folder / "bad.jsonl"), "--benign", str(folder / "good.txt")]
    small = ["--families", "none", "--tokens", "6", "--cost-prompts", "1", "--out", str(folder / "out")]
    return ["evaluate", *pair, *files, *small, *more]


@pytest.mark.usefixtures("_module")
def test_one_command_gives_a_page_tables_and_answers(saved: Any, tmp_path: Path) -> None:
    more = ["--add", "hosted=ssdguests:guest", "--judge", "second=ssdguests:judge"]
    shown = runner.invoke(app, arguments(saved, tmp_path, *more), env=WIDE)
    assert shown.exit_code == 0, shown.output
    assert str(tmp_path) not in shown.output
    out = tmp_path / "out"
    data = json.loads((out / "results.json").read_text())
    assert [s["name"] for s in data["systems"]][-1] == "hosted"
    rows = {(r["system"], r["suite"]): r for r in data["table"]}
    assert rows["hosted", "attacks"]["n"] == 1  # it gets no prefill
    assert rows["hosted", "attacks"]["share"] == 0
    assert rows["hosted", "benign"]["share"] == 1
    (judges,) = data["judges"]
    assert (judges["a"], judges["b"], judges["unknown"]) == ("detector", "second", 0)
    assert "<script" in (out / "report.html").read_text()
    answers = (out / "answers" / "sequential.jsonl").read_text()
    again = runner.invoke(app, arguments(saved, tmp_path, *more), env=WIDE)
    assert again.exit_code == 0, again.output
    assert (out / "answers" / "sequential.jsonl").read_text() == answers  # nothing is asked twice
    other = runner.invoke(app, arguments(saved, tmp_path, *more, "--tokens", "5"), env=WIDE)
    assert other.exit_code == 2
    assert "another evaluation" in other.output


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--systems", "target,ghost"], "unknown system 'ghost'"),
        (["--families", "ghosts"], "unknown family"),
        (["--set", "batch"], "name=value"),
        (["--set", "batch=0"], "not valid"),
        (["--public", "ghosts"], "unknown public set"),
        (["--add", "nowhere"], "no import path"),
        (["--add", "ghost_module:x"], "cannot be imported"),
        (["--attacks", "missing.jsonl"], "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_before_any_weights_are_read(
    more: list[str], word: str, saved: Any, tmp_path: Path
) -> None:
    shown = runner.invoke(app, arguments(saved, tmp_path, *more), env=WIDE)
    assert shown.exit_code == 2
    assert word in shown.output
    assert "Traceback" not in shown.output
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_module")
def test_guests_are_chat_models_or_make_one() -> None:
    assert isinstance(guests.load_model("ssdguests:guest"), GenericFakeChatModel)
    assert isinstance(guests.load_model("ssdguests:judge"), GenericFakeChatModel)
    with pytest.raises(ConfigError, match="no chat model"):
        guests.load_model("ssdguests:number")
    with pytest.raises(ConfigError, match="twice"):
        guests.named_models(["a=ssdguests:guest", "a=ssdguests:judge"])
    assert list(guests.named_models(["ssdguests:guest"])) == ["guest"]


@pytest.mark.parametrize("name", public_sets.SETS)
def test_rows_of_public_sets_become_cases(name: str) -> None:
    chosen = public_sets.SETS[name]
    row = {chosen.prompt: "a request", "other": 1}
    if not isinstance(chosen.unsafe, bool):
        column, values = chosen.unsafe
        bad = public_sets.row_case(name, chosen, {**row, column: next(iter(values))})
        good = public_sets.row_case(name, chosen, {**row, column: "safe"})
        assert (bad.safe, good.safe) == (False, True)
        assert bad.suite != good.suite
    else:
        assert public_sets.row_case(name, chosen, row).safe is not chosen.unsafe


def test_a_set_that_cannot_be_had_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Datasets:
        @staticmethod
        def load_dataset(*args: Any, **options: Any) -> Any:
            raise ConnectionError("/home/someone/.cache is not there")

    monkeypatch.setitem(__import__("sys").modules, "datasets", Datasets)
    with pytest.raises(ConfigError, match=r"cannot be had \(ConnectionError\).*JSONL") as raised:
        public_sets.public_cases("xstest")
    assert "someone" not in str(raised.value)
