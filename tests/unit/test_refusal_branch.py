"""The refusal that a grammar allows: it begins with a no, in many languages, and is no door to free text."""

from __future__ import annotations

import pytest

from langchain_ssd.constraint import Constraint
from langchain_ssd.drafts.refusals import OPENINGS
from langchain_ssd.refusal_text import TEXTS

from .grammar_helpers import END, GRAMMARS, ids

OBJECT = Constraint("json_object")


def declines(text: str, constraint: Constraint = OBJECT) -> bool | None:
    """Whether a whole answer is a refusal; ``None`` if it is not even legal."""
    state = GRAMMARS.start(constraint)
    for token in ids(text):
        if token not in state.front:
            return None
        state.settle(token)
    if not (state.over or END in state.front):
        return None
    return state.declined


@pytest.mark.parametrize("text", OPENINGS)
def test_what_drafts_learn_to_say(text: str) -> None:
    assert declines(text)
    assert declines(text + " It could cause serious harm. If you have another question, I'm happy to help.")


@pytest.mark.parametrize(
    "text",
    [
        "This is not something I can help with.",
        "That is something that I won't do.",
        "Es tut mir leid, aber dazu gebe ich keine Anleitung.",
    ],
)
def test_a_late_no_is_one(text: str) -> None:
    assert declines(text)


@pytest.mark.parametrize("language", TEXTS)
def test_our_own_words_in_every_language(language: str) -> None:
    assert declines(TEXTS[language])


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry for the confusion. Here is the object:",
        "I'm sorry.",
        "Sorry, here you go",
        "I can help with that",
        "No problem, here it is",
        "This is not a problem",
        "Sure, I can't wait to help",
        "Unfortunately, the answer is long",
        "That is something I can help with: the capital of France is Paris.",
        "This is something I can do. Sure, here is how",
        "Es tut mir leid, aber hier ist es",
        "Es tut mir leid, aber hier ist es. Das ist nicht schwer.",
        "Het spijt me, maar hier is het antwoord",
        "Üzgünüm, ancak işte cevap",
        "Извините, но вот ответ",
        "申し訳ありませんが、こちらが答えです",
        "죄송하지만 여기 답이 있습니다",
        "क्षमा करें, भारत की राजधानी दिल्ली है",
        "I",
        "",
    ],
)
def test_an_apology_or_prose_is_not_enough(text: str) -> None:
    assert declines(text) is None


@pytest.mark.parametrize(
    "text",
    ["I can't do that.\nBut here it is", 'I can\'t: {"a": 1}', "I can't. ```", "I can't" + " no" * 150],
)
def test_a_refusal_is_one_short_paragraph(text: str) -> None:
    assert declines(text) is None


def test_an_answer_of_the_form_is_not_declined() -> None:
    assert declines("{}") is False
    assert declines('{"say": "I can\'t help with that."}') is False


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("choice", ["I agree", "I can", "I can't swim"]),
        Constraint("regex", "I .*"),
        Constraint("lark", 'start: "I " WORD+\nWORD: /[a-z]+/\n%ignore / +/'),
    ],
)
def test_answers_that_begin_like_refusals_stay_legal(constraint: Constraint) -> None:
    answers = {
        "choice": ["I agree", "I can", "I can't swim"],
        "regex": ["I like it"],
        "lark": ["I am very well"],
    }
    for text in answers[constraint.kind]:
        assert declines(text, constraint) is not None
    assert declines("I'm sorry, but I can't help with this.", constraint) is True


def test_without_it_nothing_but_the_form_is_legal() -> None:
    state = GRAMMARS.start(Constraint("json_object", may_refuse=False))
    assert state.front.only == ids("{")[0]
