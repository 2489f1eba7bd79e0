"""Events reach a real server in batches, in spite of it, and never at the cost of a request."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import hmac
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import jsonschema
import pytest
from pydantic import SecretStr

from langchain_ssd.errors import ConfigError
from langchain_ssd.events import BinScored, ModeChanged
from langchain_ssd.telemetry import RiskRun, RiskWebhook, delivery
from langchain_ssd.telemetry.schema import line_schema
from langchain_ssd.telemetry.webhook import signature

from .telemetry_helpers import WAYS, model

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789").decode()
Reply = tuple[int, dict[str, str]]


class Receiver:
    """A server that keeps what it is sent and answers as it is told: the next reply, then 200 for ever."""

    def __init__(self, *replies: int | Reply) -> None:
        self.replies = [(r, {}) if isinstance(r, int) else r for r in replies]
        self.posts: list[tuple[float, str, dict[str, str], bytes]] = []
        self.gate = threading.Event()
        self.gate.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.posts.append((time.monotonic(), self.path, dict(self.headers.items()), body))
                receiver.gate.wait(60)
                status, headers = receiver.replies.pop(0) if receiver.replies else (200, {})
                self.send_response(status)
                for name, value in {"content-length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that went away

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"

    @property
    def batches(self) -> list[list[dict[str, Any]]]:
        return [json.loads(body)["events"] for _, _, _, body in self.posts]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for batch in self.batches for event in batch]

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(*replies: int | Reply) -> Receiver:
        made.append(Receiver(*replies))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture(autouse=True)
def _fast_and_clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(delivery, "_FIRST_PAUSE", 0.02)
    yield
    until = time.monotonic() + 60
    while _workers() and time.monotonic() < until:
        time.sleep(0.01)
    assert not _workers()


def _workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ssd-webhook"]


def until(happens: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def put(webhook: RiskWebhook, count: int, run: RiskRun | None = None) -> None:
    """Events as a request would cause them, numbered by their position."""
    for number in range(count):
        webhook._tell(run or RiskRun(uuid4()), ModeChanged(number, "safety"))


def flush(webhook: RiskWebhook) -> None:
    assert webhook.close(timeout=60)


def positions(receiver: Receiver) -> list[int]:
    return [event["position"] for event in receiver.events]


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
    until(lambda: not _workers())
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
    assert not _workers()
    flush(webhook)
    assert not receiver.posts


def test_a_handler_that_is_let_go_delivers_and_leaves_no_thread(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    webhook = RiskWebhook(receiver.url, interval=3600)
    put(webhook, 2)
    assert _workers()
    del webhook
    gc.collect()
    until(lambda: not _workers())
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


# Signatures and secrets


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of the specification's reference libraries.
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", [SECRET, SecretStr(SECRET), "a plain text of enough bytes"])
def test_a_receiver_can_verify_a_batch(secret: str | SecretStr, receive: Callable[..., Receiver]) -> None:
    receiver = receive(503)
    webhook = RiskWebhook(receiver.url, secret=secret, headers={"Authorization": "Bearer abc"}, interval=3600)
    put(webhook, 2)
    flush(webhook)
    key = b"a plain text of enough bytes" if secret != SECRET and isinstance(secret, str) else None
    key = key or b"0123456789abcdef0123456789"
    assert len(receiver.posts) == 2
    for _, _, headers, body in receiver.posts:
        said = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        digest = base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{digest}"
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        assert headers["Authorization"] == "Bearer abc"


def test_without_a_secret_there_is_no_signature(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    webhook = RiskWebhook(receiver.url)
    put(webhook, 1)
    flush(webhook)
    assert "webhook-signature" not in receiver.posts[0][2]


def test_secrets_are_shown_nowhere(
    receive: Callable[..., Receiver], caplog: pytest.LogCaptureFixture
) -> None:
    receiver = receive(404)
    token = "token-in-the-path-0123456789"
    with caplog.at_level(logging.DEBUG):
        webhook = RiskWebhook(
            f"{receiver.url}/{token}", secret=f"{token}-secret", headers={"authorization": f"Bearer {token}"}
        )
        put(webhook, 1)
        flush(webhook)
    assert receiver.posts[0][1].endswith(token)
    shown = [repr(webhook), str(webhook), repr(vars(webhook)), repr(vars(webhook._delivery)), caplog.text]
    for said in shown:
        assert token not in said
    with pytest.raises(ConfigError) as refused:
        RiskWebhook(f"http://example.com/{token}", secret=token)
    assert token not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "http://example.com/hook"}, "must begin with https"),
        ({"url": "http://127.0.0.1.example.com/"}, "must begin with https"),
        ({"url": "http://[::2]/"}, "must begin with https"),
        ({"url": "ftp://example.com"}, "must begin with https"),
        ({"url": "example.com/hook"}, "must begin with https"),
        ({"url": "https://"}, "name a host"),
        ({"url": "https://example.com:port"}, "cannot be read"),
        ({"proxy": "nonsense://example.com"}, "check the proxy"),
        ({"url": "https://user:pass@example.com"}, "put credentials into headers"),
        ({"secret": "short"}, "24 bytes or more"),
        ({"secret": "whsec_!!!"}, "must be base64"),
        ({"batch_size": 0}, "batch_size: .*greater than or equal to 1"),
        ({"interval": 0}, "interval: "),
        ({"queue_size": 0}, "queue_size: "),
        ({"attempts": 0}, "attempts: "),
        ({"timeout": 0}, "timeout: "),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RiskWebhook(**{"url": "https://example.com/hook", **given})


@pytest.mark.parametrize("host", ["localhost", "127.8.9.1", "[::1]", "app.localhost"])
def test_this_machine_needs_no_https(host: str) -> None:
    RiskWebhook(f"http://{host}:1/")


def test_http_can_be_allowed() -> None:
    RiskWebhook("http://example.com/", allow_http=True)


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
