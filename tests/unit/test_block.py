"""The buffers of a step: rows go in pass by pass, and come out in any choice, with what was drawn from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from langchain_ssd.config import Sampling
from langchain_ssd.decoding.evidence import rows
from langchain_ssd.engine.block import RowStore
from langchain_ssd.engine.penalties import Penalties

V = 9


def logits(n: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def owner(**sampling: Any) -> Any:
    """What the store needs to know of a sequence."""
    return SimpleNamespace(penalties=Penalties(Sampling(**sampling), [], [], V))


def filled(*passes: torch.Tensor, qs: tuple[torch.Tensor | None, ...] = ()) -> RowStore:
    store = RowStore(torch.float64)
    store.reserve(sum(len(p) for p in passes), passes[0])
    for i, new in enumerate(passes):
        store.add(new, [owner()] * len(new), [[]] * len(new))
        if qs:
            store.keep_q(qs[i], range(len(new)))
    return store


@pytest.mark.parametrize("numbers", [[0], [4], [0, 1, 2, 3, 4], [1, 2, 3], [0, 2, 4], [2, 3]])
def test_any_rows_can_be_read(numbers: list[int]) -> None:
    a, b, c = logits(2, 0), logits(1, 1), logits(2, 2)
    got, q = filled(a, b, c).read(numbers, torch.device("cpu"))
    want = rows(torch.cat([a, b, c])[numbers])
    assert q is None
    for name in ("logits", "probs", "best", "best_prob", "log_z", "finite"):
        assert torch.equal(getattr(got, name), getattr(want, name)), name
    assert got.exact is True


def test_the_models_own_logits_are_not_touched() -> None:
    raw = logits(2, 0)
    raw[0, 0] = float("-inf")
    before = raw.clone()
    store = RowStore(torch.float64)
    store.reserve(2, raw)
    store.add(raw, [owner(presence_penalty=1.0, logit_bias={1: 3.0})] * 2, [[4], []])
    assert torch.equal(raw, before)


def test_penalties_of_each_row_are_its_own_sequences() -> None:
    raw = logits(3, 0)
    store = RowStore(torch.float64)
    store.reserve(3, raw)
    biased = owner(logit_bias={2: 5.0}, frequency_penalty=1.0)
    made = store.add(raw, [owner(), biased, biased], [[], [], [7, 7]])
    expected = raw.clone()
    expected[1:, 2] += 5.0
    expected[2, 7] -= 2.0
    torch.testing.assert_close(made.logits, expected)
    torch.testing.assert_close(made.probs, expected.softmax(-1))


def test_what_was_drawn_from_is_read_beside_the_rows() -> None:
    a, b = logits(2, 0), logits(2, 1)
    sharp = torch.rand(2, V, dtype=torch.float64)
    for numbers in ([1, 2], [0, 3], [0, 1, 2, 3]):
        got, q = filled(a, b, qs=(None, sharp)).read(numbers, torch.device("cpu"))
        assert q is not None
        assert torch.equal(q, torch.cat([a.softmax(-1), sharp])[numbers])  # greedy rows: their own
        assert torch.equal(got.probs, torch.cat([a, b]).softmax(-1)[numbers])


def test_a_new_step_forgets_the_last() -> None:
    store = filled(logits(3, 0), qs=(torch.rand(3, V, dtype=torch.float64),))
    store.clear()
    assert store.count == 0
    new = logits(2, 5)
    store.reserve(2, new)
    store.add(new, [owner()] * 2, [[], []])
    store.keep_q(None, range(2))
    got, q = store.read([0, 1], torch.device("cpu"))
    assert q is None
    assert torch.equal(got.probs, new.softmax(-1))


@pytest.mark.parametrize("used", [torch.float32, torch.float64])
def test_room_grows_and_keeps_its_precision(used: torch.dtype) -> None:
    store = RowStore(used)
    for n, given in ((2, torch.float32), (5, torch.bfloat16), (3, torch.float16)):
        store.clear()
        new = logits(n, n, given)
        store.reserve(n, new)
        made = store.add(new, [owner()] * n, [[]] * n)
        assert made.probs.dtype == used
        torch.testing.assert_close(made.probs, new.to(used).softmax(-1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_penalties_count_in_half_precision(dtype: torch.dtype) -> None:
    """Rows are computed in float32 or better: a penalty must not be rounded away before that."""
    raw = torch.full((1, V), 20.0, dtype=dtype)
    store = RowStore(torch.float32)
    store.reserve(1, raw)
    made = store.add(raw, [owner(logit_bias={3: 0.004}, frequency_penalty=0.003)], [[2]])
    assert made.logits[0, 3].item() == pytest.approx(20.004, abs=1e-4)
    assert made.logits[0, 2].item() == pytest.approx(19.997, abs=1e-4)
