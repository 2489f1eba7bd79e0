"""Rows 8 to 11 of the list of faults: consumers that leave, full queues, deadlines."""

import asyncio
import time

import pytest

from langchain_ssd.events import Event, Finished, Token
from langchain_ssd.worker import stream

from .driving import (
    ask,
    idle,
    posix,
    texts,
    the_only_failure,
    undisturbed,
    wait_until,
    words,
)


def test_8_leaving_the_queue_leaves_the_active_request_alone(start):
    backend = start(max_batch=1, heartbeat_timeout=0.3)
    active = backend.submit(ask("echo 10 slow 0.03"))
    waiting = backend.submit(ask("crash after 0"))  # would take everything down if it were ever scheduled
    last = backend.submit(ask("echo 2"))
    waiting.cancel()
    assert texts(active) == words(10)
    assert texts(last) == words(2)
    the_only_failure(list(waiting), "cancelled")
    active.cancel()
    waiting.cancel()
    wait_until(idle(backend))


def test_8_leaving_before_the_worker_is_ready_is_possible(start):
    backend = start("slow")
    backend.submit(ask("crash after 0")).cancel()
    assert texts(backend.submit(ask("echo 2"))) == words(2)


def test_9_breaking_out_stops_the_work(start):
    backend = start(heartbeat_timeout=0.3)
    for event in backend.submit(ask("echo 100000 slow 0.01")):
        if isinstance(event, Token):
            break
    undisturbed(backend, backend.pid)
    with pytest.raises(ZeroDivisionError):
        max(backend.submit(ask("echo 100000 slow 0.01")), key=lambda event: 1 / 0)
    undisturbed(backend, backend.pid)


def test_9_tasks_timeouts_and_loops_one_after_the_other(start):
    backend = start(heartbeat_timeout=0.3)
    backend.warm_up()
    pid = backend.pid

    async def read(text: str) -> str:
        return texts([event async for event in backend.submit(ask(text))])

    async def cancelled() -> None:
        task = asyncio.create_task(read("echo 100000 slow 0.01"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def timed_out() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await read("echo 100000 slow 0.01")

    async def broken_out() -> None:
        async for event in backend.submit(ask("echo 100000 slow 0.01")):
            if isinstance(event, Token):
                break

    for leave in (cancelled, timed_out, broken_out):
        asyncio.run(leave())
        undisturbed(backend, pid)
        assert asyncio.run(read("echo 4")) == words(4)


def test_9_many_tasks_in_one_loop_do_not_block_it(start):
    backend = start(max_batch=4)

    async def main() -> tuple[list[str], float]:
        async def read(count: int) -> str:
            return texts([event async for event in backend.submit(ask(f"echo {count} slow 0.01"))])

        async def longest_pause() -> float:
            longest, before = 0.0, time.monotonic()
            while True:
                try:
                    await asyncio.sleep(0.001)
                except asyncio.CancelledError:
                    return longest
                now = time.monotonic()
                longest, before = max(longest, now - before), now

        watcher = asyncio.create_task(longest_pause())
        answers = await asyncio.gather(*(read(count) for count in range(1, 13)))
        watcher.cancel()
        return answers, await watcher

    answers, pause = asyncio.run(main())
    assert answers == [words(count) for count in range(1, 13)]
    assert pause < 0.5


@posix
def test_9_a_crash_reaches_an_async_reader_too(backend):
    async def main() -> list[Event]:
        return [event async for event in backend.submit(ask("echo 9 crash after 5"))]

    events = asyncio.run(main())
    assert texts(events) == words(5)
    the_only_failure(events, "worker_died")


def test_10_a_full_queue_refuses_at_once_and_what_was_accepted_finishes(start):
    backend = start(max_batch=1, max_queue=1, heartbeat_timeout=0.3)
    running = iter(backend.submit(ask("echo 3 slow 0.2")))
    while not isinstance(next(running), Token):
        pass
    streams = [backend.submit(ask("echo 2")) for _ in range(50)]
    outcomes = [list(one) for one in streams]
    assert [texts(events) for events in outcomes if isinstance(events[-1], Finished)] == [words(2)]
    refused = [events for events in outcomes if not isinstance(events[-1], Finished)]
    assert len(refused) == 49
    for events in refused:
        assert len(events) == 1
        the_only_failure(events, "overloaded")
    assert isinstance(list(running)[-1], Finished)
    wait_until(idle(backend))
    assert texts(backend.submit(ask("echo 2"))) == words(2)


def test_11_a_deadline_in_the_queue_and_one_while_running_are_different_errors(start):
    backend = start(max_batch=1)
    running = backend.submit(ask("echo 1000 slow 0.05", timeout=0.5))
    queued = backend.submit(ask("echo 1", timeout=0.2))
    the_only_failure(list(queued), "queue_timeout")
    events = list(running)
    assert texts(events) != ""
    the_only_failure(events, "request_timeout")
    assert texts(backend.submit(ask("echo 3", timeout=60))) == words(3)


def test_11_the_time_that_loading_takes_counts(start):
    backend = start("slow")
    the_only_failure(list(backend.submit(ask("echo 1", timeout=0.3))), "queue_timeout")
    assert backend.health().state == "ready"


def test_11_a_deadline_holds_although_the_worker_hangs_or_loads(start, monkeypatch):
    monkeypatch.setattr(stream, "DEADLINE_GRACE", 0.2)
    began = time.monotonic()
    the_only_failure(list(start().submit(ask("hang after 0", timeout=0.5))), "request_timeout")
    the_only_failure(list(start("stuck").submit(ask("echo 1", timeout=0.5))), "queue_timeout")
    assert time.monotonic() - began < 3


def test_11_a_reader_that_stops_reading_is_cancelled_and_others_are_not(start, monkeypatch):
    monkeypatch.setattr(stream, "UNREAD_LIMIT", 200)
    backend = start(heartbeat_timeout=0.3)
    stalled = backend.submit(ask("echo 100000"))
    assert texts(backend.submit(ask("echo 150"))) == words(150)
    wait_until(lambda: backend._mailboxes == {})
    undisturbed(backend, backend.pid)
    the_only_failure(list(stalled), "cancelled")
