"""Law 1 under grammars: masks, forced runs and rollback change no token, evidence, mode or refusal."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langchain_ssd.config import EngineConfig
from langchain_ssd.constraint import Constraint
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.pair import Pair
from langchain_ssd.testing.byte_tokenizer import OTHER_TEMPLATE, TEMPLATE
from langchain_ssd.testing.tiny_pair import FAMILIES, tiny_pair

from .bpe_pair import bpe_pair
from .driving import Case, bias, check, leave_prompts_alone, let_some_refuse, run
from .reference import Settings
from .test_law1_block_independence import decoding

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "role": {"enum": ["reader", "reviewer", "writer"]},
        "tags": {"type": "array", "items": {"type": ["integer", "null"]}, "maxItems": 2},
    },
    "required": ["name", "role", "tags"],
    "additionalProperties": False,
}
ONE_TEXT = (
    "Every byte of this text is forced, and it is longer than what one block may force, so it takes several."
)
CALL = r"""
start: head call "</call>" | TEXT
head[lazy]: /[a-z ]{0,9}/ "<call>"
call: "{\"name\": \"" ("add" | "subtract") "\", \"arguments\": " arguments "}"
arguments: %json {"type": "array", "items": {"type": "integer"}}
TEXT: /[a-z ]{0,20}/
"""
GRAMMARS: list[Constraint | None] = [
    None,
    Constraint("json_schema", PERSON, may_refuse=False),
    Constraint("json_schema", PERSON),
    Constraint(
        "json_schema",
        {"$ref": "#/$defs/t", "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}},
    ),
    Constraint("json_object"),
    Constraint("regex", "[a-f]{2,9}(\\.[0-9]+)?", may_refuse=False),
    Constraint("regex", "(é|ß|[я-ђ])+"),  # characters of several tokens
    Constraint("choice", [ONE_TEXT], may_refuse=False),
    Constraint("choice", [ONE_TEXT, ONE_TEXT[:40] + "!", ONE_TEXT[:40] + "?", ""], may_refuse=False),
    Constraint("lark", CALL, may_refuse=False),
    Constraint("lark", 'start: e\ne: e "+" e | "(" e ")" | NUMBER\nNUMBER: /[0-9]+/'),
]


@lru_cache(maxsize=32)
def pair(family: str, seed: int, divergence: float, same_template: bool, context: int, ends: int) -> Pair:
    return tiny_pair(
        family,
        seed=seed,
        divergence=divergence,
        context=context,
        draft_template=TEMPLATE if same_template else OTHER_TEMPLATE,
        end_ids=frozenset({256, 258} if ends == 2 else {256}),
    )


pairs = st.builds(
    pair,
    st.sampled_from(sorted(FAMILIES)),
    st.integers(0, 1),
    st.sampled_from([0.0, 0.01, 0.05, 0.3]),
    st.booleans(),
    st.sampled_from([100, 256]),
    st.integers(1, 2),
)
# Brackets and quotes are made likely, or a random model hardly ever closes what it has opened.
CLOSING = bias(**{'"': 2.5, "}": 2.0, "]": 2.5})
PREFILLS: dict[str, str] = {
    "json_schema": '{"name": "a',
    "json_object": "{",
    "regex": "",
    "choice": "Every",
    "lark": "",
}


def _case(constraint: Constraint | None, prefilled: bool, **options: Any) -> Case:
    """A case whose prefill, if it has one, begins an answer of the form."""
    recursive = constraint is not None and "$ref" in str(constraint.value)
    prefill = PREFILLS[constraint.kind] if prefilled and constraint and not recursive else ""
    s = replace(options.pop("settings"), bias_of_token=CLOSING if options.pop("closing") else {})
    return Case(constraint=constraint, prefill=prefill, settings=s, **options)


cases = st.builds(
    _case,
    constraint=st.sampled_from(GRAMMARS),
    prefilled=st.sampled_from([False, False, True]),
    closing=st.booleans(),
    text=st.text(alphabet="abc dé", max_size=8).map("x".__add__),
    settings=decoding,
    block_size=st.integers(1, 8),
    max_tokens=st.sampled_from([1, 9, 34, 60, 150]),
    joins_at=st.integers(0, 4),
    cancel_after=st.sampled_from([None, None, None, 2]),
)


def hold_to_the_reference(loaded: Pair, batch: list[Case], max_batch: int) -> None:
    engine = Engine(loaded, EngineConfig(max_batch=max_batch, prefill_chunk=7))
    batch[0].cancel_after = None  # at least one stays to the end
    with pytest.MonkeyPatch.context() as patch:
        leave_prompts_alone(patch)
        let_some_refuse(patch)
        answers = run(engine, batch)
    for case, events in zip(batch, answers, strict=True):
        if case.cancel_after is None:
            check(events, case.reference(loaded), loaded)
    assert loaded.target.model.lengths == loaded.draft.model.lengths == []


def test_tokens_of_many_bytes_too() -> None:
    """Over a real tokenizer: forced bytes are spelled in one way, and tokens cross the grammar's borders."""
    loaded, batch = bpe_pair(), []
    for i, constraint in enumerate([*GRAMMARS[1:4], GRAMMARS[5], *GRAMMARS[7:10]]):
        s = Settings(
            monitor=("paper", "sequential")[i % 2],
            temperature=(0.0, 1.0)[i // 2 % 2],
            seed=i,
            h_refuse=1e6,
            refuse_below=0.0,
        )
        batch.append(
            Case(
                "x" * (1 + i // 2), s, block_size=1 + i, max_tokens=20, constraint=constraint, joins_at=i % 3
            )
        )
    hold_to_the_reference(loaded, batch, 4)


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(pairs, st.lists(cases, min_size=1, max_size=3), st.integers(1, 3))
def test_any_batch_equals_the_naive_reference(loaded: Pair, batch: list[Case], max_batch: int) -> None:
    hold_to_the_reference(loaded, batch, max_batch)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(pairs, st.lists(cases, min_size=1, max_size=4), st.integers(1, 4))
def test_many_more_batches(loaded: Pair, batch: list[Case], max_batch: int) -> None:
    hold_to_the_reference(loaded, batch, max_batch)
