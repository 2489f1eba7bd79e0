"""Records full of names and numbers: repeatable, answerable, and of different kinds in every part."""

from __future__ import annotations

import re

from langchain_ssd.drafts.corpus import Part
from langchain_ssd.drafts.record_tasks import record_tasks
from langchain_ssd.drafts.texts import load_texts


def _texts(part: Part, count: int = 200, seed: int = 1) -> list[str]:
    return [p.messages[0].content for p in record_tasks(count, part, seed)]


def _titles(part: str) -> list[str]:
    return [kind["title"] for kind in load_texts("record_kinds") if kind["part"] == part]


def test_they_are_repeatable_and_differ() -> None:
    assert _texts("train") == _texts("train") != _texts("train", seed=2)
    assert len(set(_texts("train"))) == 200


def test_no_kind_of_record_is_in_two_parts_and_evaluation_has_none() -> None:
    pairs: list[tuple[Part, Part]] = [("train", "calibration"), ("calibration", "train")]
    for part, other in pairs:
        for text in _texts(part):
            assert any(title in text for title in _titles(part))
            assert not any(title in text for title in _titles(other))
    assert _texts("evaluation") == []


def test_what_a_task_asks_for_stands_in_its_record() -> None:
    asked = [re.search(r"What is the (.+) of \w+ (.+)\?", text) for text in _texts("train", 400)]
    found = [match for match in asked if match]
    assert len(found) > 10
    assert all(match.string.count(match[2]) >= 2 for match in found)


def test_no_slot_is_left_and_each_holds_numbers() -> None:
    for text in _texts("train", 400) + _texts("calibration"):
        assert "{" not in text.replace("JSON", "")
        assert len(re.findall(r"\d", text)) >= 8
