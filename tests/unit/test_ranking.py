"""The top of a row is that of a stable sort: greatest first, the lower id among equals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_ssd.decoding.ranking import top


def naive(row: list[float], k: int) -> list[int]:
    return sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]


def make(kind: str, shape: tuple[int, int], seed: int, dtype: torch.dtype) -> torch.Tensor:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if kind == "rounded":  # a handful of distinct values
        x = (x * 6).round() / 6
    elif kind == "sparse":  # mostly zeros, as after top-p
        x = x * (x > 0.97)
    elif kind == "constant":
        x = torch.full(shape, 0.25, dtype=torch.float64)
    elif kind == "denormal":
        x = (x * 4).round() * 1e-44
    return x.to(dtype)


widths = st.one_of(st.integers(1, 200), st.integers(120, 6000), st.sampled_from([64, 128, 129, 4096, 4097]))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    st.sampled_from(["random", "rounded", "sparse", "constant", "denormal"]),
    widths,
    st.integers(1, 40),
    st.integers(0, 10**6),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_equals_a_stable_sort(kind: str, V: int, k: int, seed: int, dtype: torch.dtype) -> None:
    k = min(k, V)
    p = make(kind, (2, V), seed, dtype)
    values, ids = top(p, k)
    assert values.dtype == dtype
    assert ids.tolist() == [naive(row, k) for row in p.tolist()]
    assert torch.equal(values, p.gather(1, ids))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("V", [1, 63, 64, 65, 8191, 8193])
def test_all_zero_rows_give_the_first_ids(V: int, dtype: torch.dtype) -> None:
    k = min(V, 32)
    values, ids = top(torch.zeros(3, V, dtype=dtype), k)
    assert ids.tolist() == [list(range(k))] * 3
    assert not values.any()


def test_the_short_last_block_competes() -> None:
    V = 64 * 100 + 3
    p = torch.zeros(1, V)
    p[0, V - 1], p[0, V - 3], p[0, 70] = 0.5, 0.5, 0.4
    assert top(p, 5)[1].tolist() == [[V - 3, V - 1, 70, 0, 1]]


def test_equal_block_maxima_prefer_the_lower_block() -> None:
    p = torch.full((1, 64 * 50), 0.1)
    p[0, 63::64] = 0.2  # the greatest of every block, at its end
    assert top(p, 3)[1].tolist() == [[63, 127, 191]]


@pytest.mark.parametrize("V", [32 * 129, 32 * 1571, 64 * 65, 16 * 257, 128 * 33 + 1])
@pytest.mark.parametrize("k", [1, 2, 10])
def test_widths_that_some_block_sizes_divide(V: int, k: int) -> None:
    for kind in ("random", "rounded"):
        p = make(kind, (1, V), 1, torch.float32)
        p[0, V - 1] = 2.0
        assert top(p, k)[1].tolist() == [naive(row, k) for row in p.tolist()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_rows_can_be_ranked(dtype: torch.dtype) -> None:
    p = make("rounded", (2, 300), 3, dtype)
    assert top(p, 300)[1].tolist() == [naive(row, 300) for row in p.tolist()]


@pytest.mark.parametrize("k", [1, 8])
def test_strided_rows_are_read_right(k: int) -> None:
    whole = make("rounded", (6000, 4), 5, torch.float32)
    for p in (whole.t(), whole.t()[:, ::2], whole.t()[1:3, 7:]):
        assert top(p, k)[1].tolist() == [naive(row, k) for row in p.tolist()]


def test_the_first_of_many_equals_comes_first() -> None:
    p = torch.full((1, 50_000), 1 / 50_000)
    assert top(p, 1)[1].tolist() == [[0]]
    p[0, 17] = p[0, 49_999] = 0.3
    assert top(p, 3)[1].tolist() == [[17, 49_999, 0]]
