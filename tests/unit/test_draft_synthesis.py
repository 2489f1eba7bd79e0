"""Benign prompts that the target writes itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from langchain_ssd.backend import ChatMessage
from langchain_ssd.drafts import synthesis
from langchain_ssd.drafts.synthesis import is_sensible, user_opening, write_prompts
from langchain_ssd.testing.byte_tokenizer import OTHER_TEMPLATE, TEMPLATE

from .draft_helpers import tiny_teacher

TEACHER = tiny_teacher()
ENCODE = TEACHER.renderer.encode
QUESTION = "what does the word number {} mean in music"


def write(path: Path, count: int, report: Callable[[str, float], None] = lambda *_: None) -> list[str]:
    return write_prompts(TEACHER, count, path, 1, report)


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A target that writes two new sensible prompts a round, one that is none, and one without an end.

    The list holds how often it was asked.
    """
    rounds: list[int] = []

    def generate(model: Any, prompts: Any, *_: Any, **__: Any) -> Iterator[tuple[int, list[int], bool]]:
        n = len(rounds)
        rounds.append(len(prompts))
        texts = [QUESTION.format(2 * n), QUESTION.format(2 * n + 1), "no", QUESTION.format(f"{n} cut off")]
        for i, text in enumerate(texts):
            yield i, ENCODE(" " + text), "cut off" not in text

    monkeypatch.setattr(synthesis, "generate", generate)
    return rounds


# What a request looks like


@pytest.mark.parametrize(
    "text",
    [
        "How do I bake bread?",
        "Explain the tides to a child",
        "Wie backe ich gutes Brot?",
        "Как испечь вкусный хлеб?",
    ],
)
def test_requests_are_sensible(text: str) -> None:
    assert is_sensible(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Why so?",
        "word " * 30,
        " ".join(f"w{n}ord" for n in range(61)),
        "What is <|user|> in a template?",
        "1 2 3 4 5 6 7 8 9 10 11",
        "a ... b ... c ... d ... !!! ??? ///",
    ],
)
def test_what_is_no_request_is_not_sensible(text: str) -> None:
    assert not is_sensible(text)


# The opening


@pytest.mark.parametrize("template", [TEMPLATE, OTHER_TEMPLATE])
def test_the_opening_ends_where_the_users_text_begins(template: str) -> None:
    teacher = tiny_teacher(template)
    opening = user_opening(teacher)
    for text in ("hello", "zebra", "x"):
        whole = teacher.renderer.render([ChatMessage("user", text)])
        assert whole[: len(opening)] == opening
        assert whole[len(opening) :][: len(text)] == teacher.renderer.encode(text)


# Writing


def test_only_finished_sensible_prompts_are_kept_in_the_file(tmp_path: Path, writer: list[int]) -> None:
    path = tmp_path / "new" / "prompts.jsonl"
    found = write(path, 5)
    assert len(found) == len(set(found)) == 5
    assert len(writer) == 3
    assert all(is_sensible(text) and "cut off" not in text for text in found)
    assert [json.loads(line)["prompt"] for line in path.read_text().splitlines()][:5] == found


def test_prompts_begin_as_people_do(tmp_path: Path, writer: list[int]) -> None:
    found = write(tmp_path / "p.jsonl", 8)
    assert all(any(text.startswith((b + " what").strip()) for b in synthesis._BEGINNINGS) for text in found)
    assert len({text.split(" what")[0] for text in found}) > 1


def test_an_interrupted_run_keeps_its_prompts(tmp_path: Path, writer: list[int]) -> None:
    path = tmp_path / "p.jsonl"
    first = write(path, 4)
    assert write(path, 8)[:4] == first
    assert len(writer) == 4
    assert write(path, 8)[:4] == first
    assert len(writer) == 4  # nothing is missing


@pytest.mark.parametrize(("lost", "kept"), [(1, 4), (10, 3)])
def test_half_a_line_is_left_out_and_spoils_nothing_after_it(
    tmp_path: Path, writer: list[int], lost: int, kept: int
) -> None:
    path = tmp_path / "p.jsonl"
    first = write(path, 4)
    path.write_bytes(path.read_bytes()[:-lost])
    found = write(path, 8)
    assert found[:kept] == first[:kept]
    asked = len(writer)
    assert write(path, 8) == found
    assert len(writer) == asked


def test_a_target_that_repeats_itself_gives_fewer_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def generate(*_: Any, **__: Any) -> Iterator[tuple[int, list[int], bool]]:
        asked.append(1)
        yield 0, ENCODE(" how do the tides work"), True

    monkeypatch.setattr(synthesis, "generate", generate)
    monkeypatch.setattr(synthesis, "_BEGINNINGS", ("",))
    assert write(tmp_path / "p.jsonl", 50) == ["how do the tides work"]
    assert len(asked) < 20


def test_progress_ends_at_one(tmp_path: Path, writer: list[int]) -> None:
    shares: list[float] = []
    write(tmp_path / "p.jsonl", 4, lambda _, share: shares.append(share))
    assert shares == [0.5, 1.0]


def test_a_real_network_writes_what_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random bytes are hardly sensible; but the prompts, ends and rows of a round fit together."""
    monkeypatch.setattr(synthesis, "_ROUND", 6)
    monkeypatch.setattr(synthesis, "_LENGTH", 5)
    monkeypatch.setattr(TEACHER, "end_ids", frozenset(range(0, 260, 2)))
    opening = user_opening(TEACHER)
    one, two, other = (list(synthesis._round(TEACHER, opening, seed)) for seed in (1, 1, 2))
    assert one == two != other
    assert TEACHER.cached.lengths == []
