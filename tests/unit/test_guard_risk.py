"""The risk of a conversation: kept per thread, limited, and closed for good once the limit is passed."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.types import Command
from pydantic import ValidationError

from langchain_ssd.errors import RequestRefused, RiskLimitExceeded
from langchain_ssd.guard import GuardSettings, SSDGuardMiddleware

from .guard_helpers import (
    ASKED,
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
)

CLOSED = GuardSettings().risk_text
ESCALATION = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]  # shares of tokens in safety mode; no answer is refused
LIMIT = 0.3


def rising() -> ToolModel:
    shares = [says(f"turn {n} {UNSAFE}", safety=round(10 * share)) for n, share in enumerate(ESCALATION)]
    return ToolModel(answers=shares)


def ask(agent: Any, times: int, way: str = "invoke") -> list[str]:
    told = []
    for _ in range(times):
        WAYS[way](agent, ASKED)
        told.append(last(agent).text)
    return told


def expected(decay: float) -> list[float]:
    risk, found = 0.0, []
    for share in ESCALATION:
        risk = decay * risk + (1 - decay) * share
        found.append(risk)
    return found


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.8])
def test_the_risk_of_a_thread_is_kept_and_those_of_others_are_not_touched(decay: float) -> None:
    agent, _ = guarded(rising(), decay=decay)
    found = []
    for _ in ESCALATION:
        found.append(agent.invoke(ASKED, THREAD)["ssd_guard"]["risk"])
    assert found == pytest.approx(expected(decay))
    elsewhere = agent.invoke(ASKED, {"configurable": {"thread_id": "other"}})
    assert elsewhere["ssd_guard"]["answers"] == 1


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream messages", "astream values"])
def test_slow_escalation_is_ended_and_the_conversation_stays_closed(way: str) -> None:
    model = rising()
    agent, saver = guarded(model, max_conversation_risk=LIMIT)
    passed = next(n for n, risk in enumerate(expected(0.8)) if risk > LIMIT)
    assert 0 < passed < len(ESCALATION)
    told = ask(agent, passed + 3, way)
    assert told[passed:] == [CLOSED] * 3
    assert all(UNSAFE in text for text in told[:passed])
    assert f"turn {passed}" not in everything(saver)
    assert len(model.asked) == passed + 1, "a closed conversation must not reach the model"
    assert last(agent).response_metadata["finish_reason"] == "refusal"


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_slow_escalation_raises(way: str) -> None:
    model = rising()
    agent, saver = guarded(model, max_conversation_risk=LIMIT, on_conversation_risk="raise")
    with pytest.raises(RiskLimitExceeded, match=r"limit of 0\.30"):
        ask(agent, len(ESCALATION), way)
    count = len(model.asked)
    assert f"turn {count - 1}" not in everything(saver)
    with pytest.raises(RiskLimitExceeded):
        WAYS[way](agent, ASKED)
    assert len(model.asked) == count


def test_a_human_lets_it_go_on_and_the_count_begins_anew() -> None:
    agent, _ = guarded(rising(), max_conversation_risk=LIMIT, on_conversation_risk="ask")
    while not agent.get_state(THREAD).tasks:
        WAYS["invoke"](agent, ASKED)
    (asked,) = [i.value for task in agent.get_state(THREAD).tasks for i in task.interrupts]
    assert asked["type"] == "ssd_conversation_risk"
    assert asked["risk"] > asked["limit"] == LIMIT
    assert UNSAFE not in str(asked)
    answer = last(agent).text
    agent.invoke(Command(resume={"type": "approve"}), THREAD)
    assert last(agent).text == answer
    assert notes(agent)["risk"] == 0.0
    assert ask(agent, 1) != [CLOSED]


def test_a_human_ends_it_and_is_asked_again_when_it_is_taken_up() -> None:
    agent, _ = guarded(rising(), max_conversation_risk=LIMIT, on_conversation_risk="ask")
    while not agent.get_state(THREAD).tasks:
        WAYS["invoke"](agent, ASKED)
    before = last(agent)
    agent.invoke(Command(resume={"type": "reject"}), THREAD)
    assert (last(agent).text, last(agent).id) == (CLOSED, before.id)
    WAYS["invoke"](agent, ASKED)
    assert agent.get_state(THREAD).tasks[0].interrupts
    agent.invoke(Command(resume="approve"), THREAD)
    assert UNSAFE in last(agent).text


@pytest.mark.parametrize("policy", ["end", "raise", "ask"])
def test_the_answer_that_passes_the_limit_calls_no_tools(policy: str) -> None:
    desk = Desk()
    model = ToolModel(answers=[says(UNSAFE, call("look_up", word="b"), safety=10), says("Done.")])
    agent, _ = guarded(model, tools=desk.tools, max_conversation_risk=0.1, on_conversation_risk=policy)
    if policy == "raise":
        with pytest.raises(RiskLimitExceeded):
            WAYS["invoke"](agent, ASKED)
    else:
        WAYS["invoke"](agent, ASKED)
    if policy == "ask":
        WAYS["invoke"](agent, Command(resume={"type": "reject"}))
    assert desk.done == []
    assert last(agent).text == CLOSED
    assert isinstance(last(agent), AIMessage)
    assert last(agent).tool_calls == []  # type: ignore[attr-defined]


def test_refusals_that_are_raised_count_too() -> None:
    agent, _ = guarded(
        ToolModel(answers=[says("", refused=True)]), on_refusal="raise", max_conversation_risk=0.4
    )
    for _ in range(2):
        with pytest.raises(RequestRefused):
            WAYS["invoke"](agent, ASKED)
    with pytest.raises(RequestRefused):  # 0.488: refused, and the last one
        WAYS["invoke"](agent, ASKED)
    assert ask(agent, 1) == [CLOSED]


def test_whoever_runs_the_agent_can_open_it_again() -> None:
    agent, _ = guarded(rising(), max_conversation_risk=LIMIT)
    told = ask(agent, len(ESCALATION))
    assert told[-1] == CLOSED
    agent.update_state(THREAD, {"ssd_guard": {**notes(agent), "risk": 0.0}})
    assert ask(agent, 1) != [CLOSED]


@pytest.mark.parametrize("limit", [0, 1, -0.5, float("nan")])
def test_a_limit_that_could_never_or_always_be_passed_is_refused(limit: float) -> None:
    with pytest.raises(ValidationError):
        SSDGuardMiddleware(max_conversation_risk=limit)
