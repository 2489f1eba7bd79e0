"""The JSON Schema Test Suite (draft 2020-12): a grammar takes no value that its schema does not take."""

from __future__ import annotations

import json
import random
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from langchain_ssd.config import EngineConfig
from langchain_ssd.constraint import Constraint
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.grammar_library import Grammars
from langchain_ssd.errors import UnsupportedConstraint
from langchain_ssd.events import Finished, Token

from .driving import leave_prompts_alone, pin, run
from .test_valid_by_construction import MODES, case, closing, pair

SUITE = Path(__file__).parents[1] / "data" / "json_schema_suite.jsonl"
END = 256


@lru_cache(maxsize=1)
def groups() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SUITE.read_text(encoding="utf-8").splitlines()]


@lru_cache(maxsize=1)
def supported() -> list[dict[str, Any]]:
    """Those that are not refused; a refusal must be the error that says so."""
    found, grammars = [], Grammars(pair(0))
    for group in groups():
        schema = group["schema"] if isinstance(group["schema"], dict) else {"allOf": [group["schema"]]}
        try:
            grammars.start(Constraint("json_schema", schema, may_refuse=False))
        except UnsupportedConstraint:
            continue
        found.append({**group, "schema": schema})
    return found


def accepted(grammars: Grammars, schema: Any, value: Any) -> bool:
    state = grammars.start(Constraint("json_schema", schema, may_refuse=False))
    for token in pair(0).target.renderer.encode(json.dumps(value, ensure_ascii=False)):
        if token not in state.front:
            return False
        state.settle(token)
    return state.over or END in state.front


def test_no_value_that_the_suite_calls_invalid_is_taken() -> None:
    grammars, found = Grammars(pair(0)), Counter[str]()
    for group in supported():
        for value, valid in group["tests"]:
            taken = accepted(grammars, group["schema"], value)
            assert valid or not taken, (group["of"], group["schema"], value)
            found["valid" if valid else "invalid", taken] += 1  # type: ignore[index]
    assert len(supported()) > 150
    assert found["invalid", False] > 200  # type: ignore[index]
    # A key in another order, a member that nobody named, 1.0 for 1: what is narrower is not wrong.
    assert found["valid", True] > 340  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_answers_to_the_suites_schemas_validate(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, mode, MODES[mode])
    leave_prompts_alone(monkeypatch)
    loaded, rng, found = pair(0), random.Random(mode), Counter[str]()
    asked = [case(group["schema"], rng, closing(loaded)) for group in supported()]
    answers = run(Engine(loaded, EngineConfig(max_batch=4, max_queue=len(asked))), asked)
    for group, events in zip(supported(), answers, strict=True):
        end = events[-1]
        assert isinstance(end, Finished), (group, end)
        found[end.finish_reason] += 1
        if end.finish_reason == "stop" and not end.summary.declined:
            value = json.loads("".join(e.text for e in events if isinstance(e, Token)))
            problems = [e.message for e in Draft202012Validator(group["schema"]).iter_errors(value)]
            assert not problems, (group["schema"], value, problems)
    print(f"\n{mode}: {dict(found)}")
    assert found["stop"] > 100
