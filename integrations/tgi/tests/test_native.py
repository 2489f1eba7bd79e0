"""``/generate``, ``/generate_stream`` and ``/``: what they answer, and what they refuse by name."""

from __future__ import annotations

from math import log
from typing import Any

import pytest

from langchain_ssd.events import Finished, Summary, Token
from langchain_ssd.testing import ScriptedBackend, answer, refusal

from .serving import serving

SPOKEN = answer("Hello my dear friend", modes=["utility", "safety"], agreement=[True, False])
NO = "I can't help with that."
REFUSED = refusal(NO, after="Sure, here is")


def test_generate_says_the_text() -> None:
    with serving(ScriptedBackend(SPOKEN)) as server:
        response = server.post("/generate", {"inputs": "hi there"})
        assert response.json() == {"generated_text": "Hello my dear friend"}
        assert response.headers["x-prompt-tokens"] == "2"
        assert response.headers["x-generated-tokens"] == "4"
        (request,) = server.backend.requests
        assert [(m.role, m.content) for m in request.messages] == [("user", "hi there")]
        assert (request.sampling.temperature, request.sampling.max_tokens) == (0.0, 100)


def test_details_hold_every_token() -> None:
    with serving(ScriptedBackend([Token(0, 7, "Hi", p_composite=0.25), Finished("length", 0, 1)])) as server:
        body = {"inputs": "hi", "parameters": {"details": True, "do_sample": True}}
        details = server.post("/generate", body).json()["details"]
        assert details == {
            "finish_reason": "length",
            "generated_tokens": 1,
            "seed": 0,
            "prefill": [],
            "tokens": [{"id": 7, "text": "Hi", "logprob": log(0.25), "special": False}],
        }


def test_a_stream_is_one_event_a_token_and_a_last_one_with_everything() -> None:
    with serving(ScriptedBackend(SPOKEN)) as server:
        events = server.events("/generate_stream", {"inputs": "hi", "parameters": {"details": True}})
        texts = [event["token"]["text"] for event in events]
        assert texts == ["Hello", " my", " dear", " friend", ""]
        assert [event["index"] for event in events] == [1, 2, 3, 4, 5]
        assert all(event["generated_text"] is None and event["details"] is None for event in events[:-1])
        assert events[-1]["generated_text"] == "".join(texts)
        assert events[-1]["details"] == {
            "finish_reason": "eos_token", "generated_tokens": 4, "seed": None, "input_length": 1,
        }  # fmt: skip
        assert not any("ssd" in event for event in events)


@pytest.mark.parametrize(("stream", "kind"), [(False, list), (True, dict)])
def test_the_root_takes_both(stream: bool, kind: type) -> None:
    with serving(ScriptedBackend(SPOKEN)) as server:
        body = {"inputs": "hi", "stream": stream}
        if stream:
            answers: Any = server.events("/", body)[-1]
            assert answers["generated_text"] == "Hello my dear friend"
        else:
            answers = server.post("/", body).json()
            assert answers == [{"generated_text": "Hello my dear friend"}]
        assert isinstance(answers, kind)


def test_return_full_text() -> None:
    with serving(ScriptedBackend(" you")) as server:
        body = {"inputs": "hi to", "parameters": {"return_full_text": True}}
        assert server.post("/generate", body).json() == {"generated_text": "hi to you"}
        assert server.events("/generate_stream", body)[-1]["generated_text"] == "hi to you"


# An end token is counted and shown by no event; a completed stop string is both.
@pytest.mark.parametrize(
    ("script", "stop", "reason"),
    [
        ([Token(0, 1, "a"), Finished("stop", 0, 2)], ["x"], "eos_token"),
        ([Token(0, 1, "a"), Finished("stop", 0, 1)], ["x"], "stop_sequence"),
        ([Token(0, 1, "a"), Finished("stop", 0, 1)], [], "eos_token"),
        ([Token(0, 1, "a"), Finished("length", 0, 1)], ["x"], "length"),
        (REFUSED, ["x"], "eos_token"),
    ],
)
def test_how_an_answer_ended(script: Any, stop: list[str], reason: str) -> None:
    with serving(ScriptedBackend(script)) as server:
        body = {"inputs": "hi", "parameters": {"details": True, "stop": stop}}
        assert server.post("/generate", body).json()["details"]["finish_reason"] == reason
        assert server.events("/generate_stream", body)[-1]["details"]["finish_reason"] == reason


def test_a_refusal_stands_alone_and_is_marked() -> None:
    with serving(ScriptedBackend(REFUSED)) as server:
        body = {"inputs": "hi", "parameters": {"details": True}}
        answered = server.post("/generate", body).json()
        assert answered["generated_text"] == NO
        assert answered["details"]["refusal"] == NO
        assert answered["details"]["tokens"] == []
        assert "Sure" not in str(answered)
        events = server.events("/generate_stream", body)
        assert "".join(event["token"]["text"] for event in events) == f"Sure, here is\n\n{NO}"
        assert events[-1]["generated_text"] == f"Sure, here is\n\n{NO}"
        assert events[-1]["details"]["refusal"] == NO


def test_sampling_parameters_reach_the_engine() -> None:
    parameters = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 5, "max_new_tokens": 7, "stop": ["x"], "seed": 3,
        "repetition_penalty": 1.1, "frequency_penalty": 0.2, "details": True, "best_of": 1,
        "watermark": False,
        "typical_p": None, "truncate": None, "top_n_tokens": None, "adapter_id": None, "grammar": None,
    }  # fmt: skip
    with serving(ScriptedBackend("a")) as server:
        assert server.post("/generate", {"inputs": "hi", "parameters": parameters}).status_code == 200
        assert server.backend.requests[0].sampling.model_dump() == {
            "temperature": 0.5, "top_p": 0.9, "top_k": 5, "max_tokens": 7, "stop": ("x",), "seed": 3,
            "repetition_penalty": 1.1, "presence_penalty": 0.0, "frequency_penalty": 0.2, "logit_bias": {},
            "logprobs": True,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "temperature"),
    [({}, 0.0), ({"do_sample": True}, 1.0), ({"top_k": 3}, 1.0), ({"top_p": 0.5}, 1.0), ({"seed": 1}, 0.0)],
)
def test_what_counts_as_sampling(parameters: dict[str, Any], temperature: float) -> None:
    with serving(ScriptedBackend("a")) as server:
        server.post("/generate", {"inputs": "hi", "parameters": parameters})
        assert server.backend.requests[0].sampling.temperature == temperature


@pytest.mark.parametrize(
    ("grammar", "kind", "value"),
    [
        ({"type": "regex", "value": "a+"}, "regex", "a+"),
        ({"type": "json", "value": {"type": "object"}}, "json_schema", {"type": "object"}),
        (
            {"type": "json_schema", "value": {"name": "x", "schema": {"type": "integer"}}},
            "json_schema",
            {"type": "integer"},
        ),
    ],
)
def test_a_grammar_becomes_a_constraint(grammar: Any, kind: str, value: Any) -> None:
    with serving(ScriptedBackend("a")) as server:
        assert server.post("/generate", {"inputs": "hi", "parameters": {"grammar": grammar}}).is_success
        constraint = server.backend.requests[0].constraint
        assert (constraint.kind, constraint.value, constraint.may_refuse) == (kind, value, True)


BAD = [
    ("best_of", 2), ("best_of", 10**6), ("decoder_input_details", True), ("top_n_tokens", 5),
    ("truncate", 10),
    ("typical_p", 1.5), ("watermark", True), ("adapter_id", "x"), ("temperature", 0.0), ("temperature", -1.0),
    ("temperature", "hot"), ("top_p", 2.0), ("top_p", 0.0), ("top_k", 0), ("top_k", -1),
    ("max_new_tokens", 0),
    ("max_new_tokens", -1), ("max_new_tokens", 2**40), ("max_new_tokens", 1.5), ("seed", 2**70), ("seed", -1),
    ("stop", ["x"] * 5), ("stop", ["x"] * 1000), ("stop", [""]), ("stop", ["\u0000"]), ("stop", "x"),
    ("stop", ["y" * 2000]), ("repetition_penalty", 0.0), ("frequency_penalty", 3.0),
    ("grammar", {"type": "x"}),
    ("grammar", {"type": "regex", "value": {}}), ("grammar", {"type": "json", "value": "text"}),
    ("details", "yes"), ("nonsense", 1), ("chat_template", "{{ 7 * 7 }}"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_what_is_not_supported_is_refused_by_name(name: str, value: Any) -> None:
    with serving(ScriptedBackend("a")) as server:
        for path in ("/generate", "/generate_stream", "/"):
            response = server.post(path, {"inputs": "secret", "parameters": {name: value}})
            assert response.status_code == 422, response.text
            error = response.json()
            assert error["error_type"] == "validation"
            assert error["code"] == "invalid_request"
            assert name.replace("stop", "stop") in error["error"]
            assert "secret" not in response.text
            assert "\n" not in error["error"]
        assert server.backend.requests == []
        assert server.service.admission.running == 0


@pytest.mark.parametrize(
    "body", [{}, {"inputs": ""}, {"inputs": 7}, {"inputs": " \n"}, {"inputs": "a\u0000"}, [], "x", None, 7]
)
def test_inputs_are_text(body: Any) -> None:
    with serving(ScriptedBackend("a")) as server:
        assert server.post("/generate", body).status_code == 422
        assert server.backend.requests == []


def test_telemetry_is_off_the_wire_unless_asked_for() -> None:
    summary = Summary(monitor="sequential", match_ratio=0.5, final_mode="safety", emitted=1)
    script = [Token(0, 1, "a", mode="safety"), Finished("stop", 0, 1, summary=summary)]
    with serving(ScriptedBackend(script)) as server:
        plain = server.post("/generate", {"inputs": "hi"})
        assert "ssd" not in plain.text
        assert not [name for name in plain.headers if name.startswith("x-ssd")]
        for asked in (
            server.post("/generate", {"inputs": "hi", "ssd": True}),
            server.post("/generate", {"inputs": "hi", "ssd": {}}),
            server.post("/generate", {"inputs": "hi"}, headers={"x-ssd": "1"}),
        ):
            assert asked.json()["ssd"]["summary"]["match_ratio"] == 0.5
            assert asked.headers["x-ssd-match-ratio"] == "0.5000"
            assert asked.headers["x-ssd-final-mode"] == "safety"
        for unasked in ({"ssd": False}, {"ssd": {"telemetry": False}}):
            response = server.post("/generate", {"inputs": "hi", **unasked}, headers={"x-ssd": "1"})
            assert "ssd" not in response.json()


def test_telemetry_of_a_whole_answer_holds_no_words() -> None:
    with serving(ScriptedBackend(REFUSED)) as server:
        answered = server.post("/generate", {"inputs": "hi", "ssd": True}).json()
        assert [event["kind"] for event in answered["ssd"]["events"]] == ["queued", "refused"]
        assert "Sure" not in str(answered["ssd"])
        assert NO not in str(answered["ssd"])


def test_a_stream_with_telemetry_holds_every_event() -> None:
    with serving(ScriptedBackend(SPOKEN)) as server:
        events = server.events("/generate_stream", {"inputs": "hi", "ssd": True})
        kinds = [event["ssd"]["kind"] for event in events]
        assert kinds == [
            "queued", "token", "mode_changed", "token", "mode_changed", "token", "token", "finished",
        ]  # fmt: skip
        assert "".join(event["token"]["text"] for event in events) == "Hello my dear friend"
        assert [event["index"] for event in events] == list(range(1, 9))
