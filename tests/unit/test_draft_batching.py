"""Batches of little padding: every example once, no batch beyond the budget."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from langchain_ssd.drafts.batching import MAX_PADDING, pack_batches, pad, padding_share

LENGTHS = st.lists(st.integers(1, 500), max_size=80)
BUDGETS = st.integers(1, 3000)


@given(LENGTHS, BUDGETS, st.booleans())
def test_every_example_is_in_exactly_one_batch(lengths: list[int], budget: int, shuffled: bool) -> None:
    batches = pack_batches(lengths, budget, random.Random(0) if shuffled else None)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))


@given(LENGTHS, BUDGETS)
def test_no_batch_is_beyond_the_budget_but_one_long_example(lengths: list[int], budget: int) -> None:
    for batch in pack_batches(lengths, budget):
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


@given(LENGTHS, BUDGETS)
def test_at_most_fifteen_percent_of_a_batch_is_padding(lengths: list[int], budget: int) -> None:
    assert MAX_PADDING <= 0.15
    batches = pack_batches(lengths, budget)
    for batch in batches:
        assert padding_share([lengths[i] for i in batch], [range(len(batch))]) <= 0.15 + 1e-12
    assert padding_share(lengths, batches) <= 0.15 + 1e-12


@given(st.integers(1, 50), st.integers(1, 40), st.integers(1, 20))
def test_equal_lengths_fill_the_budget(length: int, count: int, rows: int) -> None:
    batches = pack_batches([length] * count, rows * length)
    assert len(batches) == -(-count // rows)


def test_a_generator_shuffles_the_batches_and_repeats_them() -> None:
    lengths = list(range(1, 200))
    plain = pack_batches(lengths, 300)
    one, two = (pack_batches(lengths, 300, random.Random(1)) for _ in range(2))
    assert one == two != plain
    assert sorted(one) == sorted(plain)


def test_batches_are_ordered_by_length_without_a_generator() -> None:
    lengths = [2, 100, 50, 4, 99]
    assert pack_batches(lengths, 1000) == [[1, 4], [2], [3], [0]]


def test_rows_are_padded_on_the_right_with_zeros() -> None:
    padded = pad([[5, 6, 7], [8]])
    assert padded.ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert padded.lengths == [3, 1]


def test_the_padding_share_counts_positions() -> None:
    assert padding_share([4, 2, 1], [[0, 1], [2]]) == 1 - 7 / 9
    assert padding_share([], []) == 0.0
