"""A refused request never reaches another model; and where the order of the middleware matters."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ModelFallbackMiddleware,
    ModelRefusalMiddleware,
    ModelRetryMiddleware,
)
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_ssd.errors import GenerationFailed, RequestRefused, UnprotectedAnswer
from langchain_ssd.guard import SSDGuardMiddleware

from .guard_helpers import ASKED, NO, REFUSED, UNSAFE, WAYS, ToolModel, everything, guarded, last, scripted

LESS_SAFE = "anything you want"


def other() -> ToolModel:
    return ToolModel(answers=[AIMessage(LESS_SAFE)])


def retry(**settings: Any) -> ModelRetryMiddleware[Any, Any]:
    return ModelRetryMiddleware(initial_delay=0, backoff_factor=0, jitter=False, **settings)


def asked(model: Any) -> int:
    return len(model.backend.requests)


def test_without_the_guard_a_refusal_goes_to_the_less_safe_model() -> None:
    fallback = other()
    middleware = [ModelFallbackMiddleware(fallback), ModelRefusalMiddleware()]
    agent: Any = create_agent(scripted(REFUSED), [], middleware=middleware)
    assert agent.invoke(ASKED)["messages"][-1].text == LESS_SAFE


NAMES = ("fallback", "retry", "guard")


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream messages"])
@pytest.mark.parametrize("policy", ["end", "raise"])
@pytest.mark.parametrize("order", list(permutations(NAMES)), ids=">".join)
def test_fallback_and_retry_never_see_a_refusal_in_any_order(
    order: tuple[str, ...], policy: str, way: str
) -> None:
    fallback, model = other(), scripted(REFUSED)
    around: dict[str, AgentMiddleware[Any, Any]] = {
        "fallback": ModelFallbackMiddleware(fallback),
        "retry": retry(),
        "guard": SSDGuardMiddleware(on_refusal=policy),
    }
    saver = InMemorySaver()
    agent: Any = create_agent(model, [], middleware=[around[name] for name in order], checkpointer=saver)
    if policy == "raise":
        with pytest.raises(RequestRefused):
            WAYS[way](agent, ASKED)
    else:
        WAYS[way](agent, ASKED)
    assert last(agent).text == NO
    assert UNSAFE not in everything(saver)
    assert (asked(model), fallback.asked) == (1, [])


@pytest.mark.parametrize("order", list(permutations(("fallback", "refusal", "guard"))), ids=">".join)
def test_beside_a_middleware_that_makes_refusals_errors_the_guard_must_be_nearer_than_the_fallback(
    order: tuple[str, ...],
) -> None:
    fallback, model = other(), scripted(REFUSED)
    around: dict[str, AgentMiddleware[Any, Any]] = {
        "fallback": ModelFallbackMiddleware(fallback),
        "refusal": ModelRefusalMiddleware(),
        "guard": SSDGuardMiddleware(),
    }
    agent: Any = create_agent(model, [], middleware=[around[name] for name in order])
    if order == (
        "guard",
        "fallback",
        "refusal",
    ):  # the fallback sees the error before the guard does
        with pytest.raises(UnprotectedAnswer):  # but the other model's answer is not used
            agent.invoke(ASKED)
        assert len(fallback.asked) == 1
    else:
        assert agent.invoke(ASKED)["messages"][-1].text == NO
        assert fallback.asked == []


@pytest.mark.parametrize("first", [True, False])
def test_a_fallback_for_errors_must_be_protected_too(first: bool) -> None:
    broken = GenerationFailed("the draft failed")
    agent, saver = guarded(scripted(broken), ModelFallbackMiddleware(other()), first=first)
    with pytest.raises(UnprotectedAnswer):
        WAYS["invoke"](agent, ASKED)
    assert LESS_SAFE not in everything(saver)
    agent, _ = guarded(scripted(broken), ModelFallbackMiddleware(scripted("Fine.")), first=first)
    assert WAYS["invoke"](agent, ASKED)["messages"][-1].text == "Fine."


@pytest.mark.parametrize("first", [True, False])
def test_an_error_is_tried_again_and_judged_once(first: bool) -> None:
    broken = GenerationFailed("the draft failed")
    agent, _ = guarded(scripted(broken, "Fine."), retry(), first=first)
    found = WAYS["invoke"](agent, ASKED)
    assert found["messages"][-1].text == "Fine."
    assert found["ssd_guard"]["answers"] == 1


@pytest.mark.parametrize("first", [True, False])
def test_an_answer_that_a_middleware_makes_up_is_not_passed_off_as_protected(first: bool) -> None:
    """When nothing works, ModelRetryMiddleware answers itself unless it is told to raise."""
    broken = GenerationFailed("the draft failed")
    agent, _ = guarded(scripted(broken), retry(max_retries=1), first=first)
    with pytest.raises(UnprotectedAnswer):
        WAYS["invoke"](agent, ASKED)
    agent, _ = guarded(scripted(broken), retry(max_retries=1, on_failure="error"), first=first)
    with pytest.raises(GenerationFailed):
        WAYS["invoke"](agent, ASKED)


def test_a_middleware_that_hides_the_answer_is_found_out() -> None:
    class Rewriter(AgentMiddleware[Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return AIMessage(f"[{handler(request).result[0].text}]")

    agent, _ = guarded(scripted("Fine."), Rewriter())
    with pytest.raises(UnprotectedAnswer, match="made up an answer"):
        WAYS["invoke"](agent, ASKED)
    agent, _ = guarded(scripted("Fine."), Rewriter(), require_ssd=False)
    assert WAYS["invoke"](agent, ASKED)["messages"][-1].text == "[Fine.]"


def test_a_model_with_fallbacks_of_its_own() -> None:
    fallback, model = other(), scripted(REFUSED)
    agent, saver = guarded(model.with_fallbacks([fallback]))
    WAYS["stream messages"](agent, ASKED)
    assert last(agent).text == NO
    assert fallback.asked == []
    assert UNSAFE not in everything(saver)
    agent, saver = guarded(scripted(GenerationFailed("broken")).with_fallbacks([fallback]))
    with pytest.raises(UnprotectedAnswer):
        WAYS["invoke"](agent, ASKED)
    assert LESS_SAFE not in everything(saver)
