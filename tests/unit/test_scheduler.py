"""Admission, deadlines and places: pure values, no models."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_ssd.engine.scheduler import Scheduler
from langchain_ssd.errors import Overloaded, QueueTimeout, RequestTimeout


@dataclass(eq=False)
class Job:
    request_id: str
    deadline: float | None = None


def scheduler(max_batch: int = 2, max_queue: int = 3) -> Scheduler[Job]:
    return Scheduler(max_batch, max_queue)


def filled(n: int, **limits: int) -> tuple[Scheduler[Job], list[Job]]:
    s, jobs = scheduler(**limits), [Job(str(i)) for i in range(n)]
    for job in jobs:
        s.submit(job)
    return s, jobs


def test_first_come_first_served() -> None:
    s, (a, b, c) = filled(3)
    assert s.admit() == [a, b] == s.running
    assert list(s.waiting) == [c]
    assert s.admit() == []
    s.retire(a)
    assert s.admit() == [c]
    assert s.running == [b, c]


def test_a_full_queue_refuses_and_keeps_nothing() -> None:
    s, jobs = filled(5, max_batch=2, max_queue=3)  # two of them will find a place at the next step
    with pytest.raises(Overloaded, match="3 requests are waiting"):
        s.submit(Job("too many"))
    assert list(s.waiting) == jobs
    s.admit()
    with pytest.raises(Overloaded):
        s.submit(Job("still too many"))
    s.retire(jobs[0])
    s.submit(Job("fits again"))


def test_the_last_one_moves_into_the_freed_place() -> None:
    s, (a, b, c, d) = filled(4, max_batch=4, max_queue=9)
    s.admit()
    assert s.retire(b) == 1
    assert s.running == [a, d, c]
    assert s.retire(c) == 2  # the last one: nothing moves
    assert s.running == [a, d]
    assert s.retire(a) == 0
    assert s.running == [d]


def test_retiring_a_stranger_is_an_error() -> None:
    s, _ = filled(1)
    s.admit()
    with pytest.raises(ValueError, match="not in"):
        s.retire(Job("stranger"))


def test_deadlines_in_the_queue_and_while_running() -> None:
    s = scheduler(max_batch=1)
    running, late, patient = Job("r", 10.0), Job("l", 5.0), Job("p")
    for job in (running, late, patient):
        s.submit(job)
    s.admit()
    assert s.expired(4.9) == []
    [(job, error)] = s.expired(5.0)
    assert job is late
    assert isinstance(error, QueueTimeout)
    assert error.retryable
    assert list(s.waiting) == [patient]
    [(job, error)] = s.expired(10.0)
    assert job is running
    assert isinstance(error, RequestTimeout)
    assert s.running == [running]  # its rows are freed by the engine
    assert list(s.waiting) == [patient]


def test_dropping_finds_waiting_ones_only() -> None:
    s, (a, b, c) = filled(3)
    s.admit()
    assert not s.drop_waiting(a.request_id)
    assert not s.drop_waiting("unknown")
    assert s.drop_waiting(c.request_id)
    assert not s.waiting
    assert s.running == [a, b]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(["submit", "admit", "retire", "drop", "expire"]), max_size=60), st.data())
def test_no_request_is_lost_or_doubled(actions: list[str], data: st.DataObject) -> None:
    s, alive, now = scheduler(max_batch=3, max_queue=4), {}, 0.0
    for n, action in enumerate(actions):
        if action == "submit":
            job = Job(str(n), deadline=n + data.draw(st.integers(1, 9)) if n % 2 else None)
            if len(s.waiting) < 4:
                s.submit(job)
                alive[job.request_id] = job
            else:
                with pytest.raises(Overloaded):
                    s.submit(job)
        elif action == "admit":
            s.admit()
        elif action == "retire" and s.running:
            job = data.draw(st.sampled_from(s.running))
            row = s.running.index(job)
            assert s.retire(job) == row
            del alive[job.request_id]
        elif action == "drop" and s.waiting:
            job = data.draw(st.sampled_from(list(s.waiting)))
            assert s.drop_waiting(job.request_id)
            del alive[job.request_id]
        elif action == "expire":
            now = float(n)
            for job, _ in s.expired(now):
                if job in s.running:
                    s.retire(job)
                del alive[job.request_id]
        assert {j.request_id for j in [*s.waiting, *s.running]} == alive.keys()
        assert len(s.running) <= 3
        assert len(s.running) + len(s.waiting) == len(alive)
