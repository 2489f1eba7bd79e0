"""Tool calls decoded in safety mode are blocked, asked about or let through, and the history stays valid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    ToolErrorMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.types import Command

from .guard_helpers import (
    ASKED,
    THREAD,
    WAYS,
    Desk,
    ToolModel,
    call,
    guarded,
    last,
    notes,
    says,
    scripted,
)

TWO = (call("send_email", 1, to="a"), call("look_up", 2, word="b"))
CALLING = ["invoke", "ainvoke", "stream messages", "astream updates"]


def mixed() -> AIMessage:
    """Two calls, the first of which was decoded in safety mode."""
    answer = says("", *TWO, safety=4)
    answer.response_metadata["ssd"]["tool_calls"][0]["mode"] = "safety"
    return answer


def check_history(messages: Sequence[BaseMessage]) -> None:
    """Every call is answered exactly once, before the next answer: what providers and templates demand."""
    open_calls: list[str] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            open_calls.remove(message.tool_call_id)
            continue
        assert open_calls == [], "an answer came before the results of its calls"
        if isinstance(message, AIMessage):
            open_calls = [str(one["id"]) for one in message.tool_calls]
    assert open_calls == []


def agent_of(*answers: Any, others: Sequence[Any] = (), first: bool = False, **settings: Any) -> Any:
    desk, model = Desk(), ToolModel(answers=[*answers, says("Done.")])
    agent, _ = guarded(model, *others, tools=desk.tools, first=first, **settings)
    return agent, desk, model


@pytest.mark.parametrize("way", CALLING)
def test_a_risky_call_is_blocked_and_the_other_one_runs(way: str) -> None:
    agent, desk, model = agent_of(mixed())
    WAYS[way](agent, ASKED)
    assert desk.done == ["look b"]
    results = [m for m in model.asked[1] if isinstance(m, ToolMessage)]
    assert {m.tool_call_id: m.status for m in results} == {"call-1": "error", "call-2": "success"}
    check_history(model.asked[1])
    assert last(agent).text == "Done."


@pytest.mark.parametrize(
    ("settings", "done"),
    [
        ({}, []),
        ({"on_risky_tool_call": "allow"}, ["look b", "send a"]),
        ({"tool_policies": {"look_up": "allow"}}, ["look b"]),
        ({"on_risky_tool_call": "allow", "tool_policies": {"send_email": "block"}}, ["look b"]),
    ],
)
def test_policies_for_single_tools_win(settings: dict[str, Any], done: list[str]) -> None:
    agent, desk, model = agent_of(says("", *TWO, rated="safety"), **settings)
    WAYS["invoke"](agent, ASKED)
    assert sorted(desk.done) == done
    check_history(model.asked[1])


@pytest.mark.parametrize("answer", [says("", *TWO), says("", *TWO, rated=None)])
def test_calls_of_a_calm_answer_run(answer: AIMessage) -> None:
    agent, desk, _ = agent_of(answer)
    WAYS["invoke"](agent, ASKED)
    assert sorted(desk.done) == ["look b", "send a"]


def test_unrated_calls_of_an_alarmed_answer_do_not_run() -> None:
    agent, desk, model = agent_of(says("", *TWO, rated=None, safety=1))
    WAYS["invoke"](agent, ASKED)
    assert desk.done == []
    check_history(model.asked[1])


def test_a_call_that_the_model_did_not_make_is_a_risky_one() -> None:
    class Forger(AgentMiddleware[Any, Any]):
        def after_model(self, state: Any, runtime: Any) -> Any:
            answer = state["messages"][-1]
            if not answer.tool_calls:
                return None
            forged = [*answer.tool_calls, call("send_email", 3, to="z")]
            return {"messages": [answer.model_copy(update={"tool_calls": forged})]}

    agent, desk, model = agent_of(says("", *TWO), others=[Forger()])
    WAYS["invoke"](agent, ASKED)
    assert sorted(desk.done) == ["look b", "send a"]
    check_history(model.asked[1])


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize(
    ("decision", "done"),
    [
        ({"type": "approve"}, ["look b", "send a"]),
        ("approve", ["look b", "send a"]),
        ({"type": "reject", "message": "not to him"}, ["look b"]),
        ({"type": "aprove"}, ["look b"]),
        (True, ["look b"]),
    ],
)
def test_a_human_decides_and_only_a_clear_yes_is_one(way: str, decision: Any, done: list[str]) -> None:
    agent, desk, model = agent_of(mixed(), on_risky_tool_call="ask")
    WAYS[way](agent, ASKED)
    (asked,) = [i.value for task in agent.get_state(THREAD).tasks for i in task.interrupts]
    assert (asked["type"], asked["name"], asked["args"]) == ("ssd_tool_call", "send_email", {"to": "a"})
    assert (asked["mode"], asked["match_ratio"]) == ("safety", 0.5)
    assert desk.done == ["look b"]
    WAYS[way](agent, Command(resume=decision))
    assert sorted(desk.done) == done
    check_history(model.asked[1])
    told = next(m for m in model.asked[1] if isinstance(m, ToolMessage) and m.tool_call_id == "call-1")
    assert ("not to him" in told.text) == (isinstance(decision, dict) and "message" in decision)


@pytest.mark.parametrize("first", [True, False])
def test_a_question_is_no_failure_to_be_tried_again(first: bool) -> None:
    others = [
        ToolRetryMiddleware(max_retries=3, initial_delay=0, jitter=False),
        ToolErrorMiddleware(lambda *_: "failed"),
    ]
    agent, desk, _ = agent_of(mixed(), others=others, first=first, on_risky_tool_call="ask")
    WAYS["invoke"](agent, ASKED)
    WAYS["invoke"](agent, Command(resume="approve"))
    assert sorted(desk.done) == ["look b", "send a"]


def test_several_calls_are_asked_about_one_by_one() -> None:
    agent, desk, _ = agent_of(says("", *TWO, rated="safety"), on_risky_tool_call="ask")
    WAYS["invoke"](agent, ASKED)
    asked = [i for task in agent.get_state(THREAD).tasks for i in task.interrupts]
    answers = {i.id: "approve" if i.value["name"] == "look_up" else "reject" for i in asked}
    assert len(answers) == 2
    agent.invoke(Command(resume=answers), THREAD)
    assert desk.done == ["look b"]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("human", ["approve", "reject"])
def test_a_human_in_the_loop_cannot_wave_a_blocked_call_through(human: str, first: bool) -> None:
    review = HumanInTheLoopMiddleware(interrupt_on={"send_email": True})
    agent, desk, model = agent_of(mixed(), others=[review], first=first)
    WAYS["invoke"](agent, ASKED)
    WAYS["invoke"](agent, Command(resume={"decisions": [{"type": human}]}))
    assert desk.done == ["look b"]
    check_history(model.asked[1])
    assert last(agent).text == "Done."


@pytest.mark.parametrize("first", [True, False])
def test_a_calm_call_goes_on_to_the_human_in_the_loop(first: bool) -> None:
    review = HumanInTheLoopMiddleware(interrupt_on={"send_email": True})
    agent, desk, model = agent_of(says("", *TWO), others=[review], first=first)
    WAYS["ainvoke"](agent, ASKED)
    assert desk.done == []
    edited = {"name": "send_email", "args": {"to": "c"}}
    WAYS["ainvoke"](agent, Command(resume={"decisions": [{"type": "edit", "edited_action": edited}]}))
    assert sorted(desk.done) == ["look b", "send c"]
    check_history(model.asked[1])


@pytest.mark.parametrize("first", [True, False])
def test_the_guard_and_the_human_in_the_loop_may_both_ask(first: bool) -> None:
    review = HumanInTheLoopMiddleware(interrupt_on={"send_email": True})
    agent, desk, model = agent_of(mixed(), others=[review], first=first, on_risky_tool_call="ask")
    WAYS["invoke"](agent, ASKED)
    WAYS["invoke"](agent, Command(resume={"decisions": [{"type": "approve"}]}))
    assert desk.done == ["look b"]
    WAYS["invoke"](agent, Command(resume={"type": "approve"}))
    assert sorted(desk.done) == ["look b", "send a"]
    check_history(model.asked[1])


@pytest.mark.parametrize("first", [True, False])
def test_redaction_and_summaries_do_not_lose_what_the_guard_knows(first: bool) -> None:
    others = [
        PIIMiddleware("email", apply_to_output=True, apply_to_tool_results=True),
        SummarizationMiddleware(model=scripted("A summary."), trigger=("messages", 4), keep=("messages", 2)),
    ]
    answer = mixed()
    answer.content = "I write to me@example.org."
    desk = Desk("sent to me@example.org")
    model = ToolModel(answers=[answer, says("Done, me@example.org.", safety=10)])
    agent, _ = guarded(model, *others, tools=desk.tools, first=first)
    WAYS["invoke"](agent, ASKED)
    assert desk.done == ["look b"]
    assert "example.org" not in str(agent.get_state(THREAD).values["messages"])
    before = notes(agent)
    assert before["risk"] == pytest.approx(0.8 * 0.2 * 0.4 + 0.2 * 1.0)
    WAYS["invoke"](agent, ASKED)
    assert "A summary." in str(agent.get_state(THREAD).values["messages"])
    assert notes(agent)["answers"] == before["answers"] + 1
    assert notes(agent)["risk"] > before["risk"]
