"""Events reach a real server in batches, in spite of it, and never at the cost of a request."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any
from uuid import uuid4

import jsonschema
import pytest

from langchain_ssd.errors import ConfigError
from langchain_ssd.events import BinScored
from langchain_ssd.telemetry import RiskRun, RiskWebhook, delivery
from langchain_ssd.telemetry.schema import line_schema

from .telemetry_helpers import WAYS, model
from .webhook_helpers import SECRET, Receiver, flush, positions, put, until, workers

pytestmark = pytest.mark.usefixtures("fast_and_clean")


@pytest.mark.parametrize("way", WAYS)
def test_events_arrive_as_the_log_would_have_them(way: str, receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    webhook = RiskWebhook(receiver.url, interval=3600)
    WAYS[way](model(), "hello", {"callbacks": [webhook], "metadata": {"thread_id": "t1"}, "tags": ["a"]})
    flush(webhook)
    assert [e["event"] for e in receiver.events] == [
        "ssd.mode_changed",
        "ssd.refusal",
        "ssd.response_finished",
    ]
    for event in receiver.events:
        jsonschema.validate(event, line_schema())
        assert (event["thread_id"], event["tags"]) == ("t1", ["a"])
    ((_, path, headers, body),) = receiver.posts
    assert (path, headers["content-type"]) == ("/hook", "application/json")
    assert json.loads(body)["dropped"] == webhook.dropped == 0
    assert webhook.sent == 3


def test_only_events_that_are_asked_for_are_posted(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    webhook = RiskWebhook(receiver.url, events=["ssd.bin_scored"])
    model().invoke("x", {"callbacks": [webhook]})
    flush(webhook)
    assert [event["event"] for event in receiver.events] == ["ssd.bin_scored"]
    with pytest.raises(ConfigError, match=r"unknown event 'refusal'; there are: .*ssd\.refusal"):
        RiskWebhook(receiver.url, events=["refusal"])


def test_a_full_batch_goes_at_once_and_the_rest_after_the_interval(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    webhook = RiskWebhook(receiver.url, batch_size=10, interval=1.5)
    began = time.monotonic()
    put(webhook, 25)
    until(lambda: len(receiver.events) == 25)
    assert [len(batch) for batch in receiver.batches] == [10, 10, 5]
    assert positions(receiver) == list(range(25))
    assert receiver.posts[-1][0] - began >= 1.5  # the interval held it back; full batches do not wait for it
    flush(webhook)


def test_a_receiver_that_recovers_gets_every_event_once(receive: Callable[..., Receiver]) -> None:
    receiver = receive(503, 429, 500)
    webhook = RiskWebhook(receiver.url, secret=SECRET, interval=3600)
    put(webhook, 3)
    flush(webhook)
    assert [len(batch) for batch in receiver.batches] == [3, 3, 3, 3]
    assert len({headers["webhook-id"] for _, _, headers, _ in receiver.posts}) == 1
    assert (webhook.sent, webhook.dropped) == (3, 0)


@pytest.mark.parametrize("form", ["seconds", "date", "too long", "nonsense"])
def test_retry_after_is_kept(
    form: str, receive: Callable[..., Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(delivery.Delivery, "_pause", lambda self, seconds: pauses.append(seconds) or True)
    asked = {"seconds": "120", "date": formatdate(time.time() + 120, usegmt=True), "too long": "9" * 9}
    receiver = receive((429, {"retry-after": asked.get(form, "soon")}), 503)
    webhook = RiskWebhook(receiver.url)
    put(webhook, 1)
    flush(webhook)
    first, second = pauses
    low, high = {"seconds": (120, 120), "date": (60, 120), "too long": (600, 600)}.get(form, (0, 0.02))
    assert low <= first <= high
    assert second <= 0.04  # not asked for: a pause of its own, twice the first one at most
    assert webhook.sent == 1


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413])
def test_an_answer_that_will_not_change_is_not_asked_for_again(
    status: int, receive: Callable[..., Receiver], caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = receive()
    receiver = receive(*[(status, {"location": elsewhere.url})] * 2)
    webhook = RiskWebhook(receiver.url, batch_size=2, interval=3600)
    put(webhook, 4)
    flush(webhook)
    assert [len(batch) for batch in receiver.batches] == [2, 2]
    assert (webhook.sent, webhook.dropped) == (0, 4)
    assert not elsewhere.posts  # redirects are not followed
    (record,) = [r for r in caplog.records if r.name == "langchain_ssd.telemetry.delivery"]
    assert f"status {status}" in record.getMessage()
    assert receiver.url not in caplog.text


def test_attempts_are_counted(receive: Callable[..., Receiver]) -> None:
    receiver = receive(*[503] * 9)
    webhook = RiskWebhook(receiver.url, attempts=3)
    put(webhook, 1)
    flush(webhook)
    assert len(receiver.posts) == 3
    assert webhook.dropped == 1


def test_a_server_that_hangs_never_slows_a_request(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    receiver.gate.clear()  # it takes the connection, and answers nobody
    webhook = RiskWebhook(receiver.url, batch_size=1, queue_size=5)
    put(webhook, 1)
    until(lambda: receiver.posts)
    answers = model(*["hello"] * 50).batch(["x"] * 50, {"callbacks": [webhook]})
    assert len(answers) == 50
    assert len(receiver.posts) == 1  # all were answered while the server still held the first event
    assert webhook.dropped == 45
    receiver.gate.set()
    flush(webhook)
    assert webhook.sent == 6


def test_a_full_queue_drops_its_oldest_events_and_tells(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    receiver.gate.clear()
    webhook = RiskWebhook(receiver.url, batch_size=1, queue_size=3)
    put(webhook, 1)
    until(lambda: receiver.posts)
    put(webhook, 10)
    assert webhook.dropped == 7
    receiver.gate.set()
    flush(webhook)
    assert positions(receiver) == [0, 7, 8, 9]
    assert [json.loads(body)["dropped"] for *_, body in receiver.posts] == [0, 7, 7, 7]


def test_counts_are_exact_from_many_threads_and_tasks(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    webhook = RiskWebhook(receiver.url, batch_size=7)
    config: Any = {"callbacks": [webhook], "max_concurrency": 8}
    model().batch(["x"] * 60, config)

    async def gathered() -> None:
        same = model()
        await asyncio.gather(*(same.ainvoke("x", config) for _ in range(60)))

    asyncio.run(gathered())
    flush(webhook)
    by_run: dict[str, list[str]] = {}
    for event in receiver.events:
        by_run.setdefault(event["run_id"], []).append(event["event"])
    assert len(by_run) == 120
    assert set(map(tuple, by_run.values())) == {("ssd.mode_changed", "ssd.refusal", "ssd.response_finished")}
    assert max(len(batch) for batch in receiver.batches) <= 7
    assert (webhook.sent, webhook.dropped) == (360, 0)


def test_a_server_that_is_not_there_loses_what_close_cannot_wait_for() -> None:
    receiver = Receiver()
    url = receiver.url
    receiver.close()
    webhook = RiskWebhook(url, attempts=100, batch_size=2)
    put(webhook, 20)
    webhook.close(timeout=0.3)
    until(lambda: webhook.dropped == 20)
    assert webhook.sent == 0
    put(webhook, 1)  # after the end
    assert webhook.dropped == 21


def test_close_does_not_wait_longer_than_it_is_told(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    receiver.gate.clear()
    webhook = RiskWebhook(receiver.url)
    put(webhook, 1)
    began = time.monotonic()
    webhook.close(timeout=0.2)
    assert time.monotonic() - began < 15
    receiver.gate.set()


def test_after_the_time_of_close_nothing_more_is_tried(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    receiver.gate.clear()
    webhook = RiskWebhook(receiver.url, batch_size=1)
    put(webhook, 30)
    until(lambda: receiver.posts)
    webhook.close(timeout=0.01)
    receiver.gate.set()
    until(lambda: not workers())
    assert len(receiver.posts) <= 2
    assert webhook.sent + webhook.dropped == 30


def test_close_does_not_sit_out_a_long_retry_after(receive: Callable[..., Receiver]) -> None:
    receiver = receive((503, {"retry-after": "500"}))
    webhook = RiskWebhook(receiver.url, batch_size=1)
    put(webhook, 1)
    until(lambda: receiver.posts)
    flush(webhook)
    assert (webhook.sent, webhook.dropped) == (0, 1)
    flush(webhook)  # again


def test_no_event_no_thread_and_no_connection(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    webhook = RiskWebhook(receiver.url)
    assert not workers()
    flush(webhook)
    assert not receiver.posts


def test_a_handler_that_is_let_go_delivers_and_leaves_no_thread(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    webhook = RiskWebhook(receiver.url, interval=3600)
    put(webhook, 2)
    assert workers()
    del webhook
    gc.collect()
    until(lambda: not workers())
    assert positions(receiver) == [0, 1]


def test_a_sender_that_breaks_does_not_end_the_thread(
    receive: Callable[..., Receiver], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = receive()
    webhook = RiskWebhook(receiver.url, batch_size=1)
    monkeypatch.setattr(json, "dumps", lambda *a, **k: 1 / 0)
    put(webhook, 1)
    until(lambda: webhook.dropped == 1)
    monkeypatch.undo()
    put(webhook, 1)
    flush(webhook)
    assert webhook.sent == 1
    assert "ZeroDivisionError" in caplog.text


# The end of a process, and its children

PROGRAM = """
import os, sys
from uuid import uuid4
from langchain_ssd.events import ModeChanged
from langchain_ssd.telemetry import RiskRun, RiskWebhook, delivery
delivery._AT_EXIT *= 10  # for machines that are busy
webhook = RiskWebhook(sys.argv[1], interval=3600)
webhook._tell(RiskRun(uuid4()), ModeChanged(1, "safety"))
"""
FORK = """
child = os.fork()
if child == 0:
    webhook._tell(RiskRun(uuid4()), ModeChanged(2, "safety"))
    os._exit(0 if webhook.close(60) and webhook.sent == 1 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def run(program: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, url], capture_output=True, text=True, timeout=120, check=False
    )


def test_what_waits_at_the_exit_of_the_process_is_delivered(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    done = run(PROGRAM, receiver.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert positions(receiver) == [1]


def test_a_dead_server_does_not_keep_a_process_from_ending() -> None:
    receiver = Receiver()
    url = receiver.url
    receiver.close()
    done = run(PROGRAM.replace("*= 10", "/= 10"), url)
    assert (done.returncode, done.stdout) == (0, "")
    assert "a batch of 1 events was lost (ConnectError)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_posts_its_own_events_and_not_its_parents(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    done = run(PROGRAM + FORK, receiver.url)
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr
    assert sorted(positions(receiver)) == [1, 2]
    assert len(receiver.batches) == 2


def test_bins_are_posted_only_on_request(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    webhook = RiskWebhook(receiver.url)
    webhook._tell(RiskRun(uuid4()), BinScored(0, 0.5))
    flush(webhook)
    assert not receiver.posts
