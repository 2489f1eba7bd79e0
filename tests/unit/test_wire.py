"""The values inside the frames: everything ours survives the pipe, everything else is refused."""

import io
import json
import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import EngineConfig, ModelSpec, RefusalPolicy, Sampling, SSDConfig
from langchain_ssd.constraint import Constraint
from langchain_ssd.errors import ConfigError, InvalidRequest, ProtocolError
from langchain_ssd.events import (
    BinScored,
    Failed,
    Finished,
    ModeChanged,
    PrefillScored,
    Queued,
    Refused,
    Summary,
    Token,
    ToolCallPart,
)
from langchain_ssd.worker import wire
from langchain_ssd.worker.protocol import TO_PARENT, TO_WORKER, encode, read_frame

MARKER = "xyzzy-secret"

FULL = ChatRequest(
    messages=(
        ChatMessage("system", "be kind"),
        ChatMessage("user", "h\ud800i\x00", name="ann"),
        ChatMessage("assistant", "", tool_calls=({"name": "f", "args": {"x": [1, 2.5, None]}},)),
        ChatMessage("tool", "42", tool_call_id="call_1"),
    ),
    prefill="Sure",
    tools=({"type": "function", "function": {"name": "f"}},),
    sampling=Sampling(temperature=0.7, stop=("\n\n", "\ud800"), seed=2**64 - 1, logit_bias={5: -1.5}),
    safety=SSDConfig(monitor="sequential", hold_back=12, enforce=False),
    refusal=RefusalPolicy(language="de", templates={"de": "Nein."}),
    include_thinking=True,
    timeout=3,
)


def nested(depth: int):
    schema = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def across(request: ChatRequest) -> ChatRequest:
    data = wire.encode_submit(7, wire.request_body(request), submitted=0.0)
    frame = read_frame(io.BytesIO(data), TO_WORKER)
    assert frame is not None
    assert frame["id"] == 7
    assert frame["age"] > 0
    return wire.request_from_wire(frame["request"])


@pytest.mark.parametrize("request_", [FULL, ChatRequest((ChatMessage("user", "hi"),)), ChatRequest(())])
def test_requests_survive(request_):
    assert across(request_) == request_


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("json_schema", {"type": "object", "properties": {"\ud800": {"const": [1, 2.5, None]}}}),
        Constraint("json_object", may_refuse=False),
        Constraint("choice", ["a", ""]),
        Constraint("lark", 'start: "x"\n'),
        Constraint("json_schema", nested(300)),
    ],
)
def test_constraints_survive(constraint):
    request = ChatRequest((), constraint=constraint)
    assert across(request) == request


@pytest.mark.parametrize("value", [nested(50_000), {1, 2}, object()], ids=["deep", "set", "object"])
def test_a_constraint_that_is_no_json_is_refused(value):
    with pytest.raises(InvalidRequest):
        wire.request_body(ChatRequest((), constraint=Constraint("json_schema", value)))


def joined(text: str) -> str:
    """Two surrogate halves side by side are the character they denote, for JSON as for UTF-16."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@given(st.text(st.characters(), max_size=50), st.floats(0, 100), st.one_of(st.none(), st.floats(0.1, 9e9)))
def test_any_text_survives(text, temperature, timeout):
    sampling = Sampling(temperature=temperature)
    sent = ChatRequest((ChatMessage("user", text),), prefill=text, sampling=sampling, timeout=timeout)
    text = joined(text)
    assert across(sent) == replace(sent, messages=(ChatMessage("user", text),), prefill=text)


def test_later_changes_to_a_tool_do_not_reach_a_submitted_request():
    tool = {"name": "before"}
    body = wire.request_body(ChatRequest((), tools=(tool,)))
    tool["name"] = "after"
    assert b"before" in body
    assert b"after" not in body


@pytest.mark.parametrize("bad", [{"f": object()}, {"f": {1}}, {"f": b""}])
def test_a_tool_that_is_not_json_is_an_invalid_request(bad):
    bad["marker"] = MARKER
    with pytest.raises(InvalidRequest, match="plain JSON") as caught:
        wire.request_body(ChatRequest((), tools=(bad,)))
    assert MARKER not in str(caught.value)


def test_an_enormous_request_is_an_invalid_request(monkeypatch):
    monkeypatch.setattr(wire, "FRAME_LIMIT", 5000)
    with pytest.raises(InvalidRequest, match="larger than"):
        wire.request_body(ChatRequest((ChatMessage("user", "x" * 5000),)))


def damaged() -> list[dict]:
    good = json.loads(wire.request_body(FULL))
    message = good["messages"][0]
    cases = [{k: v for k, v in good.items() if k != name} for name in good]
    cases += [{**good, name: 5j} for name in good if name != "timeout"]
    cases += [
        {**good, "more": 1},
        {**good, "timeout": "3"},
        {**good, "messages": [{**message, "role": "root"}]},
        {**good, "messages": [{**message, "role": ["user"]}]},
        {**good, "messages": [{**message, "content": None}]},
        {**good, "messages": [{**message, "name": 1}]},
        {**good, "messages": [{**message, "tool_calls": ["f"]}]},
        {**good, "messages": [{**message, "more": MARKER}]},
        {**good, "messages": [{"role": "user", "content": MARKER}]},
        {**good, "messages": [None]},
        {**good, "tools": [1]},
        {**good, "sampling": {"temperature": -1}},
        {**good, "safety": {"typo": MARKER}},
    ]
    return cases


@pytest.mark.parametrize("case", damaged())
def test_a_damaged_request_is_refused(case):
    with pytest.raises(ProtocolError, match="does not describe a request") as caught:
        wire.request_from_wire(case)
    assert MARKER not in str(caught.value)


# --- events -------------------------------------------------------------------------------------------

EVENTS = [
    Queued(10, 12, 3),
    PrefillScored(3, 0.5, 1.25, "safety"),
    Token(1, 2, "a\ud800", True, "safety", False, False, 0.25, 0.5, 0.125, math.inf, 1.0, 2.0, 3.0, 4.0),
    Token(p_target=1, statistic=None),
    Token(scored=False),
    ToolCallPart(1, "abc", "get\ud800", '{"a": ', "open"),
    ToolCallPart(1, arguments="1}", state="complete"),
    BinScored(1, 0.5, 0.25, None, "safety", "utility"),
    ModeChanged(5, "safety", 4.5),
    Refused(5, "low_match_ratio", "attack", "de", "Nein.", False),
    Finished("refusal", 1, 2, 3, Summary(refusal={"reason": "x"}, seconds=1.5, seed=2**64 - 1)),
    Finished("tool_calls", summary=Summary(tool_calls=[{"id": "abc", "name": None, "match_ratio": 0.5}])),
    Failed("worker_died", "gone"),
]


def test_events_survive():
    data = encode(wire.events_frame(3, EVENTS))
    frame = read_frame(io.BytesIO(data), TO_PARENT)
    assert frame is not None
    assert frame["id"] == 3
    assert wire.events_from_wire(frame["events"]) == EVENTS


def test_only_finished_and_failed_are_terminal():
    assert [event for event in EVENTS if wire.is_terminal(event)] == EVENTS[-3:]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "nonsense"},
        {"kind": ["token"]},
        {"kind": None},
        {"text": 5},
        {"text": None},
        {"index": "0"},
        {"thinking": 1},
        {"kl": "0"},
        {"statistic": "4"},
        {"more": 1},
    ],
)
def test_a_damaged_event_is_refused(change):
    with pytest.raises(ProtocolError, match="no event"):
        wire.events_from_wire([{**Token().to_wire(), **change}])


@pytest.mark.parametrize("value", [None, 5, "token", [], {}, {"kind": "token"}])
def test_what_is_no_event_is_refused(value):
    with pytest.raises(ProtocolError, match="no event"):
        wire.events_from_wire([value])


@pytest.mark.parametrize(
    "summary", [None, {}, [1], {**asdict(Summary()), "emitted": "3"}, {**asdict(Summary()), "tool_calls": {}}]
)
def test_a_damaged_summary_is_refused(summary):
    with pytest.raises(ProtocolError, match="no event"):
        wire.events_from_wire([{**Finished().to_wire(), "summary": summary}])


# --- hello --------------------------------------------------------------------------------------------


def test_hello_carries_everything_with_the_real_token():
    target = ModelSpec(name="org/target", token=MARKER, quantization={"quant_method": "bnb", "bits": 4})
    draft, config = ModelSpec(name="draft", gguf_file="x.gguf"), EngineConfig(max_batch=3)
    frame = read_frame(io.BytesIO(encode(wire.hello(target, draft, config))), TO_WORKER)
    assert frame is not None
    assert wire.hello_from_wire(frame) == (target, draft, config)


def test_settings_that_are_not_json_are_a_config_error_that_quotes_nothing():
    target = ModelSpec(name="t", token=MARKER, quantization={"dtype": object()})
    with pytest.raises(ConfigError, match="plain JSON") as caught:
        wire.hello(target, ModelSpec(name="d"), EngineConfig())
    assert MARKER not in str(caught.value)


@pytest.mark.parametrize("change", [{"version": 0}, {"target": {}}, {"config": {"typo": 1}}])
def test_a_hello_of_another_version_or_without_a_pair_is_refused(change):
    frame = wire.hello(ModelSpec(name="t"), ModelSpec(name="d"), EngineConfig())
    with pytest.raises(ProtocolError):
        wire.hello_from_wire({**frame, **change})
