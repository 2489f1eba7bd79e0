"""Row 4 of the list of faults: a worker that does not start; and closing it."""

import gc
import time

import psutil
import pytest

from langchain_ssd.config import EngineConfig, ModelSpec
from langchain_ssd.errors import ModelNotFound, StartupTimeout, WorkerStartFailed
from langchain_ssd.events import Queued
from langchain_ssd.worker import registry
from langchain_ssd.worker.client import LocalBackend

from .driving import ENGINE, ROOT, alive, ask, texts, the_only_failure, wait_until, words


def test_4_a_start_that_never_ends_is_a_timeout_that_names_the_setting(start):
    backend = start("stuck", start_timeout=0.6)
    response = backend.submit(ask("echo 1"))
    began = time.monotonic()
    with pytest.raises(StartupTimeout, match=r"EngineConfig\.start_timeout=0\.6"):
        backend.warm_up()
    assert 0.4 < time.monotonic() - began < 1.8
    the_only_failure(list(response), "startup_timeout")
    assert psutil.Process().children() == []


def test_4_a_configuration_error_reaches_everybody_who_waits_and_is_tried_again(start):
    backend = start("missing", max_restarts=0)
    streams = [backend.submit(ask("echo 1")) for _ in range(3)]
    for one in streams:
        assert "no model called missing" in the_only_failure(list(one), "model_not_found").message
    for call in (backend.warm_up, lambda: backend.token_ids("x")):
        with pytest.raises(ModelNotFound):
            call()
    assert backend.health().info["error"]["code"] == "model_not_found"


def test_4_an_exception_while_loading_is_named_without_its_text(start):
    backend = start("broken")
    with pytest.raises(WorkerStartFailed, match="RuntimeError") as caught:
        backend.warm_up()
    assert str(ROOT) not in str(caught.value)


def test_4_a_death_while_loading_is_named_with_its_exit_status(start):
    with pytest.raises(WorkerStartFailed, match="exit status 9"):
        start("dead").warm_up()


@pytest.mark.parametrize("engine", ["no.such.module:build", "langchain_ssd.errors:no_such", "nonsense"])
def test_4_an_engine_that_cannot_be_imported_is_a_failed_start(engine):
    backend = LocalBackend(ModelSpec(name="t"), ModelSpec(name="d"), EngineConfig(), engine=engine)
    with pytest.raises(WorkerStartFailed, match="could not be loaded"):
        backend.warm_up()
    backend.close()


def test_4_a_program_that_cannot_be_started_is_a_failed_start(start, monkeypatch):
    backend = start()
    backend._command = [str(ROOT / "no-such-python")]
    failure = the_only_failure(list(backend.submit(ask("echo 1"))), "worker_start_failed")
    assert str(ROOT) not in failure.message


def test_4_closing_while_it_loads_takes_the_worker_along(start):
    backend = start("stuck")
    response = backend.submit(ask("echo 1"))
    wait_until(lambda: backend.pid is not None)
    pid = backend.pid
    began = time.monotonic()
    backend.close()
    assert time.monotonic() - began < 1.5
    assert not alive(pid)
    the_only_failure(list(response), "cancelled")


def test_closing_ends_open_streams_and_can_be_repeated(backend):
    response = iter(backend.submit(ask("echo 100000 slow 0.05")))
    next(response)
    pid = backend.pid
    began = time.monotonic()
    backend.close()
    backend.close()
    assert time.monotonic() - began < 1.5
    assert not alive(pid)
    the_only_failure(list(response), "cancelled")


def test_closing_does_not_wait_for_a_hanging_step(backend):
    response = iter(backend.submit(ask("hang after 0")))
    assert isinstance(next(response), Queued)
    began = time.monotonic()
    backend.close()
    assert time.monotonic() - began < 2
    assert backend.pid is None


def test_shared_holds_share_a_process_and_the_last_one_ends_it():
    def hold(target: str = "shared") -> registry.SharedBackend:
        spec = ModelSpec(name=target)
        return registry.shared_backend(spec, spec, EngineConfig(), engine=ENGINE)

    first, second, other = hold(), hold(), hold("other")
    for one in (first, second, other):
        one.warm_up()
    pid = first.pid
    assert second.pid == pid
    assert other.pid != pid
    first.close()
    first.close()
    assert texts(second.submit(ask("echo 2"))) == words(2)
    assert second.pid == pid
    second.close()
    other.close()
    assert not alive(pid)
    assert psutil.Process().children() == []


def test_a_hold_that_is_dropped_ends_its_worker():
    spec = ModelSpec(name="dropped")
    hold = registry.shared_backend(spec, spec, EngineConfig(), engine=ENGINE)
    response = hold.submit(ask("echo 50 slow 0.01"))
    del hold
    gc.collect()
    assert texts(response) == words(50)
    (worker,) = psutil.Process().children()
    del response
    gc.collect()
    wait_until(lambda: not alive(worker.pid))
    wait_until(lambda: not psutil.Process().children())
