"""Tools and forms through the server: raw bodies, openai, langchain-openai, and ``ChatSSD``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.utils.json import parse_partial_json
from pydantic import BaseModel

from langchain_ssd import ChatSSD
from langchain_ssd.constraint import Constraint
from langchain_ssd.errors import ProtocolError
from langchain_ssd.events import Finished, Refused, ToolCallPart
from langchain_ssd.testing import ScriptedBackend, answer, tool_call, tool_calls

from .serving import chat, serving

CHAT = "/v1/chat/completions"
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}
ASK: Any = [{"role": "user", "content": "hi"}]
TWO = tool_calls(("add", {"a": 1}), ("add", {"a": 22, "b": "é"}), after="Let me see.")
ONE = tool_call("add", {"a": 1})


def refused_after(script: list[Any]) -> list[Any]:
    """Calls that had been shown when the answer was refused."""
    *shown, finished = script
    return [*shown, Refused(9, text="No."), Finished("refusal", 0, 9, summary=finished.summary)]


def arguments(parts: list[dict[str, Any]]) -> dict[int, str]:
    joined: dict[int, str] = {}
    for part in parts:
        joined[part["index"]] = joined.get(part["index"], "") + part["function"]["arguments"]
    return joined


def parts_of(events: list[Any]) -> list[dict[str, Any]]:
    deltas = [event["choices"][0]["delta"] for event in events if event != "[DONE]" and event["choices"]]
    return [part for delta in deltas for part in delta.get("tool_calls", ())]


def mended(text: str) -> Any:
    """What LangChain makes of the arguments of a streamed call, if it takes them for a call."""
    try:
        values = parse_partial_json(text)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


# Raw


def test_calls_come_whole_and_in_parts() -> None:
    with serving(ScriptedBackend(TWO)) as server:
        (choice,) = server.post(CHAT, chat(tools=[TOOL])).json()["choices"]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] == "Let me see."
        calls = choice["message"]["tool_calls"]
        assert [json.loads(call["function"]["arguments"]) for call in calls] == [
            {"a": 1},
            {"a": 22, "b": "é"},
        ]
        assert {call["type"] for call in calls} == {"function"}
        events = server.events(CHAT, chat(tools=[TOOL], stream=True))
        parts = parts_of(events)
        assert {i: json.loads(text) for i, text in arguments(parts).items()} == {
            0: {"a": 1},
            1: {"a": 22, "b": "é"},
        }
        heads = [part for part in parts if "id" in part]
        assert [head["function"]["name"] for head in heads] == ["add", "add"]
        assert len({head["id"] for head in heads}) == len({call["id"] for call in calls}) == 2
        assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"
        alone = server.post(CHAT, chat(tools=[TOOL])).json()["choices"][0]
        assert "ssd" not in alone


def test_an_answer_of_calls_alone_has_no_content() -> None:
    with serving(ScriptedBackend(ONE)) as server:
        message = server.post(CHAT, chat(tools=[TOOL])).json()["choices"][0]["message"]
        assert message["content"] is None


@pytest.mark.parametrize("script", [ONE, TWO, [*ONE[:-2], ONE[-1]]], ids=["whole", "two", "cut off"])
def test_no_reader_can_make_a_call_out_of_an_answer_that_was_refused(script: list[Any]) -> None:
    with serving(ScriptedBackend(refused_after(script))) as server:
        (choice,) = server.post(CHAT, chat(tools=[TOOL])).json()["choices"]
        assert choice["finish_reason"] == "content_filter"
        assert "tool_calls" not in choice["message"]
        events = server.events(CHAT, chat(tools=[TOOL], stream=True))
        assert events[-2]["choices"][0]["finish_reason"] == "content_filter"
        for text in arguments(parts_of(events)).values():
            assert mended(text) is None


def test_a_broken_call_is_broken_for_lenient_readers_too() -> None:
    with serving(ScriptedBackend(tool_call("add", '{"a": 1'))) as server:
        events = server.events(CHAT, chat(tools=[TOOL], stream=True))
        assert mended(arguments(parts_of(events))[0]) is None
        message = server.post(CHAT, chat(tools=[TOOL])).json()["choices"][0]["message"]
        assert message["tool_calls"][0]["function"]["arguments"] == '{"a": 1'


LIES = [
    [ToolCallPart(0, "id", "add", "oops", "complete")],
    [ToolCallPart(0, "id", "add", '{"a": 1'), ToolCallPart(0, "", "", "", "complete")],
    [ToolCallPart(0, "id", "add", '{"a": 1', "complete")],
]


@pytest.mark.parametrize("parts", LIES, ids=["no JSON", "open, two parts", "open, one part"])
def test_a_backend_that_calls_broken_arguments_complete_is_not_believed(parts: list[Any]) -> None:
    with serving(ScriptedBackend([*parts, Finished("tool_calls")])) as server:
        for ssd in (None, True):
            events = server.events(CHAT, chat(tools=[TOOL], stream=True, ssd=ssd))
            assert mended(arguments(parts_of(events))[0]) is None
        message = server.post(CHAT, chat(tools=[TOOL])).json()["choices"][0]["message"]
        said = "".join(part.arguments for part in parts)
        assert [call["function"]["arguments"] for call in message["tool_calls"]] == [said]


@pytest.mark.parametrize("state", ["open", "broken"])
def test_a_call_that_was_not_completed_cannot_be_read_in_a_whole_answer(state: Any) -> None:
    with serving(ScriptedBackend([ToolCallPart(0, "id", "add", '{"a": 1}', state), Finished()])) as server:
        message = server.post(CHAT, chat(tools=[TOOL])).json()["choices"][0]["message"]
        assert mended(message["tool_calls"][0]["function"]["arguments"]) is None


def test_nor_can_one_that_only_other_readers_could_read() -> None:
    deep = '{"a": ' * 20_000 + "1" + "}" * 20_000
    with serving(ScriptedBackend([ToolCallPart(0, "id", "add", deep, "complete"), Finished()])) as server:
        message = server.post(CHAT, chat(tools=[TOOL])).json()["choices"][0]["message"]
        said = message["tool_calls"][0]["function"]["arguments"]
        assert said.startswith(deep)
        assert len(said) > len(deep)


MIXED_UP = [
    [ToolCallPart(1, "id", "f")],
    [ToolCallPart(-1, "id", "f")],
    [ToolCallPart(0, "id", "f", "{}", "complete"), ToolCallPart(0, "", "", "{}")],
]
SURFACES: list[tuple[str, str, dict[str, Any]]] = [
    (CHAT, CHAT, chat()),
    ("/v1/completions", "/v1/completions", {"prompt": "hi"}),
    ("/generate", "/generate_stream", {"inputs": "hi"}),
    ("/", "/", {"inputs": "hi"}),
]


@pytest.mark.parametrize("ssd", [None, True], ids=["plain", "telemetry"])
@pytest.mark.parametrize("parts", MIXED_UP, ids=["from nowhere", "negative", "after the end"])
@pytest.mark.parametrize(("path", "stream_path", "body"), SURFACES, ids=[path for path, _, _ in SURFACES])
def test_a_backend_that_mixes_calls_up_fails_the_request(
    path: str, stream_path: str, body: dict[str, Any], parts: list[Any], ssd: Any
) -> None:
    error = ProtocolError("the backend sent a part of a call that is not open")
    expected = {"error": error.message, "error_type": "incomplete_generation", "code": error.code}
    streams = {} if stream_path == "/generate_stream" else {"stream": True}
    with serving(ScriptedBackend([*parts, Finished("tool_calls")])) as server:
        response = server.post(path, {**body, "ssd": ssd})
        assert (response.status_code, response.json()) == (500, expected)
        *events, last = server.events(stream_path, {**body, **streams, "ssd": ssd})
        assert last == expected
        assert "[DONE]" not in events
        told = [event["ssd"] for event in events if event.get("ssd", {}).get("kind") == "failed"]
        said = {"kind": "failed", "code": error.code, "message": error.message, "retry_after": None}
        assert told == ([said] if ssd else [])


@pytest.mark.parametrize("parts", MIXED_UP)
def test_chatssd_gets_the_same_error_for_calls_that_are_mixed_up(parts: list[Any]) -> None:
    with serving(ScriptedBackend([*parts, Finished("tool_calls")])) as server:
        model = ChatSSD(base_url=server.url)
        with pytest.raises(ProtocolError, match="not open"):
            model.invoke("hi")
        with pytest.raises(ProtocolError, match="not open"):
            list(model.stream("hi"))


def test_a_summary_has_how_calls_were_decoded_and_no_argument() -> None:
    with serving(ScriptedBackend(tool_call("add", {"a": "secret"}, modes=["safety"]))) as server:
        ssd = server.post(CHAT, chat(tools=[TOOL], ssd=True)).json()["ssd"]
        assert ssd["summary"]["tool_calls"][0]["mode"] == "safety"
        assert "secret" not in str(ssd)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"tools": [TOOL, TOOL]}, "name of another tool"),
        ({"tools": [TOOL], "tool_choice": {"function": {"name": "other"}}}, "names no tool"),
        ({"tool_choice": "required"}, "no tools"),
        ({"tools": [{"type": "function", "function": {"name": "none"}}]}, "rename it"),
    ],
)
def test_tools_that_make_no_sense_are_refused_by_the_rules_of_chatssd(body: Any, why: str) -> None:
    with serving(ScriptedBackend("a")) as server:
        response = server.post(CHAT, chat(**body))
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
        assert why in response.json()["error"]
        assert server.backend.requests == []


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Constraint("json_object")),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
            Constraint("json_schema", SCHEMA),
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": False}},
            Constraint("json_schema", {**SCHEMA, "x-guidance": {"lenient": True}}),
        ),
        ({"type": "json", "value": SCHEMA}, Constraint("json_schema", SCHEMA)),
        ({"type": "regex", "value": "a+"}, Constraint("regex", "a+")),
    ],
)  # fmt: skip
def test_forms_reach_the_engine(form: Any, expected: Constraint | None) -> None:
    with serving(ScriptedBackend("a")) as server:
        assert server.post(CHAT, chat(response_format=form)).is_success
        assert server.backend.requests[0].constraint == expected


# Clients


def test_openai_calls_tools_and_reads_values() -> None:
    openai = pytest.importorskip("openai", reason="needs the extra 'clients'")
    value = answer('{"a": 7}')
    with serving(ScriptedBackend(TWO, TWO, value, "done")) as server:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
        completions = client.chat.completions
        message = completions.create(model="ssd", messages=ASK, tools=[TOOL]).choices[0].message
        assert [json.loads(c.function.arguments)["a"] for c in message.tool_calls] == [1, 22]
        with completions.stream(model="ssd", messages=ASK, tools=[TOOL]) as stream:
            final = stream.get_final_completion().choices[0]
        assert final.finish_reason == "tool_calls"
        assert [json.loads(c.function.arguments)["a"] for c in final.message.tool_calls] == [1, 22]

        class Sum(BaseModel):
            a: int

        parsed = completions.parse(model="ssd", messages=ASK, response_format=Sum)
        assert parsed.choices[0].message.parsed == Sum(a=7)
        assert server.backend.requests[-1].constraint.kind == "json_schema"
        results = [{"role": "tool", "tool_call_id": c.id, "content": "3"} for c in message.tool_calls]
        again = [*ASK, message.model_dump(exclude_unset=True), *results]
        assert (
            completions.create(model="ssd", messages=again, tools=[TOOL]).choices[0].message.content == "done"
        )
        asked = server.backend.requests[-1].messages
        assert [m.role for m in asked] == ["user", "assistant", "tool", "tool"]
        assert asked[1].tool_calls[1]["function"]["arguments"] == {"a": 22, "b": "é"}
        client.close()


def test_langchain_openai_makes_no_call_of_a_refused_answer() -> None:
    langchain_openai = pytest.importorskip("langchain_openai", reason="needs the extra 'clients'")
    with serving(ScriptedBackend(TWO, refused_after(TWO))) as server:
        model = langchain_openai.ChatOpenAI(base_url=server.url + "/v1", api_key="none", model="ssd")
        bound = model.bind_tools([TOOL])
        first, *others = bound.stream("hi")
        assert [call["args"]["a"] for call in sum(others, first).tool_calls] == [1, 22]
        first, *others = bound.stream("hi")
        assert sum(others, first).tool_calls == []


# ChatSSD


@pytest.mark.parametrize("script", [TWO, ONE, refused_after(TWO), tool_call("add", '{"a"')])
def test_chatssd_gets_the_same_calls_through_a_server(script: Any) -> None:
    with serving(ScriptedBackend(script)) as server:
        seen = []
        for model in (ChatSSD(backend=ScriptedBackend(script)), ChatSSD(base_url=server.url)):
            bound = model.bind_tools([TOOL])
            first, *others = bound.stream("hi")
            for message in (bound.invoke("hi"), sum(others, first)):
                seen.append(
                    (
                        message.content,
                        message.tool_calls,
                        message.invalid_tool_calls,
                        message.response_metadata,
                    )
                )
        assert seen[:2] == seen[2:]


def test_every_part_of_a_call_survives() -> None:
    parts = [
        ToolCallPart(0, "c1", "add", '{"a', "open"),
        ToolCallPart(0, "", "", '": 1}', "complete"),
        ToolCallPart(1, "c2", "", "x", "broken"),
    ]
    script = [*parts, Finished("tool_calls", 0, 3)]
    with serving(ScriptedBackend(script)) as server:
        from langchain_ssd.backend import ChatMessage, ChatRequest
        from langchain_ssd_tgi import RemoteBackend

        _, *events = RemoteBackend(server.url).submit(ChatRequest((ChatMessage("user", "hi"),)))
        assert events[:-1] == parts
        assert events[-1].finish_reason == "tool_calls"


def test_a_turn_with_a_tool_goes_through() -> None:
    with serving(ScriptedBackend(ONE, "It is 3.")) as server:
        model = ChatSSD(base_url=server.url).bind_tools([TOOL], tool_choice="add", parallel_tool_calls=False)
        called = model.invoke("hi")
        result = ToolMessage("3", tool_call_id=called.tool_calls[0]["id"])
        assert model.invoke([HumanMessage("hi"), called, result]).text == "It is 3."
        request = server.backend.requests[-1]
        assert (request.tools, request.tool_choice, request.parallel_tool_calls) == ((TOOL,), "add", False)
        assert [m.role for m in request.messages] == ["user", "assistant", "tool"]
