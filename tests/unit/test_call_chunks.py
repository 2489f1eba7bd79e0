"""Calls that come back: the same on every surface, broken where they must not be made."""

import asyncio
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.utils.json import parse_partial_json
from langchain_tests.utils.stream_lifecycle import assert_valid_event_stream

from langchain_ssd import ChatSSD
from langchain_ssd.call_chunks import unmendable
from langchain_ssd.errors import ProtocolError
from langchain_ssd.events import Finished, Refused, ToolCallPart
from langchain_ssd.messages import to_chat
from langchain_ssd.testing import answer, tool_call, tool_calls

from .chat_helpers import NO, V3, Add, collect, every_way, get_weather, merged, model_of

SAID = tool_calls(
    ("get_weather", {"city": "Zürich", "days": 2}),
    ("Add", {"a": 1}),
    after="Let me see. ",
    modes=("utility",) * 4 + ("safety",),
    agreement=(True,) * 4 + (False,),
)
CALLS = [("get_weather", {"city": "Zürich", "days": 2}), ("Add", {"a": 1})]
REFUSED = [*SAID[:-1], Refused(9, "evidence", text=NO), Finished("refusal", 0, 9)]


def made(message):
    return [(call["name"], call["args"]) for call in message.tool_calls]


def test_calls_are_the_same_on_every_surface():
    model, _ = model_of(SAID)
    for way, message in every_way(model).items():
        assert made(message) == CALLS, way
        assert message.text == "Let me see. ", way
        assert message.response_metadata["finish_reason"] == "tool_calls"
        ids = [call["id"] for call in message.tool_calls]
        assert len(set(ids)) == 2
        assert message.response_metadata["ssd"]["tool_calls"] == [
            {"id": ids[0], "name": "get_weather", "mode": "safety", "match_ratio": 0.75},
            {"id": ids[1], "name": "Add", "mode": "utility", "match_ratio": 1.0},
        ]
        usage = message.usage_metadata
        assert usage["output_tokens"] == sum(e.kind == "token" for e in SAID)
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_chunks_carry_slices_with_index_and_the_last_one_is_empty():
    model, _ = model_of(SAID)
    *chunks, last = list(model.stream("hi"))
    assert last.chunk_position == "last"
    assert (last.content, last.tool_call_chunks) == ("", [])
    slices = [c for chunk in chunks for c in chunk.tool_call_chunks]
    assert [c["name"] for c in slices if c["name"]] == ["get_weather", "Add"]
    assert [c["id"] is not None for c in slices] == [bool(c["name"]) for c in slices]
    assert {c["index"] for c in slices} == {0, 1}
    assert len(slices) > 4
    assert "".join(c["args"] for c in slices if c["index"] == 0) == json.dumps(CALLS[0][1])


@V3
@pytest.mark.parametrize("script", [SAID, REFUSED, tool_call("f", '{"cut": "of'), answer("no calls")])
def test_the_third_version_of_the_event_stream_is_valid_and_says_the_same(script):
    model, _ = model_of(script)
    stream = model.stream_events("hi", version="v3")
    assert_valid_event_stream(list(stream))
    whole = merged(list(model.stream("hi")))
    assert made(stream.output) == made(whole)
    assert len(stream.output.invalid_tool_calls) == len(whole.invalid_tool_calls)
    assert stream.output.response_metadata["finish_reason"] == script[-1].finish_reason


@V3
def test_the_asynchronous_one_too():
    model, _ = model_of(SAID)

    async def go():
        stream = await model.astream_events("hi", version="v3")
        events = await collect(stream)
        return events, await stream.output

    events, output = asyncio.run(go())
    assert_valid_event_stream(events)
    assert made(output) == CALLS


@pytest.mark.parametrize(
    "written", ['{"city": "Par', '{"city": ["a", {"b": "c\\', "", "[1]", "oops", '{"a": 1}}', '"text"']
)
def test_calls_that_are_no_json_are_invalid_on_every_surface(written):
    model, _ = model_of(tool_call("get_weather", written))
    for way, message in every_way(model).items():
        assert message.tool_calls == [], way
        (invalid,) = message.invalid_tool_calls
        assert (invalid["name"], invalid["args"].startswith(written)) == ("get_weather", True), way


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "{",
        '{"a',
        '{"a"',
        '{"a": "b\\',
        '{"a": "b\\\\',
        '{"a": [1, {"b": [',
        '{"a": 1}',
        '{"a": "]}"',
        '{"a": [] }',
        "[1]",
        "x",
    ],
)
def test_no_lenient_reader_mends_a_call_that_must_not_be_made(arguments):
    try:
        found = parse_partial_json(arguments + unmendable(arguments))
    except ValueError:
        return
    assert not isinstance(found, dict)


@given(st.text('{}[]",:\\ n1', max_size=30))
def test_nor_any_other_beginning_of_an_object(text):
    test_no_lenient_reader_mends_a_call_that_must_not_be_made('{"a": ' + text)


@pytest.mark.parametrize("opening", ["[", '{"a": ', '[{"a": '])
def test_a_refusal_behind_deeply_nested_arguments_is_still_one(opening):
    deep = '{"a": ' + opening * 1200
    model, _ = model_of([ToolCallPart(0, "id", "f", deep), *REFUSED[-2:]])
    for way, message in every_way(model).items():
        assert message.response_metadata["finish_reason"] == "refusal", way
        assert made(message) == [], way


def test_a_refused_answer_has_no_calls_whatever_had_been_shown_of_them():
    """The first call was whole when the refusal came; nobody may make it."""
    model, _ = model_of(REFUSED)
    for way, message in every_way(model).items():
        assert message.tool_calls == [], way
        assert message.text.endswith(NO)
        assert message.response_metadata["finish_reason"] == "refusal"
    assert model.invoke("hi").invalid_tool_calls == []
    shown = merged(list(model.stream("hi")))
    assert [call["name"] for call in shown.invalid_tool_calls] == ["get_weather", "Add"]
    assert to_chat([HumanMessage("a"), shown, HumanMessage("b")])[0][1].tool_calls == ()


def test_a_refusal_in_shadow_mode_leaves_calls_alone():
    script = [*SAID[:-1], Refused(9, "evidence", enforced=False), SAID[-1]]
    model, _ = model_of(script)
    for way, message in every_way(model).items():
        assert made(message) == CALLS, way


def test_chains_that_want_text_get_the_text():
    model, _ = model_of(SAID)
    assert (model | StrOutputParser()).invoke("hi") == "Let me see. "


@pytest.mark.parametrize(
    "parts",
    [
        [ToolCallPart(1, "id", "f")],
        [ToolCallPart(-1, "id", "f")],
        [ToolCallPart(0, "id", "f", "{}", "complete"), ToolCallPart(0, "", "", "{}")],
    ],
)
def test_a_backend_that_mixes_calls_up_fails_the_request(parts):
    model, _ = model_of([*parts, Finished("tool_calls")])
    with pytest.raises(ProtocolError, match="not open"):
        model.invoke("hi")


def test_a_call_after_a_refusal_fails_the_request():
    model, _ = model_of([*REFUSED[:-1], ToolCallPart(0, "id", "f", "{}", "complete"), REFUSED[-1]])
    with pytest.raises(ProtocolError, match="after a refusal"):
        model.invoke("hi")


def test_a_backend_that_calls_broken_arguments_complete_is_not_believed():
    model, _ = model_of([ToolCallPart(0, "id", "f", "oops", "complete"), Finished("tool_calls")])
    assert [call["name"] for call in model.invoke("hi").invalid_tool_calls] == ["f"]


def test_a_round_of_tools_reaches_the_backend_as_it_was():
    model, backend = model_of(SAID, "Sunny.")
    bound = model.bind_tools([get_weather, Add])
    first = bound.invoke("weather?")
    results = [
        get_weather.invoke(first.tool_calls[0]),
        ToolMessage("3", tool_call_id=first.tool_calls[1]["id"]),
    ]
    assert bound.invoke([HumanMessage("weather?"), first, *results]).text == "Sunny."
    _, calling, one, two = backend.requests[1].messages
    assert [c["function"] for c in calling.tool_calls] == [{"name": n, "arguments": a} for n, a in CALLS]
    assert (one.content, one.name, one.tool_call_id) == (
        "Zürich: 2",
        "get_weather",
        first.tool_calls[0]["id"],
    )
    assert two.tool_call_id == first.tool_calls[1]["id"]


def test_scripted_calls_have_ids_of_their_own():
    once, again = tool_call("f", {}), tool_call("f", {})
    ids = {e.call_id for e in [*once, *again] if isinstance(e, ToolCallPart) and e.call_id}
    assert len(ids) == 2
    assert replace(once[-1], summary=again[-1].summary) == again[-1]


def test_the_profile_says_what_is_true():
    profile = ChatSSD(backend=model_of("x")[1]).profile
    wanted = ("tool_calling", "tool_choice", "tool_call_streaming", "structured_output")
    assert {name: profile[name] for name in wanted} == dict.fromkeys(wanted, True)


def test_an_ai_message_with_a_call_only_is_not_empty_for_the_next_turn():
    message = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])
    chat, _ = to_chat([HumanMessage("a"), message, ToolMessage("r", tool_call_id="1")])
    assert [m.role for m in chat] == ["user", "assistant", "tool"]
