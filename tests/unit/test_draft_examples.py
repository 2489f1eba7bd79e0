"""Unsafe requests become refusals at any depth of an answer."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from langchain_ssd.drafts.examples import Example, RefusalMaker, UnsafeRequest
from langchain_ssd.drafts.refusals import OPENINGS

from .draft_helpers import END, tiny_teacher

TEACHER = tiny_teacher()
ENCODE, DECODE = TEACHER.renderer.encode, TEACHER.renderer.tokenizer.decode


def maker(depth: int = 100, wrapped: float = 0.0) -> RefusalMaker:
    return RefusalMaker(ENCODE, DECODE, END, depth, wrapped)


def request(harmful: str = "", name: str = "Do the thing.") -> UnsafeRequest:
    return UnsafeRequest(name, tuple(ENCODE(name)), ((7, 7, 7), (8, 8)), tuple(ENCODE(harmful)))


def made(one: UnsafeRequest, count: int, deep: bool = True, **options: float) -> list[Example]:
    rng = random.Random(1)
    return [maker(**options).make(one, deep, rng) for _ in range(count)]  # type: ignore[arg-type]


def beginning(example: Example, one: UnsafeRequest) -> tuple[int, ...]:
    return example.ids[len(one.prompt) : example.start]


def test_half_of_the_examples_have_a_harmful_beginning() -> None:
    requests = [request("Sure, first you"), request("Of course."), request()]
    rng = random.Random(0)
    drawn = [maker().draw(requests, rng) for _ in range(2000)]
    deep = sum(e.start > len(requests[0].prompt) for e in drawn)
    assert deep / len(drawn) == pytest.approx(0.5, abs=0.05)


def test_requests_without_a_beginning_are_refused_at_the_start() -> None:
    rng = random.Random(0)
    only = request()
    assert all(maker().draw([only], rng).start == len(only.prompt) for _ in range(50))


@pytest.mark.parametrize(("depth", "length", "most"), [(100, 12, 12), (5, 12, 5), (100, 130, 100)])
def test_a_beginning_is_one_to_depth_tokens_of_the_harmful_answer(depth: int, length: int, most: int) -> None:
    one = request("abcdefghij" * (length // 10) + "kl" * (length % 10 // 2))
    cuts = [beginning(e, one) for e in made(one, 40 * most, depth=depth)]
    assert all(cut == one.harmful[: len(cut)] for cut in cuts)
    counts = Counter(len(cut) for cut in cuts)
    assert set(counts) == set(range(1, most + 1))
    assert max(counts.values()) < 120  # uniform: 40 are expected of each


def test_the_loss_begins_with_the_refusal() -> None:
    one = request("Sure, first you")
    for example in [*made(one, 100), *made(one, 100, deep=False)]:
        assert DECODE(list(example.ids[example.start : -1])).lstrip(" ").startswith(OPENINGS)
        assert example.refusal


def test_every_example_ends_with_the_end_token_and_only_there() -> None:
    for example in made(request("Sure, first you"), 100):
        assert example.ids[-1] == END
        assert example.ids.count(END) == 1


@pytest.mark.parametrize(("harmful", "gap"), [("First", " "), ("First\n", ""), ("First ", "")])
def test_a_space_stands_between_an_unfinished_beginning_and_the_refusal(harmful: str, gap: str) -> None:
    one = request(harmful)
    for example in made(one, 100):
        text = DECODE(list(example.ids[example.start : -1]))
        whole = len(beginning(example, one)) == len(harmful)
        assert text.startswith(" ") == ((gap if whole else " ") == " ")


def test_a_refusal_at_the_start_has_no_space_before_it() -> None:
    for example in made(request("Sure"), 50, deep=False):
        assert DECODE(list(example.ids[example.start : -1])).startswith(OPENINGS)


def test_the_recipes_share_of_requests_is_in_a_wrapper() -> None:
    one = request()
    examples = made(one, 1000, deep=False, wrapped=0.3)
    inside = [e for e in examples if e.ids[: e.start] != one.prompt]
    assert {e.ids[: e.start] for e in inside} == set(one.wrapped)
    assert len(inside) / len(examples) == pytest.approx(0.3, abs=0.05)


def test_a_request_without_wrappers_stays_plain() -> None:
    one = UnsafeRequest("Do it.", (5, 6), (), ())
    assert all(e.ids[: e.start] == (5, 6) for e in made(one, 20, wrapped=1.0))


def test_a_seed_repeats_the_examples() -> None:
    one = request("Sure, first you")
    assert made(one, 20, wrapped=0.5) == made(one, 20, wrapped=0.5)
    assert len({e.ids for e in made(one, 20)}) > 10
