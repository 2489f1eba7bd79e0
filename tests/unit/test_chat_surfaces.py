"""Callbacks, event streams, concurrency and cancellation of ChatSSD, on a scripted backend."""

import asyncio

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda

from langchain_ssd.errors import GenerationFailed, Overloaded
from langchain_ssd.events import SCHEMA_VERSION
from langchain_ssd.testing import failure

from .chat_helpers import NO, REFUSED, SPOKEN, collect, merged, model_of


class Recorder(BaseCallbackHandler):
    raise_error = True

    def __init__(self):
        self.tokens, self.chunks, self.ends, self.errors = [], [], [], []

    def on_llm_new_token(self, token, *, chunk=None, **_):
        self.tokens.append(token)
        self.chunks.append(chunk)

    def on_llm_end(self, response, **_):
        self.ends.append(response)

    def on_llm_error(self, error, **_):
        self.errors.append(error)


def test_handlers_see_tokens_and_telemetry():
    model, _ = model_of(SPOKEN)
    recorder = Recorder()
    list(model.stream("hi", {"callbacks": [recorder]}))
    assert "".join(recorder.tokens) == "Hello my dear friend"
    last = recorder.chunks[-1].message
    assert last.response_metadata["ssd"]["match_ratio"] == 0.75
    final = recorder.ends[0].generations[0][0]
    assert final.message.response_metadata["ssd"] == last.response_metadata["ssd"]
    assert final.generation_info["finish_reason"] == "stop"


def test_handlers_see_errors():
    model, _ = model_of(failure(GenerationFailed("the draft raised"), after="Hel"))
    recorder = Recorder()
    with pytest.raises(GenerationFailed, match="the draft raised"):
        model.invoke("hi", {"callbacks": [recorder]})
    assert [type(error) for error in recorder.errors] == [GenerationFailed]


async def test_astream_events_v2():
    model, _ = model_of(REFUSED)
    events = await collect(model.astream_events("hi", version="v2"))
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("on_chat_model_start", "on_chat_model_end")
    streamed = [event["data"]["chunk"] for event in events if event["event"] == "on_chat_model_stream"]
    assert merged(streamed).text == f"Sure, here is\n\n{NO}"
    assert events[-1]["data"]["output"].response_metadata["finish_reason"] == "refusal"


async def test_invoke_inside_astream_events_streams_too():
    model, _ = model_of(SPOKEN)
    chain = RunnableLambda(model.invoke) | StrOutputParser()
    events = await collect(chain.astream_events("hi", version="v2"))
    streamed = [event["data"]["chunk"] for event in events if event["event"] == "on_chat_model_stream"]
    assert merged(streamed).text == "Hello my dear friend"
    assert len(streamed) > 4
    assert events[-1]["data"]["output"] == "Hello my dear friend"


@pytest.mark.filterwarnings("ignore:.*in beta")  # version 3 of the event stream is
@pytest.mark.parametrize("script", [REFUSED, SPOKEN])
def test_stream_events_v3(script):
    model, _ = model_of(script)
    stream = model.stream_events("hi", version="v3")
    kinds = [event["event"] for event in stream]
    assert (kinds[0], kinds[-1]) == ("message-start", "message-finish")
    message = stream.output
    assert message.text == merged(list(model.stream("hi"))).text
    assert message.response_metadata["finish_reason"] == script[-1].finish_reason
    assert message.response_metadata["ssd"]["schema_version"] == SCHEMA_VERSION


def test_batch_runs_concurrently_and_keeps_order():
    running = []

    def echo(request):
        running.append(backend.health().running)
        return request.messages[-1].content

    model, backend = model_of(echo, delay=0.05)
    prompts = [f"number {n}" for n in range(4)]
    for answer_all in (model.batch, lambda prompts: asyncio.run(model.abatch(prompts))):
        assert [message.text for message in answer_all(prompts)] == prompts
        assert max(running) == 4
        running.clear()
    assert backend.health().running == 0


def test_batch_can_return_exceptions():
    model, _ = model_of(
        lambda request: Overloaded("full") if "2" in request.messages[0].content else "ok", max_retries=0
    )
    first, second = model.batch(["1", "2"], return_exceptions=True)
    assert first.text == "ok"
    assert isinstance(second, Overloaded)


def test_a_consumer_that_breaks_cancels():
    model, backend = model_of(SPOKEN)
    for chunk in model.stream("hi"):
        assert chunk.text == "Hello"
        break
    assert backend.cancelled == [0]
    assert model.invoke("hi").text == "Hello my dear friend"
    assert backend.cancelled == [0]


async def test_an_async_consumer_that_leaves_cancels():
    model, backend = model_of(SPOKEN)
    stream = model.astream("hi")
    async for chunk in stream:
        assert chunk.text == "Hello"
        break
    await stream.aclose()
    await asyncio.sleep(0.01)
    assert backend.cancelled == [0]


async def test_a_cancelled_task_cancels_at_once():
    model, backend = model_of(SPOKEN, delay=0.05)
    for coroutine in (collect(model.astream("hi")), model.ainvoke("hi")):
        task = asyncio.create_task(coroutine)
        await asyncio.sleep(0.08)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert backend.cancelled == [0, 1]


async def test_a_timeout_around_a_call_cancels():
    model, backend = model_of(SPOKEN, delay=5)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await model.ainvoke("hi")
    assert backend.cancelled == [0]


def test_an_exception_in_a_handler_cancels():
    class Bad(BaseCallbackHandler):
        raise_error = True

        def on_llm_new_token(self, token, **_):
            raise ZeroDivisionError

    model, backend = model_of(SPOKEN)
    with pytest.raises(ZeroDivisionError):
        list(model.stream("hi", {"callbacks": [Bad()]}))
    assert backend.cancelled == [0]


async def test_the_event_loop_is_never_blocked():
    model, _ = model_of(SPOKEN, delay=0.03)
    beats = 0

    async def heart():
        nonlocal beats
        while True:
            await asyncio.sleep(0.005)
            beats += 1

    task = asyncio.create_task(heart())
    await asyncio.gather(model.ainvoke("hi"), collect(model.astream("hi")))
    task.cancel()
    assert beats > 10


def test_one_model_in_two_event_loops():
    model, _ = model_of(SPOKEN)
    texts = [asyncio.run(model.ainvoke("hi")).text for _ in range(2)]
    texts += [merged(asyncio.run(collect(model.astream("hi")))).text for _ in range(2)]
    assert set(texts) == {"Hello my dear friend"}
