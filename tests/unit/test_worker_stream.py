"""Mailboxes and the streams that read them, in threads and in event loops."""

import asyncio
import gc
import threading
import time

import pytest

from langchain_ssd.errors import InvalidRequest, WorkerDied
from langchain_ssd.events import Event, Failed, Finished, Queued
from langchain_ssd.worker import stream
from langchain_ssd.worker.stream import Mailbox, MailboxStream, ended_stream

from .worker_doubles import tokens


class Box:
    """A mailbox with its stream, and how often it was cancelled."""

    def __init__(self, timeout: float | None = None) -> None:
        self.cancelled = 0
        self.mailbox = Mailbox(self._cancel)
        self.stream = MailboxStream(self.mailbox, timeout)

    def _cancel(self) -> None:
        self.cancelled += 1


async def collect(stream: MailboxStream) -> list[Event]:
    return [event async for event in stream]


def test_a_stream_ends_after_the_first_terminal_event_and_drops_the_rest():
    box = Box()
    assert not box.mailbox.deliver([Queued(), *tokens(0)])
    assert box.mailbox.deliver([Finished(), *tokens(1), Failed()])
    assert box.mailbox.deliver(tokens(2))
    box.mailbox.fail(WorkerDied("late"))
    assert list(box.stream) == [Queued(), *tokens(0), Finished()]
    assert box.cancelled == 0


def test_the_first_of_two_errors_is_the_only_one():
    box = Box()
    box.mailbox.fail(WorkerDied("first"))
    box.mailbox.fail(WorkerDied("second"))
    box.stream.cancel()
    assert list(box.stream) == [Failed("worker_died", "first")]
    assert box.cancelled == 0


def test_many_threads_that_end_a_stream_at_once_make_one_end():
    for _ in range(50):
        box = Box()
        barrier = threading.Barrier(4)

        def end(box: Box = box, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            box.mailbox.fail(WorkerDied("x"))

        threads = [threading.Thread(target=end) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(list(box.stream)) == 1


def test_a_stream_can_be_iterated_once():
    box = Box()
    box.mailbox.deliver([Finished()])
    assert list(box.stream) == [Finished()]
    with pytest.raises(RuntimeError, match="only once"):
        iter(box.stream)
    with pytest.raises(RuntimeError, match="only once"):
        aiter(box.stream)


def test_break_exception_and_close_cancel_once():
    for leave in ("break", "raise", "close"):
        box = Box()
        box.mailbox.deliver(tokens(0, 1, 2))
        events = iter(box.stream)
        next(events)
        if leave == "close":
            events.close()
        elif leave == "raise":
            with pytest.raises(ZeroDivisionError):
                events.throw(ZeroDivisionError())
        else:
            for _ in events:
                break
            del events
        box.stream.cancel()
        assert box.cancelled == 1, leave


def test_leaving_at_the_last_event_cancels_nothing():
    box = Box()
    box.mailbox.deliver([*tokens(0), Finished()])
    for event in box.stream:
        if isinstance(event, Finished):
            break
    assert box.cancelled == 0


def test_dropping_an_unread_stream_cancels():
    box = Box()
    del box.stream
    gc.collect()
    assert box.cancelled == 1


def test_cancel_from_another_thread_wakes_a_blocked_reader():
    box = Box()
    timer = threading.Timer(0.05, box.stream.cancel)
    timer.start()
    assert list(box.stream) == [Failed("cancelled", "the request was cancelled")]
    timer.join()
    assert box.cancelled == 1


def test_a_reader_that_stopped_reading_is_cancelled(monkeypatch):
    monkeypatch.setattr(stream, "UNREAD_LIMIT", 10)
    box = Box()
    assert not box.mailbox.deliver(tokens(*range(10)))
    assert box.mailbox.deliver(tokens(10))
    assert box.cancelled == 1
    assert list(box.stream)[-1] == Failed(
        "cancelled", "the consumer stopped reading, so the request was cancelled"
    )


def test_a_slow_reader_that_keeps_reading_is_not_cancelled(monkeypatch):
    monkeypatch.setattr(stream, "UNREAD_LIMIT", 10)
    box = Box()
    events = iter(box.stream)
    for number in range(50):
        box.mailbox.deliver(tokens(number))
        next(events)
    assert box.cancelled == 0


@pytest.mark.parametrize(("delivered", "code"), [([], "queue_timeout"), ([Queued()], "request_timeout")])
def test_a_deadline_that_the_worker_does_not_keep_is_kept_here(monkeypatch, delivered, code):
    monkeypatch.setattr(stream, "DEADLINE_GRACE", 0.05)
    for read in (list, lambda s: asyncio.run(collect(s))):
        box = Box(timeout=0.05)
        if delivered:
            box.mailbox.deliver(delivered)
        began = time.monotonic()
        events = read(box.stream)
        assert 0.09 < time.monotonic() - began < 1.0
        assert [event.code for event in events if isinstance(event, Failed)] == [code]
        assert box.cancelled == 1


def test_reading_in_a_loop_does_not_block_it_and_sees_everything_in_order():
    async def main() -> tuple[list[Event], int]:
        box = Box()
        ticks = 0

        def produce() -> None:
            for number in range(20):
                time.sleep(0.005)
                box.mailbox.deliver(tokens(number))
            box.mailbox.deliver([Finished()])

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        producer, ticker = threading.Thread(target=produce), asyncio.create_task(tick())
        producer.start()
        events = await collect(box.stream)
        ticker.cancel()
        producer.join()
        return events, ticks

    events, ticks = asyncio.run(main())
    assert events == [*tokens(*range(20)), Finished()]
    assert ticks > 5


def test_waiting_in_a_loop_is_no_polling(monkeypatch):
    looks = 0
    poll = Mailbox.poll

    def counted(self: Mailbox, timeout: float = 0.0) -> list[Event]:
        nonlocal looks
        looks += 1
        assert looks < 100, "it polls"
        return poll(self, timeout)

    async def main() -> list[Event]:
        box = Box()
        for seconds, events in ((0.01, tokens(0)), (0.2, [Finished()])):
            asyncio.get_running_loop().call_later(seconds, box.mailbox.deliver, events)
        return await collect(box.stream)

    monkeypatch.setattr(Mailbox, "poll", counted)
    assert asyncio.run(main()) == [*tokens(0), Finished()]
    assert looks < 8


def test_a_long_backlog_lets_other_tasks_run():
    async def main() -> bool:
        box = Box()
        for number in range(5):
            box.mailbox.deliver(tokens(number))
        box.mailbox.deliver([Finished()])
        other = asyncio.create_task(asyncio.sleep(0))
        async for event in box.stream:
            if isinstance(event, Finished):
                return other.done()
        return False

    assert asyncio.run(main())


def test_a_cancelled_task_cancels_the_request():
    async def main() -> Box:
        box = Box()
        task = asyncio.create_task(collect(box.stream))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return box

    assert asyncio.run(main()).cancelled == 1


def test_an_asyncio_timeout_cancels_the_request():
    async def main() -> Box:
        box = Box()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await collect(box.stream)
        return box

    assert asyncio.run(main()).cancelled == 1


def test_breaking_out_of_an_async_iteration_cancels_at_the_latest_when_the_loop_ends():
    async def main() -> Box:
        box = Box()
        box.mailbox.deliver(tokens(0, 1))
        async for _ in box.stream:
            break
        return box

    assert asyncio.run(main()).cancelled == 1


def test_a_closed_loop_cancels_what_it_was_reading():
    box = Box()
    loop = asyncio.new_event_loop()
    events = aiter(box.stream)
    box.mailbox.deliver(tokens(0))
    loop.run_until_complete(anext(events))
    loop.close()  # without shutting its generators down
    box.mailbox.deliver(tokens(1))
    assert box.cancelled == 1


def test_two_streams_in_two_loops_one_after_the_other():
    for _ in range(2):
        box = Box()
        box.mailbox.deliver([Finished()])
        assert asyncio.run(collect(box.stream)) == [Finished()]


def test_an_orphaned_mailbox_ends_although_its_threads_are_gone():
    box = Box()
    box.mailbox.deliver(tokens(0))
    box.mailbox.orphan(WorkerDied("forked"))
    assert list(box.stream) == [Failed("worker_died", "forked")]


def test_a_stream_that_failed_before_it_began():
    assert list(ended_stream(InvalidRequest("no"))) == [Failed("invalid_request", "no")]
