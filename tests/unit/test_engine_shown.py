"""What of an answer leaves the engine: stop strings, thinking, refusals, and one last event for everyone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from langchain_ssd.backend import ChatRequest
from langchain_ssd.config import RefusalPolicy, Sampling, SSDConfig
from langchain_ssd.engine.requests import open_sequence
from langchain_ssd.events import Finished, Token
from langchain_ssd.testing.byte_tokenizer import TEMPLATE

from .engine_helpers import SHOWN, answer, drain, ended, make, request, token_ids


def test_a_thousand_stop_strings_are_refused_where_they_are_typed() -> None:
    with pytest.raises(ValueError, match="64"):
        Sampling(stop=tuple(str(i) for i in range(1000)))
    events = answer(make()[0], request(stop=[f"{i}{i}{i}{i}" for i in range(64)]))
    assert ended(events).finish_reason == "length"


def test_a_stop_string_ends_the_answer_in_front_of_it() -> None:
    whole = "".join(e.text for e in answer(make()[0], request(max_tokens=30)) if isinstance(e, Token))
    stop = next(whole[i : i + 2] for i in range(6, len(whole) - 1) if "\ufffd" not in whole[i : i + 2])
    events = answer(make()[0], request(max_tokens=30, stop=[stop]))
    assert ended(events).finish_reason == "stop"
    assert "".join(e.text for e in events if isinstance(e, Token)) == whole[: whole.index(stop)]


REASONING = TEMPLATE.replace("{{ '<|assistant|>' }}", "{{ '<|assistant|><think>\n' }}{# </think> #}")


@pytest.mark.parametrize(
    ("prefill", "shown"),
    [("", "Hi"), ("<think>\n", "Hi"), ("Sure. ", "Hi"), ("Sure.</think>", "plan</think>Hi")],
)
def test_thinking_that_the_prompt_opened_is_not_the_answer(prefill: str, shown: str) -> None:
    """Templates of reasoning models write the opening tag themselves."""
    _, pair = make()
    pair.target.renderer._template = REASONING
    sequence = open_sequence(pair, "a", request(prefill=prefill), 0.0)
    out: list[Token] = []
    for i, token in enumerate(pair.target.renderer.encode("plan</think>Hi")):
        assert not sequence.text.push(i, token, lambda text, thought, i=i: Token(i, 0, text, thought))
        out += sequence.text.release(i + 1, i + 1)
    out += sequence.text.finish(False)
    assert "".join(e.text for e in out) == shown


@pytest.mark.parametrize("typed", ["what does <think> do?", "<think>", "a <think> b </think> c <think>"])
def test_a_tag_that_was_typed_opens_no_thinking(typed: str) -> None:
    """Otherwise a user, or a document, could make a whole answer vanish as thinking."""
    _, pair = make()
    pair.target.renderer._template = TEMPLATE + "{# </think> #}"
    sequence = open_sequence(pair, "a", request(typed), 0.0)
    for i, token in enumerate(pair.target.renderer.encode("Hi")):
        sequence.text.push(i, token, lambda text, thought, i=i: Token(i, 0, text, thought))
    assert "".join(e.text for e in sequence.text.finish(False)) == "Hi"


def test_a_refusal_shows_nothing_that_was_held() -> None:
    """A low bar for refusing: whatever was emitted before it must not leave the engine."""
    safety = SSDConfig(theta=1.0, theta_decay=0.0, bin_size=4, alpha_safety=0.0)
    engine, _ = make(divergence=0.9)
    asked = request(max_tokens=60, safety=safety)
    events = answer(engine, ChatRequest(asked.messages, sampling=asked.sampling, safety=safety))
    assert ended(events).finish_reason == "refusal"
    assert token_ids(events) == []
    shown = answer(engine, request(max_tokens=60, safety=safety.model_copy(update={"hold_back": "none"})))
    assert ended(shown).finish_reason == "refusal"
    assert len(token_ids(shown)) == ended(shown).completion_tokens - 1


def test_a_refusal_swallows_no_more_than_an_unfinished_character() -> None:
    safety = SSDConfig(common_tokens=1, bin_size=1, theta=0.3, alpha_safety=0.0, hold_back="none")
    for text in ("xaa", "xa", "x", "xab", "hello"):  # random bytes: some answers end inside a character
        engine, pair = make(family="gpt2", divergence=0.0)
        asked = request(text, safety=safety)
        events = answer(engine, replace(asked, refusal=RefusalPolicy(patience=1)))
        end = ended(events)
        assert end.finish_reason == "refusal"
        free = token_ids(answer(engine, replace(asked, refusal=RefusalPolicy(enabled=False))))
        shown = token_ids(events)
        swallowed = free[len(shown) : end.completion_tokens - 1]  # the token it fell on is not counted
        assert shown == free[: len(shown)]
        assert pair.decode(swallowed).strip("\ufffd") == "", text


def test_every_request_has_exactly_one_last_event() -> None:
    engine, _ = make(max_batch=3)
    for i in range(9):
        engine.submit(str(i), request("x" * i + "y", max_tokens=i + 1, safety=SHOWN), 0.0)
    events = drain(engine)
    assert len(events) == 9
    for i in range(9):
        assert isinstance(events[str(i)][-1], Finished)
        assert ended(events[str(i)]).completion_tokens == i + 1
