"""A model that raises or produces no numbers: its requests fail, nobody else notices, the next are as new."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from langchain_ssd.config import EngineConfig, SequentialConfig, SSDConfig
from langchain_ssd.engine import requests
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.pair import Pair
from langchain_ssd.errors import InvalidRequest
from langchain_ssd.events import Failed, Token
from langchain_ssd.testing.tiny_pair import tiny_pair

from .engine_helpers import (
    NO_END,
    Events,
    answer,
    break_model,
    drain,
    ended,
    failed,
    in_row,
    make,
    raises,
    request,
    token_ids,
)

SECRET = "the text of the exception quotes the prompt"
LONG = request("victim", max_tokens=40)
SIDES = ("target", "draft")


def beside(engine: Engine) -> Events:
    """Two requests that decode together; the first has row 0."""
    engine.submit("victim", LONG, 0.0)
    engine.submit("other", request("other", max_tokens=40), 0.0)
    return drain(engine)


def as_new(engine: Engine, pair: Pair) -> None:
    """Nothing is left of what failed: the next answer is that of an engine that saw nothing."""
    assert not engine.busy
    assert pair.target.model.lengths == pair.draft.model.lengths == []
    asked = request("next", max_tokens=20)
    assert token_ids(answer(engine, asked)) == token_ids(answer(make()[0], asked))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_a_pass_that_raises_fails_its_requests(
    side: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, pair = make()
    model = getattr(pair, side).model
    break_model(monkeypatch, model, after, raises(RuntimeError(SECRET)))
    end = failed(answer(engine, LONG))
    assert end.code == "generation_failed"
    assert SECRET not in end.message
    as_new(engine, pair)


def test_the_target_never_answers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, pair = make()
    break_model(monkeypatch, pair.draft.model, 8, raises(RuntimeError(SECRET)))
    engine.submit("a", LONG, 0.0)
    events: list[Any] = []
    while not any(isinstance(e, Failed) for e in events):
        passes = pair.target.model.passes
        events += [event for _, event in engine.step(0.0)]
    assert pair.target.model.passes == passes  # nothing was verified in the step that failed
    assert isinstance(events[-1], Failed)
    assert not engine.busy
    whole = token_ids(answer(make()[0], LONG))
    assert token_ids(events) == whole[: len(token_ids(events))]


@pytest.mark.parametrize("side", SIDES)
def test_running_out_of_memory_has_its_own_code(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, pair = make()
    break_model(monkeypatch, getattr(pair, side).model, 3, raises(torch.OutOfMemoryError(SECRET)))
    end = failed(answer(engine, LONG))
    assert end.code == "out_of_memory"
    assert SECRET not in end.message
    as_new(engine, pair)


def test_trouble_with_a_prompt_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, pair = make(prefill_chunk=4)
    break_model(
        monkeypatch, pair.draft.model, 2, raises(RuntimeError(SECRET))
    )  # the second prompt's first chunk
    engine.submit("other", request("other", max_tokens=20), 0.0)
    engine.submit("victim", LONG, 0.0)
    events = drain(engine)
    assert failed(events["victim"]).code == "generation_failed"
    assert token_ids(events["other"]) == token_ids(answer(make()[0], request("other", max_tokens=20)))
    as_new(engine, pair)


@pytest.mark.parametrize("side", SIDES)
def test_a_pass_that_raises_spares_who_was_not_in_it(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long prompt is still being read while the other sequence's pass fails."""
    engine, pair = make(prefill_chunk=4)
    engine.submit("victim", LONG, 0.0)
    while not engine._scheduler.running or not engine._scheduler.running[0].ready:
        engine.step(0.0)
    reading = request("x" * 80, max_tokens=6)
    engine.submit("reads", reading, 0.0)
    # In the coming step the reader's chunk is the model's first pass, the victim's block the second.
    break_model(monkeypatch, getattr(pair, side).model, 2, raises(RuntimeError(SECRET)))
    events = drain(engine)
    assert failed(events["victim"]).code == "generation_failed"
    assert token_ids(events["reads"]) == token_ids(answer(make()[0], reading))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_rows_without_numbers_fail_only_their_own_request(
    side: str, value: float, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, pair = make()
    # Passes 1 and 2 read the prompts; from 3 on both sequences are in every pass.
    break_model(monkeypatch, getattr(pair, side).model, 3, in_row(0, value))
    asked = {
        name: request(name, max_tokens=20, temperature=temperature, seed=5) for name in ("victim", "other")
    }
    for name, one in asked.items():
        engine.submit(name, one, 0.0)
    events = drain(engine)
    end = failed(events["victim"])
    assert (end.code, side in end.message) == ("non_finite_logits", True)
    assert ended(events["other"]).finish_reason == "length"
    assert token_ids(events["other"]) == token_ids(answer(make()[0], asked["other"]))
    as_new(engine, pair)


@pytest.mark.parametrize("side", SIDES)
def test_rows_without_numbers_in_a_prefill(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, pair = make()
    break_model(monkeypatch, getattr(pair, side).model, 2, in_row(0, math.nan))  # pass 1 is the prompt
    events = answer(engine, request(prefill="Sure: "))
    assert failed(events).code == "non_finite_logits"
    as_new(engine, pair)


@pytest.mark.parametrize("call", ["observe", "settle"])
def test_a_monitor_that_raises_fails_only_its_own_request(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_monitor = requests.make_monitor

    def breaking(safety: SSDConfig, refusal: Any) -> Any:
        monitor = make_monitor(safety, refusal)
        if safety.monitor == "paper":
            return monitor

        class Broken:
            statistic, cleared = 0.0, 0
            observe, settle = monitor.observe, monitor.settle

        def fails(*_: Any) -> Any:
            raise ZeroDivisionError(SECRET)

        broken = Broken()
        setattr(broken, call, fails)
        return broken

    monkeypatch.setattr(requests, "make_monitor", breaking)
    engine, pair = make()
    engine.submit("victim", request(safety=SSDConfig(monitor="sequential")), 0.0)
    engine.submit("other", request("other", max_tokens=20), 0.0)
    events = drain(engine)
    end = failed(events["victim"])
    assert end.code == "generation_failed"
    assert SECRET not in end.message
    assert token_ids(events["other"]) == token_ids(answer(make()[0], request("other", max_tokens=20)))
    as_new(engine, pair)


def test_failing_shows_nothing_that_was_held(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, pair = make()
    break_model(monkeypatch, pair.draft.model, 12, raises(RuntimeError(SECRET)))
    events = answer(engine, request(max_tokens=40, safety=SSDConfig(hold_back="response")))
    assert failed(events).code == "generation_failed"
    assert not any(isinstance(e, Token) for e in events)


def test_a_growing_cache_that_runs_out_of_memory_can_be_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, pair = make(context=1000)
    answer(engine, request())
    layer = pair.target.model.cache.layers[1]
    grow = layer.grow
    monkeypatch.setattr(layer, "grow", raises(torch.OutOfMemoryError(SECRET)))
    asked = request("x" * 300, max_tokens=20)
    assert failed(answer(engine, asked)).code == "out_of_memory"
    monkeypatch.setattr(layer, "grow", grow)
    as_new(engine, pair)
    assert token_ids(answer(engine, asked)) == token_ids(answer(make(context=1000)[0], asked))


@pytest.mark.parametrize("temperature", [1e-30, 1e-40, 5e-324])
def test_a_tiny_temperature_is_the_argmax_or_refused(temperature: float) -> None:
    engine, _ = make(dtype=torch.float32)
    greedy = token_ids(answer(engine, request(max_tokens=10)))
    try:
        events = answer(engine, request(max_tokens=10, temperature=temperature, seed=3))
    except InvalidRequest:
        return
    assert token_ids(events) == greedy


@pytest.mark.parametrize(
    ("target", "draft"),
    [(torch.float64, torch.float32), (torch.float32, torch.float64), (torch.float32, torch.bfloat16)],
)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_two_models_may_have_different_dtypes(
    target: torch.dtype, draft: torch.dtype, temperature: float
) -> None:
    pair = replace(
        tiny_pair(dtype=target, end_ids=NO_END), draft=tiny_pair(dtype=draft, end_ids=NO_END).draft
    )
    asked = request(temperature=temperature, seed=1, prefill="Sure")
    assert len(token_ids(answer(Engine(pair, EngineConfig()), asked))) == 12


# ── independence of the batch ────────────────────────────────────────────────────────────────────────

SEQUENTIAL = SSDConfig(
    monitor="sequential", hold_back="none", sequential=SequentialConfig(h_safety=1.5, h_refuse=1e6)
)
ASKED = {
    "greedy": request("a", max_tokens=25),
    "sampled": request("bb", max_tokens=25, temperature=0.9, seed=11),
    "filtered": request("ccc", max_tokens=25, temperature=1.0, seed=12, top_k=40, top_p=0.9),
    "plain": request("dddd", max_tokens=25, temperature=1.0, seed=13),
    "penalised": request("e" * 60, max_tokens=25, temperature=0.7, seed=14, repetition_penalty=1.3),
    "sequential": request("f", max_tokens=25, temperature=1.0, seed=15, safety=SEQUENTIAL, prefill="Sure"),
}


@pytest.fixture(scope="module")
def alone() -> Events:
    return {name: answer(make()[0], one) for name, one in ASKED.items()}


@pytest.mark.parametrize("max_batch", [2, 3, 6])
@pytest.mark.parametrize("turned", [0, 2, 5])
def test_a_seeded_answer_does_not_depend_on_the_batch(alone: Events, max_batch: int, turned: int) -> None:
    engine, _ = make(max_batch=max_batch, prefill_chunk=9)
    names = [*ASKED][turned:] + [*ASKED][:turned]
    events: Events = {}
    for i, name in enumerate(names):  # they join while others run
        engine.submit(name, ASKED[name], 0.0)
        engine.submit(f"leaver {i}", request("z" * 30, max_tokens=90, temperature=1.2, seed=i), 0.0)
        for _ in range(2):
            for who, event in engine.step(0.0):
                events.setdefault(who, []).append(event)
        engine.cancel(f"leaver {i}")
    drain(engine, events)
    for name in names:
        assert token_ids(events[name]) == token_ids(alone[name])
        assert ended(events[name]).finish_reason == ended(alone[name]).finish_reason
        got, want = ([e for e in x if isinstance(e, Token)] for x in (events[name], alone[name]))
        assert [e.mode for e in got] == [e.mode for e in want]
        assert [e.kl for e in got] == pytest.approx([e.kl for e in want], rel=1e-6, abs=1e-9)


def test_without_a_seed_answers_differ_and_say_their_seed() -> None:
    engine, _ = make()
    asked = request(max_tokens=20, temperature=1.5)
    first, second = (answer(engine, asked) for _ in range(2))
    assert token_ids(first) != token_ids(second)
    again = request(max_tokens=20, temperature=1.5, seed=ended(first).summary.seed)
    assert token_ids(answer(engine, again)) == token_ids(first)
