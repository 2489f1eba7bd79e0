"""When a worker counts as lost, and the times in a response's summary: arithmetic on given instants."""

from collections.abc import Callable
from typing import Any

import pytest

from langchain_ssd.config import EngineConfig
from langchain_ssd.errors import StartupTimeout, WorkerDied
from langchain_ssd.events import Finished, Summary
from langchain_ssd.worker.timing import Stopwatch
from langchain_ssd.worker.watchdog import Watchdog

from .worker_doubles import tokens

CONFIG = EngineConfig(start_timeout=100, heartbeat_timeout=10, stall_timeout=50)


def run_watchdog(
    dog: Watchdog, until: float, began: float = 0.0, each: Callable[[float], None] = lambda _: None
) -> Any:
    """Check every interval, as the supervisor does; the verdict and when it came."""
    now = began
    while now < until:
        now += dog.interval
        each(now)
        verdict = dog.check(now)
        if verdict is not None:
            return verdict, now
    return None, now


def test_loading_may_take_its_time_in_silence_but_not_for_ever():
    verdict, at = run_watchdog(Watchdog(CONFIG, 0.0), 200)
    assert isinstance(verdict, StartupTimeout)
    assert "EngineConfig.start_timeout=100" in verdict.message
    assert 100 < at < 102


def test_a_silent_worker_is_lost():
    dog = Watchdog(CONFIG, 0.0)
    dog.ready(0.0)
    verdict, at = run_watchdog(dog, 60)
    assert isinstance(verdict, WorkerDied)
    assert "heartbeat_timeout" in verdict.message
    assert 10 < at < 12


def test_a_busy_worker_that_beats_but_makes_no_step_is_lost():
    dog = Watchdog(CONFIG, 0.0)
    dog.ready(0.0)

    def beat(now: float) -> None:
        dog.heard(now)
        dog.beat(steps=7, busy=True, now=now)

    verdict, at = run_watchdog(dog, 100, each=beat)
    assert isinstance(verdict, WorkerDied)
    assert "stall_timeout" in verdict.message
    assert 50 < at < 52


@pytest.mark.parametrize(("busy", "steps"), [(False, lambda now: 7), (True, lambda now: int(now / 40))])
def test_an_idle_worker_and_one_with_slow_steps_are_not_lost(busy, steps):
    dog = Watchdog(CONFIG, 0.0)
    dog.ready(0.0)

    def beat(now: float) -> None:
        dog.heard(now)
        dog.beat(steps(now), busy, now)

    assert run_watchdog(dog, 1000, each=beat)[0] is None


def test_work_that_begins_after_a_long_idle_time_gets_its_whole_time():
    dog = Watchdog(CONFIG, 0.0)
    dog.ready(0.0)

    def beat(now: float) -> None:
        dog.heard(now)
        dog.beat(7, now > 500, now)

    _, at = run_watchdog(dog, 1000, each=beat)
    assert 550 < at < 552


def test_time_that_this_process_slept_is_not_held_against_the_worker():
    dog = Watchdog(CONFIG, 0.0)
    dog.ready(0.0)
    assert dog.check(dog.interval) is None
    assert dog.check(5000.0) is None
    verdict, at = run_watchdog(dog, 6000, began=5000.0)
    assert isinstance(verdict, WorkerDied)
    assert at > 5008


def test_the_summary_gets_its_times():
    watch = Stopwatch()
    watch.submitted("a", 10.0)
    watch.submitted("b", 11.0)
    watch.stepped(12.0, queued=1)
    watch.stamp("a", tokens(0)[0], 13.0)
    watch.stepped(14.0, queued=0)
    a = watch.stamp("a", Finished(completion_tokens=1), 15.0)
    assert a == Finished(
        completion_tokens=1, summary=Summary(time_to_first_token=3.0, queue_seconds=2.0, seconds=5.0)
    )
    watch.forget("a")
    b = watch.stamp("b", Finished(), 16.0)
    assert b.summary.queue_seconds == 3.0
    assert b.summary.time_to_first_token is None
    assert "a" not in watch
    assert "b" in watch


def test_a_stall_is_silence_or_work_without_a_step():
    dog = Watchdog(CONFIG, 0.0)
    assert dog.stalled(90.0) == 0.0  # it loads
    dog.ready(90.0)
    dog.heard(95.0)
    assert dog.stalled(96.0) == 1.0
    for second in range(96, 100):  # it beats, is busy and does not move
        dog.heard(second)
        dog.beat(7, True, second)
    assert dog.stalled(101.0) == 5.0
    dog.heard(101.0)
    dog.beat(8, True, 101.0)
    assert dog.stalled(101.5) == 0.5
    dog.beat(8, False, 102.0)
    dog.heard(110.0)
    assert dog.stalled(110.0) == 0.0  # idle
