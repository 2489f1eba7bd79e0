"""ChatSSD over a whole engine with a random pair: whatever the models want, calls and values are whole."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest, ModelResponse, wrap_model_call
from langchain_core.exceptions import ModelRefusalError
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_tests.utils.stream_lifecycle import assert_valid_event_stream
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel, Field

from langchain_ssd import ChatSSD
from langchain_ssd.engine import prompts
from langchain_ssd.guard import SSDGuardMiddleware
from langchain_ssd.testing.byte_tokenizer import byte_tokenizer
from langchain_ssd.testing.tiny_pair import tiny_pair

from ..laws.driving import pin
from .engine_backend import EngineBackend
from .guard_helpers import THREAD, Desk

END = 256
ALPHA = {"utility": 0.3, "safety": 0.8}
ENDING = {byte_tokenizer().encode(c)[0]: 3.0 for c in '"}]'}  # so that random models come to an end
QUESTION: Any = {"messages": [("user", "Write to Ada.")]}
V3 = pytest.mark.filterwarnings("ignore:.*in beta")
MODES = pytest.mark.parametrize("mode", ALPHA)


class Point(BaseModel):
    """A point with a name."""

    name: str = Field(max_length=6)
    x: int = Field(ge=0, le=99)
    seen: bool


class Mail(BaseModel):
    """Send an e-mail."""

    to: str = Field(max_length=8)


def model_of(**settings: Any) -> ChatSSD:
    backend = EngineBackend(tiny_pair(context=4000, end_ids=frozenset({END})))
    given = {"max_tokens": 300, "logit_bias": ENDING, "refusal": {"enabled": False}, **settings}
    return ChatSSD(backend=backend, **given)


@MODES
@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 7}], ids=["greedy", "sampled"])
def test_a_demanded_call_is_whole_on_every_surface(
    mode: Any, sampling: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, mode, ALPHA[mode])
    model = model_of(**{"seed": 7, **sampling}).bind_tools([Mail, Point], tool_choice="Point")
    called = model.invoke("x")
    (call,) = called.tool_calls
    Point.model_validate(call["args"])
    chunks: list[AIMessageChunk] = list(model.stream("x"))  # type: ignore[arg-type]
    whole = sum(chunks[1:], chunks[0])
    assert whole.tool_calls == called.tool_calls
    assert len([c for chunk in chunks for c in chunk.tool_call_chunks]) > 3
    for message in (called, whole):
        assert (message.text, message.invalid_tool_calls) == ("", [])
        assert message.response_metadata["finish_reason"] == "tool_calls"
        (risk,) = message.response_metadata["ssd"]["tool_calls"]
        assert (risk["id"], risk["name"], risk["mode"]) == (call["id"], "Point", mode)
        usage = message.usage_metadata
        assert usage is not None
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        assert usage["output_tokens"] == message.response_metadata["ssd"]["emitted"]
    assert called.usage_metadata == whole.usage_metadata


@V3
def test_the_third_event_stream_of_a_demanded_call_is_valid() -> None:
    model = model_of(seed=1).bind_tools([Mail], tool_choice="any", parallel_tool_calls=False)
    stream = model.stream_events("x", version="v3")
    assert_valid_event_stream(list(stream))
    assert stream.output.tool_calls == model.invoke("x").tool_calls
    assert len(stream.output.tool_calls) == 1


@MODES
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_is_a_value(mode: Any, method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, mode, ALPHA[mode])
    reader = model_of(temperature=1.0, seed=3).with_structured_output(Point, method=method)
    assert isinstance(reader.invoke("x"), Point)
    assert list(reader.stream("x"))[-1] == reader.invoke("x")


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_a_model_that_refuses_in_words_raises(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "wants_to_refuse", lambda *_: True)
    letter = byte_tokenizer().encode("I")[0]
    model = model_of(logit_bias={letter: 60.0, END: 80.0})
    with pytest.raises(ModelRefusalError) as caught:
        model.with_structured_output(Point, method=method).invoke("x")
    assert caught.value.raw_message is not None
    found = model.with_structured_output(Point, method=method, include_raw=True).invoke("x")
    assert isinstance(found["parsing_error"], ModelRefusalError)
    assert (found["parsed"], found["raw"].tool_calls) == (None, [])
    assert found["raw"].text.startswith("I")


# ── agents ───────────────────────────────────────────────────────────────────────────────────────────


def then_words(tool: str) -> Any:
    """Demand a call while there is no result yet; a random model would never call unasked."""

    @wrap_model_call
    def demand(request: ModelRequest, handler: Any) -> ModelResponse:
        answered = any(isinstance(m, ToolMessage) for m in request.messages)
        settings = {"max_tokens": 5} if answered else {"parallel_tool_calls": False}
        choice = "none" if answered else tool
        return handler(request.override(tool_choice=choice, model_settings=settings))

    return demand


@pytest.mark.parametrize(("mode", "done"), [("utility", True), ("safety", False)])
def test_the_guard_reads_how_each_call_was_decoded(
    mode: Any, done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the engine's rows to the tool that does not run: nothing in between is scripted."""
    pin(monkeypatch, mode, ALPHA[mode])
    desk = Desk()
    agent = create_agent(
        model_of(seed=5),
        desk.tools,
        middleware=[then_words("look_up"), SSDGuardMiddleware(on_risky_tool_call="block")],
        checkpointer=InMemorySaver(),
    )
    messages = agent.invoke(QUESTION, THREAD)["messages"]
    asked, result = messages[1], messages[2]
    assert isinstance(asked, AIMessage)
    assert [risk["mode"] for risk in asked.response_metadata["ssd"]["tool_calls"]] == [mode]
    assert (len(desk.done), result.status) == ((1, "success") if done else (0, "error"))
    assert len(messages) == 4


def test_an_agent_asks_natively_for_its_schema() -> None:
    """Beside a tool an answer is a call or a value; a bias towards "{" makes it the value."""
    brace = byte_tokenizer().encode("{")[0]
    model = model_of(logit_bias={**ENDING, brace: 30.0})
    agent = create_agent(model, Desk().tools, response_format=Point)
    assert isinstance(agent.invoke(QUESTION)["structured_response"], Point)


def test_a_graph_remembers_calls_and_results_across_turns() -> None:
    desk = Desk("a result")
    model = model_of(seed=2)
    calling = model.bind_tools(desk.tools, tool_choice="look_up")

    def speak(state: MessagesState) -> dict[str, Any]:
        fresh = isinstance(state["messages"][-1], HumanMessage)
        answer = (calling if fresh else model.bind(max_tokens=5)).invoke(state["messages"])
        return {"messages": [answer]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", speak)
    graph.add_node("tools", ToolNode(desk.tools))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    saver = InMemorySaver()
    config: Any = {"configurable": {"thread_id": "one"}}
    graph.compile(checkpointer=saver).invoke(QUESTION, config)
    state = graph.compile(checkpointer=saver).invoke({"messages": [("user", "And again?")]}, config)
    kinds = [message.type for message in state["messages"]]
    assert kinds == ["human", "ai", "tool", "ai"] * 2
    calls = [call for m in state["messages"] if isinstance(m, AIMessage) for call in m.tool_calls]
    assert [m.tool_call_id for m in state["messages"] if isinstance(m, ToolMessage)] == [
        call["id"] for call in calls
    ]
    assert len({call["id"] for call in calls}) == len(desk.done) == 2
