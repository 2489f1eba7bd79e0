"""Hooks fire once on every path of LangChain, loggers keep every line, and no word of a prompt gets out."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph

from langchain_ssd import ChatSSD
from langchain_ssd.config import RefusalPolicy
from langchain_ssd.errors import ConfigError, GenerationFailed, RequestRefused
from langchain_ssd.events import (
    SCHEMA_VERSION,
    BinScored,
    Event,
    Finished,
    ModeChanged,
    PrefillScored,
    Queued,
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
from langchain_ssd.telemetry.custom_events import CUSTOM_EVENTS
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
EXPECTED = [
    "on_queued",
    "on_prefill_scored",
    "on_bin_scored",
    "on_mode_changed",
    "on_refusal",
    "on_response_finished",
]
Told = list[tuple[str, Event, RiskRun]]


class Listener(SSDCallbackHandler):
    def __init__(self) -> None:
        super().__init__()
        self.told: Told = []

    def on_queued(self, event: Queued, run: RiskRun) -> None:
        self.told.append(("on_queued", event, run))

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

    async def on_queued(self, event: Queued, run: RiskRun) -> None:
        self.told.append(("on_queued", event, run))

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


def _v3(runnable: Any, asked: Any, config: Any) -> None:
    if isinstance(runnable, ChatSSD):
        list(runnable.stream_events(asked, config, version="v3"))
    else:  # a chain has no such stream of its own: a function in a chain reads the model's
        chain = RunnableLambda(lambda x: list(runnable.steps[1].stream_events(str(x), version="v3")))
        chain.invoke(asked, config)


def _graph(runnable: Any, asked: Any, config: Any) -> None:
    """A LangGraph node that calls it, with the messages streamed."""
    graph = StateGraph(MessagesState)
    graph.add_node("ask", lambda state: {"messages": [("ai", str(runnable.invoke(asked)))]})
    graph.add_edge(START, "ask")
    list(graph.compile().stream({"messages": []}, config, stream_mode="messages"))


def _agent(runnable: Any, asked: Any, config: Any) -> None:
    agent: Any = create_agent(model(), tools=[])
    list(agent.stream({"messages": [("human", "hello")]}, config, stream_mode="messages"))


Way = Callable[[Any, Any, Any], Any]
WAYS: dict[str, Way] = {
    "invoke": lambda r, asked, config: r.invoke(asked, config),
    "ainvoke": lambda r, asked, config: asyncio.run(r.ainvoke(asked, config)),
    "stream": lambda r, asked, config: list(r.stream(asked, config)),
    "astream": lambda r, asked, config: asyncio.run(_astream(r, asked, config)),
    "batch": lambda r, asked, config: r.batch([asked], config),
    "abatch": lambda r, asked, config: asyncio.run(r.abatch([asked], config)),
    "astream_events": lambda r, asked, config: asyncio.run(_aevents(r, asked, config)),
    "event stream v3": _v3,
    "LangGraph": _graph,
    "create_agent": _agent,
}
SYNC = ("invoke", "stream", "batch", "event stream v3", "LangGraph", "create_agent")


@pytest.mark.filterwarnings("ignore:.*in beta")  # version 3 of the event stream is
@pytest.mark.parametrize("listener", [Listener, AsyncListener])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chained", [False, True])
def test_every_hook_fires_once_on_every_path(way: str, chained: bool, listener: type[Any]) -> None:
    if listener is AsyncListener and way in SYNC:
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
    assert (run.parent_run_id is not None) == (chained or way in ("LangGraph", "create_agent"))
    _, end, _ = heard.told[-1]
    assert isinstance(end, Finished)
    assert (end.finish_reason, end.completion_tokens, end.summary.match_ratio) == ("refusal", 2, 0.5)
    assert heard.told[2][1] == SCRIPT[2]
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
    assert [row["event"].removeprefix("ssd.") for row in found[:6]] == [
        n.removeprefix("on_") for n in EXPECTED
    ]
    assert len(found) == 12
    assert all(row["schema_version"] == SCHEMA_VERSION for row in found)
    assert MARKER not in path.read_text()
    assert os.stat(path).st_mode & 0o077 == 0
    log.close()
    model().invoke("after", {"callbacks": [log]})
    assert len(lines(path)) == 12


def test_the_log_rotates_without_losing_a_line(tmp_path: Path) -> None:
    path = tmp_path / "risk.jsonl"
    log = JsonlRiskLogger(path, max_bytes=4000, backups=3)
    for _ in range(5):
        model().invoke("x", {"callbacks": [log]})
    files = sorted(tmp_path.iterdir())
    assert 2 <= len(files) <= 4
    assert all(f.stat().st_size <= 4000 for f in files)
    newest_first = [path, *(path.with_name(f"risk.jsonl.{n}") for n in range(1, len(files)))]
    times = [row["time"] for f in reversed(newest_first) for row in lines(f)]
    assert times == sorted(times)


def test_half_a_line_of_a_crash_is_not_joined_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "risk.jsonl"
    path.write_text('{"event": "ssd.bin_sco')
    model().invoke("x", {"callbacks": [JsonlRiskLogger(path)]})
    rows = path.read_text().splitlines()
    assert len(rows) == 7
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
        ("DEBUG", "ssd.queued"),
        ("DEBUG", "ssd.prefill_scored"),
        ("DEBUG", "ssd.bin_scored"),
        ("INFO", "ssd.mode_changed"),
        ("WARNING", "ssd.refusal"),
        ("DEBUG", "ssd.response_finished"),
    ]
    assert MARKER not in "".join(r.getMessage() for r in caplog.records if r.name == "langchain_ssd.risk")


def test_the_end_of_a_response_brings_its_tokens_and_on_request_its_words(tmp_path: Path) -> None:
    for text, name in ((False, "plain"), (True, "text")):
        log = JsonlRiskLogger(tmp_path / name, include_text=text)
        for way in ("invoke", "stream"):
            WAYS[way](model(), MARKER, {"callbacks": [log]})
        for row in (row for row in lines(tmp_path / name) if row["event"] == "ssd.response_finished"):
            trace = row["trace"]
            assert (trace["mode"], trace["agreement"]) == ("us", "11")
            assert trace["characters"] == [len(MARKER), len(" answer")]
            assert ("prompt" in row, "answer" in row) == (text, text)
            if text:
                assert row["prompt"] == [{"role": "human", "text": MARKER}]
                assert row["answer"].endswith(f"No. {MARKER}")
    assert MARKER not in (tmp_path / "plain").read_text()


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_a_refusal_that_is_raised_is_told_like_any_other(way: str, tmp_path: Path) -> None:
    heard, log = Listener(), JsonlRiskLogger(tmp_path / "log")
    raising = ChatSSD(backend=ScriptedBackend(SCRIPT), refusal=RefusalPolicy(on_refusal="raise"))
    with pytest.raises(RequestRefused) as caught:
        WAYS[way](raising, "hello", {"callbacks": [heard, log]})
    error = caught.value
    assert (error.text, error.reason) == (f"No. {MARKER}", "evidence")
    assert (error.category, error.retryable) == ("suspected_jailbreak", False)
    assert MARKER not in str(error)
    assert error.response_metadata["finish_reason"] == "refusal"
    assert [name for name, _, _ in heard.told] == EXPECTED
    assert heard.told[-1][1] == Finished("refusal", 1, 2, summary=heard.told[-1][1].summary)  # type: ignore[attr-defined]
    assert lines(tmp_path / "log")[-1]["trace"]["mode"] == "us"


class Custom(BaseCallbackHandler):
    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any], Any]] = []
        self.models: list[Any] = []

    def on_chat_model_start(self, *args: Any, run_id: Any, **kwargs: Any) -> None:
        self.models.append(run_id)

    def on_custom_event(self, name: str, data: Any, *, run_id: Any, **kwargs: Any) -> None:
        self.heard.append((name, data, run_id))


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "astream_events", "LangGraph"])
def test_inside_a_chain_the_events_are_custom_events_of_the_models_own_run(way: str) -> None:
    heard = Custom()
    chain = ChatPromptTemplate.from_template("{x}") | model() | StrOutputParser()
    WAYS[way](chain, {"x": MARKER}, {"callbacks": [heard]})
    names = [name.replace("ssd.", "on_") for name, _, _ in heard.heard]
    assert names == EXPECTED
    assert {run_id for _, _, run_id in heard.heard} == set(heard.models)
    assert len(heard.models) == 1
    assert heard.heard[2][1]["match_ratio"] == 0.4
    assert MARKER not in repr(heard.heard)


async def test_astream_events_yields_them_with_the_model_as_their_source() -> None:
    chain = model() | StrOutputParser()
    events = [event async for event in chain.astream_events("hello", version="v2")]
    (started,) = [e["run_id"] for e in events if e["event"] == "on_chat_model_start"]
    custom = [e for e in events if e["event"] == "on_custom_event"]
    assert [e["name"].replace("ssd.", "on_") for e in custom] == EXPECTED
    assert {e["run_id"] for e in custom} == {started}


def test_a_model_that_is_called_directly_dispatches_nothing_and_copies_share_the_handler() -> None:
    heard, other = Custom(), Listener()
    one = ChatSSD(backend=ScriptedBackend(SCRIPT), callbacks=[other])
    for some in (one, one.model_copy(), copy.deepcopy(model())):
        some.invoke("hello", {"callbacks": [heard]})
        assert sum(h is CUSTOM_EVENTS for h in some.callbacks) == 1  # type: ignore[union-attr]
    assert heard.heard == []
    assert len(other.told) == 2 * len(EXPECTED)
    assert "callbacks" not in one.model_dump()


def test_a_handler_of_custom_events_that_raises_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(BaseCallbackHandler):
        raise_error = True

        def on_custom_event(self, *args: Any, **kwargs: Any) -> None:
            raise ValueError(MARKER)

    chain = model(SCRIPT) | StrOutputParser()
    assert chain.invoke("hello", {"callbacks": [Broken()]}) == f"No. {MARKER}"
    assert "on_custom_event" in caplog.text
    assert caplog.text.count("ValueError") >= 1
