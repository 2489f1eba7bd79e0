"""Prompts in: what a file may hold, and that no prompt is in two parts."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_ssd.backend import ChatMessage
from langchain_ssd.drafts import corpus
from langchain_ssd.drafts.corpus import BenignPrompt, Part, UnsafePrompt, part_of, read_rows
from langchain_ssd.drafts.texts import load_texts
from langchain_ssd.errors import ConfigError

PARTS: tuple[Part, ...] = get_args(Part)
SECRET = "correct horse battery staple"
ROWS = [{"prompt": f"prompt number {n}"} for n in range(600)]


def texts(prompts: Sequence[BenignPrompt | UnsafePrompt]) -> set[str]:
    return {p.text if isinstance(p, UnsafePrompt) else p.messages[0].content for p in prompts}


def disjoint(parts: list[set[str]]) -> bool:
    return sum(map(len, parts)) == len(set().union(*parts))


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# Parts


@given(st.text())
def test_a_part_depends_on_the_text_alone(text: str) -> None:
    assert part_of(text) == part_of(f"  {text}\n") in PARTS
    assert 0 <= corpus.fraction(text) < 1


def test_parts_have_their_shares() -> None:
    parts = [part_of(f"text {n}") for n in range(20_000)]
    assert parts.count("evaluation") / 20_000 == pytest.approx(0.05, abs=0.01)
    assert parts.count("calibration") / 20_000 == pytest.approx(0.07, abs=0.01)


@pytest.mark.parametrize(
    "source",
    [
        corpus.shipped_benign,
        corpus.shipped_unsafe,
        lambda part: corpus.user_benign(ROWS, part),
        lambda part: corpus.user_unsafe(ROWS, part),
    ],
)
def test_no_prompt_is_in_two_parts(source: Any) -> None:
    parts = [texts(source(part)) for part in PARTS]
    assert disjoint(parts)
    assert all(len(part) >= 10 for part in parts)


def test_every_prompt_is_in_some_part() -> None:
    whole = {row["prompt"] for row in ROWS}
    assert set().union(*(texts(corpus.user_benign(ROWS, part)) for part in PARTS)) == whole
    kinds = {p.kind for part in PARTS for p in corpus.shipped_benign(part)}
    assert kinds == {"contrast", "languages", "plain", "serious", "turns", "various"}


def test_both_halves_of_a_contrast_are_in_one_part() -> None:
    pairs = [*load_texts("contrast"), *load_texts("lessons_contrast")]
    benign_half = {row["unsafe"]: row["benign"] for row in pairs}
    for part in PARTS:
        halves = [benign_half[p.text] for p in corpus.shipped_unsafe(part) if p.kind == "contrast"]
        assert set(halves) == texts([p for p in corpus.shipped_benign(part) if p.kind == "contrast"])


def test_lessons_are_only_learnt_from() -> None:
    lessons = {row["benign"] for row in load_texts("lessons_contrast")}
    lessons |= {row["unsafe"] for row in load_texts("lessons_contrast")}
    for name in ("unsafe", "various"):
        lessons |= {row["prompt"] for row in load_texts(f"lessons_{name}")}
    used = [texts(corpus.shipped_benign(part)) | texts(corpus.shipped_unsafe(part)) for part in PARTS]
    assert lessons <= used[PARTS.index("train")]
    assert lessons.isdisjoint(
        set().union(*(u for u, part in zip(used, PARTS, strict=True) if part != "train"))
    )
    more = {row["text"] for row in load_texts("lessons_openings")}
    assert more <= set(corpus.answer_openings("train"))
    assert more.isdisjoint([*corpus.answer_openings("calibration"), *corpus.answer_openings("evaluation")])


def test_openings_of_one_part_are_not_used_in_another() -> None:
    prompts = corpus.user_benign(ROWS, "train")
    parts = [{p.opening for p in corpus.opened(prompts, 400, part, seed=1)} for part in PARTS]
    assert disjoint(parts)
    assert all(parts)
    assert "" not in set().union(*parts)


# Files


def test_text_files_have_one_prompt_a_line(tmp_path: Path) -> None:
    path = write(tmp_path, "p.txt", "  How are you? ", "", '{"not": "json here"}')
    assert read_rows(path) == [{"prompt": "How are you?"}, {"prompt": '{"not": "json here"}'}]


def test_json_lines_keep_all_their_keys(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "label": "safe", "answer": "Ho"}, {"prompt": "zwei\nZeilen"}]
    assert read_rows(write(tmp_path, "p.jsonl", *map(json.dumps, rows))) == rows


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85"])
def test_marks_that_only_look_like_ends_of_lines_stay_in_the_prompt(tmp_path: Path, mark: str) -> None:
    """JSON writes them as they are, and texts from the web are full of them."""
    rows = [{"prompt": f"one{mark}two"}, {"prompt": "three"}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    assert read_rows(write(tmp_path, "p.jsonl", *lines)) == rows


@pytest.mark.parametrize(
    "line",
    [
        f'{{"prompt": "{SECRET}"',
        f'"{SECRET}"',
        f'["{SECRET}"]',
        f'{{"text": "{SECRET}"}}',
        f'{{"prompt": ["{SECRET}"]}}',
        f'{{"prompt": "  ", "x": "{SECRET}"}}',
        json.dumps({"prompt": SECRET * 5000}),
    ],
)
def test_a_line_that_is_no_prompt_is_named_by_number_and_never_quoted(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, "p.jsonl", '{"prompt": "fine"}', "", line)
    with pytest.raises(ConfigError, match=r"line 3 of p\.jsonl") as caught:
        read_rows(path)
    assert SECRET not in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_file_that_cannot_be_read_is_named_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(SECRET.encode() + b"\xe9")
    for name in ("latin.txt", "missing.txt"):
        with pytest.raises(ConfigError, match=name) as caught:
            read_rows(tmp_path / name)
        assert SECRET not in caught.value.message
        assert str(tmp_path) not in caught.value.message


def test_a_file_without_prompts_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no prompts"):
        read_rows(write(tmp_path, "p.txt", "", "  "))


# A user's rows


def train_rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{**row, **more} for row in ROWS if part_of(row["prompt"]) == "train"][:count]


def test_labels_choose_the_rows() -> None:
    safe, unsafe = train_rows(2, label="safe"), train_rows(3, label="unsafe")
    assert len(corpus.user_benign(safe + unsafe, "train")) == 2
    assert len(corpus.user_unsafe(safe + unsafe, "train")) == 3


def test_sensitive_rows_are_taken_where_their_set_is_named() -> None:
    rows = train_rows(2, label="sensitive", set="my jailbreaks") + train_rows(
        1, label="sensitive", set="other"
    )
    assert corpus.user_unsafe(rows, "train") == []
    assert len(corpus.user_unsafe(rows, "train", ("jailbreak",))) == 2


def test_a_given_answer_is_the_targets_own() -> None:
    one, two = corpus.user_benign(
        train_rows(1, answer="Yes.") + train_rows(1, answer="Yes, and", finished=False), "train"
    )
    assert (one.answer, one.finished) == ("Yes.", True)
    assert (two.answer, two.finished) == ("Yes, and", False)


def test_a_goal_decides_the_part_of_all_its_variants() -> None:
    rows = [{"prompt": f"{n} tricks", "goal": "one goal", "target": "Sure"} for n in range(40)]
    found = [corpus.user_unsafe(rows, part) for part in PARTS]
    assert sorted(map(len, found)) == [0, 0, 40]
    assert {p.opening for part in found for p in part} == {"Sure"}


def test_an_empty_field_of_a_row_is_no_text() -> None:
    """Many tools write ``null`` where there is nothing."""
    (prompt,) = train_rows(1, target=None, goal=None, set=None)
    found = [p for part in PARTS for p in corpus.user_unsafe([prompt], part)]
    assert [p.opening for p in found] == [""]


# Wrappers and openings


def test_wrapped_prompts_hold_the_whole_request_once() -> None:
    prompts = corpus.user_benign(ROWS, "train")
    found = corpus.wrapped(prompts, 50, seed=1)
    assert len(found) == 50
    for one in found:
        assert one.kind == "wrapped"
        assert sum(p.messages[0].content in one.messages[0].content for p in prompts) >= 1
        assert "{request}" not in one.messages[0].content


def test_conversations_are_not_wrapped() -> None:
    long = BenignPrompt(
        (ChatMessage("user", "a"), ChatMessage("assistant", "b"), ChatMessage("user", "c")), "turns"
    )
    assert corpus.wrapped([long], 5, seed=1) == []


def test_a_request_with_braces_is_wrapped_as_it_is() -> None:
    assert "{a} {request}" in corpus.wrap("{a} {request}", random.Random(0))


def test_no_more_is_opened_than_there_is() -> None:
    prompts = corpus.user_benign(ROWS[:20], "train")
    found = corpus.opened(prompts, 1000, "train", seed=1)
    assert len(found) == len(prompts)
    assert texts(found) == texts(prompts)


def test_a_share_of_unsafe_prompts_gets_an_opening_and_an_attackers_own_stays() -> None:
    prompts = [UnsafePrompt(str(n), "k", "mine" if n % 4 == 0 else "") for n in range(400)]
    found = corpus.with_openings(prompts, 0.5, seed=1)
    assert [p.text for p in found] == [p.text for p in prompts]
    assert all(p.opening == "mine" for p in found[::4])
    given = [bool(p.opening) for n, p in enumerate(found) if n % 4]
    assert sum(given) / len(given) == pytest.approx(0.5, abs=0.1)
    assert corpus.with_openings(prompts, 0.5, seed=1) == found
    assert not any(p.opening for p in corpus.with_openings(prompts, 0.0, seed=1)[1::4])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.33, 0.5, 1.0])
def test_a_share_of_our_own_texts_is_spread_over_all_of_them(share: float) -> None:
    some = corpus.part_of_ours(list(range(200)), share)
    assert len(some) == round(200 * share)
    assert some == sorted(set(some))
    if share == 0.1:
        assert max(some) >= 180
    if share == 1:
        assert some == list(range(200))
