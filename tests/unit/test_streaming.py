"""The road from a backend to checked events: the terminal rule, retries, cancellation."""

import asyncio
import random
import time

import pytest

from langchain_ssd import streaming
from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.errors import (
    GenerationFailed,
    OutOfMemory,
    Overloaded,
    ProtocolError,
    QueueTimeout,
    SSDError,
    WorkerDied,
)
from langchain_ssd.events import Failed, Finished, ModeChanged, Queued, Refused, Token
from langchain_ssd.testing import ScriptedBackend, answer, failure, refusal

HELLO = ChatRequest(messages=(ChatMessage("user", "hi"),))
FULL = Overloaded("the queue is full")


@pytest.fixture(params=["sync", "async"])
def drain(request):
    """Run a request to its end, on either road."""

    def drained(backend, query=HELLO, max_retries=0):
        if request.param == "sync":
            return list(streaming.run(backend, query, max_retries))

        async def collect():
            return [event async for event in streaming.arun(backend, query, max_retries)]

        return asyncio.run(collect())

    return drained


@pytest.fixture
def pauses(monkeypatch):
    """The pauses between attempts, without waiting for them."""
    taken = []

    async def sleep(delay):
        if delay:  # the scripted backend sleeps for 0 seconds between its events
            taken.append(delay)

    monkeypatch.setattr(streaming.time, "sleep", taken.append)
    monkeypatch.setattr(streaming.asyncio, "sleep", sleep)
    return taken


def test_events_pass_in_order_and_end_with_one_finished(drain):
    events = drain(ScriptedBackend("one two"))
    assert [type(event) for event in events] == [Queued, Token, Token, Finished]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ([], "without saying how"),
        (answer("a b")[:-1], "without saying how"),
        ([Finished(), Finished()], "after the end"),
        ([Finished(), Token()], "after the end"),
        ([Finished(), Failed()], "after the end"),
        ([Refused(text="no"), Token(text="leak"), Finished("refusal")], "after a refusal"),
        ([Refused(text="no"), Finished("stop")], "contradict"),
        ([Finished("refusal")], "contradict"),
        ([Refused(text="no", enforced=False), Finished("refusal")], "contradict"),
    ],
)
def test_a_broken_stream_fails_closed(drain, script, why):
    with pytest.raises(ProtocolError, match=why):
        drain(ScriptedBackend(script))


def test_the_end_waits_until_the_stream_has_ended():
    seen = []
    with pytest.raises(ProtocolError):
        seen.extend(streaming.run(ScriptedBackend([Finished(), Token(text="more")]), HELLO, 0))
    assert [type(event) for event in seen] == [Queued]


def test_good_refusals_pass(drain):
    assert drain(ScriptedBackend(refusal("no", after="a")))[-1].finish_reason == "refusal"
    assert drain(ScriptedBackend(refusal("no", enforced=False)))[-1].finish_reason == "stop"
    after = [Refused(text="no"), ModeChanged(), Finished("refusal")]
    assert len(drain(ScriptedBackend(after))) == 4


def test_failures_become_their_own_class(drain):
    with pytest.raises(OutOfMemory, match=r"^no memory$"):
        drain(ScriptedBackend(failure(OutOfMemory("no memory"), after="a")))
    with pytest.raises(SSDError) as caught:
        drain(ScriptedBackend([Failed("from_the_future", "what?")]))
    assert type(caught.value) is SSDError


def test_what_was_turned_away_is_tried_again(drain, pauses):
    backend = ScriptedBackend(FULL, WorkerDied("it died before it took the request"), "hello")
    assert drain(backend, max_retries=2)[1].text == "hello"
    assert len(backend.requests) == 3
    assert len(pauses) == 2
    assert all(0 <= pause <= 0.5 for pause in pauses)


def test_retries_end(drain, pauses):
    backend = ScriptedBackend(FULL)
    with pytest.raises(Overloaded):
        drain(backend, max_retries=3)
    assert len(backend.requests) == 4


def test_pauses_are_jittered_and_grow_to_a_limit(pauses, monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    with pytest.raises(Overloaded):
        list(streaming.run(ScriptedBackend(FULL), HELLO, 8))
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def busy(seconds):
    error = Overloaded("come back later")
    error.retry_after = seconds
    return error


def test_whoever_is_busy_is_given_the_time_it_asks_for_and_jitter_on_top(drain, pauses):
    backend = ScriptedBackend(busy(5), busy(0), "hello")
    assert drain(backend, max_retries=2)[1].text == "hello"
    assert 5 <= pauses[0] <= 5.25
    assert 0 <= sum(pauses[1:]) <= 0.5


def test_the_same_demand_brings_nobody_back_at_the_same_instant(pauses):
    for _ in range(20):
        list(streaming.run(ScriptedBackend(busy(3), "hello"), HELLO, 1))
    assert len(set(pauses)) > 1
    assert all(3 <= pause <= 3.25 for pause in pauses)


def test_nobody_can_ask_for_an_endless_pause(drain, pauses):
    drain(ScriptedBackend(busy(1e9), "hello"), max_retries=1)
    assert 30 <= pauses[0] <= 30.25


def test_a_pause_beyond_the_deadline_is_not_begun(drain, pauses):
    query = ChatRequest(messages=HELLO.messages, timeout=4)
    with pytest.raises(Overloaded, match="come back later") as caught:
        drain(ScriptedBackend(busy(5), "hello"), query, max_retries=5)
    assert (pauses, caught.value.retry_after) == ([], 5)


@pytest.mark.parametrize("error", [FULL, WorkerDied("it died"), QueueTimeout("too late")])
@pytest.mark.parametrize("after", ["", "some text"])
def test_what_was_accepted_is_never_repeated(drain, pauses, error, after):
    backend = ScriptedBackend(failure(error, after=after), "hello")
    with pytest.raises(type(error)):
        drain(backend, max_retries=5)
    assert (len(backend.requests), pauses) == (1, [])


def test_what_cannot_help_is_not_tried_again(drain, pauses):
    backend = ScriptedBackend(GenerationFailed("the monitor raised"), "hello")
    with pytest.raises(GenerationFailed):
        drain(backend, max_retries=5)
    assert (len(backend.requests), pauses) == (1, [])


def test_an_error_of_submit_itself_is_treated_alike(drain, pauses):
    def raising(request):
        raise Overloaded("no place")

    backend = ScriptedBackend(raising)
    with pytest.raises(Overloaded):
        drain(backend, max_retries=1)
    assert len(backend.requests) == 2


def test_one_deadline_covers_all_attempts(drain):
    query = ChatRequest(messages=HELLO.messages, timeout=0.3)
    backend = ScriptedBackend(FULL)
    began = time.monotonic()
    with pytest.raises(Overloaded):
        drain(backend, query, max_retries=100)
    assert time.monotonic() - began < 1
    assert all(0 < request.timeout <= 0.3 for request in backend.requests)
    assert backend.requests[-1].timeout < 0.3


def test_a_deadline_that_has_passed_is_a_queue_timeout(drain):
    query = ChatRequest(messages=HELLO.messages, timeout=1e-12)
    backend = ScriptedBackend("hello")
    with pytest.raises(QueueTimeout, match="raise timeout"):
        drain(backend, query, max_retries=5)
    assert backend.requests == []


def test_no_deadline_stays_none(drain):
    backend = ScriptedBackend("hello")
    drain(backend)
    assert backend.requests[0].timeout is None


def test_leaving_cancels_the_request():
    backend = ScriptedBackend("one two three")
    events = streaming.run(backend, HELLO, 0)
    next(events)
    assert backend.cancelled == []
    events.close()
    assert backend.cancelled == [0]


async def test_leaving_asynchronously_cancels_the_request():
    backend = ScriptedBackend("one two three")
    events = streaming.arun(backend, HELLO, 0)
    await anext(events)
    await events.aclose()
    assert backend.cancelled == [0]


def test_nothing_is_cancelled_after_the_end(drain):
    backend = ScriptedBackend("one two", failure(GenerationFailed("x")))
    drain(backend)
    with pytest.raises(GenerationFailed):
        drain(backend)
    assert backend.cancelled == []
    assert backend.health().running == 0
