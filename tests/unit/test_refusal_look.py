"""The look before a form that may be refused: the way out opens to who wants to refuse, to nobody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from langchain_ssd.config import SSDConfig
from langchain_ssd.engine import prompts
from langchain_ssd.engine.models import CachedModel
from langchain_ssd.events import Event

from .engine_helpers import answer, drain, ended, token_ids
from .grammar_helpers import END, LIKELY, PAIR, engine, formed, ids, request, shown

POINT = {
    "type": "object",
    "properties": {"label": {"type": "string", "maxLength": 4}},
    "required": ["label"],
    "additionalProperties": False,
}
NO = "I'm sorry, but I can't help with that."
SHADOW = SSDConfig(enforce=False, hold_back="none")


def says(monkeypatch: pytest.MonkeyPatch, model: CachedModel, text: str, prefill: str = "") -> None:
    """A model that wants to say one text, whatever it reads."""
    words, extend = [*ids(text), END], model.extend
    starts: list[int] = []  # the first rows that are wanted are of the end of the prompt, or of the prefill

    def spoken(tokens: Any, first_row: int = 0, **options: Any) -> torch.Tensor:
        logits = extend(tokens, first_row=first_row, **options)
        if len(logits) and not starts:
            starts.append(model.lengths[first_row] + bool(prefill))
        at = model.lengths[first_row] - starts[0] if starts else -1
        if len(logits) and at >= 0:
            logits = logits.clone()
            logits[-1, words[min(at, len(words) - 1)]] = 60.0
        return logits

    monkeypatch.setattr(model, "extend", spoken)


def ask(may_refuse: bool = True, **options: Any) -> list[Event]:
    asked = {"text": "x", "max_tokens": 120, "logit_bias": LIKELY, **options}
    return answer(engine(), formed("json_schema", POINT, may_refuse=may_refuse, **asked))


def test_a_draft_that_begins_to_refuse_opens_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, PAIR.draft.model, NO)
    assert ended(ask()).summary.declined is True


@pytest.mark.parametrize(
    "text", ["The weather is fine.", "I'm happy to help.", "I'm sorry for you. Here:", "This is a joke.", ""]
)
def test_talk_does_not(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody wants to refuse, an answer is what it is where nobody may: to the last bit of evidence."""
    says(monkeypatch, PAIR.draft.model, text)
    events = ask()
    assert ended(events).summary.declined is False
    assert json.loads(shown(events))
    plain = [event.to_wire() for event in ask(may_refuse=False)[1:-1]]
    assert [event.to_wire() for event in events[1:-1]] == plain


def test_without_the_look_talk_would_become_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant, and why there is a look at all."""
    says(monkeypatch, PAIR.draft.model, "I'm happy to help.")
    monkeypatch.setattr(prompts, "wants_to_refuse", lambda *_: True)
    assert ended(ask()).summary.declined is True


def test_it_goes_no_further_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    real = prompts.wants_to_refuse

    def counted(model: CachedModel, row: int, *rest: Any) -> bool:
        before, cached = model.passes, model.lengths[row]
        found = real(model, row, *rest)
        looks.append((found, model.passes - before))
        assert model.lengths[row] == cached
        return found

    monkeypatch.setattr(prompts, "wants_to_refuse", counted)
    with monkeypatch.context() as patch:
        says(patch, PAIR.draft.model, "Quite fine")
        ask()
    with monkeypatch.context() as patch:
        says(patch, PAIR.draft.model, NO)
        ask()
    ask(may_refuse=False)
    answer(engine(), request("x"))
    assert looks == [(False, 1), (True, len("I'm sorry, but I can't"))]


def test_in_shadow_mode_the_target_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, PAIR.draft.model, NO)
    assert ended(ask(safety=SHADOW)).summary.declined is False
    says(monkeypatch, PAIR.target.model, NO)
    assert ended(ask(safety=SHADOW)).summary.declined is True


def test_a_prefill_may_have_decided_it(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, PAIR.draft.model, NO, prefill="{")
    assert ended(ask(prefill="{")).summary.declined is False
    refused = ask(prefill="I can't", logit_bias={END: 60.0})
    assert ended(refused).summary.declined is True


def test_bias_counts_as_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, PAIR.draft.model, NO)
    events = ask(logit_bias={**LIKELY, ids("I")[0]: -100.0})
    assert ended(events).summary.declined is False


def test_a_look_is_the_same_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [token_ids(ask(may_refuse=True, seed=n, temperature=1.0)) for n in range(3)]
    worker = engine(max_batch=3, prefill_chunk=3)
    options = {"text": "x", "max_tokens": 120, "logit_bias": LIKELY, "temperature": 1.0}
    for n in range(3):
        worker.submit(str(n), formed("json_schema", POINT, may_refuse=True, seed=n, **options), 0.0)
    events = drain(worker)
    assert [token_ids(events[str(n)]) for n in range(3)] == alone


def test_what_breaks_in_the_look_fails_that_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> bool:
        raise RuntimeError("secret")

    monkeypatch.setattr(prompts, "wants_to_refuse", broken)
    worker = engine()
    worker.submit("victim", formed("json_schema", POINT, may_refuse=True, text="x"), 0.0)
    worker.submit("other", request("x"), 0.0)
    events = drain(worker)
    assert events["victim"][-1].to_wire()["code"] == "generation_failed"
    assert ended(events["other"])
    assert PAIR.target.model.lengths == PAIR.draft.model.lengths == []
