"""The whole engine with tools, on random pairs: a call that is demanded is made, and can be made."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from tokenizers import AddedToken

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import EngineConfig, ModelSpec, Sampling, SSDConfig
from langchain_ssd.constraint import Constraint
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.pair import Pair
from langchain_ssd.engine.rendering import Renderer
from langchain_ssd.events import Event, Token, ToolCallPart
from langchain_ssd.testing.byte_tokenizer import byte_tokenizer
from langchain_ssd.testing.tiny_pair import tiny_pair
from langchain_ssd.tool_formats import get_format

from .engine_helpers import answer, ended
from .test_tool_calls import seen
from .test_tool_formats import FORMATS
from .tool_templates import KNOWN, tool

END = 256
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 8},
        "days": {"type": "integer", "minimum": 1, "maximum": 30},
        "unit": {"enum": ["C", "F"]},
    },
    "required": ["city", "days"],
}
TOOLS = (tool("get_weather", parameters=SCHEMA), tool("now", properties={}))
SCHEMAS = {t["function"]["name"]: t["function"]["parameters"] for t in TOOLS}
ENDING = {byte_tokenizer().encode(c)[0]: 3.0 for c in '"}]'}  # so that random models come to an end


def pair_of(name: str, *, native: bool) -> Pair:
    """A random pair whose target writes a format, by its template or in words; the draft knows none."""
    pair = tiny_pair(context=3000, end_ids=frozenset({END}))
    template = KNOWN[name] if native else byte_tokenizer().chat_template
    spec = ModelSpec(name="tiny", tool_format=None if native else name)
    return replace(pair, target=replace(pair.target, renderer=Renderer(byte_tokenizer(template), spec)))


def asked(choice: str, **options: Any) -> ChatRequest:
    sampling = {"max_tokens": 260, "logit_bias": ENDING, **options.pop("sampling", {})}
    return ChatRequest(
        (ChatMessage("user", "What is the weather?"),),
        tools=TOOLS,
        tool_choice=choice,
        sampling=Sampling(**sampling),
        safety=SSDConfig(hold_back="none"),
        **options,
    )


def run(name: str, request: ChatRequest, *, native: bool = True) -> list[Event]:
    return answer(Engine(pair_of(name, native=native), EngineConfig()), request)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 3}])
def test_a_demanded_call_is_made_and_validates(name: str, native: bool, sampling: dict[str, Any]) -> None:
    for choice in ("required", "get_weather"):
        request = asked(choice, sampling=sampling, parallel_tool_calls=False)
        request = replace(request, refusal=request.refusal.model_copy(update={"enabled": False}))
        events = run(name, request, native=native)
        end = ended(events)
        text, calls = seen(events)
        assert end.finish_reason == "tool_calls"
        assert text == ""
        assert len(calls) == 1
        called, arguments, state = calls[0]
        assert state == "complete"
        jsonschema.validate(json.loads(arguments), SCHEMAS[called])
        assert choice in ("required", called)
        (risk,) = end.summary.tool_calls
        assert (risk["name"], 0.0 <= risk["match_ratio"] <= 1.0) == (called, True)


def test_a_call_that_opens_unasked_is_constrained_from_there() -> None:
    """A prefill opens the call; whatever the models would like to say, it becomes a legal one."""
    request = asked("auto", prefill="<tool_call>", parallel_tool_calls=False)
    _, calls = seen(run("hermes", request))
    called, arguments, state = calls[0]
    assert state == "complete"
    jsonschema.validate(json.loads(arguments), SCHEMAS[called])


def test_beside_a_schema_the_answer_is_one_or_the_other() -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    events = run("hermes", asked("auto", constraint=Constraint("json_schema", schema, may_refuse=False)))
    text, calls = seen(events)
    if calls:
        assert all(state == "complete" for _, _, state in calls)
    else:
        jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize("name", FORMATS)
def test_words_under_auto_are_told_token_for_token(name: str) -> None:
    events = run(name, asked("auto", sampling={"max_tokens": 20, "logit_bias": {}}))
    told = [e for e in events if isinstance(e, Token)]
    assert [t.index for t in told] == list(
        range(ended(events).completion_tokens - (ended(events).finish_reason == "stop"))
    )
    assert [e for e in events if isinstance(e, ToolCallPart)] == []


def test_both_models_are_asked_for_the_targets_format() -> None:
    pair = pair_of("llama3", native=True)
    assert pair.tool_format is get_format("llama3")
    assert pair.draft.renderer.tool_format is None
    assert pair.info()["tool_format"] == "llama3"
    assert tiny_pair().tool_format.name == "hermes"


def test_a_marker_that_is_a_control_token_is_kept_where_calls_are_read() -> None:
    tokenizer = byte_tokenizer(KNOWN["mistral"])
    tokenizer.add_tokens([AddedToken("[TOOL_CALLS]", special=True, normalized=False)])
    base = tiny_pair()
    pair = replace(base, target=replace(base.target, renderer=Renderer(tokenizer, ModelSpec(name="tiny"))))
    marker = pair.target.renderer.control_texts["[TOOL_CALLS]"]
    ids = [*pair.target.renderer.encode("a"), marker, *pair.target.renderer.encode(" [é")]
    assert pair.decode_calls(ids) == "a[TOOL_CALLS] [é"
    assert "[TOOL_CALLS]" not in pair.decode(ids)
