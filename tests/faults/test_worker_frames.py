"""Rows 18 and 20 of the list of faults: hostile frames, and leaks of the prompt."""

import base64
import json
import os
import signal
import struct
import subprocess
import sys
from typing import Any

import psutil
import pytest

from langchain_ssd.config import EngineConfig, ModelSpec
from langchain_ssd.errors import InvalidRequest
from langchain_ssd.events import Failed, Finished, Token
from langchain_ssd.worker import process, server, wire
from langchain_ssd.worker.protocol import encode

from .driving import ENGINE, MARKER, ROOT, ask, posix, texts, the_only_failure, wait_until, words

HOSTILE_WORKER = """
import sys, time
sys.stdin.buffer.read(1)
sys.stdout.buffer.write(bytes.fromhex(sys.argv[1]))
sys.stdout.buffer.flush()
time.sleep(60)
"""
READY = encode({"type": "ready", "info": {}})
RUNS_CODE = base64.b64decode("gARjYnVpbHRpbnMKZXhlYwqMAzEvMIVSLg==")


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest.mark.parametrize(
    "said",
    [
        framed(RUNS_CODE),
        b"\xff\xff\xff\xff" + b"x" * 100,
        framed(b"[" * 50_000),
        encode({"type": "hello"}),
        encode({"type": "beat", "steps": "1", "busy": True, "running": 0, "queued": 0}),
        encode({"type": "events", "id": 99, "events": []}),
        encode({"type": "events", "id": 1, "events": [{"kind": "token", "text": 5}]}),
        encode({"type": "token_ids", "id": 1, "ids": ["x"]}),
    ],
)
def test_18_a_worker_that_breaks_the_protocol_is_replaced(start, said):
    backend = start(max_restarts=5)
    honest = backend._command
    backend._command = [sys.executable, "-c", HOSTILE_WORKER, (READY + said).hex()]
    the_only_failure(list(backend.submit(ask("echo 1"))), "protocol")
    assert psutil.Process().children() == []
    backend._command = honest
    assert texts(backend.submit(ask("echo 3"))) == words(3)


@posix
def test_18_a_worker_killed_inside_a_frame_is_a_death_and_no_protocol_error(start):
    backend = start()
    cut = encode({"type": "events", "id": 1, "events": [Token().to_wire()]})[:-9]
    backend._command = [sys.executable, "-c", HOSTILE_WORKER, (READY + cut).hex()]
    response = backend.submit(ask("echo 1"))
    wait_until(lambda: backend.health().state == "ready")
    os.kill(backend.pid, signal.SIGKILL)
    assert "SIGKILL" in the_only_failure(list(response), "worker_died").message


def test_18_nothing_can_be_added_to_a_response_that_has_ended(start):
    backend = start()
    twice = [
        encode({"type": "events", "id": 1, "events": [event.to_wire()]})
        for event in (Token(), Finished(), Token(text="late"), Finished(), Failed())
    ]
    backend._command = [sys.executable, "-c", HOSTILE_WORKER, b"".join([READY, *twice]).hex()]
    assert list(backend.submit(ask("echo 1"))) == [Token(), Finished()]


def worker_exit(said: bytes, *, then_close: bool) -> int:
    """The exit status of a worker that is told this."""
    command = [sys.executable, "-m", "langchain_ssd.worker.process", "--engine", ENGINE]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
    ) as worker:
        assert worker.stdin is not None
        worker.stdin.write(said)
        worker.stdin.flush()
        if then_close:
            worker.stdin.close()
        return worker.wait(10)


def hello(**change: Any) -> bytes:
    frame = wire.hello(ModelSpec(name="t"), ModelSpec(name="d"), EngineConfig())
    return encode({**frame, **change})


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"\x80\x04garbage", process.EXIT_PROTOCOL),
        (encode({"type": "close"}), process.EXIT_PROTOCOL),
        (hello(version=0), process.EXIT_STARTUP),
        (hello() + hello(), server.EXIT_ENGINE),
        (hello() + b"\xff" * 9, process.EXIT_PROTOCOL),
        (hello() + framed(json.dumps({"type": "run", "code": "1"}).encode()), process.EXIT_PROTOCOL),
        (hello() + encode({"type": "close"}), server.EXIT_DONE),
    ],
)
def test_18_a_worker_that_hears_nonsense_ends(said, status):
    assert worker_exit(said, then_close=False) == status


@pytest.mark.parametrize("said", [b"", hello()])
def test_5_a_worker_that_hears_nothing_more_ends(said):
    assert worker_exit(said, then_close=True) == process.EXIT_ORPHAN


def test_20_no_error_log_or_health_quotes_the_prompt(start, caplog, tmp_path, monkeypatch):
    log = tmp_path / "worker.log"
    monkeypatch.setenv("LANGCHAIN_SSD_WORKER_LOG", str(log))
    backend = start(max_restarts=20, stall_timeout=0.6)
    said: list[str] = []
    for fault in ("raise", "exit", "fail", "hang"):
        events = list(backend.submit(ask(f"{MARKER} echo 9 {fault} after 2")))
        assert isinstance(events[-1], Failed)
        said += [events[-1].message, repr(backend.health()), repr(backend)]
    for request in (ask(f"{MARKER} invalid"), ask(MARKER, tools=({MARKER: object()},))):
        said += [event.message for event in backend.submit(request) if isinstance(event, Failed)]
    with pytest.raises(InvalidRequest) as caught:
        backend.token_ids(MARKER + "\ud800")
    said.append(str(caught.value))
    written = log.read_text()
    assert "RuntimeError" in written
    everything = [*said, caplog.text, written]
    assert len(caplog.records) == 3
    assert all("\n" not in record.getMessage() for record in caplog.records)
    assert not any(MARKER in text for text in everything)
    assert not any(str(ROOT) in text for text in [*said, caplog.text])


def test_20_a_log_that_cannot_be_opened_is_a_failed_start_that_names_the_variable(
    start, tmp_path, monkeypatch
):
    monkeypatch.setenv("LANGCHAIN_SSD_WORKER_LOG", str(tmp_path))
    failure = the_only_failure(list(start().submit(ask("echo 1"))), "worker_start_failed")
    assert "LANGCHAIN_SSD_WORKER_LOG" in failure.message
    assert str(tmp_path) not in failure.message
