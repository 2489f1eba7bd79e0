"""What a refusal looks like on every road out of ChatSSD."""

import asyncio
import json

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser

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
    assert words.response_metadata["ssd_events"][0]["kind"] == "refused"
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
