"""Long passages: one fact in each, found nowhere else, at every depth."""

import itertools
import random
import re
from collections import Counter

import pytest

from langchain_ssd.evaluation import long_context
from langchain_ssd.evaluation.long_context import long_cases


def passage_of(case):
    intro, *blocks, question = case.messages[0].content.split("\n\n")
    return " ".join(blocks), intro, question


def test_the_fact_is_in_the_passage_once_and_its_answer_nowhere_else():
    for case in long_cases(200, seed=3):
        passage, intro, question = passage_of(case)
        planted = [
            fact.sentence.format(answer=case.answer)
            for record in long_context._RECORDS
            for fact in record.facts
            if record.title in intro and question.startswith(fact.question)
        ]
        assert len(planted) == 1
        assert passage.count(planted[0]) == 1
        assert passage.lower().count(case.answer.lower()) == 1
        assert case.answer.lower() not in (intro + question).lower()


@pytest.mark.parametrize("words", [120, 600, 1500])
def test_passages_have_about_as_many_words_as_asked_for(words):
    for case in long_cases(40, seed=5, words=words):
        assert words * 0.9 <= len(passage_of(case)[0].split()) <= words * 1.1 + 15


def test_facts_lie_at_all_depths():
    cases = long_cases(60, seed=8)
    depths = []
    for case in cases:
        passage, _, _ = passage_of(case)
        depths.append(passage.index(case.answer) / len(passage))
    for tenth in range(10):
        assert any(tenth / 10 <= depth < (tenth + 1) / 10 for depth in depths), tenth


def test_passages_vary_and_do_not_repeat_a_sentence():
    cases = long_cases(60, seed=8)
    assert len({passage_of(case)[0] for case in cases}) == 60
    assert len({passage_of(case)[1] for case in cases}) == len(long_context._RECORDS)
    assert len({passage_of(case)[2] for case in cases}) >= 10
    for case in cases:
        # A heading ends with a full stop after its number; no sentence of a passage does.
        sentences = re.split(r"(?<=[a-z]\.) ", re.sub(r"[A-Z]\w+ \d+\. ", "", passage_of(case)[0]))
        assert max(Counter(sentences).values()) == 1


def test_one_kind_of_sentence_never_comes_twice_in_a_row():
    slots = "{n} {person} {place} {thing}"  # so many that no sentence is drawn twice, which would be dropped
    record = long_context._Record("", "", (f"one {slots}", f"two {slots}"), ())
    for seed in range(30):
        kinds = [text.split()[0] for text in long_context._sentences(record, random.Random(seed), 150)]
        assert all(a != b for a, b in itertools.pairwise(kinds))
