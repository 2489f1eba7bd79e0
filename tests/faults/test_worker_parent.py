"""Row 5 of the list of faults: parents that are killed, fork, end or are interrupted."""

import os
import signal
import subprocess
import sys
import textwrap
import time

from langchain_ssd.events import Finished

from .driving import ENGINE, ROOT, alive, ask, posix, wait_until

PREAMBLE = f"""
import os, signal, sys, time
from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import EngineConfig, ModelSpec
from langchain_ssd.worker.client import LocalBackend
from langchain_ssd.worker.registry import shared_backend
ask = lambda text: ChatRequest((ChatMessage("user", text),))
backend = shared_backend(ModelSpec(name="t"), ModelSpec(name="d"), EngineConfig(), engine={ENGINE!r})
last = lambda text: list(backend.submit(ask(text)))[-1].kind
"""


def parent(script: str, first: str = "") -> subprocess.Popen[str]:
    """A parent of its own that, like a notebook, has no ``__main__`` file."""
    running = subprocess.Popen(
        [sys.executable, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert running.stdin is not None
    running.stdin.write(first + PREAMBLE + textwrap.dedent(script))
    running.stdin.close()
    return running


def finish(running: subprocess.Popen[str]) -> list[str]:
    assert running.stdout is not None
    with running:
        lines = running.stdout.read().split()
        assert running.wait(10) == 0
    return lines


@posix
def test_5_the_worker_ends_when_its_parent_is_killed():
    with parent("""
        backend.warm_up()
        stream = iter(backend.submit(ask("echo 100000 slow 0.05")))
        next(stream)
        print(backend.pid, flush=True)
        time.sleep(60)
    """) as running:
        pid = int(running.stdout.readline())
        assert alive(pid)
        running.kill()
    wait_until(lambda: not alive(pid), 3)


@posix
def test_5_the_worker_ends_although_a_stranger_holds_its_pipes_open():
    with parent("""
        backend.warm_up()
        supervisor = backend._local._supervisor
        kept = [os.dup(pipe.fileno()) for pipe in (supervisor._process.stdin, supervisor._process.stdout)]
        stranger = os.fork()
        if stranger == 0:
            os.close(1)
            time.sleep(60)
            os._exit(0)
        print(backend.pid, stranger, flush=True)
        time.sleep(60)
    """) as running:
        pid, stranger = map(int, running.stdout.readline().split())
        running.kill()
    try:
        wait_until(lambda: not alive(pid), 4)
        assert alive(stranger)
    finally:
        os.kill(stranger, signal.SIGKILL)


def test_5_a_script_that_just_ends_has_ended_its_worker_before():
    first = """
import atexit
@atexit.register
def last_of_all():
    print(backend.health().state, backend.pid)
"""
    began = time.monotonic()
    (kind, pid, *end) = finish(parent("print(last('echo 1'), backend.pid, flush=True)", first))
    assert kind == "finished"
    assert end == ["closed", "None"]
    assert not alive(int(pid))
    assert time.monotonic() - began < 5


@posix
def test_5_a_forked_child_starts_its_own_worker_and_leaves_the_parents_alone():
    script = """
        import threading
        assert last("echo 2") == "finished"
        running = backend.submit(ask("echo 40 slow 0.02"))
        events = iter(running)
        next(events)
        mine = backend.pid
        child = os.fork()
        if child == 0:
            assert backend.pid is None and backend.health().state == "idle"
            inherited = list(events)[-1]
            assert inherited.code == "worker_died", inherited
            assert last("echo 2") == "finished"
            assert backend.pid != mine
            backend.close()
            os.kill(mine, 0)
            os._exit(5)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        rest = list(events)
        print(status, backend.pid == mine, rest[-1].kind, len(rest), last("echo 2"))
    """
    assert finish(parent(script)) == ["5", "True", "finished", "41", "finished"]


@posix
def test_an_interrupt_is_for_the_parent(backend):
    response = iter(backend.submit(ask("echo 5 slow 0.05")))
    next(response)
    os.kill(backend.pid, signal.SIGINT)
    assert isinstance(list(response)[-1], Finished)
    assert os.getpgid(backend.pid) != os.getpgid(0)
