"""A refusal in an agent ends, raises or asks, on every surface, and no checkpoint holds what it took back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.structured_output import ProviderStrategy, StructuredOutputError, ToolStrategy
from langchain_core.exceptions import ModelError, ModelRefusalError
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command
from pydantic import BaseModel, ValidationError

from langchain_ssd import ChatSSD
from langchain_ssd.errors import ConfigError, GuardStopped, RequestRefused, SSDError, UnprotectedAnswer
from langchain_ssd.guard import SSDGuardMiddleware
from langchain_ssd.guard.replacing import WITHHELD
from langchain_ssd.refusal_text import TEXTS

from .guard_helpers import (
    ASKED,
    NO,
    REFUSED,
    THREAD,
    UNSAFE,
    WAYS,
    Desk,
    ToolModel,
    call,
    everything,
    guarded,
    last,
    notes,
    says,
    scripted,
    ssd,
)

# LangGraph's third event stream says at every use that it may still change.
v3_is_beta = pytest.mark.filterwarnings("ignore:The v3 streaming protocol on Pregel is experimental")
WAY = [pytest.param(way, marks=v3_is_beta) if way == "v3" else way for way in WAYS]


def refused_block(text: str) -> list[dict[str, Any]]:
    extras = {"category": "suspected_jailbreak", "reason": "evidence"}
    return [{"type": "text", "text": text}, {"type": "refusal", "refusal": text, "extras": extras}]


@v3_is_beta
@pytest.mark.parametrize("way", ["stream messages", "astream messages", "v3"])
def test_without_the_guard_text_of_a_refused_stream_stays_in_the_checkpoints(way: str) -> None:
    """What the other tests look for can be found: they can fail."""
    saver = InMemorySaver()
    WAYS[way](create_agent(scripted(REFUSED), [], checkpointer=saver), ASKED)
    assert UNSAFE in everything(saver)


@pytest.mark.parametrize("way", WAY)
def test_a_refusal_ends_the_run_and_leaves_nothing_behind(way: str) -> None:
    agent, saver = guarded(scripted(REFUSED, lock_safety=True))
    WAYS[way](agent, ASKED)
    answer = last(agent)
    assert answer.content == refused_block(TEXTS["en"] if way == "v3" else NO)  # v3 drops the block
    assert answer.response_metadata["finish_reason"] == "refusal"
    assert len(agent.get_state(THREAD).values["messages"]) == 2
    assert agent.get_state(THREAD).next == ()
    assert UNSAFE not in everything(saver)
    assert (notes(agent)["stop"], notes(agent)["why"]["reason"]) == ("refusal", "evidence")


@pytest.mark.parametrize("way", WAY)
def test_a_refusal_is_raised_and_leaves_nothing_behind(way: str) -> None:
    agent, saver = guarded(scripted(REFUSED, "Fine."), on_refusal="raise")
    with pytest.raises(RequestRefused, match="evidence") as caught:
        WAYS[way](agent, ASKED)
    assert UNSAFE not in everything(saver) + str(caught.value)
    assert last(agent).text == (TEXTS["en"] if way == "v3" else NO)
    assert notes(agent)["score"] == 1.0  # kept though the run failed
    WAYS["invoke"](agent, ASKED)  # the history is a valid one
    assert last(agent).text == "Fine."


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream messages"])
def test_a_refusal_that_the_model_raises_ends_the_run_like_any_other(way: str) -> None:
    agent, saver = guarded(scripted(REFUSED, refusal={"on_refusal": "raise"}))
    WAYS[way](agent, ASKED)
    assert last(agent).text == NO
    assert (notes(agent)["stop"], notes(agent)["score"]) == ("refusal", 1.0)
    assert UNSAFE not in everything(saver)


@pytest.mark.parametrize("way", WAY)
def test_an_ordinary_answer_passes_untouched(way: str) -> None:
    agent, _ = guarded(scripted("All is well.", lock_safety=True), max_conversation_risk=0.9)
    WAYS[way](agent, ASKED)
    assert last(agent).text == "All is well."
    assert notes(agent)["stop"] is None


@pytest.mark.parametrize("way", ["stream messages", "astream messages"])
def test_a_client_sees_what_was_released_and_then_the_refusal(way: str) -> None:
    """What a stream has shown cannot be unsaid; hold-back decides how much that is."""
    agent, _ = guarded(scripted(REFUSED))
    shown = "".join(message.text for message, _ in WAYS[way](agent, ASKED))
    assert shown == f"Sure, {UNSAFE} and\n\n{NO}"


@pytest.mark.parametrize("resume", [{"type": "accept"}, "accept", {"type": "respnd", "message": "x"}, 7])
def test_a_human_lets_the_refusal_stand(resume: Any) -> None:
    agent, saver = guarded(scripted(REFUSED), on_refusal="ask")
    asked = WAYS["stream updates"](agent, ASKED)[-1]["__interrupt__"][0].value
    assert asked == {
        "type": "ssd_refusal",
        "category": "suspected_jailbreak",
        "reason": "evidence",
        "language": "en",
        "decisions": ["accept", "respond"],
    }
    agent.invoke(Command(resume=resume), THREAD)
    assert last(agent).content == refused_block(NO)
    assert UNSAFE not in everything(saver)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_human_answers_in_its_place(way: str) -> None:
    agent, _ = guarded(scripted(REFUSED), on_refusal="ask")
    WAYS[way](agent, ASKED)
    first = last(agent)
    WAYS[way](agent, Command(resume={"type": "respond", "message": "Call me."}))
    assert (last(agent).text, last(agent).id) == ("Call me.", first.id)
    assert last(agent).response_metadata["finish_reason"] == "stop"


def test_words_of_ones_own() -> None:
    agent, _ = guarded(scripted(REFUSED), refusal_text="Ask our desk.")
    assert WAYS["invoke"](agent, ASKED)["messages"][-1].content == refused_block("Ask our desk.")


def test_a_refused_answer_calls_no_tools() -> None:
    desk = Desk()
    model = ToolModel(answers=[says(UNSAFE, call("send_email", to="a"), refused=True)])
    agent, saver = guarded(model, tools=desk.tools)
    WAYS["invoke"](agent, ASKED)
    assert desk.done == []
    assert UNSAFE not in everything(saver)
    assert len(model.asked) == 1


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_what_other_middleware_does_to_answers_it_does_not_do_to_a_refusal(way: str) -> None:
    seen: list[str] = []

    class Reviewer(AgentMiddleware[Any, Any]):
        def after_model(self, state: Any, runtime: Any) -> None:
            seen.append(state["messages"][-1].text)

    agent, _ = guarded(scripted(REFUSED, "Fine."), Reviewer())
    WAYS[way](agent, ASKED)
    assert seen == []
    WAYS[way](agent, ASKED)
    assert seen == ["Fine."]


class Reply(BaseModel):
    text: str


TWO = (call("Reply", 1, text=UNSAFE), call("Reply", 2, text=UNSAFE))


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize(
    ("strategy", "calls"), [(ProviderStrategy(Reply), ()), (ToolStrategy(Reply, handle_errors=False), TWO)]
)
def test_a_refusal_in_place_of_structured_output_is_a_refusal(way: str, strategy: Any, calls: Any) -> None:
    """LangChain parses the answer inside the model's step, and raises with the whole message in the error."""
    bare: Any = create_agent(
        ToolModel(answers=[says(UNSAFE, *calls, refused=True)]), [], response_format=strategy
    )
    with pytest.raises(StructuredOutputError):
        bare.invoke(ASKED)
    model = ToolModel(answers=[says(UNSAFE, *calls, refused=True)])
    saver = InMemorySaver()
    agent: Any = create_agent(
        model, [], middleware=[SSDGuardMiddleware()], response_format=strategy, checkpointer=saver
    )
    found = WAYS[way](agent, ASKED)
    assert found["messages"][-1].response_metadata["finish_reason"] == "refusal"
    assert found.get("structured_response") is None
    assert UNSAFE not in everything(saver)


@pytest.mark.parametrize("calls", [1, 2])
def test_no_tool_message_made_of_a_refused_answer_is_kept(calls: int) -> None:
    model = ToolModel(
        answers=[says(UNSAFE, *(call("Reply", n, text=UNSAFE) for n in range(calls)), refused=True)]
    )
    saver = InMemorySaver()
    agent: Any = create_agent(
        model, [], middleware=[SSDGuardMiddleware()], response_format=ToolStrategy(Reply), checkpointer=saver
    )
    found = WAYS["invoke"](agent, ASKED)
    assert [message.type for message in found["messages"]] == ["human", "ai"]
    assert found.get("structured_response") is None
    assert len(model.asked) == 1
    assert UNSAFE not in everything(saver)


@pytest.mark.parametrize("way", WAY)
def test_an_answer_of_another_model_is_withheld_and_an_error(way: str) -> None:
    agent, saver = guarded(ToolModel(answers=[AIMessage(UNSAFE)]))
    with pytest.raises(UnprotectedAnswer):
        WAYS[way](agent, ASKED)
    assert UNSAFE not in everything(saver)
    assert last(agent).text == WITHHELD


def test_another_model_is_let_through_when_that_is_wanted() -> None:
    agent, _ = guarded(ToolModel(answers=[AIMessage("plain")]), require_ssd=False)
    WAYS["invoke"](agent, ASKED)
    assert (last(agent).text, notes(agent)["risk"]) == ("plain", 0.0)


def test_shadow_mode_is_no_refusal() -> None:
    answer = AIMessage("plain", response_metadata=ssd())
    answer.response_metadata["ssd"]["refusal"] = {"reason": "evidence", "enforced": False}
    agent, _ = guarded(ToolModel(answers=[answer]))
    WAYS["invoke"](agent, ASKED)
    assert last(agent).text == "plain"


def test_the_errors_are_not_those_that_fallbacks_look_for() -> None:
    for kind in (GuardStopped, RequestRefused, UnprotectedAnswer):
        assert issubclass(kind, SSDError)
        assert not issubclass(kind, ModelError | ModelRefusalError | GraphBubbleUp)
        assert not kind.retryable


def test_settings_are_checked_at_once() -> None:
    with pytest.raises(ValidationError, match="on_refusl"):
        SSDGuardMiddleware(on_refusl="raise")
    with pytest.raises(ValidationError):
        SSDGuardMiddleware(tool_policies={"send_email": "maybe"})
    with pytest.raises(ConfigError, match="scorer"):
        SSDGuardMiddleware(on_injection="block")
    assert isinstance(SSDGuardMiddleware(on_injection="block", scorer=ChatSSD()), SSDGuardMiddleware)


def test_callers_cannot_set_the_notes_of_the_guard() -> None:
    agent, _ = guarded(scripted("Fine."))
    agent.invoke({**ASKED, "ssd_guard": {"risk": 0.9, "answers": 70}}, THREAD)
    assert notes(agent)["answers"] == 1


def test_many_runs_at_once_do_not_mix() -> None:
    agent, _ = guarded(
        scripted(lambda request: REFUSED if "bad" in request.messages[-1].content else "Fine.")
    )

    async def run() -> list[Any]:
        asked = [{"messages": [("user", "bad" if n % 2 else "good")]} for n in range(8)]
        configs = [{"configurable": {"thread_id": str(n)}} for n in range(8)]
        return list(await asyncio.gather(*(agent.ainvoke(a, c) for a, c in zip(asked, configs, strict=True))))

    found = asyncio.run(run())
    assert [state["messages"][-1].text for state in found] == ["Fine.", NO] * 4
    assert [state["ssd_guard"]["stop"] for state in found] == [None, "refusal"] * 4
