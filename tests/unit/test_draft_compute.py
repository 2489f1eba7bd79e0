"""Training in bfloat16: master weights stay in float32, and the network is a rounded copy of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from langchain_ssd.drafts import checkpoint
from langchain_ssd.drafts.training import Trainer

from .draft_helpers import finished, trainer


def half(**changes: Any) -> Trainer:
    return trainer(precision="bfloat16", **changes)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_network_is_the_rounded_master_after_every_step(method: str) -> None:
    one = half(method=method, rank=4)
    for _ in range(3):
        one.step()
        network = dict(one.model.named_parameters())
        assert {w.dtype for w in one.weights.values()} == {torch.float32}
        assert {p.dtype for p in network.values()} == {torch.bfloat16}
        assert all(torch.equal(w.bfloat16(), network[n]) for n, w in one.weights.items())


def test_steps_too_small_for_bfloat16_add_up() -> None:
    one = half(learning_rate=1e-6)
    before = {n: w.detach().clone() for n, w in one.weights.items()}
    finished(one)
    assert all(not torch.equal(w, before[n]) for n, w in one.weights.items())


def test_positions_keep_their_exact_frequencies() -> None:
    """Rounded frequencies turn far positions by whole radians: the draft would learn other positions."""
    exact = trainer(precision="float32").model.model.rotary_emb.inv_freq
    rounded = half().model.model.rotary_emb.inv_freq
    assert torch.equal(rounded.float(), exact)


def test_losses_are_near_those_in_float32() -> None:
    a, b = half(tokens=600).run(), trainer(tokens=600).run()
    for one, two in zip(a, b, strict=True):
        assert one.benign_loss == pytest.approx(two.benign_loss, rel=0.1)
        assert one.refusal_loss == pytest.approx(two.refusal_loss, rel=0.1)


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = half()
    expected = finished(whole)
    first = half()
    first.step(), first.step()
    checkpoint.save(first, tmp_path)
    again = half()
    assert checkpoint.restore(again, tmp_path)
    found = finished(again)
    assert all(torch.equal(found[n], p) for n, p in expected.items())
    assert all(torch.equal(again.weights[n], w) for n, w in whole.weights.items())


def test_a_restored_network_is_that_of_the_checkpoint_before_any_step(tmp_path: Path) -> None:
    first = half()
    first.step()
    checkpoint.save(first, tmp_path)
    again = half()
    checkpoint.restore(again, tmp_path)
    theirs = dict(first.model.named_parameters())
    assert all(torch.equal(p, theirs[n]) for n, p in again.model.named_parameters())


def test_in_float32_there_is_one_copy_of_the_weights() -> None:
    one = trainer()
    network = dict(one.model.named_parameters())
    assert all(w is network[n] for n, w in one.weights.items())
