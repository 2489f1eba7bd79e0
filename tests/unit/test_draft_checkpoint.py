"""Checkpoints: an interruption changes nothing, at whatever moment it comes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from langchain_ssd.drafts import checkpoint
from langchain_ssd.drafts.training import Progress, Trainer
from langchain_ssd.errors import ConfigError
from langchain_ssd.testing.tiny_pair import tiny_model

from .draft_helpers import finished, material, trainer


def interrupted(folder: Path, steps: int, **changes: Any) -> Trainer:
    """A run that was stopped after some steps and was then started anew."""
    first = trainer(**changes)
    for _ in range(steps):
        first.step()
    checkpoint.save(first, folder)
    first.step()  # what came after the checkpoint is lost
    second = trainer(**changes)
    assert checkpoint.restore(second, folder)
    assert second.progress.step == steps
    return second


def identical(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


@pytest.mark.parametrize(
    "changes", [{}, {"method": "lora", "rank": 4}, {"recover": 0.5, "weight_decay": 0.1}]
)
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_an_interrupted_run_ends_with_the_same_bits(
    steps: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    whole = trainer(**changes)
    expected = finished(whole)
    again = interrupted(tmp_path, steps, **changes)
    assert identical(finished(again), expected)
    assert (again.progress.step, again.progress.tokens) == (whole.progress.step, whole.progress.tokens)


def test_dropout_of_the_model_does_not_make_an_interrupted_run_another() -> None:
    """GPT-2 and OPT have dropout: it must be off, or its draws must follow from the step's number."""
    base = tiny_model("gpt2", dtype=torch.float32)
    one, two = (trainer(base, material(base)) for _ in range(2))
    torch.manual_seed(1)
    first = finished(one)
    torch.manual_seed(2)
    assert identical(finished(two), first)


def test_without_a_checkpoint_there_is_nothing_to_restore(tmp_path: Path) -> None:
    one = trainer()
    assert not checkpoint.restore(one, tmp_path)
    assert one.progress == Progress()


def test_another_recipe_in_the_same_folder_is_an_error(tmp_path: Path) -> None:
    checkpoint.save(trainer(), tmp_path)
    for other in ({"learning_rate": 2e-3}, {"seed": 5}, {"method": "lora"}):
        with pytest.raises(ConfigError, match="another recipe") as caught:
            checkpoint.restore(trainer(**other), tmp_path)
        assert str(tmp_path) not in caught.value.message


def test_a_run_may_be_given_more_tokens(tmp_path: Path) -> None:
    one = trainer()
    finished(one)
    checkpoint.save(one, tmp_path)
    longer = trainer(tokens=1500)
    assert checkpoint.restore(longer, tmp_path)
    finished(longer)
    assert longer.progress.step > one.progress.step


def test_a_checkpoint_is_replaced_whole(tmp_path: Path) -> None:
    one = trainer()
    for step in range(3):
        checkpoint.save(one, tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]
        state = json.loads((tmp_path / "checkpoint" / "state.json").read_text())
        assert state["progress"]["step"] == step
        one.step()


@pytest.mark.parametrize("torn", ["missing", "empty"])
def test_a_torn_checkpoint_falls_back_to_the_one_before(tmp_path: Path, torn: str) -> None:
    one = trainer()
    one.step()
    checkpoint.save(one, tmp_path)
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    if torn == "empty":
        (tmp_path / "checkpoint").mkdir()
    again = trainer()
    assert checkpoint.restore(again, tmp_path)
    assert again.progress.step == 1


def test_half_a_new_checkpoint_does_not_hide_the_last_one(tmp_path: Path) -> None:
    one = trainer()
    one.step()
    checkpoint.save(one, tmp_path)
    shutil.copytree(tmp_path / "checkpoint", tmp_path / "checkpoint.partial")
    (tmp_path / "checkpoint.partial" / "state.safetensors").write_bytes(b"half")
    again = trainer()
    assert checkpoint.restore(again, tmp_path)
    checkpoint.save(again, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("stop", range(5))
@pytest.mark.parametrize("only_old", [False, True])
def test_at_every_moment_of_saving_there_is_a_checkpoint(
    tmp_path: Path, stop: int, only_old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is killed before the n-th change to the folder; before that, perhaps, another one was."""
    one = trainer()
    one.step()
    checkpoint.save(one, tmp_path)
    if only_old:
        (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    one.step()
    left = stop

    def killed(change: Any) -> Any:
        def run(*args: Any, **options: Any) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            change(*args, **options)

        return run

    monkeypatch.setattr(shutil, "rmtree", killed(shutil.rmtree))
    monkeypatch.setattr(os, "replace", killed(os.replace))
    try:
        checkpoint.save(one, tmp_path)
    except KeyboardInterrupt:
        monkeypatch.undo()
    again = trainer()
    assert checkpoint.restore(again, tmp_path)
    assert again.progress.step in (1, 2)
