"""Drafts stored as differences to a base model: which of its layers stay, and what is added to their weights.

A full fine-tuning is stored as the difference of every trained tensor, an adapter as its two factors. The
file has the names of the pruned model's own parameters; anything else in it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import ModelNotFound
from .packing import Encoding, pack, unpack

WEIGHTS = "delta.safetensors"
_DOWN, _UP, _SUM = ".down", ".up", ".sum"


def keep_layers(model: Any, layers: Sequence[int]) -> None:
    """Remove all decoder layers but these, in place.

    Args:
        model: a causal LM of transformers whose decoder has a list ``layers``.
        layers: indices, ascending.
    """
    decoder = model.get_decoder()
    kept = [decoder.layers[i] for i in layers]
    for place, layer in enumerate(kept):
        for part in layer.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = place  # where the layer's keys and values lie in a cache
    decoder.layers = type(decoder.layers)(kept)
    config = model.config.get_text_config(decoder=True)
    config.num_hidden_layers = len(kept)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in layers]


def write_delta(
    folder: Path, sums: Mapping[str, Tensor], factors: Mapping[str, tuple[Tensor, Tensor]], encoding: Encoding
) -> int:
    """Write the differences; returns the file's size in bytes.

    Args:
        folder: where ``delta.safetensors`` goes.
        sums: what is added to a parameter, by its name.
        factors: ``(down (r, in), up (out, r))`` by the weight's name; ``up @ down`` is added to it.
        encoding: of all matrices; vectors are stored in float16.
    """
    parts: dict[str, Tensor] = {}
    for name, tensor in sums.items():
        parts |= pack(name + _SUM, tensor, encoding if tensor.ndim > 1 else "float16")
    for name, (down, up) in factors.items():
        rank = torch.tensor([down.shape[0]], dtype=torch.int32)
        parts |= pack(name + _DOWN, down, encoding) | pack(name + _UP, up, encoding) | {name + ".rank": rank}
    save_file({name: part.contiguous() for name, part in parts.items()}, folder / WEIGHTS)
    return (folder / WEIGHTS).stat().st_size


@torch.no_grad()
def apply_delta(model: Any, folder: Path) -> None:
    """Add the differences of a folder to a base model whose surplus layers are gone already.

    Raises:
        ModelNotFound: the file does not belong to this base.
    """
    wrong = ModelNotFound("the draft's differences do not fit its base model; train the draft again")
    try:
        parts = load_file(folder / WEIGHTS)
    except OSError:
        raise ModelNotFound("the draft's weights cannot be read; train or fetch the draft again") from None
    weights = dict(model.named_parameters())
    names = {part.rsplit(".", 2)[0] for part in parts if not part.endswith(".rank")}
    if not names or not names <= weights.keys():
        raise wrong
    for name in names:
        try:
            change = _change(name, parts, weights[name].shape)
        except (KeyError, ValueError, RuntimeError, IndexError):
            raise wrong from None
        weight = weights[name]
        weight.copy_((weight.float() + change.to(weight.device)).to(weight.dtype))


def read_factors(folder: Path, shapes: Mapping[str, torch.Size]) -> dict[str, tuple[Tensor, Tensor]]:
    """The factors ``(down (r, in), up (out, r))`` of an adapter's folder, in float32.

    Args:
        folder: written by :func:`write_delta`.
        shapes: of the base's weights, by name.

    Raises:
        ModelNotFound: the folder cannot be read or holds anything but factors for these weights.
    """
    wrong = ModelNotFound("the folder holds no adapter for this base; give one that train-draft made for it")
    try:
        parts = load_file(folder / WEIGHTS)
        names = {part.removesuffix(".rank") for part in parts if part.endswith(".rank")}
        if not names or {part.rsplit(".", 2)[0] for part in parts if not part.endswith(".rank")} != names:
            raise wrong
        return {name: _factors(name, parts, shapes[name]) for name in names}
    except (OSError, KeyError, ValueError, RuntimeError, IndexError):
        raise wrong from None


def _factors(name: str, parts: Mapping[str, Tensor], shape: torch.Size) -> tuple[Tensor, Tensor]:
    rank = int(parts[name + ".rank"].item())
    down = unpack(name + _DOWN, parts, torch.Size((rank, shape[1])))
    return down, unpack(name + _UP, parts, torch.Size((shape[0], rank)))


def _change(name: str, parts: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
    """What is added to one parameter, in float32."""
    if name + ".rank" not in parts:
        return unpack(name + _SUM, parts, shape)
    down, up = _factors(name, parts, shape)
    return up @ down
