"""A scripted ChatSSD and small tools for the tests of the LangChain room."""

import asyncio

import pytest
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from langchain_ssd import ChatSSD
from langchain_ssd.testing import ScriptedBackend, answer, refusal

V3 = pytest.mark.filterwarnings("ignore:.*in beta")  # the third version of the event stream is
NO = "I can't help with that."
SPOKEN = answer("Hello my dear friend", modes=["utility", "safety", "utility"], agreement=[True, False])
REFUSED = refusal(NO, after="Sure, here is")
AT_ONCE = refusal(NO)


@tool
def get_weather(city: str, days: int = 1) -> str:
    """Weather of a city."""
    return f"{city}: {days}"


class Add(BaseModel):
    """Add two numbers."""

    a: int
    b: int = Field(2, description="the other")


def model_of(*replies, delay=0.0, **settings):
    backend = ScriptedBackend(*replies, delay=delay)
    return ChatSSD(backend=backend, **settings), backend


def merged(chunks):
    first, *others = chunks
    return first + others if others else first


async def collect(stream):
    return [item async for item in stream]


def every_way(model):
    """The same question on every calling surface: name → final message."""
    return {
        "invoke": model.invoke("hi"),
        "stream": merged(list(model.stream("hi"))),
        "batch": model.batch(["hi"])[0],
        "ainvoke": asyncio.run(model.ainvoke("hi")),
        "astream": merged(asyncio.run(collect(model.astream("hi")))),
        "abatch": asyncio.run(model.abatch(["hi"]))[0],
        "streaming invoke": ChatSSD(backend=model.backend, streaming=True).invoke("hi"),
    }
