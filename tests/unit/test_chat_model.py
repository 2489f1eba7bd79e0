"""ChatSSD on a scripted backend: what an answer carries, what a request holds, how calls fail."""

import asyncio
import json
from math import log

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage

from langchain_ssd import SSDConfig
from langchain_ssd.errors import GenerationFailed, InvalidRequest, SSDError, UnsupportedContent
from langchain_ssd.events import SCHEMA_VERSION, BinScored, Finished, PrefillScored, Refused, Token
from langchain_ssd.testing import answer, failure

from .chat_helpers import NO, REFUSED, SPOKEN, collect, every_way, merged, model_of


def test_all_surfaces_say_the_same():
    model, _ = model_of(SPOKEN)
    answers = every_way(model)
    expected = answers["invoke"]
    assert expected.content == "Hello my dear friend"
    for name, message in answers.items():
        assert message.content == expected.content, name
        assert message.response_metadata == expected.response_metadata, name
        assert message.usage_metadata == expected.usage_metadata, name


def test_what_an_answer_carries():
    model, _ = model_of(SPOKEN, target="org/big-model")
    message = model.invoke([SystemMessage("be kind"), HumanMessage("hi you")])
    assert isinstance(message, AIMessage)
    assert message.usage_metadata == {"input_tokens": 4, "output_tokens": 4, "total_tokens": 8}
    metadata = message.response_metadata
    assert metadata["model_name"] == "org/big-model"
    assert metadata["model_provider"] == "langchain-ssd"
    assert metadata["finish_reason"] == "stop"
    assert metadata["ssd"]["schema_version"] == SCHEMA_VERSION
    assert metadata["ssd"]["match_ratio"] == 0.75
    assert metadata["ssd"]["refusal"] is None
    assert [entry["mode"] for entry in metadata["ssd_trace"]] == ["utility", "safety", "utility", "utility"]
    assert [entry["kind"] for entry in metadata["ssd_events"]] == ["queued", "mode_changed", "mode_changed"]
    assert "logprobs" not in metadata


def test_the_trace_holds_numbers_and_no_words():
    model, _ = model_of(SPOKEN)
    message = model.invoke("hi")
    trace = message.response_metadata["ssd_trace"]
    assert sum(entry["characters"] for entry in trace) == len(message.text)
    assert [entry["position"] for entry in trace] == [0, 1, 2, 3]
    assert "friend" not in json.dumps(message.response_metadata)
    assert not {"text", "token_id", "index"} & trace[0].keys()


def test_chunks_come_one_by_one_and_the_summary_once():
    model, _ = model_of(SPOKEN)
    chunks = list(model.stream("hi"))
    assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
    assert [chunk.content for chunk in chunks if chunk.content] == ["Hello", " my", " dear", " friend"]
    *others, last = chunks
    assert (last.content, last.chunk_position) == ("", "last")
    assert last.usage_metadata["output_tokens"] == 4
    for chunk in others:
        assert chunk.chunk_position is None
        assert chunk.usage_metadata is None
        assert chunk.response_metadata.keys() <= {"ssd_trace", "ssd_events"}
        for entries in chunk.response_metadata.values():
            assert len(entries) == 1
            assert "index" not in entries[0]


def test_every_telemetry_event_rides_on_a_chunk():
    script = [
        PrefillScored(3, 0.5, 1.5),
        *SPOKEN[:-1],
        BinScored(0, 0.5, 0.25, 0.6, "utility", "safety"),
        Refused(4, "evidence", text=NO, enforced=False),
        SPOKEN[-1],
    ]
    model, _ = model_of(script)
    chunks = list(model.stream("hi"))
    entries = [entry for chunk in chunks for entry in chunk.response_metadata.get("ssd_events", [])]
    kinds = ["queued", "prefill_scored", "mode_changed", "mode_changed", "bin_scored", "refused"]
    assert [entry["kind"] for entry in entries] == kinds
    assert entries[4] == {
        "kind": "bin_scored", "number": 0, "match_ratio": 0.5, "acceptance": 0.25,
        "threshold": 0.6, "mode": "utility", "verdict": "safety",
    }  # fmt: skip
    assert merged(chunks).response_metadata["ssd_events"] == entries
    assert model.invoke("hi").response_metadata["ssd_events"] == entries


def test_metadata_is_json():
    model, _ = model_of(REFUSED, logprobs=True)
    for message in (model.invoke("hi"), merged(list(model.stream("hi")))):
        assert json.loads(json.dumps(message.response_metadata)) == message.response_metadata


def test_logprobs_are_of_the_composite():
    script = [Token(0, 5, "Hi", p_composite=0.25), Token(1, 6, "!", p_composite=0.0), Finished()]
    model, _ = model_of(script, logprobs=True)
    expected = {"content": [{"token": "Hi", "logprob": log(0.25)}, {"token": "!", "logprob": -9999.0}]}
    assert model.invoke("hi").response_metadata["logprobs"] == expected
    assert merged(list(model.stream("hi"))).response_metadata["logprobs"] == expected
    assert "logprobs" not in model.invoke("hi", logprobs=False).response_metadata


@pytest.mark.parametrize("version", [None, "v1"])
def test_thinking_is_shown_apart_or_not_at_all(version):
    script = answer("Yes.", thinking="Let me see")
    model, backend = model_of(script, output_version=version, logprobs=True)
    hidden = model.invoke("hi")
    assert "Let" not in json.dumps([hidden.content, hidden.additional_kwargs, hidden.response_metadata])
    assert "output_token_details" not in hidden.usage_metadata
    for shown in (
        model.invoke("hi", include_thinking=True),
        merged(list(model.stream("hi", include_thinking=True))),
    ):
        assert shown.text == "Yes."
        reasoning, text = shown.content_blocks
        assert (reasoning["type"], reasoning["reasoning"]) == ("reasoning", "Let me see")
        assert text["text"] == "Yes."
        assert shown.usage_metadata["output_token_details"] == {"reasoning": 3}
    assert [request.include_thinking for request in backend.requests] == [False, True, True]


def test_the_request_holds_the_settings():
    model, backend = model_of(
        temperature=0.5, top_p=0.9, top_k=5, max_tokens=7, stop_sequences=["x"], seed=3, timeout=9,
        repetition_penalty=1.1, presence_penalty=0.1, frequency_penalty=0.2, logit_bias={1: 2.0},
        ssd=SSDConfig(monitor="sequential", hold_back=5), enforce=False, logprobs=True,
    )  # fmt: skip
    model.invoke([HumanMessage("hi"), AIMessage("Sure, ")])
    (request,) = backend.requests
    assert request.prefill == "Sure, "
    assert request.sampling.model_dump() == {
        "temperature": 0.5, "top_p": 0.9, "top_k": 5, "max_tokens": 7, "stop": ("x",), "seed": 3,
        "repetition_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.2,
        "logit_bias": {1: 2.0}, "logprobs": True,
    }  # fmt: skip
    assert request.safety == SSDConfig(monitor="sequential", hold_back=5, enforce=False)
    assert 8 < request.timeout <= 9


def test_a_call_overrides_the_constructor():
    model, backend = model_of(temperature=0.5, stop=["x"], max_tokens=9)
    model.invoke("hi", stop=["y"], temperature=0.1, enforce=False, hold_back="none", max_tokens=None)
    model.bind(stop=[], seed=7).invoke("hi")
    first, second = backend.requests
    assert (first.sampling.stop, first.sampling.temperature, first.sampling.max_tokens) == (("y",), 0.1, 9)
    assert (first.safety.enforce, first.safety.hold_back) == (False, "none")
    assert (second.sampling.stop, second.sampling.seed, second.safety) == ((), 7, SSDConfig())


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        ([], InvalidRequest),
        ("", InvalidRequest),
        ("\ud800", InvalidRequest),
        ("nul\x00", InvalidRequest),
        ([("wizard", "secret")], InvalidRequest),
        ([17], InvalidRequest),
        (17, InvalidRequest),
        ([HumanMessage([{"type": "image", "url": "secret"}])], UnsupportedContent),
        ([AIMessage("Sure")], InvalidRequest),
    ],
)
def test_bad_prompts_fail_before_anything_is_asked(prompt, error):
    model, backend = model_of(SPOKEN)
    calls = [
        lambda: model.invoke(prompt),
        lambda: list(model.stream(prompt)),
        lambda: asyncio.run(model.ainvoke(prompt)),
        lambda: asyncio.run(collect(model.astream(prompt))),
    ]
    for call in calls:
        with pytest.raises(error) as caught:
            call()
        assert "secret" not in str(caught.value)
    assert backend.requests == []


def test_failures_are_typed_on_every_surface():
    model, _ = model_of(failure(GenerationFailed("boom"), after="Hel"), max_retries=5)
    calls = [
        lambda: model.invoke("hi"),
        lambda: list(model.stream("hi")),
        lambda: model.batch(["hi"]),
        lambda: asyncio.run(model.ainvoke("hi")),
        lambda: asyncio.run(collect(model.astream("hi"))),
        lambda: asyncio.run(model.abatch(["hi"])),
    ]
    for call in calls:
        with pytest.raises(GenerationFailed, match=r"^boom$"):
            call()


def test_what_was_released_before_a_failure_was_streamed():
    model, _ = model_of(failure(GenerationFailed("boom"), after="Hel lo"))
    seen = []
    with pytest.raises(SSDError):
        seen.extend(chunk.text for chunk in model.stream("hi"))
    assert seen == ["Hel", " lo"]
