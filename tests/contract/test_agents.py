"""Agents of LangChain on a scripted backend: rounds of tools, the native road to a schema, refused calls."""

import asyncio

import pytest
from langchain.agents import create_agent
from pydantic import BaseModel

from langchain_ssd import ChatSSD
from langchain_ssd.events import Finished, Refused
from langchain_ssd.testing import ScriptedBackend, answer, tool_call, tool_calls

QUESTION = {"messages": [("human", "What is the weather in Paris?")]}
CALLED: list[str] = []


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    sunny: bool


@pytest.fixture(autouse=True)
def _nothing_was_called():
    CALLED.clear()


def get_weather(city: str) -> str:
    """Weather of a city."""
    CALLED.append(city)
    return f"sunny in {city}"


def agent_of(*replies, **options):
    backend = ScriptedBackend(*replies)
    return create_agent(ChatSSD(backend=backend), tools=[get_weather], **options), backend


ASK = tool_calls(("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"}), after="Let me see.")


async def streamed(agent, mode):
    return [part async for part in agent.astream(QUESTION, stream_mode=mode)]


WAYS = {
    "invoke": lambda agent: agent.invoke(QUESTION),
    "ainvoke": lambda agent: asyncio.run(agent.ainvoke(QUESTION)),
    "stream of updates": lambda agent: list(agent.stream(QUESTION, stream_mode="updates")),
    "stream of messages": lambda agent: list(agent.stream(QUESTION, stream_mode="messages")),
    "async stream of messages": lambda agent: asyncio.run(streamed(agent, "messages")),
}
EVERY_WAY = pytest.mark.parametrize("way", WAYS)


@EVERY_WAY
def test_a_round_of_tools(way):
    agent, backend = agent_of(ASK, "Sunny in both.")
    WAYS[way](agent)
    assert sorted(CALLED) == ["Paris", "Rome"]
    roles = [message.role for message in backend.requests[1].messages]
    assert roles == ["user", "assistant", "tool", "tool"]
    assert [t["function"]["name"] for t in backend.requests[0].tools] == ["get_weather"]


@EVERY_WAY
def test_no_call_of_a_refused_answer_is_made(way):
    """Both calls were whole and shown when the refusal came."""
    refused = [*ASK[:-1], Refused(9, "evidence", text="I can't help with that."), Finished("refusal", 0, 9)]
    agent, backend = agent_of(refused)
    WAYS[way](agent)
    assert CALLED == []
    assert len(backend.requests) == 1


@EVERY_WAY
def test_no_call_that_was_cut_off_is_made(way):
    agent, _ = agent_of(tool_call("get_weather", '{"city": "Par'))
    WAYS[way](agent)
    assert CALLED == []


def test_a_schema_takes_the_native_road_beside_tools():
    agent, backend = agent_of(ASK, '{"city": "Paris", "sunny": true}', response_format=Weather)
    assert agent.invoke(QUESTION)["structured_response"] == Weather(city="Paris", sunny=True)
    for request in backend.requests:
        assert request.constraint.kind == "json_schema"
        assert request.constraint.value["properties"].keys() == {"city", "sunny"}
        assert [t["function"]["name"] for t in request.tools] == ["get_weather"]
        assert request.tool_choice == "auto"


def test_a_name_that_was_not_offered_is_answered_by_the_agent():
    agent, backend = agent_of(tool_call("get_wether", {"city": "Paris"}), answer("Sorry."))
    agent.invoke(QUESTION)
    assert CALLED == []
    assert "get_wether is not a valid tool" in backend.requests[1].messages[-1].content
