"""Tools made to hurt: their schemas and names are bounded like any grammar, and never become rules of it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import EngineConfig, Sampling, SSDConfig
from langchain_ssd.constraint import Constraint
from langchain_ssd.engine import requests
from langchain_ssd.engine.engine import Engine
from langchain_ssd.errors import InvalidRequest, UnsupportedConstraint
from langchain_ssd.events import Failed, Finished

from .engine_helpers import answer, drain, ended, request, token_ids
from .test_engine_tools import ENDING, pair_of
from .test_hostile_grammars import SCHEMAS
from .test_tool_calls import seen
from .test_tool_formats import FORMATS
from .tool_templates import tool

SECONDS = 5.0  # of this process, for compiling and forty tokens
MARKER = "zanzibar"


@pytest.fixture(autouse=True)
def _short_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the context would stop most of these before the library sees them."""
    monkeypatch.setattr(requests, "offer_of", lambda *_: None)


def asked(*tools: dict[str, Any], choice: str = "required", **options: Any) -> ChatRequest:
    sampling = Sampling(max_tokens=options.pop("max_tokens", 40), logit_bias=ENDING, temperature=1.0, seed=1)
    safety = SSDConfig(hold_back="none")
    conversation = (ChatMessage("user", "hi"),)
    return ChatRequest(
        conversation, tools=tools, tool_choice=choice, sampling=sampling, safety=safety, **options
    )


def calls(name: str, one: ChatRequest) -> tuple[str, list[Any]]:
    one = replace(one, refusal=one.refusal.model_copy(update={"enabled": False}))
    return seen(answer(Engine(pair_of(name, native=True), EngineConfig()), one))


# References of a schema are from its root, so only those without any can be put into a tool's parameters.
NAMED = ("2^24 alternatives", "deep arrays", "2^40 patterns at once", "2^1000 states", "a long pattern")
INSIDE = {name: SCHEMAS[name] for name in NAMED}
HOSTILE = {
    **{name: [tool("f", properties={"a": schema})] for name, schema in INSIDE.items()},
    "a hundred tools": [tool(f"tool_{i}", properties={"a": {"type": "string"}}) for i in range(100)],
    "long names": [tool(f"{i}" + "name" * 60, properties={}) for i in range(40)],
    "a very long name": [tool("n" * 20_000, properties={})],
}


@pytest.mark.parametrize("choice", ["required", "auto"])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_tool_hurts_nobody_else(case: str, choice: str) -> None:
    name = FORMATS[len(case) % len(FORMATS)] if choice == "required" else "llama3"
    worker, began = Engine(pair_of(name, native=True), EngineConfig()), time.process_time()
    worker.submit("other", request("other", max_tokens=20), 0.0)
    refusal = ""
    try:
        worker.submit("hostile", asked(*HOSTILE[case], choice=choice), 0.0)
    except InvalidRequest as error:
        refusal = error.message
    assert len(refusal) < 160
    events = drain(worker)
    assert time.process_time() - began < SECONDS
    assert ("hostile" in events) is not bool(refusal)
    if not refusal:
        end = events["hostile"][-1]
        assert isinstance(end, Finished) or (isinstance(end, Failed) and end.code == "grammar_failed"), end
    again = Engine(pair_of(name, native=True), EngineConfig())
    assert token_ids(events["other"]) == token_ids(answer(again, request("other", max_tokens=20)))


def test_tools_count_against_the_limit_of_grammars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests.Grammars, "_compile", lambda *_: pytest.fail("it was compiled"))
    worker = Engine(pair_of("hermes", native=True), EngineConfig())
    large = tool("f", properties={"a": {"enum": [MARKER * 10_000]}})
    dense = tool("f", properties={"a": {"type": "string", "pattern": "(a|b)?" * 4000}})
    for one, why in ((large, "larger than 65536 bytes"), (dense, "larger than 16384 bytes")):
        with pytest.raises(InvalidRequest, match=why) as caught:
            worker.submit("x", asked(one), 0.0)
        assert MARKER not in caught.value.message


NAMES = ['say "no"', "a/b", "%json x", "<[256]>", "back\\slash", "grün", "a | b", "line\nbreak"]


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_name_whatever_it_looks_like(name: str, format_: str) -> None:
    schema = {"type": "object", "properties": {name: {"const": name}}, "required": [name]}
    text, made = calls(format_, asked(tool(name, parameters=schema), max_tokens=200))
    ((called, arguments, state),) = made[:1]
    assert (text, called, state) == ("", name, "complete")
    jsonschema.validate(json.loads(arguments), schema)


@pytest.mark.parametrize(
    "regex", [r"a/ | <[257]> | /b", r"a\\/ | <[257]> | /b", r"[/%]json \{\}", "x%json {", r"\%\/", "[^\n]/"]
)
def test_a_regular_expression_beside_tools_stays_one(regex: str) -> None:
    """Between slashes, in a grammar that may name control tokens: nothing in it may end it."""
    one = asked(tool("f", properties={}), choice="auto", constraint=Constraint("regex", regex, False))
    alone = replace(one, tools=())
    worker = Engine(pair_of("hermes", native=True), EngineConfig())
    try:
        by_itself = answer(worker, alone)
    except InvalidRequest:
        with pytest.raises(InvalidRequest):
            worker.submit("x", one, 0.0)
        return
    assert ended(by_itself).finish_reason == "stop"
    beside = answer(worker, one, "beside")
    assert not {257, 258, 259} & {*token_ids(beside)}
    text, made = seen(beside)
    if not made:
        assert len(text) == len(seen(by_itself)[0])


def test_a_form_beside_tools_is_checked_as_without() -> None:
    worker = Engine(pair_of("hermes", native=True), EngineConfig())
    for form, error in (
        (Constraint("json_schema", {"not": {}, "type": "string"}), UnsupportedConstraint),
        (Constraint("json_schema", [1]), InvalidRequest),
        (Constraint("json_schema", None), InvalidRequest),
        (Constraint("regex", 5), InvalidRequest),
        (Constraint("choice", []), InvalidRequest),
        (Constraint("regex", "(a|b)?" * 4000), InvalidRequest),
    ):
        with pytest.raises(error):
            worker.submit("x", asked(tool("f", properties={}), choice="auto", constraint=form), 0.0)
