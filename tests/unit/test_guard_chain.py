"""A guarded model in a chain: one verdict on every road, and never a fallback for a refusal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from langchain_ssd import ChatSSD
from langchain_ssd.errors import ConfigError, GenerationFailed, RequestRefused, UnprotectedAnswer
from langchain_ssd.guard import GuardedModel, guard
from langchain_ssd.testing import ScriptedBackend, refusal, tool_call

from .chat_helpers import merged
from .guard_helpers import NO, REFUSED, UNSAFE, ToolModel, call, says, scripted

MINE = "Ask our desk."
RELEASED = f"Sure, {UNSAFE} and"


async def _drain(stream: Any) -> list[Any]:
    return [item async for item in stream]


WHOLE: dict[str, Callable[[Any], Any]] = {
    "invoke": lambda r: r.invoke("hi"),
    "ainvoke": lambda r: asyncio.run(r.ainvoke("hi")),
    "batch": lambda r: r.batch(["hi"])[0],
    "abatch": lambda r: asyncio.run(r.abatch(["hi"]))[0],
}
STREAMS: dict[str, Callable[[Any], Any]] = {
    "stream": lambda r: list(r.stream("hi")),
    "astream": lambda r: asyncio.run(_drain(r.astream("hi"))),
}
EVERY = {**WHOLE, **STREAMS}
SETTINGS: list[dict[str, Any]] = [{}, {"streaming": True}, {"streaming": False}, {"output_version": "v1"}]


def protected(model: Any, policy: str) -> GuardedModel:
    return guard(model, on_refusal=policy, replacement=MINE if policy == "replace" else None)  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("way", WHOLE)
@pytest.mark.parametrize(("policy", "text"), [("return", NO), ("replace", MINE)])
def test_a_whole_answer_holds_the_refusal_and_nothing_else(
    policy: str, text: str, way: str, settings: dict[str, Any]
) -> None:
    answer = WHOLE[way](protected(scripted(REFUSED, lock_safety=True, **settings), policy))
    assert answer.text == text
    assert answer.response_metadata["finish_reason"] == "refusal"
    assert UNSAFE not in json.dumps([answer.content, answer.response_metadata, answer.additional_kwargs])


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("way", STREAMS)
@pytest.mark.parametrize(("policy", "text"), [("return", NO), ("replace", MINE)])
def test_a_refused_stream_ends_with_the_refusal(
    policy: str, text: str, way: str, settings: dict[str, Any]
) -> None:
    chunks = STREAMS[way](protected(scripted(REFUSED, **settings), policy))
    whole = merged(chunks)
    released = "" if settings.get("streaming") is False else f"{RELEASED}\n\n"
    assert whole.text == released + text
    assert whole.response_metadata["finish_reason"] == "refusal"
    assert getattr(chunks[-1], "chunk_position", "last") == "last"  # one that does not stream has no chunks
    assert (NO in json.dumps(whole.content)) is (policy == "return")


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("way", [*WHOLE, *STREAMS])
def test_a_refusal_is_raised_and_not_one_word_of_it_is_said(way: str, settings: dict[str, Any]) -> None:
    said: list[str] = []
    model = protected(scripted(REFUSED, **settings), "raise")
    chain = model | RunnableLambda(lambda message: said.append(message.text))
    with pytest.raises(RequestRefused, match="evidence") as caught:
        EVERY[way](chain)
    assert said == []
    assert UNSAFE not in str(caught.value)


def heard(stream: Any, said: list[str]) -> None:
    for chunk in stream:
        said.append(chunk.text)


def test_up_to_the_refusal_a_stream_that_raises_has_said_what_was_released() -> None:
    said: list[str] = []
    with pytest.raises(RequestRefused):
        heard(protected(scripted(REFUSED), "raise").stream("hi"), said)
    assert "".join(said) == RELEASED


@pytest.mark.parametrize("policy", ["return", "replace", "raise"])
@pytest.mark.parametrize("way", [*WHOLE, *STREAMS])
def test_an_ordinary_answer_passes_chunk_by_chunk(way: str, policy: str) -> None:
    model = scripted("All is well here.")
    if way in WHOLE:
        assert WHOLE[way](protected(model, policy)).text == "All is well here."
        return
    texts = [chunk.text for chunk in STREAMS[way](protected(model, policy))]
    assert texts == [chunk.text for chunk in STREAMS[way](model)]
    assert texts[0] == "All"


def test_shadow_mode_is_no_refusal() -> None:
    script = refusal(NO, after="Sure, here", enforced=False)
    for policy in ("return", "replace", "raise"):
        assert protected(scripted(script), policy).invoke("hi").text == "Sure, here"
        assert merged(list(protected(scripted(script), policy).stream("hi"))).text == "Sure, here"


def other() -> Any:
    return GenericFakeChatModel(messages=iter([AIMessage(UNSAFE)] * 9))


@pytest.mark.parametrize("way", [*WHOLE, *STREAMS])
def test_another_model_is_an_error_before_its_first_word(way: str) -> None:
    said: list[str] = []
    model = guard(other())
    with pytest.raises(UnprotectedAnswer):
        EVERY[way](model)
    with pytest.raises(UnprotectedAnswer):
        heard(model.stream("hi"), said)
    assert said == []
    assert merged(list(guard(other(), require_ssd=False).stream("hi"))).text == UNSAFE


def test_another_models_call_is_an_error_before_its_first_part() -> None:
    def calling(_: Any) -> Any:
        part = tool_call_chunk(name="send", args='{"to": "x"', id="1", index=0)
        yield AIMessageChunk("", tool_call_chunks=[part])

    with pytest.raises(UnprotectedAnswer):
        next(guard(RunnableGenerator(calling)).stream("hi"))
    model = guard(scripted(tool_call("send", {"to": "x"})))
    assert merged(list(model.stream("hi"))).tool_calls[0]["args"] == {"to": "x"}


def test_a_stream_that_stops_without_its_numbers_is_an_error() -> None:
    def half(_: Any) -> Any:
        yield AIMessageChunk("Hi", response_metadata={"ssd_trace": [{"mode": "utility"}]})

    with pytest.raises(UnprotectedAnswer):
        list(guard(RunnableGenerator(half)).stream("hi"))


class TestFallbacks:
    @pytest.mark.parametrize("way", [*WHOLE, *STREAMS])
    @pytest.mark.parametrize("policy", ["return", "replace", "raise"])
    def test_a_refusal_goes_to_no_fallback(self, policy: str, way: str) -> None:
        fallback = scripted("Gladly!")
        model = protected(scripted(REFUSED), policy).with_fallbacks([fallback])
        if policy == "raise":
            with pytest.raises(RequestRefused):
                EVERY[way](model)
        else:
            EVERY[way](model)
        assert fallback.backend.requests == []  # type: ignore[union-attr]

    @pytest.mark.parametrize("way", [*WHOLE, *STREAMS])
    def test_an_error_goes_to_a_protected_one(self, way: str) -> None:
        model = guard(scripted(GenerationFailed("broken"))).with_fallbacks([guard(scripted("Gladly!"))])
        answer = EVERY[way](model)
        assert (answer if way in WHOLE else merged(answer)).text == "Gladly!"

    @pytest.mark.parametrize("way", [*WHOLE, *STREAMS])
    def test_an_unprotected_one_is_not_used(self, way: str) -> None:
        model = guard(scripted(GenerationFailed("broken"))).with_fallbacks([other()])
        with pytest.raises(UnprotectedAnswer):
            EVERY[way](model)

    def test_only_named_errors_go_to_a_fallback(self) -> None:
        model = guard(scripted(GenerationFailed("broken")))
        with pytest.raises(GenerationFailed):
            model.with_fallbacks([scripted("Gladly!")], exceptions_to_handle=(KeyError,)).invoke("hi")

    def test_a_refusal_is_not_tried_again(self) -> None:
        model = scripted(REFUSED)
        with pytest.raises(RequestRefused):
            protected(model, "raise").with_retry(stop_after_attempt=3).invoke("hi")
        assert len(model.backend.requests) == 1  # type: ignore[union-attr]

    def test_a_chain_falls_back_only_if_the_guard_raises_and_then_only_on_named_errors(self) -> None:
        """What a chain around the guard does with an error is the chain's business: so the page says."""
        fallback = scripted("Gladly!") | StrOutputParser()
        returns = protected(scripted(REFUSED), "return") | StrOutputParser()
        assert returns.with_fallbacks([fallback]).invoke("hi") == NO
        raises = protected(scripted(REFUSED), "raise") | StrOutputParser()
        named = raises.with_fallbacks([fallback], exceptions_to_handle=(GenerationFailed,))
        with pytest.raises(RequestRefused):
            named.invoke("hi")


def test_in_a_chain_of_prompt_and_parser() -> None:
    prompt = ChatPromptTemplate.from_template("{x}")
    chain = prompt | guard(scripted(REFUSED)) | StrOutputParser()
    assert chain.invoke({"x": "hi"}) == NO
    assert "".join(chain.stream({"x": "hi"})) == f"{RELEASED}\n\n{NO}"
    whole = guard(prompt | scripted(REFUSED)) | StrOutputParser()  # type: ignore[arg-type]
    assert whole.invoke({"x": "hi"}) == NO  # type: ignore[arg-type]


def test_arguments_of_a_call_reach_the_model() -> None:
    model = scripted("Hello")
    guard(model).invoke("hi", max_tokens=3)
    guard(model).bind(max_tokens=4).invoke("hi")
    list(guard(model).stream("hi", max_tokens=5))
    asked = model.backend.requests  # type: ignore[union-attr]
    assert [request.sampling.max_tokens for request in asked] == [3, 4, 5]


def test_leaving_a_stream_early_stops_the_work() -> None:
    backend = ScriptedBackend("one two three four")
    for _ in guard(ChatSSD(backend=backend)).stream("hi"):
        break
    assert backend.cancelled == [0]

    async def leave() -> None:
        stream = guard(ChatSSD(backend=backend)).astream("hi")
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert backend.cancelled == [0, 1]


def test_tools_are_bound_inside_of_the_guard() -> None:
    model = ToolModel(answers=[says("", call("a")), says(UNSAFE, call("a"), refused=True)])
    tools = guard(model).bind_tools([])
    assert isinstance(tools, GuardedModel)
    assert tools.invoke("hi").tool_calls == [call("a")]  # type: ignore[attr-defined]
    refused = tools.invoke("hi")
    assert refused.tool_calls == []  # type: ignore[attr-defined]
    assert UNSAFE not in refused.model_dump_json()


@pytest.mark.parametrize(
    "wrong",
    [{"on_refusal": "end"}, {"on_refusal": "replace"}, {"replacement": "x"}],
)
def test_a_policy_that_makes_no_sense_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        guard(scripted("Hello"), **wrong)
