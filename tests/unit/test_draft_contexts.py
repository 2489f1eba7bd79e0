"""Longer requests made of answers: what stands in them, and what they are made of."""

from __future__ import annotations

import random

from langchain_ssd.backend import ChatMessage
from langchain_ssd.calibration import sources
from langchain_ssd.calibration.settings import CalibrationSettings
from langchain_ssd.drafts import contexts
from langchain_ssd.drafts.corpus import BenignPrompt
from langchain_ssd.drafts.texts import load_texts

from .draft_helpers import recipe, tiny_teacher


def told(count: int = 12) -> list[BenignPrompt]:
    return [
        BenignPrompt((ChatMessage("user", f"prompt {n}"),), "user", answer=f"answer {n} " * 12, finished=True)
        for n in range(count)
    ]


ANSWERS = {p.answer for p in told()}


def test_a_passage_holds_whole_answers_and_a_task() -> None:
    tasks = {row["text"] for row in load_texts("passage_tasks")}
    assert all(task.count("{passage}") == 1 for task in tasks)
    for made in contexts.lengthened(told(), 40, seed=1):
        (message,) = made.messages
        rest = message.content
        held = [a for a in ANSWERS if a and a in rest]
        assert 1 <= len(held) <= 6
        for answer in held:
            rest = rest.replace(answer, "\0")
        passage = "\n\n".join("\0" * len(held))
        assert rest.replace(passage, "{passage}") in tasks
        assert made.answer is None
        assert made.kind == "passage"


def test_a_conversation_alternates_and_ends_with_a_request() -> None:
    for made in contexts.chained(told(), 40, seed=1):
        roles = [m.role for m in made.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        assert 1 <= len(roles) // 2 <= 3
        asked = {m.content: a.content for m, a in zip(made.messages[::2], made.messages[1::2], strict=False)}
        assert all(a.split()[1] == q.split()[1] for q, a in asked.items())  # answers stay with their prompts


def test_the_same_seed_gives_the_same_requests() -> None:
    assert contexts.lengthened(told(), 9, 3) == contexts.lengthened(told(), 9, 3)
    assert contexts.lengthened(told(), 9, 3) != contexts.lengthened(told(), 9, 4)


def test_answers_that_broke_off_or_are_short_make_no_context() -> None:
    cut = BenignPrompt((ChatMessage("user", "a"),), "user", answer="b " * 90, finished=False)
    short = BenignPrompt((ChatMessage("user", "a"),), "user", answer="b", finished=True)
    assert contexts.usable([cut, short, *told(2)]) == told(2)
    assert contexts.lengthened([cut, short], 5, 1) == contexts.chained([cut, short], 5, 1) == []


def test_an_unsafe_request_is_the_last_thing_said() -> None:
    rng = random.Random(0)
    shapes = set()
    for _ in range(30):
        messages = contexts.in_context("the request", told(), rng)
        assert messages[-1].role == "user"
        assert messages[-1].content.endswith("the request")
        shapes.add(len(messages) > 1)
    assert shapes == {True, False}


def test_the_workshop_puts_unsafe_requests_behind_what_was_told(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from langchain_ssd.drafts.corpus import UnsafePrompt
    from langchain_ssd.drafts.pipeline import Workshop

    workshop = Workshop(tiny_teacher(), recipe(begun=0.0), tmp_path, lambda stage, share: None)
    known = workshop.told([BenignPrompt((ChatMessage("user", "hello"),), "user"), *told(1)])
    assert [p.answer is not None for p in known] == [True, True]
    plain, behind = (
        workshop.unsafe([UnsafePrompt("the request", "user")], context)[0].wrapped
        for context in ((), told(1))
    )
    assert len(behind) == len(plain) + 1
    assert "answer 0" in workshop.teacher.renderer.tokenizer.decode(behind[-1])


def test_calibration_replaces_prompts_by_longer_ones(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(sources.corpus, "shipped_benign", lambda part: told(100))
    settings = CalibrationSettings(responses=100)
    kinds = [p.kind for p in sources.benign_prompts([], settings)]
    assert len(kinds) == 100
    assert kinds.count("chained") == 8
    assert kinds.count("passage") == kinds.count("record") == 4
    assert kinds.count("opened") == kinds.count("wrapped") == 10
    bare = [BenignPrompt(p.messages, "user") for p in told(100)]
    monkeypatch.setattr(sources.corpus, "shipped_benign", lambda part: bare)
    kinds = [p.kind for p in sources.benign_prompts([], settings)]
    assert len(kinds) == 100
    assert "passage" not in kinds
