"""``ChatSSD`` through a server: the same chunks, telemetry, refusals, errors and cancellation as without."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any

import pytest

from langchain_ssd import ChatSSD, RefusalPolicy, SSDConfig
from langchain_ssd.backend import ChatMessage, ChatRequest, load_backend
from langchain_ssd.config import Sampling
from langchain_ssd.constraint import Constraint
from langchain_ssd.errors import (
    ConfigError,
    InvalidRequest,
    Overloaded,
    ProtocolError,
    RequestRefused,
    SafetyLocked,
    SSDError,
    WorkerDied,
    WorkerError,
)
from langchain_ssd.events import (
    BinScored,
    Failed,
    Finished,
    ModeChanged,
    PrefillScored,
    Queued,
    Refused,
    Summary,
    Token,
)
from langchain_ssd.testing import ScriptedBackend, answer, failure, refusal
from langchain_ssd_tgi import RemoteBackend
from langchain_ssd_tgi.client.answers import event_of
from langchain_ssd_tgi.client.failures import retry_after

from .serving import KEY, Exact, serving, serving_alone, wait_until

HELLO = ChatRequest((ChatMessage("user", "hi"),))
SUMMARY = Summary(monitor="sequential", refusal={"reason": "x"}, seed=7, seconds=1.5, protected=False)
EVERYTHING = [
    Queued(3, 4, 2, False),
    PrefillScored(2, 0.5, 1.25, "safety"),
    ModeChanged(0, "safety", 2.5),
    Token(0, 42, "Hé", False, "safety", False, False, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 1.5, False, 0.8),
    Token(1, 43, "", True, "utility"),
    BinScored(0, 0.25, 0.5, 0.6, "utility", "safety"),
    Refused(2, "evidence", "suspected_jailbreak", "de", "", False),
    Finished(
        "length",
        5,
        2,
        1,
        Summary(monitor="sequential", refusal={"reason": "x"}, seed=7, seconds=1.5, protected=False),
    ),
]


def test_every_event_survives_in_every_field() -> None:
    with serving(Exact(EVERYTHING)) as server:
        assert list(RemoteBackend(server.url).submit(HELLO)) == EVERYTHING


async def test_also_in_an_event_loop() -> None:
    with serving(Exact(EVERYTHING)) as server:
        assert [event async for event in RemoteBackend(server.url).submit(HELLO)] == EVERYTHING


def test_every_field_of_a_request_arrives() -> None:
    request = ChatRequest(
        messages=(
            ChatMessage("system", "be kind"),
            ChatMessage("user", "hi", name="Ada"),
            ChatMessage(
                "assistant",
                "",
                tool_calls=(
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": "é"}}},
                ),
            ),
            ChatMessage("tool", "42", name="f", tool_call_id="c1"),
        ),
        prefill="Sure, \n",
        tools=({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},),
        tool_choice="f",
        parallel_tool_calls=False,
        constraint=Constraint("choice", ["a", "b"], may_refuse=False),
        sampling=Sampling(
            temperature=0.5,
            top_p=0.9,
            top_k=5,
            max_tokens=7,
            stop=("x",),
            seed=3,
            repetition_penalty=1.1,
            presence_penalty=0.1,
            frequency_penalty=0.2,
            logit_bias={1: 2.0},
            logprobs=True,
        ),
        safety=SSDConfig(monitor="sequential", hold_back=5, enforce=False),
        refusal=RefusalPolicy(language="de", templates={"de": "Nein."}, category="x", patience=3),
        include_thinking=True,
        timeout=None,
    )
    with serving(ScriptedBackend("a"), lock_safety=False) as server:
        assert isinstance(list(RemoteBackend(server.url).submit(request))[-1], Finished)
        assert server.backend.requests == [request]


def test_a_deadline_travels_too() -> None:
    with serving(ScriptedBackend("a")) as server:
        ChatSSD(base_url=server.url, timeout=9).invoke("hi")
        assert 8 < server.backend.requests[0].timeout <= 9


def test_chatssd_finds_the_backend_by_its_entry_point() -> None:
    with serving(ScriptedBackend("Hello!")) as server:
        assert isinstance(load_backend("tgi", base_url=server.url), RemoteBackend)
        with ChatSSD(base_url=server.url) as model:
            assert model.invoke("hi").text == "Hello!"
            assert model.get_token_ids("to be") == [2, 3]
            assert model.get_num_tokens("to be") == 2


def test_a_key_is_sent_and_a_wrong_one_is_said() -> None:
    with serving(ScriptedBackend("ok"), keys=({"name": "a", "key": KEY},)) as server:
        assert ChatSSD(base_url=server.url, api_key=KEY).invoke("hi").text == "ok"
        for key in (None, KEY.upper()):
            with pytest.raises(ConfigError, match="valid key") as caught:
                ChatSSD(base_url=server.url, api_key=key).invoke("hi")
            assert KEY not in str(caught.value)
            with pytest.raises(ConfigError, match="valid key"):
                ChatSSD(base_url=server.url, api_key=key).warm_up()


def test_the_users_hub_token_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "s" * 30)
    with serving(ScriptedBackend("ok"), keys=({"name": "hub", "key": "hf_" + "s" * 30},)) as server:
        model = ChatSSD(base_url=server.url)
        for call in (lambda: model.invoke("hi"), lambda: model.get_num_tokens("x"), model.warm_up):
            with pytest.raises(ConfigError, match="valid key"):
                call()


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_an_address_may_end_as_people_write_it(path: str) -> None:
    with serving(ScriptedBackend("ok")) as server:
        assert ChatSSD(base_url=server.url + path).invoke("hi").text == "ok"


# Failures


def test_a_locked_server_refuses_what_would_change_it_with_the_same_error_as_a_locked_model() -> None:
    with serving(ScriptedBackend("ok")) as server:
        for change in ({"ssd": {"theta": 0.1}}, {"enforce": False}, {"refusal": {"enabled": False}}):
            with pytest.raises(SafetyLocked, match="locked"):
                ChatSSD(base_url=server.url, **change).invoke("hi")
        with pytest.raises(SafetyLocked, match="logit_bias"):
            ChatSSD(base_url=server.url, logit_bias={7: 100.0}).invoke("hi")
        assert server.backend.requests == []


@pytest.mark.parametrize(
    "error",
    [InvalidRequest("no tools here"), Overloaded("full"), WorkerDied("it died"), ProtocolError("broken")],
)
def test_typed_errors_cross_before_and_within_a_stream(error: SSDError) -> None:
    with serving(ScriptedBackend(error, failure(error, after="some words"))) as server:
        backend = RemoteBackend(server.url)
        (turned_away,) = backend.submit(HELLO)
        assert (turned_away.code, turned_away.message) == (error.code, error.message)
        *_, last = backend.submit(HELLO)
        assert last == Failed(error.code, error.message)


def test_what_was_turned_away_is_tried_again_and_what_was_accepted_is_not() -> None:
    full = Overloaded("full")
    with serving(ScriptedBackend(full, full, "at last")) as server:
        assert ChatSSD(base_url=server.url, max_retries=2).invoke("hi").text == "at last"
        assert len(server.backend.requests) == 3
    with serving(ScriptedBackend(failure(full, after="word"), "again")) as server:
        with pytest.raises(Overloaded):
            ChatSSD(base_url=server.url, max_retries=2).invoke("hi")
        assert len(server.backend.requests) == 1


def test_the_servers_retry_after_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("langchain_ssd.streaming.time.sleep", pauses.append)
    keys = ({"name": "a", "key": KEY, "requests_per_minute": 6},)
    with serving(ScriptedBackend("ok"), keys=keys) as server:
        model = ChatSSD(base_url=server.url, api_key=KEY, max_retries=1)
        for _ in range(6):
            model.invoke("hi")
        with pytest.raises(Overloaded, match="quota") as caught:
            model.invoke("hi")
        assert 1 <= caught.value.retry_after <= 10
        # The module's clock is the process's, which other threads use for their short naps.
        assert caught.value.retry_after - 1 <= max(pauses) <= 10.25  # the second answer may ask for less


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), (" 0 ", 0), ("Thu, 01 Jan 1970 00:01:40 GMT", 40), ("Thu, 01 Jan 1970 00:00:01 GMT", 0),
     ("", None), ("-3", None), ("1.5", None), ("soon", None), ("\u0663", None), ("nan", None)],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(header: str, seconds: float | None) -> None:
    assert retry_after(header, 60.0) == seconds


def test_a_server_that_is_not_there_is_a_worker_error_in_one_line() -> None:
    for call in ("invoke", "warm_up"):
        model = ChatSSD(base_url="http://127.0.0.1:9", max_retries=0)
        with pytest.raises(WorkerError, match="cannot be reached"):
            model.invoke("secret") if call == "invoke" else model.warm_up()


def test_a_server_that_goes_away_in_the_middle_is_a_typed_error() -> None:
    with serving_alone(ScriptedBackend(answer("a b c d e"), delay=0.2), {"grace": 0}) as server:
        stream = iter(RemoteBackend(server.url).submit(HELLO))
        assert isinstance(next(stream), Queued)
        server.server.drain()
        *_, last = stream
        assert isinstance(last, Failed)
        assert last.code in ("overloaded", "worker_died")


@pytest.mark.parametrize(
    "wire",
    [None, 7, {}, {"kind": "nonsense"}, {"kind": "token", "index": "x"}, {"kind": "token", "secret": 1},
     {"kind": "finished", "summary": 7}, {"kind": "mode_changed", "mode": "wild"}],
)  # fmt: skip
def test_a_broken_event_is_a_protocol_error(wire: Any) -> None:
    with pytest.raises(ProtocolError) as caught:
        event_of(wire)
    assert "secret" not in str(caught.value)


# Leaving


def test_leaving_early_stops_the_work_in_the_server_whatever_the_way() -> None:
    with serving(ScriptedBackend(answer("word " * 200), delay=0.02)) as server:
        model = ChatSSD(base_url=server.url)
        for chunk in model.stream("hi"):
            if chunk.text:
                break
        wait_until(lambda: server.backend.cancelled == [0])

        async def leave() -> None:
            async for chunk in model.astream("hi"):
                if chunk.text:
                    break
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await model.ainvoke("hi")

        asyncio.run(leave())
        wait_until(lambda: server.backend.cancelled == [0, 1, 2])
        stream = RemoteBackend(server.url).submit(HELLO)
        wait_until(lambda: len(server.backend.requests) == 4)
        del stream
        gc.collect()
        wait_until(lambda: server.backend.cancelled == [0, 1, 2, 3])


def test_cancelling_from_another_thread_wakes_a_silent_reader_at_once() -> None:
    with serving(ScriptedBackend(answer("a"), delay=30)) as server:
        stream = RemoteBackend(server.url).submit(HELLO)
        threading.Timer(0.3, stream.cancel).start()
        began = time.monotonic()
        assert list(stream) == [Failed("cancelled", "the request was cancelled")]
        assert time.monotonic() - began < 3
        wait_until(lambda: server.backend.cancelled == [0])


def test_closing_ends_what_runs_and_refuses_what_comes() -> None:
    with serving(ScriptedBackend(answer("a b c"), delay=0.5)) as server:
        backend = RemoteBackend(server.url)
        stream = backend.submit(HELLO)
        wait_until(lambda: len(server.backend.requests) == 1)
        backend.close()
        backend.close()
        *_, last = stream
        assert last.code == "cancelled"
        assert backend.health().state == "closed"
        (refused,) = backend.submit(HELLO)
        assert refused.code == "worker"
        wait_until(lambda: server.backend.cancelled == [0])


def test_requests_side_by_side_get_their_own_answers_and_leave_nothing() -> None:
    with serving(ScriptedBackend(lambda request: request.messages[-1].content)) as server:
        model = ChatSSD(base_url=server.url)
        prompts = [f"number {n}" for n in range(40)]
        assert [m.text for m in model.batch(prompts)] == prompts
        assert [m.text for m in asyncio.run(model.abatch(prompts))] == prompts
        wait_until(lambda: model.health().running == 0)
        wait_until(lambda: server.service.admission.running == 0)


# State


def test_health_asks_nobody_and_warm_up_waits() -> None:
    with serving(ScriptedBackend("a")) as server:
        model = ChatSSD(base_url=server.url)
        assert model.health().state == "idle"
        health = model.warm_up()
        assert health.state == "ready"
        assert health.info["protected"] is True
        assert health.info["server"]["model_id"] == "ssd"
        model.close()


def test_the_same_refusal_on_both_sides() -> None:
    script = refusal("No.", after="Sure, here is")
    with serving(ScriptedBackend(script)) as server:
        local, remote = ChatSSD(backend=ScriptedBackend(script)), ChatSSD(base_url=server.url)
        for way in (lambda m: m.invoke("hi"), lambda m: sum_of(m.stream("hi"))):
            ours, theirs = way(local), way(remote)
            assert theirs.content == ours.content
            assert theirs.response_metadata == ours.response_metadata
            assert theirs.usage_metadata == ours.usage_metadata


@pytest.mark.parametrize("way", ["replace", "append", "raise"])
def test_what_becomes_of_a_refusal_is_decided_here_and_is_no_change_of_the_servers_safety(way: Any) -> None:
    script = refusal("No.", after="Sure, here is")
    policy = RefusalPolicy(on_refusal=way)
    with serving(ScriptedBackend(script)) as server:  # its settings are locked
        local = ChatSSD(backend=ScriptedBackend(script), refusal=policy)
        remote = ChatSSD(base_url=server.url, refusal=policy)
        if way != "raise":
            assert remote.invoke("hi").content == local.invoke("hi").content
            return
        seen = []
        for model in (local, remote):
            with pytest.raises(RequestRefused) as caught:
                model.invoke("hi")
            error = caught.value
            seen.append((error.text, error.reason, error.category, error.response_metadata, error.usage))
        assert seen[0] == seen[1]
        assert seen[0][0] == "No."


def sum_of(chunks: Any) -> Any:
    first, *others = chunks
    return first + others
