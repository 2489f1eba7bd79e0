"""``/v1/chat/completions`` and ``/v1/completions``: whole and streamed, and what is refused by name."""

from __future__ import annotations

import json
from math import log
from typing import Any

import pytest

from langchain_ssd.backend import ChatRequest
from langchain_ssd.errors import InvalidRequest
from langchain_ssd.events import Finished, Queued, Token
from langchain_ssd.testing import ScriptedBackend, answer, refusal

from .serving import chat, serving

SPOKEN = answer("Hello my dear friend", modes=["utility", "safety"])
NO = "I can't help with that."
REFUSED = refusal(NO, after="Sure, here is")
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def joined(events: list[Any], name: str = "content") -> str:
    assert events[-1] == "[DONE]"
    deltas = [choice["delta"] for event in events[:-1] for choice in event["choices"]]
    return "".join(delta.get(name) or "" for delta in deltas)


def test_a_whole_answer() -> None:
    with serving(ScriptedBackend(SPOKEN)) as server:
        answered = server.post(CHAT, chat("hi you")).json()
        (choice,) = answered["choices"]
        assert choice == {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello my dear friend"},
            "logprobs": None,
            "finish_reason": "stop",
        }
        assert answered["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
        assert (answered["object"], answered["model"]) == ("chat.completion", "ssd")
        assert answered["id"].startswith("chatcmpl-")
        assert "ssd" not in answered


def test_a_stream_says_the_same_and_ends_with_done() -> None:
    with serving(ScriptedBackend(SPOKEN)) as server:
        events = server.events(CHAT, chat(stream=True, stream_options={"include_usage": True}))
        assert joined(events) == "Hello my dear friend"
        *chunks, usage, _ = events
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["stop"]
        assert usage["choices"] == []
        assert usage["usage"] == {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}
        assert {event["object"] for event in events[:-1]} == {"chat.completion.chunk"}
        assert len({event["id"] for event in events[:-1]}) == 1
        assert "usage" not in str(server.events(CHAT, chat(stream=True)))


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_a_word_has_a_role_and_an_end(stream: bool) -> None:
    with serving(ScriptedBackend([Finished("stop", 0, 1)])) as server:
        if stream:
            first, _ = server.events(CHAT, chat(stream=True))
            assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
            assert first["choices"][0]["finish_reason"] == "stop"
        else:
            assert server.post(CHAT, chat()).json()["choices"][0]["message"]["content"] == ""


def test_a_refusal_is_content_filter_with_its_words_in_both_places() -> None:
    with serving(ScriptedBackend(REFUSED)) as server:
        (choice,) = server.post(CHAT, chat(logprobs=True)).json()["choices"]
        assert choice["message"] == {"role": "assistant", "content": NO, "refusal": NO}
        assert (choice["finish_reason"], choice["logprobs"]) == ("content_filter", None)
        events = server.events(CHAT, chat(stream=True))
        assert joined(events) == f"Sure, here is\n\n{NO}"
        assert joined(events, "refusal") == NO
        assert events[-2]["choices"][0]["finish_reason"] == "content_filter"


def test_shadow_mode_refuses_nothing() -> None:
    with serving(ScriptedBackend(refusal(NO, after="Sure", enforced=False))) as server:
        (choice,) = server.post(CHAT, chat()).json()["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("Sure", "stop")


def test_log_probabilities() -> None:
    script = [Token(0, 5, "Hé", p_composite=0.25), Token(1, 6, "!", p_composite=0.0), Finished("stop", 0, 2)]
    with serving(ScriptedBackend(script)) as server:
        expected = [
            {"token": "Hé", "logprob": log(0.25), "bytes": [72, 195, 169], "top_logprobs": []},
            {"token": "!", "logprob": -9999.0, "bytes": [33], "top_logprobs": []},
        ]
        (choice,) = server.post(CHAT, chat(logprobs=True, top_logprobs=0)).json()["choices"]
        assert choice["logprobs"] == {"content": expected}
        events = server.events(CHAT, chat(stream=True, logprobs=True))
        parts = [e["choices"][0]["logprobs"] for e in events[:-1] if e["choices"][0]["logprobs"]]
        assert [entry for part in parts for entry in part["content"]] == expected


def test_thinking_is_shown_apart_when_asked_for() -> None:
    with serving(ScriptedBackend(answer("Yes.", thinking="Let me see"))) as server:
        body = chat(ssd={"include_thinking": True, "telemetry": False})
        message = server.post(CHAT, body).json()["choices"][0]["message"]
        assert (message["content"], message["reasoning_content"]) == ("Yes.", "Let me see")
        events = server.events(CHAT, {**body, "stream": True})
        assert (joined(events), joined(events, "reasoning_content")) == ("Yes.", "Let me see")
        assert server.backend.requests[0].include_thinking


def test_the_conversation_reaches_the_engine() -> None:
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "developer", "content": "and brief"},
        {"role": "user", "content": [{"type": "text", "text": "hi "}, {"type": "text", "text": "you"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "content": "Sure, "},
    ]
    with serving(ScriptedBackend("a")) as server:
        assert server.post(CHAT, {"messages": messages, "model": "tgi"}).is_success
        (request,) = server.backend.requests
        assert [m.role for m in request.messages] == ["system", "user", "assistant", "tool"]
        assert [m.content for m in request.messages] == ["be kind\n\nand brief", "hi you", "", "42"]
        assert request.messages[2].tool_calls[0]["function"] == {"name": "f", "arguments": {"a": 1}}
        assert request.messages[3].tool_call_id == "c1"
        assert request.prefill == "Sure, "


def test_an_answer_can_be_sent_back_as_openais_client_dumps_it() -> None:
    said = {"role": "assistant", "content": "Hello", "refusal": None, "annotations": [], "audio": None,
            "function_call": None, "tool_calls": None}  # fmt: skip
    again = {"role": "user", "content": "why?"}
    with serving(ScriptedBackend("a")) as server:
        assert server.post(CHAT, {"messages": [again, said, again]}).is_success
        assert [m.content for m in server.backend.requests[0].messages] == ["why?", "Hello", "why?"]


def test_sampling_and_its_defaults() -> None:
    with serving(ScriptedBackend("a"), lock_safety=False) as server:
        body = chat(temperature=0, top_p=0.5, top_k=4, max_tokens=9, stop="x", seed=1, presence_penalty=0.1,
                    frequency_penalty=0.2, repetition_penalty=1.1, logit_bias={"7": -1.5}, user="u", n=1,
                    metadata={"a": "b"})  # fmt: skip
        assert server.post(CHAT, body).is_success
        assert server.backend.requests[0].sampling.model_dump() == {
            "temperature": 0.0, "top_p": 0.5, "top_k": 4, "max_tokens": 9, "stop": ("x",), "seed": 1,
            "repetition_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.2,
            "logit_bias": {7: -1.5}, "logprobs": False,
        }  # fmt: skip
        server.post(CHAT, chat(max_tokens=9, max_completion_tokens=5))
        assert server.backend.requests[1].sampling.max_tokens == 5
        assert server.backend.requests[1].sampling.temperature == 1.0


@pytest.mark.parametrize(
    ("format_", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, ("json_object", None)),
        ({"type": "json_object", "value": {"type": "object"}}, ("json_schema", {"type": "object"})),
        ({"type": "json", "value": {"type": "object"}}, ("json_schema", {"type": "object"})),
        ({"type": "regex", "value": "a+"}, ("regex", "a+")),
        (
            {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
            },
            ("json_schema", {"type": "object"}),
        ),
    ],
)
def test_response_formats_become_constraints(format_: Any, expected: Any) -> None:
    with serving(ScriptedBackend("a")) as server:
        assert server.post(CHAT, chat(response_format=format_)).is_success
        constraint = server.backend.requests[0].constraint
        assert (constraint and (constraint.kind, constraint.value)) == expected


TOOL = {"type": "function", "function": {"name": "add", "description": "d", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "add"}}, "add"),
        ({"function": {"name": "add"}}, "add"),
    ],
)
def test_tools_reach_the_engine(choice: Any, expected: str) -> None:
    with serving(ScriptedBackend("a")) as server:
        assert server.post(CHAT, chat(tools=[TOOL], tool_choice=choice, parallel_tool_calls=False)).is_success
        (request,) = server.backend.requests
        assert request.tools == (TOOL,)
        assert (request.tool_choice, request.parallel_tool_calls) == (expected, False)


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_engine_refuses_is_422_before_a_stream_begins(stream: bool) -> None:
    error = InvalidRequest("this version cannot call tools; send the request without them")
    with serving(ScriptedBackend(error)) as server:
        response = server.post(CHAT, chat(tools=[TOOL], stream=stream))
        assert response.status_code == 422
        assert response.json() == {
            "error": error.message, "error_type": "validation", "code": "invalid_request",
        }  # fmt: skip


BAD = [
    ("n", 2), ("n", 10**6), ("top_logprobs", 5), ("chat_template", "{{ x }}"), ("tool_prompt", "x"),
    ("chat_template_kwargs", {"tokenize": True}), ("guideline", "x"), ("store", True), ("functions", []),
    ("modalities", ["audio"]), ("nonsense", 1), ("temperature", -1), ("temperature", 1e9), ("top_p", 0),
    ("max_tokens", 0), ("max_tokens", -5), ("seed", 2**70), ("stop", ["a"] * 5), ("stop", ""), ("stop", 7),
    ("presence_penalty", 9), ("logit_bias", {"x": 1}), ("logit_bias", {"1": 1000}), ("tools", "x"),
    ("tools", [{"type": "code"}]), ("tool_choice", "maybe"), ("response_format", {"type": "xml"}),
    ("response_format", {"type": "json_schema"}), ("response_format", {"type": "regex", "value": 7}),
    ("stream", "yes"), ("stream_options", {"x": 1}), ("logprobs", 3), ("messages", []), ("messages", "hi"),
    ("messages", [{"role": "wizard", "content": "x"}]), ("messages", [{"role": "tool", "content": "x"}]),
    ("messages", [{"role": "user", "content": [{"type": "image_url"}]}]),
    ("messages", [{"role": "user", "content": "x", "tool_calls": []}, {"role": "user", "refusal": "secret"}]),
    ("messages", [{"role": "assistant", "content": "secret"}]),
    ("messages", [{"role": "user", "content": ""}]),
    ("messages", [{"role": "user", "content": "secret\u0000"}]), ("ssd", 7), ("ssd", {"nonsense": 1}),
    ("ssd", {"timeout": -1}), ("ssd", {"constraint": {"kind": "x"}}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_what_is_not_supported_is_refused_by_name(name: str, value: Any) -> None:
    with serving(ScriptedBackend("a")) as server:
        response = server.post(CHAT, {**chat("secret"), name: value})
        assert response.status_code == 422, response.text
        error = response.json()["error"]
        assert name.removesuffix("s") in error or "message" in error
        assert "secret" not in response.text
        assert server.backend.requests == []


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_another_model_is_not_found(path: str) -> None:
    with serving(ScriptedBackend("a"), model_name="pair") as server:
        body = chat() if path == CHAT else {"prompt": "hi"}
        assert server.post(path, {**body, "model": "gpt-4"}).status_code == 404
        for name in ("pair", "tgi", "dummy", "", None):
            assert server.post(path, {**body, "model": name}).json()["model"] == "pair"


def test_every_event_survives_a_stream_with_telemetry() -> None:
    with serving(ScriptedBackend(REFUSED)) as server:
        events = server.events(CHAT, chat(stream=True, ssd=True))
        wires = [event["ssd"] for event in events[:-1]]
        sent = [Queued(1, 1, 0), *REFUSED]
        expected = [event.to_wire() for event in sent]
        expected[-1]["prompt_tokens"] = 1
        assert wires == json.loads(json.dumps(expected))


# Completions


def test_a_text_completion_whole_and_streamed() -> None:
    with serving(ScriptedBackend(SPOKEN)) as server:
        answered = server.post(TEXT, {"prompt": "hi", "echo": True, "max_tokens": 5}).json()
        assert answered["choices"][0] == {
            "index": 0, "text": "hiHello my dear friend", "logprobs": None, "finish_reason": "stop",
        }  # fmt: skip
        assert answered["usage"]["completion_tokens"] == 4
        body = {"prompt": ["hi"], "stream": True, "echo": True, "stream_options": {"include_usage": True}}
        *events, usage, done = server.events(TEXT, body)
        assert done == "[DONE]"
        assert usage["usage"]["total_tokens"] == 5
        assert "".join(event["choices"][0]["text"] for event in events) == "hiHello my dear friend"
        assert events[-1]["choices"][0]["finish_reason"] == "stop"
        assert [request.messages[0].content for request in server.backend.requests] == ["hi", "hi"]


def test_log_probabilities_of_a_completion() -> None:
    script = [Token(0, 5, "a", p_composite=0.5), Finished("stop", 0, 1)]
    with serving(ScriptedBackend(script)) as server:
        for stream in (False, True):
            body = {"prompt": "hi", "logprobs": 0, "stream": stream}
            first = server.events(TEXT, body)[0] if stream else server.post(TEXT, body).json()
            logprobs = first["choices"][0]["logprobs"]
            assert (logprobs["tokens"], logprobs["token_logprobs"]) == (["a"], [log(0.5)])


def test_a_refused_completion() -> None:
    with serving(ScriptedBackend(REFUSED)) as server:
        (choice,) = server.post(TEXT, {"prompt": "hi"}).json()["choices"]
        assert (choice["text"], choice["finish_reason"]) == (NO, "content_filter")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", ["a", "b"]),
        ("prompt", []),
        ("prompt", [1, 2]),
        ("best_of", 3),
        ("suffix", "x"),
        ("logprobs", 5),
    ],
)
def test_what_a_completion_does_not_take(name: str, value: Any) -> None:
    with serving(ScriptedBackend("a")) as server:
        response = server.post(TEXT, {"prompt": "hi", name: value})
        assert response.status_code == 422
        assert name in response.json()["error"]


def test_settings_of_the_request_are_the_servers_own() -> None:
    with serving(ScriptedBackend("a"), safety={"theta": 0.5}, refusal={"language": "de"}) as server:
        server.post(CHAT, chat())
        request: ChatRequest = server.backend.requests[0]
        assert (request.safety.theta, request.refusal.language) == (0.5, "de")
