"""The scripted backend that users get for their own tests."""

import asyncio
import time

import pytest

from langchain_ssd import ChatSSD
from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.errors import Cancelled, GenerationFailed, Overloaded
from langchain_ssd.events import Failed, Finished, ModeChanged, Queued, Refused, Token
from langchain_ssd.testing import ScriptedBackend, answer, failure, refusal
from langchain_ssd.testing.scripted import split

HELLO = ChatRequest(messages=(ChatMessage("user", "hi you"),), prefill="Sure")


async def collect(stream):
    return [event async for event in stream]


@pytest.fixture(params=["sync", "async"])
def drain(request):
    return list if request.param == "sync" else lambda stream: asyncio.run(collect(stream))


@pytest.mark.parametrize("text", ["", " ", "one", " one  two\n", "a\n\nb c", "日本 語"])
def test_tokens_join_to_the_text(text):
    assert "".join(split(text)) == text
    assert "".join(event.text for event in answer(text)[:-1]) == text


def test_an_answer_counts_what_it_says():
    script = answer("a b c", thinking="hm", modes=["utility", "safety", "safety"], agreement=[True, False])
    tokens = [event for event in script if isinstance(event, Token)]
    assert [(t.text, t.thinking, t.mode, t.agreement) for t in tokens] == [
        ("hm", True, "utility", True),
        ("a", False, "safety", False),
        (" b", False, "safety", True),
        (" c", False, "utility", True),
    ]
    assert [token.index for token in tokens] == [0, 1, 2, 3]
    assert [(e.position, e.mode) for e in script if isinstance(e, ModeChanged)] == [
        (1, "safety"),
        (3, "utility"),
    ]
    finished = script[-1]
    assert (finished.completion_tokens, finished.thinking_tokens) == (4, 1)
    summary = finished.summary
    assert (summary.emitted, summary.agreeing, summary.match_ratio) == (4, 3, 0.75)
    assert (summary.mode_changes, summary.safety_tokens, summary.final_mode) == (2, 2, "utility")


def test_a_refusal_and_a_failure():
    assert refusal("no", after="a b", reason="prefill", language="de") == [
        *answer("a b")[:-1],
        Refused(2, "prefill", language="de", text="no"),
        Finished("refusal", completion_tokens=2, summary=answer("a b")[-1].summary),
    ]
    assert refusal("no", enforced=False)[-1].finish_reason == "stop"
    assert failure(Overloaded("full"), after="a") == [*answer("a")[:-1], Failed("overloaded", "full")]


def test_replies_come_in_order_and_the_last_one_stays(drain):
    backend = ScriptedBackend(
        "one", Overloaded("full"), failure(GenerationFailed("x")), lambda request: request.prefill + "!"
    )
    texts = ["".join(e.text for e in drain(backend.submit(HELLO)) if isinstance(e, Token)) for _ in range(5)]
    assert texts == ["one", "", "", "Sure!", "Sure!"]
    assert backend.requests == [HELLO] * 5
    assert backend.cancelled == []


def test_an_answer_knows_its_prompt(drain):
    first, *_, last = drain(ScriptedBackend().submit(HELLO))
    assert first == Queued(prompt_tokens=2, draft_prompt_tokens=2, prefill_tokens=1)
    assert (last.prompt_tokens, last.completion_tokens) == (3, 1)


def test_an_error_is_the_only_event(drain):
    assert drain(ScriptedBackend(Overloaded("full")).submit(HELLO)) == [Failed("overloaded", "full")]


def test_a_script_may_be_wrong_on_purpose(drain):
    backend = ScriptedBackend([Token(text="a")])
    assert [type(event) for event in drain(backend.submit(HELLO))] == [Queued, Token]
    assert backend.cancelled == []


def test_cancelling_ends_the_stream(drain):
    backend = ScriptedBackend("one two")
    stream = backend.submit(HELLO)
    assert backend.health().running == 1
    stream.cancel()
    stream.cancel()
    assert drain(stream) == [Failed(Cancelled.code, "the request was cancelled")]
    assert backend.cancelled == [0]
    assert backend.health().running == 0


def test_leaving_early_cancels():
    backend = ScriptedBackend("one two")
    for _ in backend.submit(HELLO):
        break
    assert backend.cancelled == [0]


def test_a_delay_can_be_cut_short():
    backend = ScriptedBackend("one two", delay=30)
    stream = backend.submit(HELLO)
    began = time.monotonic()
    stream.cancel()
    assert [type(event) for event in stream] == [Failed]
    assert time.monotonic() - began < 5


def test_tokens_and_health():
    backend = ScriptedBackend()
    assert backend.token_ids("to be or") == [2, 3, 3]
    assert backend.count_tokens("to be") == 2
    assert backend.warm_up().state == "ready"
    backend.close()
    assert backend.closed == 1


def test_the_example_of_the_module_works():
    backend = ScriptedBackend("Hello!", refusal("I can't help with that.", after="Sure, "))
    model = ChatSSD(backend=backend)
    assert model.invoke("Hi").text == "Hello!"
    assert model.invoke("Hi again").response_metadata["finish_reason"] == "refusal"
    assert backend.requests[0].messages[-1].content == "Hi"
