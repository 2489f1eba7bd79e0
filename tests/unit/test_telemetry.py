"""Hooks fire once on every path of LangChain, loggers keep every line, and no word of a prompt gets out."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_ssd import ChatSSD
from langchain_ssd.errors import ConfigError, GenerationFailed
from langchain_ssd.events import (
    SCHEMA_VERSION,
    BinScored,
    Event,
    Finished,
    ModeChanged,
    PrefillScored,
    Refused,
    Summary,
    Token,
)
from langchain_ssd.telemetry import (
    AsyncSSDCallbackHandler,
    JsonlRiskLogger,
    LoggingRiskHandler,
    RiskRun,
    SSDCallbackHandler,
)
from langchain_ssd.testing import ScriptedBackend

MARKER = "xyzzy-secret"
SCRIPT: list[Event] = [
    PrefillScored(3, 0.5, 2.0, "utility"),
    Token(0, 0, MARKER, mode="utility"),
    BinScored(0, 0.4, 0.4, None, "utility", "safety"),
    ModeChanged(1, "safety", 5.0),
    Token(1, 1, " answer", mode="safety"),
    Refused(2, "evidence", text=f"No. {MARKER}"),
    Finished("refusal", 7, 2, summary=Summary(emitted=2, scored=2, agreeing=1, match_ratio=0.5)),
]
EXPECTED = ["on_prefill_scored", "on_bin_scored", "on_mode_changed", "on_refusal", "on_response_finished"]
Told = list[tuple[str, Event, RiskRun]]


class Listener(SSDCallbackHandler):
    def __init__(self) -> None:
        super().__init__()
        self.told: Told = []

    def on_prefill_scored(self, event: PrefillScored, run: RiskRun) -> None:
        self.told.append(("on_prefill_scored", event, run))

    def on_bin_scored(self, event: BinScored, run: RiskRun) -> None:
        self.told.append(("on_bin_scored", event, run))

    def on_mode_changed(self, event: ModeChanged, run: RiskRun) -> None:
        self.told.append(("on_mode_changed", event, run))

    def on_refusal(self, event: Refused, run: RiskRun) -> None:
        self.told.append(("on_refusal", event, run))

    def on_response_finished(self, event: Finished, run: RiskRun) -> None:
        self.told.append(("on_response_finished", event, run))


class AsyncListener(AsyncSSDCallbackHandler):
    def __init__(self) -> None:
        super().__init__()
        self.told: Told = []

    async def on_prefill_scored(self, event: PrefillScored, run: RiskRun) -> None:
        self.told.append(("on_prefill_scored", event, run))

    async def on_bin_scored(self, event: BinScored, run: RiskRun) -> None:
        await asyncio.sleep(0)
        self.told.append(("on_bin_scored", event, run))

    async def on_mode_changed(self, event: ModeChanged, run: RiskRun) -> None:
        self.told.append(("on_mode_changed", event, run))

    async def on_refusal(self, event: Refused, run: RiskRun) -> None:
        self.told.append(("on_refusal", event, run))

    async def on_response_finished(self, event: Finished, run: RiskRun) -> None:
        self.told.append(("on_response_finished", event, run))


def model(*scripts: Any) -> ChatSSD:
    return ChatSSD(backend=ScriptedBackend(*(scripts or (SCRIPT,))))


async def _astream(runnable: Any, asked: Any, config: Any) -> None:
    async for _ in runnable.astream(asked, config):
        pass


async def _aevents(runnable: Any, asked: Any, config: Any) -> None:
    async for _ in runnable.astream_events(asked, config, version="v2"):
        pass


Way = Callable[[Any, Any, Any], Any]
WAYS: dict[str, Way] = {
    "invoke": lambda r, asked, config: r.invoke(asked, config),
    "ainvoke": lambda r, asked, config: asyncio.run(r.ainvoke(asked, config)),
    "stream": lambda r, asked, config: list(r.stream(asked, config)),
    "astream": lambda r, asked, config: asyncio.run(_astream(r, asked, config)),
    "batch": lambda r, asked, config: r.batch([asked], config),
    "abatch": lambda r, asked, config: asyncio.run(r.abatch([asked], config)),
    "astream_events": lambda r, asked, config: asyncio.run(_aevents(r, asked, config)),
}


@pytest.mark.parametrize("listener", [Listener, AsyncListener])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chained", [False, True])
def test_every_hook_fires_once_on_every_path(way: str, chained: bool, listener: type[Any]) -> None:
    if listener is AsyncListener and way in ("invoke", "stream", "batch"):
        pytest.skip("a synchronous path does not wait for asynchronous handlers")
    heard = listener()
    runnable: Any = model()
    asked: Any = "hello"
    if chained:
        runnable = ChatPromptTemplate.from_template("{x}") | runnable | StrOutputParser()
        asked = {"x": "hello"}
    WAYS[way](runnable, asked, {"callbacks": [heard], "metadata": {"thread_id": "t1"}, "tags": ["a"]})
    assert [name for name, _, _ in heard.told] == EXPECTED
    run = heard.told[0][2]
    assert all(r is run for _, _, r in heard.told)
    assert run.metadata["thread_id"] == "t1"
    assert (run.parent_run_id is not None) == chained
    _, end, _ = heard.told[-1]
    assert isinstance(end, Finished)
    assert (end.finish_reason, end.completion_tokens, end.summary.match_ratio) == ("refusal", 2, 0.5)
    assert heard.told[1][1] == SCRIPT[2]
    assert MARKER not in repr(heard.told)


def test_runs_side_by_side_are_told_apart() -> None:
    heard = Listener()
    model(*[SCRIPT] * 6).batch(["a"] * 6, {"callbacks": [heard], "max_concurrency": 3})
    runs = {run.run_id for _, _, run in heard.told}
    assert len(runs) == 6
    for one in runs:
        assert [name for name, _, run in heard.told if run.run_id == one] == EXPECTED
    assert not heard._reader._runs


def test_another_model_and_an_error_leave_nothing_behind() -> None:
    heard = Listener()
    other = GenericFakeChatModel(messages=iter([AIMessage("hi")]))
    other.invoke("hello", {"callbacks": [heard]})
    broken = model(GenerationFailed("the draft failed; try again"))
    with pytest.raises(Exception, match="draft"):
        broken.invoke("hello", {"callbacks": [heard]})
    assert heard.told == []
    assert not heard._reader._runs


def test_a_hook_that_raises_breaks_nothing_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SSDCallbackHandler):
        def on_bin_scored(self, event: BinScored, run: RiskRun) -> None:
            raise ValueError(MARKER)

    with caplog.at_level(logging.WARNING):
        answers = model(SCRIPT, SCRIPT).batch(["a", "b"], {"callbacks": [Broken()]})
    assert all(a.response_metadata["finish_reason"] == "refusal" for a in answers)
    said = [r for r in caplog.records if r.name == "langchain_ssd.telemetry.reading"]
    assert len(said) == 1
    assert "on_bin_scored" in said[0].getMessage()
    assert MARKER not in caplog.text


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_log_has_one_line_an_event_and_no_words(tmp_path: Path) -> None:
    path = tmp_path / "risk.jsonl"
    log = JsonlRiskLogger(path)
    model(SCRIPT, SCRIPT).batch([MARKER, MARKER], {"callbacks": [log], "max_concurrency": 1})
    found = lines(path)
    assert [row["event"].removeprefix("ssd.") for row in found[:5]] == [
        n.removeprefix("on_") for n in EXPECTED
    ]
    assert len(found) == 10
    assert all(row["schema_version"] == SCHEMA_VERSION for row in found)
    assert MARKER not in path.read_text()
    assert os.stat(path).st_mode & 0o077 == 0
    log.close()
    model().invoke("after", {"callbacks": [log]})
    assert len(lines(path)) == 10


def test_the_log_rotates_without_losing_a_line(tmp_path: Path) -> None:
    path = tmp_path / "risk.jsonl"
    log = JsonlRiskLogger(path, max_bytes=3000, backups=3)
    for _ in range(5):
        model().invoke("x", {"callbacks": [log]})
    files = sorted(tmp_path.iterdir())
    assert 2 <= len(files) <= 4
    assert all(f.stat().st_size <= 3000 for f in files)
    newest_first = [path, *(path.with_name(f"risk.jsonl.{n}") for n in range(1, len(files)))]
    times = [row["time"] for f in reversed(newest_first) for row in lines(f)]
    assert times == sorted(times)


def test_half_a_line_of_a_crash_is_not_joined_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "risk.jsonl"
    path.write_text('{"event": "ssd.bin_sco')
    model().invoke("x", {"callbacks": [JsonlRiskLogger(path)]})
    rows = path.read_text().splitlines()
    assert len(rows) == 6
    assert all(json.loads(row) for row in rows[1:])


def test_a_killed_process_loses_at_most_the_line_being_written(tmp_path: Path) -> None:
    path = tmp_path / "risk.jsonl"
    code = f"""
import os, signal
from uuid import uuid4
from langchain_ssd.events import BinScored
from langchain_ssd.telemetry import JsonlRiskLogger, RiskRun
log = JsonlRiskLogger({str(path)!r})
for n in range(500):
    log.on_bin_scored(BinScored(n, 0.5), RiskRun(uuid4()))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert [row["index"] for row in lines(path)] == list(range(500))


def test_a_log_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"risk.jsonl cannot be written"):
        JsonlRiskLogger(tmp_path / "missing" / "risk.jsonl")


def test_records_have_levels_by_weight(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="langchain_ssd.risk"):
        model().invoke(MARKER, {"callbacks": [LoggingRiskHandler()]})
    found = [(r.levelname, r.ssd["event"]) for r in caplog.records if r.name == "langchain_ssd.risk"]  # type: ignore[attr-defined]
    assert found == [
        ("DEBUG", "ssd.prefill_scored"),
        ("DEBUG", "ssd.bin_scored"),
        ("INFO", "ssd.mode_changed"),
        ("WARNING", "ssd.refusal"),
        ("DEBUG", "ssd.response_finished"),
    ]
    assert MARKER not in "".join(r.getMessage() for r in caplog.records if r.name == "langchain_ssd.risk")
