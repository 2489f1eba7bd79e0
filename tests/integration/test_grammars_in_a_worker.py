"""Answers in a given form from a real worker process: a tiny pair, hostile grammars, and the default pair."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from langchain_ssd.backend import Backend, ChatMessage, ChatRequest
from langchain_ssd.config import EngineConfig, Sampling, SSDConfig
from langchain_ssd.constraint import Constraint
from langchain_ssd.drafts import default_pair
from langchain_ssd.events import Event, Failed, Finished, Token
from langchain_ssd.testing.tiny_pair import save_tiny_pair
from langchain_ssd.worker.client import LocalBackend

MARKER = "xyzzy-secret"
PLACE = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "country": {"enum": ["France", "Germany", "Italy"]},
        "capital": {"type": "boolean"},
    },
    "required": ["city", "country", "capital"],
    "additionalProperties": False,
}


def ask(backend: Backend, text: str, constraint: Constraint | None, **sampling: Any) -> list[Event]:
    asked = ChatRequest(
        (ChatMessage("user", text),),
        constraint=constraint,
        sampling=Sampling(**{"max_tokens": 100, **sampling}),
        safety=SSDConfig(hold_back="none"),
    )
    return list(backend.submit(asked))


def shown(events: list[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, Token))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBackend]:
    target, draft = save_tiny_pair(tmp_path_factory.mktemp("pair"), divergence=0.02)
    backend = LocalBackend(target, draft, EngineConfig(threads=1, max_batch=4))
    yield backend
    backend.close()


HOSTILE = [
    Constraint("json_schema", {"$ref": f"https://{MARKER}/schema.json"}),
    Constraint("json_schema", {"enum": [MARKER * 9] * 10_000}),
    Constraint("json_schema", {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a", "title": MARKER}}}),
    Constraint("regex", f"({MARKER}"),
    Constraint("lark", f"start: {MARKER}"),
    Constraint("choice", {MARKER: 1}),
]


def test_a_worker_outlives_hostile_grammars(tiny: LocalBackend) -> None:
    tiny.warm_up()
    before = ask(tiny, "hello", None)
    for constraint in HOSTILE:
        failure = ask(tiny, "hello", constraint)[-1]
        assert isinstance(failure, Failed), constraint
        assert failure.code in ("invalid_request", "unsupported_constraint")
        assert MARKER not in failure.message
    assert (
        shown(ask(tiny, "hello", Constraint("choice", ["one and only"], may_refuse=False))) == "one and only"
    )
    assert shown(ask(tiny, "hello", None)) == shown(before)


def test_the_default_pair_fills_in_a_form() -> None:
    if not default_pair.is_ready():
        pytest.fail("the default pair is not set up; run: langchain-ssd setup")
    backend = LocalBackend(default_pair.default_target(), default_pair.default_draft(), EngineConfig())
    try:
        for may_refuse in (True, False):
            events = ask(
                backend, "Where is Paris? Answer in JSON.", Constraint("json_schema", PLACE, may_refuse)
            )
            end = events[-1]
            assert isinstance(end, Finished)
            assert end.finish_reason == "stop"
            assert not end.summary.declined
            assert json.loads(shown(events))["country"] == "France"
            assert end.summary.scored < 0.6 * end.summary.emitted  # the rest was forced
    finally:
        backend.close()
