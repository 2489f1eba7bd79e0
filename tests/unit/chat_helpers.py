"""A scripted ChatSSD and small tools for the tests of the LangChain room."""

import asyncio

from langchain_ssd import ChatSSD
from langchain_ssd.testing import ScriptedBackend, answer, refusal

NO = "I can't help with that."
SPOKEN = answer("Hello my dear friend", modes=["utility", "safety", "utility"], agreement=[True, False])
REFUSED = refusal(NO, after="Sure, here is")
AT_ONCE = refusal(NO)


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
