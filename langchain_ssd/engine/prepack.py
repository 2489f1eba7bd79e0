"""Weights of linear layers in the order in which the CPU's kernels read them, made once at loading.

PyTorch's bfloat16 kernels on a CPU (oneDNN) sort a layer's weights anew for every call, which for the few
positions of a decoding pass costs as much as the multiplication. TorchInductor does the same when it freezes
a model; here it needs no compiler and works for any architecture, as only the layers are exchanged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_ROWS = 1  # the number of positions that the order is best for; others are right too, and hardly slower
_TRIED = (3, 64)  # rows of the check: as in decoding, and as in reading a prompt
_TOLERANCE = 2**-6  # of the greatest output: two bfloat16 roundings of the same sum


class PrepackedLinear(nn.Module):
    """A linear layer whose weights only its kernel can read: for inference, on the CPU, in bfloat16.

    It cannot be moved, cast or saved; load the model without prepacking for that.

    Args:
        linear: the layer to replace: bfloat16, on a CPU.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self._packed = _kernel("_reorder_linear_weight")(linear.weight.detach(), _ROWS)

    def __deepcopy__(self, memo: dict[int, Any]) -> PrepackedLinear:
        """Itself: what cannot be written may be shared, and the kernel's tensors have no copy."""
        return self

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

    The plain weights are let go layer by layer, unless they are also an embedding.

    Args:
        model: in evaluation mode, without gradients.

    Returns:
        how many layers were exchanged.
    """
    if not _supported():
        return 0
    # Names alone: a list of the layers would hold all plain weights until the last one is packed.
    places = [(parent, name) for parent in model.modules() for name in parent._modules]  # noqa: SLF001
    exchanged = 0
    for parent, name in places:
        linear = getattr(parent, name)
        packed = _packed(linear) if _is_plain(linear) else None
        if packed is not None:
            setattr(parent, name, packed)
            exchanged += 1
    return exchanged


def _is_plain(layer: Any) -> bool:
    """Whether it is a bfloat16 layer on the CPU that computes what its class says, and nothing else.

    What derives from the class, wraps its weights or replaces its forward (quantisation, adapters) does not.
    """
    weight: Any = getattr(layer, "weight", None)
    if type(layer) is not nn.Linear or type(weight) is not nn.Parameter:
        return False
    hooks = layer._forward_hooks or layer._forward_pre_hooks  # noqa: SLF001
    return not hooks and "forward" not in vars(layer) and weight.dtype == torch.bfloat16 and weight.is_cpu


def _packed(linear: nn.Linear) -> PrepackedLinear | None:
    """The layer in the kernel's order, or nothing if the kernel fails or gives something else."""
    try:
        packed = PrepackedLinear(linear)
        return packed if all(_agrees(linear, packed, rows) for rows in _TRIED) else None
    except (RuntimeError, TypeError):  # a kernel that is there and cannot: another build, processor or shape
        return None


def _supported() -> bool:
    """Whether the kernels are there; they are no public interface, so nothing else is taken for granted."""
    wanted = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    available: Any = torch.backends.mkldnn.is_available
    there = available() and all(hasattr(torch.ops.mkldnn, name) for name in wanted)
    return there and bool(_kernel("_is_mkldnn_bf16_supported")())


def _kernel(name: str) -> Any:
    return getattr(torch.ops.mkldnn, name)


@torch.inference_mode()
def _agrees(linear: nn.Linear, packed: PrepackedLinear, rows: int) -> bool:
    """Whether both give the same for so many positions, but for the rounding of their results."""
    wave = torch.arange(rows * linear.in_features, dtype=torch.float32).sin()
    x = wave.view(1, rows, -1).to(torch.bfloat16)
    plain, ours = linear(x).float(), packed(x).float()
    return bool((plain - ours).abs().max() <= _TOLERANCE * plain.abs().max())
