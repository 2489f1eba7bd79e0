"""Weights of linear layers in the order in which the CPU's kernels read them, made once at loading.

PyTorch's bfloat16 kernels on a CPU (oneDNN) sort a layer's weights anew for every call, which for the few
positions of a decoding pass costs as much as the multiplication. TorchInductor does the same when it freezes
a model; here it needs no compiler and works for any architecture, as only the layers are exchanged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as plain_linear

_ROWS = 1  # the number of positions that the order is best for; others are right too, and hardly slower
_TOLERANCE = 2**-6  # of the greatest output: two bfloat16 roundings of the same sum


class PrepackedLinear(nn.Module):
    """A linear layer whose weights only its kernel can read.

    Args:
        linear: the layer to replace: bfloat16, on a CPU.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self._packed = _kernel("_reorder_linear_weight")(linear.weight.detach(), _ROWS)

    @property
    def weight(self) -> Tensor:
        """A copy of the weights ``(out, in)`` in plain order; writing to it changes nothing."""
        plain: Tensor = self._packed.to_dense()
        return plain

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in)`` to ``(..., out)``."""
        out: Tensor = _kernel("_linear_pointwise")(x, self._packed, self.bias, "none", [], "")
        return out

    def extra_repr(self) -> str:
        """As ``nn.Linear`` tells it."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def prepack(model: nn.Module) -> int:
    """Exchange a model's bfloat16 linear layers on the CPU, where this PyTorch and processor can.

    The plain weights are let go layer by layer, unless they are also an embedding. A layer whose outputs
    differ from the plain one's stays as it is.

    Args:
        model: in evaluation mode, without gradients.

    Returns:
        how many layers were exchanged.
    """
    if not _supported():
        return 0
    trusted: dict[tuple[int, int], bool] = {}
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        # Exactly this class: what derives from it (quantised layers, adapters) computes something else.
        if type(child) is nn.Linear and child.weight.dtype == torch.bfloat16 and child.weight.is_cpu
    ]
    exchanged = 0
    for parent, name, linear in places:
        packed = PrepackedLinear(linear)
        shape = (linear.in_features, linear.out_features)
        if trusted.setdefault(shape, _agrees(linear, packed)):
            setattr(parent, name, packed)
            exchanged += 1
    return exchanged


def _supported() -> bool:
    """Whether the kernels are there; they are no public interface, so nothing else is taken for granted."""
    wanted = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    available: Any = torch.backends.mkldnn.is_available
    there = available() and all(hasattr(torch.ops.mkldnn, name) for name in wanted)
    return there and bool(_kernel("_is_mkldnn_bf16_supported")())


def _kernel(name: str) -> Any:
    return getattr(torch.ops.mkldnn, name)


@torch.inference_mode()
def _agrees(linear: nn.Linear, packed: PrepackedLinear) -> bool:
    """Both on the same three positions."""
    wave = torch.arange(3 * linear.in_features, dtype=torch.float32).sin()
    x = wave.view(1, 3, -1).to(torch.bfloat16)
    plain, ours = plain_linear(x, linear.weight, linear.bias).float(), packed(x).float()
    return bool((plain - ours).abs().max() <= _TOLERANCE * plain.abs().max())
