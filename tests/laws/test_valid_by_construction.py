"""Whatever the models prefer, whatever the mode: an answer that comes to its end is of the form asked for."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from functools import lru_cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from langchain_ssd.config import EngineConfig
from langchain_ssd.constraint import Constraint
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.pair import Pair
from langchain_ssd.errors import UnsupportedConstraint
from langchain_ssd.events import Event, Finished, Token
from langchain_ssd.testing.tiny_pair import tiny_pair

from .bpe_pair import bpe_pair
from .driving import Case, bias, leave_prompts_alone, pin, run
from .reference import Settings
from .schemas import random_schema

MODES = {"utility": 0.3, "safety": 0.8}


@pytest.fixture(autouse=True)
def _short_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_prompts_alone(monkeypatch)


@lru_cache(maxsize=8)
def pair(seed: int) -> Pair:
    family = ("llama", "gemma3", "gpt2", "qwen2")[seed % 4]
    return tiny_pair(family, seed=seed, divergence=0.3, context=700, end_ids=frozenset({256}))


def closing(loaded: Pair) -> dict[int, float]:
    """A bias towards tokens that close something: random models hardly ever do."""
    vocabulary = loaded.target.renderer.tokenizer.get_vocab()
    return {i: 3.0 for token, i in vocabulary.items() if token and set(token) <= set('"}]')}


def case(schema: Any, rng: random.Random, likely: dict[int, float]) -> Case:
    temperature, seed = rng.choice([0.0, 1.0, 1.0]), rng.randrange(2**32)
    settings = Settings(temperature=temperature, seed=seed, bias_of_token=likely)
    constraint = Constraint("json_schema", schema, may_refuse=rng.random() < 0.1)
    return Case("x", settings, block_size=rng.randrange(1, 6), max_tokens=400, constraint=constraint)


def is_refused(loaded: Pair, asked: Case) -> bool:
    """Whether a schema is refused, with the error that names what cannot be enforced."""
    try:
        Engine(loaded, EngineConfig()).submit("probe", asked.request(), 0.0)
    except UnsupportedConstraint:
        return True
    return False


def hold(count: int, mode: str, monkeypatch: pytest.MonkeyPatch, tokens: str = "bytes") -> Counter[str]:
    """Decode so many schemas and hold every complete answer to its own; returns what became of them."""
    pin(monkeypatch, mode, MODES[mode])
    rng, found = random.Random(f"{mode}{count}{tokens}"), Counter[str]()
    for seed in range(0, count, 20):
        loaded = pair(seed // 20 % 4) if tokens == "bytes" else bpe_pair()
        schemas = [random_schema(rng) for _ in range(20)]
        cases = [case(schema, rng, closing(loaded)) for schema in schemas]
        kept = [(x, c) for x, c in zip(schemas, cases, strict=True) if not is_refused(loaded, c)]
        found["refused"] += len(cases) - len(kept)
        answers = run(Engine(loaded, EngineConfig(max_batch=4)), [c for _, c in kept])
        for (schema, _), events in zip(kept, answers, strict=True):
            found[_verdict(schema, events)] += 1
    return found


def _verdict(schema: Any, events: list[Event]) -> str:
    end = events[-1]
    assert isinstance(end, Finished), (schema, end)
    if end.finish_reason == "length":
        return "length"
    if end.summary.declined:
        return "declined"
    text = "".join(e.text for e in events if isinstance(e, Token))
    value = json.loads(text)
    problems = [e.message for e in Draft202012Validator(schema).iter_errors(value)]
    assert not problems, (schema, text, problems)
    return "valid"


@pytest.mark.parametrize("mode", MODES)
def test_answers_are_valid(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = hold(20, mode, monkeypatch)
    assert found["valid"] >= 10, found
    assert found["refused"] <= 3, found


@pytest.mark.slow
@pytest.mark.parametrize("tokens", ["bytes", "bpe"])
@pytest.mark.parametrize("mode", MODES)
def test_many_answers_are_valid(mode: str, tokens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 600 if tokens == "bytes" else 60
    found = hold(count, mode, monkeypatch, tokens)
    print(f"\n{mode}, {tokens}: {dict(found)}")
    assert found["valid"] >= (500 if tokens == "bytes" else 40), found
    assert found["refused"] <= 0.1 * count, found


TEXTS = {
    "regex": Constraint("regex", "[a-c]{1,3}-(\\d{2}|[x-z]+)", may_refuse=False),
    "choice": Constraint("choice", ["positive", "negative", "neutral", 'né/"\\\n'], may_refuse=False),
    "lark": Constraint("lark", 'start: "(" start ")" | NUMBER\nNUMBER: /[0-9]{1,3}/', may_refuse=False),
    "json_object": Constraint("json_object", may_refuse=False),
}


def _fits(constraint: Constraint, text: str) -> bool:
    match constraint.kind:
        case "regex":
            return re.fullmatch(constraint.value, text) is not None
        case "choice":
            return text in constraint.value
        case "lark":
            return re.fullmatch(r"(\(*)[0-9]{1,3}(\)*)", text) is not None and text.count("(") == text.count(
                ")"
            )
    return isinstance(json.loads(text), dict)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", TEXTS)
def test_other_forms(kind: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, mode, MODES[mode])
    likely = {256: 2.0, **bias(**{")": 2.0}), **closing(pair(0))}
    settings = [Settings(temperature=float(i > 0), seed=i, bias_of_token=likely) for i in range(8)]
    cases = [
        Case("x", s, block_size=1 + i, max_tokens=200, constraint=TEXTS[kind]) for i, s in enumerate(settings)
    ]
    complete = 0
    for events in run(Engine(pair(0), EngineConfig(max_batch=3)), cases):
        text = "".join(e.text for e in events if isinstance(e, Token))
        if events[-1].finish_reason == "stop":  # type: ignore[attr-defined]
            complete += 1
            assert _fits(TEXTS[kind], text), text
    assert complete >= 4
