"""Weights in the kernels' order: the same function as the plain layers, and those wherever there is doubt."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import nn

from langchain_ssd.engine import prepack as module
from langchain_ssd.engine.loading import load_model
from langchain_ssd.engine.prepack import PrepackedLinear, prepack

from .loading_helpers import Specs, load

supported = pytest.mark.skipif(not module._supported(), reason="no bfloat16 kernels on this machine")


def linears(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.Linear | PrepackedLinear)]


@supported
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 64), (3, 5, 64), (200, 64), (64,)])
def test_a_layer_computes_what_the_plain_one_does(bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    plain = nn.Linear(64, 96, bias=bias, dtype=torch.bfloat16).requires_grad_(False)
    x = torch.randn(shape, dtype=torch.bfloat16)
    with torch.inference_mode():
        ours, theirs = PrepackedLinear(plain)(x), plain(x)
    assert ours.shape == theirs.shape
    assert ours.dtype == torch.bfloat16
    # In float64 the sum is known; ours is within a rounding of it.
    exact = nn.functional.linear(x.double(), plain.weight.double(), plain.bias.double() if bias else None)
    assert (ours.double() - exact).abs().max() <= 2**-7 * exact.abs().max()
    assert torch.equal(PrepackedLinear(plain).weight, plain.weight)


@supported
def test_a_model_keeps_its_function_and_lets_its_plain_weights_go(saved: Specs) -> None:
    plain = load_model(saved[0].model_copy(update={"dtype": "bfloat16"}))
    packed = copy.deepcopy(plain)
    count = len(linears(plain))
    assert prepack(packed) == count > 3
    assert all(isinstance(m, PrepackedLinear) for m in linears(packed))
    assert not any("proj" in name for name, _ in packed.named_parameters())
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        ours, theirs = packed(input_ids=ids).logits.float(), plain(input_ids=ids).logits.float()
    assert (ours - theirs).abs().max() <= 2**-5 * theirs.abs().max()
    assert prepack(packed) == 0


@supported
def test_a_pair_is_prepacked_unless_the_user_does_not_want_it(saved: Specs) -> None:
    specs = [spec.model_copy(update={"dtype": "bfloat16"}) for spec in saved]
    for wanted in (True, False):
        pair = load(*specs, prepack=wanted)
        for side in (pair.target, pair.draft):
            assert {isinstance(m, PrepackedLinear) for m in linears(side.model.model)} == {wanted}


def test_other_precisions_and_other_kinds_of_layers_stay(saved: Specs) -> None:
    class Other(nn.Linear):
        pass

    assert prepack(nn.Sequential(Other(8, 8, dtype=torch.bfloat16), nn.Linear(8, 8))) == 0
    for dtype in ("float32", "float64", "float16"):
        assert prepack(load_model(saved[0].model_copy(update={"dtype": dtype}))) == 0


@pytest.mark.parametrize("doubt", ["_supported", "_agrees"])
def test_in_doubt_the_plain_layers_stay(doubt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, doubt, lambda *_: False)
    model = nn.Sequential(nn.Linear(8, 8, dtype=torch.bfloat16))
    assert prepack(model) == 0
    assert type(model[0]) is nn.Linear


@supported
def test_every_layer_is_looked_at_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([True, True, False])  # the second layer, which has the shape of the first, does not agree
    monkeypatch.setattr(module, "_agrees", lambda *_: next(answers))
    model = nn.Sequential(*(nn.Linear(8, 8, dtype=torch.bfloat16) for _ in range(2)))
    assert prepack(model) == 1
    assert [type(m) for m in model] == [PrepackedLinear, nn.Linear]


@supported
def test_a_layer_that_gives_something_else_is_found_out() -> None:
    right, wrong = (nn.Linear(64, 64, dtype=torch.bfloat16).requires_grad_(False) for _ in range(2))
    assert module._agrees(right, PrepackedLinear(right), 3)
    assert not module._agrees(right, PrepackedLinear(wrong), 3)


@supported
def test_a_kernel_that_fails_leaves_the_plain_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: PrepackedLinear, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(PrepackedLinear, "forward", broken)
    model = nn.Sequential(nn.Linear(8, 8, dtype=torch.bfloat16))
    assert prepack(model) == 0
    assert type(model[0]) is nn.Linear


@supported
def test_a_layer_with_a_hook_or_a_forward_of_its_own_stays() -> None:
    hooked, replaced = (nn.Linear(8, 8, dtype=torch.bfloat16) for _ in range(2))
    hooked.register_forward_hook(lambda *_: None)
    replaced.forward = lambda x: 2 * x  # type: ignore[method-assign]
    assert prepack(nn.Sequential(hooked, replaced)) == 0


@supported
def test_plain_weights_are_gone_before_the_next_layer_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(*(nn.Linear(8, 8, dtype=torch.bfloat16).requires_grad_(False) for _ in range(3)))
    alive = [weakref.ref(layer) for layer in model]
    counts = []
    packed = module._packed

    def counting(linear: nn.Linear) -> PrepackedLinear | None:
        counts.append(sum(ref() is not None for ref in alive))
        return packed(linear)

    monkeypatch.setattr(module, "_packed", counting)
    assert prepack(model) == 3
    assert counts[-1] < 3


@supported
def test_a_prepacked_model_can_be_copied() -> None:
    model = nn.Sequential(nn.Linear(64, 64, dtype=torch.bfloat16).requires_grad_(False))
    prepack(model)
    x = torch.ones(2, 64, dtype=torch.bfloat16)
    assert torch.equal(copy.deepcopy(model)(x), model(x))
