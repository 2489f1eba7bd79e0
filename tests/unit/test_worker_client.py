"""When a worker is started and given up, and who is told what: with a supervisor that has no process."""

from typing import Any

import pytest

from langchain_ssd.backend import ChatRequest
from langchain_ssd.config import EngineConfig, ModelSpec
from langchain_ssd.errors import (
    ConfigError,
    InvalidRequest,
    ModelNotFound,
    ProtocolError,
    StartupTimeout,
    WorkerError,
    WorkerStartFailed,
    WorkerUnavailable,
)
from langchain_ssd.events import Failed, Finished, Queued
from langchain_ssd.worker import calls, child, client
from langchain_ssd.worker.client import LocalBackend

from .worker_doubles import HELLO, D, FakeSupervisor, T, call_in_thread, tokens, wait_until


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(client, "Supervisor", FakeSupervisor)
    monkeypatch.setattr(FakeSupervisor, "made", [])
    return FakeSupervisor.made


@pytest.fixture
def backend(made):
    backend = LocalBackend(T, D, EngineConfig(max_restarts=2))
    yield backend
    backend.close()


def test_nothing_is_started_before_it_is_needed(backend, made):
    assert backend.health().state == "idle"
    assert backend.pid is None
    assert made == []
    backend.submit(HELLO)
    assert [worker.delay for worker in made] == [0.0]
    assert backend.health().state == "loading"


def test_health_follows_the_worker(backend, made):
    response = backend.submit(HELLO)
    backend.on_progress("target", 0.5)
    assert backend.health().info == {"stage": "target", "fraction": 0.5}
    assert backend.health().queued == 1
    made[0].become_ready()
    made[0].running = 1
    assert (backend.health().state, backend.health().running) == ("ready", 1)
    assert backend.health().info == {"vocabulary": 5}
    made[0].die()
    assert backend.health().state == "failed"
    assert backend.health().info["error"]["code"] == "worker_died"
    assert list(response) == [Failed("worker_died", "it died")]
    backend.close()
    assert backend.health().state == "closed"


def test_a_death_fails_everything_in_flight_once_and_the_next_request_has_a_fresh_worker(backend, made):
    streams = [backend.submit(HELLO) for _ in range(3)]
    made[0].answer(1, Queued(), *tokens(0))
    made[0].die()
    assert list(streams[0]) == [Queued(), *tokens(0), Failed("worker_died", "it died")]
    assert [list(s) for s in streams[1:]] == [[Failed("worker_died", "it died")]] * 2
    fresh = backend.submit(HELLO)
    made[1].answer(4, Finished())
    assert list(fresh) == [Finished()]
    made[0].die()  # a late report of the first one
    assert backend.health().state == "loading"


def test_the_pause_before_a_restart_grows_until_the_worker_is_given_up(backend, made):
    for _ in range(3):
        response = backend.submit(HELLO)
        made[-1].die()
        list(response)
    assert made[0].delay == 0
    assert 0.4 < made[1].delay <= 0.5
    assert 0.9 < made[2].delay <= 1.0
    assert backend.exhausted
    (failure,) = list(backend.submit(HELLO))
    assert failure.code == "worker_unavailable"
    assert "3 times" in failure.message
    assert "it died" in failure.message
    assert len(made) == 3
    with pytest.raises(WorkerUnavailable):
        backend.token_ids("x")
    with pytest.raises(WorkerUnavailable):
        backend.warm_up()


def test_the_pause_is_never_longer_than_half_a_minute(made):
    backend = LocalBackend(T, D, EngineConfig(max_restarts=20))
    for _ in range(12):
        backend.submit(HELLO)
        made[-1].die()
    backend.submit(HELLO)
    assert 29 < made[-1].delay <= 30
    backend.close()


def test_a_finished_request_in_between_makes_it_the_first_failure_again(backend, made):
    for number in range(1, 7):
        response = backend.submit(HELLO)
        made[-1].answer(number, Finished())
        made[-1].die()
        list(response)
    assert not backend.exhausted


def test_a_failed_request_in_between_does_not(backend, made):
    for number in range(1, 4):
        response = backend.submit(HELLO)
        made[-1].answer(number, Failed("generation_failed", "x"))
        made[-1].die()
        list(response)
    assert backend.exhausted


def test_a_configuration_error_is_no_crash_and_a_later_request_tries_again(backend, made):
    for _ in range(5):
        response = backend.submit(HELLO)
        made[-1].die(ModelNotFound("no such model"))
        assert list(response) == [Failed("model_not_found", "no such model")]
    assert [worker.delay for worker in made] == [0.0] * 5


def test_a_response_that_was_never_asked_for_is_a_protocol_error(backend, made):
    backend.submit(HELLO)
    for number in (0, -1, 2, 10**9):
        with pytest.raises(ProtocolError, match="never made"):
            made[0].answer(number, Finished())


def test_events_of_a_request_that_was_cancelled_meanwhile_are_dropped(backend, made):
    response = backend.submit(HELLO)
    response.cancel()
    response.cancel()
    made[0].answer(1, Finished())
    assert made[0].sent[1:] == [{"type": "cancel", "id": 1}]
    assert list(response) == [Failed("cancelled", "the request was cancelled")]


def test_an_unsendable_request_fails_without_starting_a_worker(backend, made):
    (failure,) = list(backend.submit(ChatRequest((), tools=({"f": object()},))))
    assert failure.code == "invalid_request"
    assert made == []


def test_token_ids_wait_for_their_own_answer(backend, made):
    thread, outcome = call_in_thread(lambda: backend.token_ids("hi"))
    wait_until(lambda: bool(made) and len(made[0].sent) == 1)
    made[0].become_ready()
    backend.on_reply({"type": "token_ids", "id": 1, "ids": [1, 2]})
    thread.join(3)
    assert outcome == [[1, 2]]
    assert made[0].sent == [{"type": "token_ids", "id": 1, "text": "hi"}]


def test_token_ids_that_fail_raise_the_error(backend, made):
    thread, outcome = call_in_thread(lambda: backend.token_ids("hi"))
    wait_until(lambda: bool(made) and len(made[0].sent) == 1)
    backend.on_reply({"type": "call_failed", "id": 1, "code": "invalid_request", "message": "no"})
    thread.join(3)
    assert isinstance(outcome[0], InvalidRequest)


def test_token_ids_that_are_no_numbers_are_a_protocol_error(backend, made):
    backend.submit(HELLO)
    with pytest.raises(ProtocolError, match="integers"):
        backend.on_reply({"type": "token_ids", "id": 1, "ids": [1, "2"]})


def test_every_waiting_call_hears_of_progress_and_of_the_end(backend, made):
    heard: list[Any] = []
    first, outcome = call_in_thread(lambda: backend.warm_up(lambda *news: heard.append(news)))
    second, other = call_in_thread(lambda: backend.token_ids("x"))
    wait_until(lambda: bool(made) and len(made[0].sent) == 1 and len(backend._replies) == 2)
    backend.on_progress("target", 0.5)
    made[0].die(ConfigError("bad pair"))
    first.join(3)
    second.join(3)
    assert heard == [("target", 0.5)]
    assert [type(error) for error in (*outcome, *other)] == [ConfigError, ConfigError]
    assert outcome[0] is not other[0]


def test_warm_up_of_a_ready_worker_returns_at_once(backend, made):
    backend.submit(HELLO)
    made[0].become_ready()
    assert backend.warm_up().state == "ready"
    assert len(made) == 1


def test_an_answer_that_never_comes_is_a_timeout_that_names_the_setting(backend, made, monkeypatch):
    with pytest.raises(StartupTimeout, match="start_timeout"):
        calls.wait_for(list, calls.Reply(), 0.02, None)


def test_close_fails_what_is_in_flight_and_refuses_what_comes(backend, made):
    response = backend.submit(HELLO)
    backend.close()
    backend.close()
    assert [event.code for event in response] == ["cancelled"]
    (failure,) = list(backend.submit(HELLO))
    assert "closed" in failure.message
    with pytest.raises(WorkerError, match="closed"):
        backend.token_ids("x")
    assert len(made) == 1


def test_a_worker_without_threads_is_a_failed_start(backend, made, monkeypatch):
    def no_thread(self: FakeSupervisor) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(FakeSupervisor, "start", no_thread)
    (failure,) = list(backend.submit(HELLO))
    assert failure.code == WorkerStartFailed.code
    assert backend.health().state == "idle"


def test_the_worker_is_this_python_and_this_package_and_no_secret_is_on_its_command_line():
    backend = LocalBackend(ModelSpec(name="t", token="hf_secret"), D, EngineConfig())
    assert backend._command[1:4] == ["-P", "-m", "langchain_ssd.worker.process"]
    assert backend._command[-1] == "langchain_ssd.engine.loading:build_engine"
    assert "hf_secret" not in " ".join(backend._command)
    assert "hf_secret" not in repr(backend)
    backend.close()


@pytest.mark.parametrize(
    ("code", "words"),
    [(3, "exit status 3"), (-9, "killed by SIGKILL"), (-100, "killed by signal 100"), (None, "does not end")],
)
def test_an_exit_in_words(code, words):
    assert words in child.describe_exit(code)
