"""What a refusal looks like on every road out of ChatSSD."""

import asyncio
import json

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser

from langchain_ssd.config import RefusalPolicy
from langchain_ssd.errors import RequestRefused, WorkerError
from langchain_ssd.testing import refusal

from .chat_helpers import AT_ONCE, NO, REFUSED, SPOKEN, every_way, merged, model_of


def test_invoke_returns_the_refusal_alone():
    model, _ = model_of(REFUSED, logprobs=True)
    for message in (model.invoke("hi"), asyncio.run(model.ainvoke("hi"))):
        assert message.text == NO
        assert message.content == [
            {"type": "text", "text": NO},
            {
                "type": "refusal",
                "refusal": NO,
                "extras": {"category": "suspected_jailbreak", "reason": "evidence"},
            },
        ]
        metadata = message.response_metadata
        assert metadata["finish_reason"] == "refusal"
        assert metadata["ssd"]["refusal"] == {
            "category": "suspected_jailbreak",
            "reason": "evidence",
            "language": "en",
            "position": 3,
            "enforced": True,
        }
        assert "Sure" not in json.dumps([message.content, metadata])


@pytest.mark.parametrize("version", [None, "v1"])
@pytest.mark.parametrize(("script", "text"), [(REFUSED, f"Sure, here is\n\n{NO}"), (AT_ONCE, NO)])
def test_a_stream_ends_with_the_marked_refusal(script, text, version):
    model, _ = model_of(script, output_version=version)
    chunks = list(model.stream("hi"))
    words, block, last = chunks[-3:]
    assert words.text.strip() == NO
    assert words.response_metadata["ssd_events"][-1]["kind"] == "refused"
    assert block.text == ""
    assert NO in json.dumps(block.content)
    assert last.response_metadata["finish_reason"] == "refusal"
    whole = merged(chunks)
    assert whole.text == text
    assert [b["text"] for b in whole.content_blocks if b["type"] == "text"] == [text]
    assert len(whole.content_blocks) == 2
    assert whole.response_metadata["ssd"]["refusal"]["reason"] == "evidence"


@pytest.mark.parametrize("script", [REFUSED, AT_ONCE, SPOKEN])
def test_a_text_parser_works_on_both_roads(script):
    model, _ = model_of(script)
    chain = model | StrOutputParser()
    assert chain.invoke("hi") == model.invoke("hi").text
    assert "".join(chain.stream("hi")) == merged(list(model.stream("hi"))).text
    assert asyncio.run(chain.ainvoke("hi")) == model.invoke("hi").text


def test_shadow_mode_reports_and_says_nothing():
    model, _ = model_of(refusal(NO, after="Sure, here is", enforced=False), enforce=False)
    for message in every_way(model).values():
        assert message.content == "Sure, here is"
        assert message.response_metadata["finish_reason"] == "stop"
        assert message.response_metadata["ssd"]["refusal"]["enforced"] is False
        assert NO not in json.dumps(message.response_metadata)


def test_a_refused_turn_can_be_part_of_the_history():
    model, backend = model_of(REFUSED, SPOKEN)
    first = model.invoke("hi")
    model.invoke([HumanMessage("hi"), first, HumanMessage("why?")])
    assert [m.content for m in backend.requests[1].messages] == ["hi", NO, "why?"]


@pytest.mark.parametrize("on_refusal", ["replace", "append", "raise"])
def test_what_a_refusal_does_to_a_call(on_refusal):
    model, backend = model_of(REFUSED, refusal=RefusalPolicy(on_refusal=on_refusal))
    whole = {"replace": NO, "append": f"Sure, here is\n\n{NO}"}
    for name, call in {"invoke": model.invoke, "ainvoke": lambda x: asyncio.run(model.ainvoke(x))}.items():
        if on_refusal == "raise":
            with pytest.raises(RequestRefused, match="catch RequestRefused") as caught:
                call("hi")
            assert caught.value.text == NO
            continue
        answer = call("hi")
        assert answer.text == whole[on_refusal], name
        assert answer.response_metadata["finish_reason"] == "refusal"
        assert answer.content[-1]["refusal"] == NO
    assert backend.health().running == 0


def test_a_stream_that_raises_shows_what_was_released_and_no_more():
    model, _ = model_of(REFUSED, refusal=RefusalPolicy(on_refusal="raise"))
    shown = []

    def show():
        for chunk in model.stream("hi"):
            shown.append(chunk.text)

    with pytest.raises(RequestRefused):
        show()
    assert "".join(shown) == "Sure, here is"


def test_a_fallback_that_is_told_which_errors_to_take_never_sees_a_refused_request():
    other, asked = model_of("I would answer that.")
    model, _ = model_of(REFUSED, refusal=RefusalPolicy(on_refusal="raise"))
    safe = model.with_fallbacks([other], exceptions_to_handle=(WorkerError,))
    with pytest.raises(RequestRefused):
        safe.invoke("hi")
    assert asked.requests == []
