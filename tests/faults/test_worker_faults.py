"""Rows 1 and 3 of the list of faults: a worker that is killed, breaks down or hangs."""

import os
import signal
import time

import pytest

from langchain_ssd.events import Event, Queued, Token
from langchain_ssd.worker import client

from .driving import alive, ask, posix, texts, the_only_failure, words


@posix
def test_1_a_worker_killed_after_token_5_is_one_error_at_once_and_the_next_request_works(backend):
    streams = [backend.submit(ask("echo 1000 slow 0.02")) for _ in range(2)]
    events: list[Event] = []
    killed = 0.0
    for event in streams[0]:
        events.append(event)
        if isinstance(event, Token) and event.index == 4:
            pid = backend.pid
            os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
    assert time.monotonic() - killed < 1.0
    assert "SIGKILL" in the_only_failure(events, "worker_died").message
    the_only_failure(list(streams[1]), "worker_died")
    assert backend.health().state == "failed"
    assert texts(backend.submit(ask("echo 3"))) == words(3)
    assert backend.health().state == "ready"
    assert backend.pid != pid


@pytest.mark.parametrize(("how", "said"), [("exit", "exit status 7"), ("crash", "SIGKILL")])
def test_1_a_worker_that_ends_by_itself_says_how(backend, how, said):
    events = list(backend.submit(ask(f"echo 9 {how} after 5")))
    assert texts(events) == words(5)
    assert said in the_only_failure(events, "worker_died").message or os.name != "posix"


def test_1_restarts_are_bounded_and_pause_and_then_the_last_exit_is_named(start):
    backend = start(max_restarts=1)
    began = time.monotonic()
    for _ in range(2):
        the_only_failure(list(backend.submit(ask("exit after 0"))), "worker_died")
    assert time.monotonic() - began > client._BACKOFF_START
    failure = the_only_failure(list(backend.submit(ask("echo 1"))), "worker_unavailable")
    assert "exit status 7" in failure.message
    assert backend.health().state == "failed"


def test_an_engine_that_raises_fails_every_request_and_is_replaced(backend):
    other = iter(backend.submit(ask("echo 1000 slow 0.01")))
    assert next(other) == Queued(4, 4)
    events = list(backend.submit(ask("echo 9 raise after 2")))
    assert texts(events) == words(2)
    assert "RuntimeError" in the_only_failure(events, "generation_failed").message
    the_only_failure(list(other), "generation_failed")
    assert texts(backend.submit(ask("echo 3"))) == words(3)


def test_a_request_that_fails_alone_disturbs_nobody(backend):
    other = backend.submit(ask("echo 20 slow 0.01"))
    the_only_failure(list(backend.submit(ask("echo 9 fail after 2"))), "non_finite_logits")
    the_only_failure(list(backend.submit(ask("invalid"))), "invalid_request")
    assert texts(other) == words(20)


def test_3_a_worker_that_makes_no_step_is_replaced(start):
    backend = start(stall_timeout=0.6)
    events = list(backend.submit(ask("echo 9 hang after 2")))
    assert texts(events) == words(2)
    assert "stall_timeout" in the_only_failure(events, "worker_died").message
    assert texts(backend.submit(ask("echo 3"))) == words(3)


@posix
def test_3_a_stopped_worker_is_replaced(start):
    backend = start(heartbeat_timeout=0.6)
    assert texts(backend.submit(ask("echo 1"))) == words(1)
    pid = backend.pid
    os.kill(pid, signal.SIGSTOP)
    failure = the_only_failure(list(backend.submit(ask("echo 1"))), "worker_died")
    assert "heartbeat_timeout" in failure.message
    assert not alive(pid)
    assert texts(backend.submit(ask("echo 3"))) == words(3)


def test_3_slow_steps_that_beat_are_left_alone(start):
    backend = start(heartbeat_timeout=0.4, stall_timeout=1.5)
    assert texts(backend.submit(ask("echo 2 slow 0.8"))) == words(2)


@posix
def test_a_full_pipe_to_a_stopped_worker_blocks_nobody(start):
    backend = start(heartbeat_timeout=1.5)
    backend.warm_up()
    os.kill(backend.pid, signal.SIGSTOP)
    began = time.monotonic()
    streams = [backend.submit(ask("x" * 100_000)) for _ in range(20)]
    assert time.monotonic() - began < 1.2  # before the worker is given up
    for one in streams:
        the_only_failure(list(one), "worker_died")
