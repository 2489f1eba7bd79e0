"""Released tokens → text and calls: nothing gets out early, ids are stable, each call has its own risk."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import RefusalPolicy, Sampling, SSDConfig
from langchain_ssd.decoding.monitor import Evidence
from langchain_ssd.decoding.verify import Draw, Emission
from langchain_ssd.engine.requests import open_sequence
from langchain_ssd.engine.text import TextStream, ThinkingSplitter, TokenDecoder
from langchain_ssd.engine.tool_calls import ToolCallReader, reader_for
from langchain_ssd.errors import InvalidRequest
from langchain_ssd.events import Event, Finished, Refused, Token, ToolCallPart
from langchain_ssd.testing.tiny_pair import tiny_pair
from langchain_ssd.tool_formats import DEFAULT, get_format

from .tool_templates import tool

PAIR = tiny_pair()
TOOLS = (tool(), tool("add"))
ONE = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
TWO = f'Let me see.\n{ONE}\n<tool_call>\n{{"name": "get_weather", "arguments": {{}}}}\n</tool_call>'


def reader(prefill: str = "", format_name: str = "hermes") -> ToolCallReader:
    return reader_for(get_format(format_name), TOOLS, prefill, seed=7, prompt=[1, 2, 3])


def tokens(text: str, size: int = 3, **fields) -> list[Token]:
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    return [Token(i, i, piece, **fields) for i, piece in enumerate(pieces)]


def seen(events: list[Event]) -> tuple[str, list[tuple[str, str, str]]]:
    """Text, and (name, arguments, state) of every call."""
    calls: list[list[str]] = []
    for event in events:
        if isinstance(event, ToolCallPart):
            if event.call == len(calls):
                calls.append([event.name, "", ""])
            else:
                assert (event.name, event.call_id) == ("", "")
            calls[event.call][1] += event.arguments
            calls[event.call][2] = event.state
    return "".join(e.text for e in events if isinstance(e, Token)), [tuple(call) for call in calls]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 40))
def test_every_token_is_told_once_and_in_order_whatever_it_holds(size: int) -> None:
    given = tokens(TWO, size)
    r = reader()
    events = [*r.read(given), *r.finish([])]
    assert [e.index for e in events if isinstance(e, Token)] == [t.index for t in given]
    assert seen(events) == (
        "Let me see.",
        [("add", '{"a": 1}', "complete"), ("get_weather", "{}", "complete")],
    )
    assert r.complete == 2


def test_arguments_stream_as_they_come() -> None:
    parts = [e for e in reader().read(tokens(ONE, 1)) if isinstance(e, ToolCallPart)]
    assert [p.arguments for p in parts] == ["", *'{"a": 1}', ""]
    assert [p.state for p in parts] == ["open"] * 9 + ["complete"]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 200), min_size=200, max_size=200),
    st.sampled_from(["verdict", "none", 5, "response"]),
)
def test_nothing_of_a_call_gets_out_before_its_tokens_may(schedule: list[int], hold_back) -> None:
    """Whatever the monitor clears and when: what is visible comes from released tokens alone."""
    stream = TextStream(
        TokenDecoder(lambda ids: bytes(ids).decode(errors="replace")),
        (),
        hold_back,
        ThinkingSplitter(False),
        False,
    )
    r, shown, cleared = reader(), [], 0
    for i, byte in enumerate(TWO.encode()):
        stream.push(i, byte, lambda text, thought, i=i, byte=byte: Token(i, byte, text, thought))
        cleared = max(cleared, min(schedule[i], i + 1))
        shown += r.read(stream.release(i + 1, cleared))
        limit = {"verdict": cleared, "none": i + 1, "response": 0, 5: max(0, i + 1 - 5)}[hold_back]
        text, calls = seen(shown)
        released = TWO[:limit]
        assert text == released[: len(text)]
        for name, arguments, _ in calls:
            assert name in released
            assert arguments in released
    shown += r.finish(stream.finish(False))
    assert seen(shown)[1] == [("add", '{"a": 1}', "complete"), ("get_weather", "{}", "complete")]


def test_text_that_might_be_a_call_waits_until_it_is_known() -> None:
    r = reader()
    assert seen(list(r.read([Token(0, 0, "a <tool")]))) == ("", [])
    assert seen(list(r.read([Token(1, 1, "box>")]))) == ("a <toolbox>", [])
    assert seen(list(r.read([Token(2, 2, " <tool_c")]))) == ("", [])
    assert seen(list(r.finish([]))) == (" <tool_c", [])


def test_thinking_is_no_place_for_calls() -> None:
    thought = [Token(0, 0, ONE, thinking=True)]
    r = reader()
    assert list(r.read(thought)) == thought
    assert list(r.finish([])) == []


@pytest.mark.parametrize(
    ("prefill", "rest", "expected"),
    [
        ("Well, ", ONE, ("", [("add", '{"a": 1}', "complete")])),
        ("a <tool", "box> b", ("box> b", [])),
        ("a <tool", '_call>{"name": "add"}</tool_call>', ("", [("add", "{}", "complete")])),
        (
            '<tool_call>{"name": "add", "argum',
            'ents": {"a": 1}}</tool_call>',
            ("", [("add", '{"a": 1}', "complete")]),
        ),
        ('<tool_call>{"name": "add", "arguments": {"a"', ": 1}}", ("", [("add", '{"a": 1}', "complete")])),
    ],
)
def test_a_prefilled_answer_may_have_begun_a_call(prefill: str, rest: str, expected) -> None:
    r = reader(prefill)
    assert seen([*r.read(tokens(rest)), *r.finish([])]) == expected


def test_ids_are_of_nine_letters_stable_under_a_seed_and_of_one_turn_only() -> None:
    def ids(seed: int, prompt: list[int]) -> list[str]:
        r = reader_for(DEFAULT, TOOLS, "", seed, prompt)
        return [e.call_id for e in r.read(tokens(TWO)) if isinstance(e, ToolCallPart) and e.call_id]

    first = ids(7, [1, 2])
    assert all(len(i) == 9 and i.isalnum() and i.isascii() for i in first)
    assert first == ids(7, [1, 2])
    assert len({*first, *ids(8, [1, 2]), *ids(7, [12]), *ids(7, [1, 2, 3])}) == 8


# ── risk ─────────────────────────────────────────────────────────────────────────────────────────────


def test_each_call_is_judged_by_its_own_tokens() -> None:
    """The words before, the first call in part in safety mode and in disagreement, the second in calm."""
    given = tokens(TWO, 1)
    start, end = TWO.index("<tool_call>"), TWO.index("</tool_call>") + len("</tool_call>")
    risky = [
        replace(t, agreement=False, mode="safety")
        if t.index == start + 5
        else replace(t, agreement=t.index >= start)
        for t in given
    ]
    r = reader()
    list(r.read(risky))
    first, second = r.risks()
    assert (first["name"], first["mode"]) == ("add", "safety")
    assert first["match_ratio"] == pytest.approx(1 - 1 / (end - start), abs=0.02)
    assert second == {"id": second["id"], "name": "get_weather", "mode": "utility", "match_ratio": 1.0}


def test_tokens_that_were_forced_do_not_count() -> None:
    r = reader()
    list(r.read(tokens(ONE, scored=False, agreement=False)))
    assert r.risks()[0]["match_ratio"] == 1.0


def test_a_name_that_was_not_offered_is_not_repeated() -> None:
    r = reader()
    list(r.read(tokens('<tool_call>{"name": "secret words"}</tool_call>')))
    assert [risk["name"] for risk in r.risks()] == [None]


# ── through a sequence ───────────────────────────────────────────────────────────────────────────────


def opened(text: str = "q", hold_back="none", max_tokens: int | None = None, **options):
    asked = ChatRequest(
        (ChatMessage("user", text),),
        tools=(tool("add", {"a": {"type": "integer"}}),),
        safety=SSDConfig(hold_back=hold_back, bin_size=1000),
        sampling=Sampling(max_tokens=max_tokens),
        **options,
    )
    return open_sequence(tiny_pair(context=2000), "one", asked, 0.0)


def emit(sequence, text: str, *, end: bool = True, refuse_at: int | None = None, **evidence) -> list[Event]:
    """Drive a sequence through an answer of one token a byte, as if models had written it."""
    events: list[Event] = []
    for i, token in enumerate([*PAIR.target.renderer.encode(text), *([256] if end else [])]):
        if sequence.done:
            break
        row = Evidence(i, True, 0.0, 0.0, 0.0, 0.0, **evidence)
        step = Emission(
            Draw(token, 1.0, 1.0, 1.0), 0, True, "utility", row, None, None, refuse=i == refuse_at
        )
        events += sequence.take(step)
    return events


def test_an_answer_with_a_call_ends_with_the_reason_tool_calls() -> None:
    events = emit(opened(), f"Hm. {ONE}")
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.finish_reason == "tool_calls"
    assert [(c["name"], c["mode"]) for c in finished.summary.tool_calls] == [("add", "utility")]
    assert seen(events) == ("Hm.", [("add", '{"a": 1}', "complete")])
    assert finished.completion_tokens == len(f"Hm. {ONE}".encode()) + 1  # a call's tokens are used as well


def test_an_answer_without_one_ends_as_ever() -> None:
    finished = emit(opened(), "Hm.")[-1]
    assert isinstance(finished, Finished)
    assert (finished.finish_reason, finished.summary.tool_calls) == ("stop", [])


def test_a_call_that_was_cut_off_is_broken_and_the_reason_is_the_length() -> None:
    events = emit(opened(max_tokens=46), ONE)
    assert isinstance(events[-1], Finished)
    assert events[-1].finish_reason == "length"
    assert seen(events)[1] == [("add", '{"a":', "broken")]


def test_a_refusal_keeps_back_what_was_not_released_of_a_call() -> None:
    at = ONE.index("1")
    events = emit(opened(hold_back=4), ONE, refuse_at=at)
    assert isinstance(events[-2], Refused)
    assert isinstance(events[-1], Finished)
    assert (events[-1].finish_reason, events[-1].summary.tool_calls) == ("refusal", [])
    assert seen(events) == ("", [("add", '{"', "open")])
    assert not [
        e for e in emit(opened(hold_back="response"), ONE, refuse_at=at) if isinstance(e, ToolCallPart)
    ]


def test_without_tools_nothing_is_a_call() -> None:
    asked = ChatRequest(
        (ChatMessage("user", "q"),), safety=SSDConfig(hold_back="none"), refusal=RefusalPolicy()
    )
    for request in (asked, replace(asked, tools=TOOLS, tool_choice="none")):
        sequence = open_sequence(tiny_pair(context=2000), "one", request, 0.0)
        events = emit(sequence, ONE)
        assert seen(events) == (ONE, [])
        assert isinstance(events[-1], Finished)
        assert events[-1].finish_reason == "stop"


def test_a_choice_that_names_no_tool_is_refused_before_any_pass() -> None:
    with pytest.raises(InvalidRequest, match="names no tool"):
        opened(tool_choice="nonsense")


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"type": "function"}, "no function in OpenAI's shape"),
        ({"type": "function", "function": {"name": ""}}, "no function in OpenAI's shape"),
        (tool(description="secret\x00"), "NUL"),
        (tool(properties={"secret\ud800": {}}), "surrogate"),
    ],
)
def test_tools_that_nobody_could_offer_are_refused_before_any_pass(bad, why: str) -> None:
    asked = ChatRequest((ChatMessage("user", "q"),), tools=(bad,))
    with pytest.raises(InvalidRequest, match=why) as caught:
        open_sequence(PAIR, "one", asked, 0.0)
    assert "secret" not in str(caught.value)


def test_call_ids_are_json_safe_wherever_they_go() -> None:
    parts = [e for e in reader().read(tokens(ONE)) if isinstance(e, ToolCallPart)]
    assert json.loads(json.dumps([p.to_wire() for p in parts]))[0]["call_id"] == parts[0].call_id
