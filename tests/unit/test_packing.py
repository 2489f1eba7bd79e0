"""Weights in few bits come back close, whole, and only in the shape they had."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_ssd.engine.packing import GROUP, Encoding, pack, unpack

ERRORS: dict[Encoding, float] = {"float16": 1e-3, "int8": 0.01, "int4": 0.16}


@pytest.mark.parametrize("encoding", list(ERRORS))
@settings(deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 150), seed=st.integers(0, 99))
def test_relative_error_is_small_for_any_shape(
    encoding: Encoding, rows: int, columns: int, seed: int
) -> None:
    tensor = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    back = unpack("w", pack("w", tensor, encoding), tensor.shape)
    assert back.shape == tensor.shape
    assert float((back - tensor).norm()) <= ERRORS[encoding] * float(tensor.norm()) + 1e-6


@pytest.mark.parametrize(("encoding", "bits"), [("int4", 4.25), ("int8", 8.25), ("float16", 16.0)])
def test_bytes_per_number(encoding: Encoding, bits: float) -> None:
    tensor = torch.randn(64, GROUP)
    size = sum(p.numel() * p.element_size() for p in pack("w", tensor, encoding).values())
    assert size * 8 / tensor.numel() == bits


@pytest.mark.parametrize("encoding", list(ERRORS))
def test_zeros_stay_zeros(encoding: Encoding) -> None:
    zeros = torch.zeros(3, 70)
    assert torch.equal(unpack("w", pack("w", zeros, encoding), zeros.shape), zeros)


def test_whole_numbers_within_the_levels_are_exact() -> None:
    tensor = torch.arange(-7, 8).float().repeat(4)[:GROUP].view(1, -1)
    assert torch.equal(unpack("w", pack("w", tensor, "int4"), tensor.shape), tensor)


def test_another_shape_is_refused() -> None:
    parts = pack("w", torch.randn(4, 64), "int4")
    with pytest.raises(ValueError, match="256 values for 512"):
        unpack("w", parts, torch.Size((8, 64)))
    with pytest.raises(KeyError):
        unpack("other", parts, torch.Size((4, 64)))
