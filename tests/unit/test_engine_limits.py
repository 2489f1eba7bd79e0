"""What a request may not be, how long an answer may get, and who waits: found before any forward."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import SSDConfig
from langchain_ssd.engine.engine import Engine
from langchain_ssd.errors import ContextOverflow, InvalidRequest, Overloaded, SSDError, TemplateError
from langchain_ssd.testing.byte_tokenizer import TEMPLATE

from .engine_helpers import answer, drain, ended, failed, make, request, token_ids

user = ChatMessage("user", "hi")


def rejected(kind: type[SSDError], asked: ChatRequest, **options: Any) -> str:
    """The request is refused before any forward pass, and nothing of it stays."""
    engine, pair = make(**options)
    with pytest.raises(kind) as caught:
        engine.submit("bad", asked, 0.0)
    assert not engine.busy
    assert pair.target.model.passes == pair.draft.model.passes == 0
    assert token_ids(answer(engine, request())) == token_ids(answer(make(**options)[0], request()))
    return caught.value.message


BAD_MESSAGES: list[tuple[ChatMessage, ...]] = [
    (),
    (ChatMessage("user", ""),),
    (ChatMessage("user", " \n\t"), ChatMessage("system", "")),
    (ChatMessage("user", "a\0b"),),
    (ChatMessage("user", "a\ud800"),),
    (user, ChatMessage("assistant", "\udfff"), user),
    (ChatMessage("tool", "\0", tool_call_id="1"),),
    (ChatMessage("critic", "hm"),),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("messages", BAD_MESSAGES)
def test_bad_messages(messages: tuple[ChatMessage, ...]) -> None:
    rejected(InvalidRequest, ChatRequest(messages))


@pytest.mark.parametrize("prefill", ["a\0", "\ud800"])
def test_bad_prefills(prefill: str) -> None:
    rejected(InvalidRequest, ChatRequest((user,), prefill=prefill))


def test_a_template_that_refuses() -> None:
    template = "{% if messages | length > 1 %}{{ raise_exception('one at a time') }}{% endif %}" + TEMPLATE
    rejected(TemplateError, ChatRequest((user, user)), draft_template=template)


@pytest.mark.parametrize("prefill", ["", "Sure"])
def test_a_template_that_renders_nothing(prefill: str) -> None:
    """Without a prompt token nothing predicts the first token, prefilled or not."""
    template = "{% if messages[0]['content'] != 'none' %}" + TEMPLATE + "{% endif %}"
    rejected(
        InvalidRequest, ChatRequest((ChatMessage("user", "none"),), prefill=prefill), draft_template=template
    )


def test_tools_are_rendered_or_refused() -> None:
    """A template that does not know tools must not be told to answer without them in silence."""
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    engine, _ = make()
    plain = engine.submit("plain", ChatRequest((user,)), 0.0)
    try:
        told = engine.submit("tools", ChatRequest((user,), tools=(tool,)), 0.0)
    except InvalidRequest:
        return
    assert told.prompt_tokens > plain.prompt_tokens


# ── contexts ─────────────────────────────────────────────────────────────────────────────────────────


def lengths(prefill: str = "") -> tuple[int, int]:
    """Prompt tokens of the standard request for both models."""
    queued = make()[0].submit("a", request(prefill=prefill), 0.0)
    return queued.prompt_tokens, queued.draft_prompt_tokens


def watch(engine: Engine, model: Any) -> list[int]:
    """The lengths a model's rows reach."""
    reached, extend = [], model.extend

    def watched(*args: Any, **kwargs: Any) -> Any:
        out = extend(*args, **kwargs)
        reached.extend(model.lengths)
        return out

    model.extend = watched
    return reached


@pytest.mark.parametrize("prefill", ["", "Sure: "])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("spare", [-1, 0, 1, 2, 5])
def test_room_up_to_the_edge_of_either_context(spare: int, side: int, prefill: str) -> None:
    prompt = lengths(prefill)
    contexts = [200, 200]
    contexts[side] = prompt[side] + spare
    options = {"context": contexts[0], "draft_context": contexts[1]}
    asked = request(prefill=prefill, max_tokens=None, safety=SSDConfig(hold_back="none", block_size=8))
    engine, pair = make(**options)
    if spare < 1:
        with pytest.raises(ContextOverflow) as caught:
            engine.submit("bad", asked, 0.0)
        assert all(str(n) in caught.value.message for n in (*prompt, *contexts))
        assert pair.target.model.passes == pair.draft.model.passes == 0
        assert not engine.busy
        return
    reached = [watch(engine, side.model) for side in (pair.target, pair.draft)]
    events = answer(engine, asked)
    end = ended(events)
    assert (end.finish_reason, end.completion_tokens) == ("length", spare)
    assert len(token_ids(events)) == spare
    for lengths_, context in zip(reached, contexts, strict=True):
        assert max(lengths_) <= context
    # The same tokens as with room to spare: the edge only ends the answer.
    free = make(context=200, draft_context=200)[0]
    assert token_ids(events) == token_ids(answer(free, request(prefill=prefill, max_tokens=spare)))


@pytest.mark.parametrize("block_size", [1, 3, 8])
@pytest.mark.parametrize("max_tokens", [1, 2, 7])
def test_max_tokens(max_tokens: int, block_size: int) -> None:
    engine, pair = make()
    events = answer(
        engine, request(max_tokens=max_tokens, safety=SSDConfig(hold_back="none", block_size=block_size))
    )
    end = ended(events)
    assert (end.finish_reason, end.completion_tokens, end.summary.emitted) == (
        "length",
        max_tokens,
        max_tokens,
    )
    assert len(token_ids(events)) == max_tokens
    assert end.summary.drafted <= end.summary.draft_passes
    assert end.summary.accepted <= end.summary.drafted
    assert pair.target.model.lengths == []


def test_an_end_token_at_the_last_place_is_a_stop() -> None:
    engine, _ = make()
    first = token_ids(answer(engine, request(max_tokens=3)))
    engine, _ = make(end_ids=frozenset({first[2]}))
    end = ended(answer(engine, request(max_tokens=3)))
    assert (end.finish_reason, end.completion_tokens) == (
        "stop",
        3 if first[2] not in first[:2] else first.index(first[2]) + 1,
    )


# ── queue, deadlines, cancelling ─────────────────────────────────────────────────────────────────────


def test_a_full_queue_is_overloaded_and_harmless() -> None:
    engine, _ = make(max_batch=1, max_queue=2)
    engine.submit("a", request(), 0.0)
    engine.step(0.0)
    engine.submit("b", request(), 0.0)
    engine.submit("c", request(), 0.0)
    with pytest.raises(Overloaded):
        engine.submit("d", request(), 0.0)
    assert (engine.running, engine.queued) == (1, 2)
    events = drain(engine)
    assert token_ids(events["b"]) == token_ids(events["c"]) == token_ids(answer(engine, request()))
    assert "d" not in events


def test_deadlines_in_the_queue_and_while_running() -> None:
    engine, pair = make(max_batch=1)
    engine.submit("runs", request(timeout=10, max_tokens=200), 0.0)
    engine.submit("waits", request(timeout=5), 0.0)
    engine.submit("patient", request(), 0.0)
    events = {"runs": [], "waits": [], "patient": []}
    for now in (0.0, 4.9, 5.0, 9.9, 10.0):
        for name, event in engine.step(now):
            events[name].append(event)
    assert failed(events["waits"]).code == "queue_timeout"
    assert failed(events["runs"]).code == "request_timeout"
    assert len(token_ids(events["runs"])) >= 3
    drain(engine, events)
    assert token_ids(events["patient"]) == token_ids(answer(make()[0], request()))
    assert pair.target.model.lengths == pair.draft.model.lengths == []


def test_a_deadline_that_has_passed_at_submission_starts_nothing() -> None:
    engine, pair = make()
    engine.submit("late", request(timeout=0.0), 3.0)
    assert failed([event for _, event in engine.step(3.0)]).code == "queue_timeout"
    assert not engine.busy
    assert pair.target.model.passes == 0


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_cancelled_request_ends_without_a_word(steps: int) -> None:
    engine, pair = make(max_batch=2, prefill_chunk=5)
    for name in ("a", "b", "c"):
        engine.submit(name, request(name * 4, max_tokens=40), 0.0)
    for _ in range(steps):
        engine.step(0.0)
    for name in ("b", "c", "unknown", "b"):
        engine.cancel(name)
    rest = drain(engine)
    assert set(rest) == {"a"}
    assert pair.target.model.lengths == pair.draft.model.lengths == []
    fresh = answer(make()[0], request("aaaa", max_tokens=40))
    assert token_ids(rest["a"]) == token_ids(fresh)[-len(token_ids(rest["a"])) :]
    assert token_ids(answer(engine, request())) == token_ids(answer(make()[0], request()))


def test_closing_drops_everything() -> None:
    engine, pair = make(max_batch=1)
    engine.submit("a", request(), 0.0)
    engine.submit("b", request(), 0.0)
    engine.step(0.0)
    engine.close()
    assert not engine.busy
    assert pair.target.model.lengths == []
    engine.close()
