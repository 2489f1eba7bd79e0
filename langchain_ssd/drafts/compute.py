"""How a draft's arithmetic is done on this machine: in which numbers, compiled or not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .recipe import DraftRecipe

_LONG = 500_000  # tokens from which compiling pays


def wants_bfloat16(recipe: DraftRecipe, device: torch.device) -> bool:
    """Whether the network is held in bfloat16 while it is trained."""
    return recipe.precision == "bfloat16" or (recipe.precision == "auto" and has_fast_bfloat16(device))


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are faster than in float32: emulated ones are many times slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known: Callable[[], bool] = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return device.type == "cpu" and bool(known())


def halve(model: Any) -> None:
    """Hold a network's parameters in bfloat16, and nothing else.

    ``model.to(torch.bfloat16)`` would round the frequencies of its positions as well, which no loader does.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)


def prepare_layers(model: Any, recipe: DraftRecipe) -> None:
    """Make a network's layers quick to train.

    On a CPU plain attention is used: the backward pass of torch's fused one takes a third of a step there.
    """
    if next(iter(model.parameters())).device.type == "cpu":
        model.set_attn_implementation("eager")
    long = recipe.compile == "auto" and recipe.tokens >= _LONG and can_compile()
    if recipe.compile == "on" or long:
        for layer in model.get_decoder().layers:  # one by one: all share one piece of compiled code
            layer.compile(dynamic=True)


def can_compile() -> bool:
    """Whether there is a compiler that torch can use for a CPU."""
    return any(shutil.which(name) for name in ("g++", "c++", "clang++"))


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run without compiled code: caches and single tokens would only make it compile again and again."""
    with torch.compiler.set_stance("force_eager"):
        yield
