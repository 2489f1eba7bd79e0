"""Tensors → few bytes and back: float16, or integers of 8 or 4 bits in groups that share a scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Encoding = Literal["int4", "int8", "float16"]
GROUP = 64
"""Numbers that share one float16 scale."""
_LEVELS = {"int8": 127, "int4": 7}
_SHRINK = (1.0, 0.9, 0.8, 0.7)
"""Shares of the greatest magnitude that a scale may cover: clipping a few numbers can save the others."""


def pack(name: str, tensor: Tensor, encoding: Encoding) -> dict[str, Tensor]:
    """Encode one tensor.

    Args:
        name: the parts' names begin with it.
        tensor: any shape; flattened, it is cut into groups of ``GROUP``.
        encoding: symmetric, rounded to nearest; every group takes the scale with the least squared error.

    Returns:
        ``name.f16``, or ``name.q8`` / ``name.q4`` (two numbers a byte) with ``name.scale``.
    """
    if encoding == "float16":
        return {f"{name}.f16": tensor.half().contiguous()}
    groups = _groups(tensor.detach().float().cpu())  # (G, GROUP)
    levels = _LEVELS[encoding]
    q, scale = _quantise(groups, levels)
    if encoding == "int8":
        return {f"{name}.q8": q.to(torch.int8), f"{name}.scale": scale}
    nibbles = (q + 8).to(torch.uint8)
    return {f"{name}.q4": nibbles[:, 0::2] | (nibbles[:, 1::2] << 4), f"{name}.scale": scale}


def unpack(name: str, parts: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
    """Decode one tensor to float32.

    Raises:
        KeyError: no part has this name.
        ValueError: the parts hold another number of values.
    """
    if f"{name}.f16" in parts:
        return _shaped(parts[f"{name}.f16"].float(), shape)
    scale = parts[f"{name}.scale"].float().unsqueeze(1)  # (G, 1)
    if f"{name}.q8" in parts:
        return _shaped(parts[f"{name}.q8"].float() * scale, shape)
    packed = parts[f"{name}.q4"]
    q = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(1).float() - 8  # (G, GROUP)
    return _shaped(q * scale, shape)


def _groups(tensor: Tensor) -> Tensor:
    flat = tensor.flatten()
    return torch.nn.functional.pad(flat, (0, -len(flat) % GROUP)).view(-1, GROUP)


def _quantise(groups: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    greatest = groups.abs().amax(dim=1)
    best_q, best_scale = torch.zeros_like(groups), torch.zeros_like(greatest).half()
    best_error = torch.full_like(greatest, torch.inf)
    for share in _SHRINK:
        scale = (greatest * share / levels).half()
        divisor = torch.where(scale > 0, scale.float(), 1.0).unsqueeze(1)
        q = (groups / divisor).round().clamp(-levels, levels)
        error = (q * scale.float().unsqueeze(1) - groups).square().sum(dim=1)
        better = error < best_error
        best_q = torch.where(better.unsqueeze(1), q, best_q)
        best_scale = torch.where(better, scale, best_scale)
        best_error = torch.where(better, error, best_error)
    return best_q, best_scale


def _shaped(values: Tensor, shape: torch.Size) -> Tensor:
    wanted, found = shape.numel(), values.numel()
    if not wanted <= found < wanted + GROUP:
        raise ValueError(f"{found} values for {wanted}")
    return values.flatten()[:wanted].view(shape)
