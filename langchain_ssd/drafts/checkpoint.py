"""Checkpoints of a training run: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import ConfigError
from .recipe import DraftRecipe
from .training import Progress, Trainer

_NAME = "checkpoint"


def save(trainer: Trainer, folder: Path) -> None:
    """Write the trained weights, the optimiser's state and where the run is."""
    partial, place = folder / f"{_NAME}.partial", folder / _NAME
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(_tensors(trainer), partial / "state.safetensors")
    state = {"progress": asdict(trainer.progress), "recipe": trainer.recipe.model_dump(mode="json")}
    (partial / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
    old = folder / f"{_NAME}.old"
    if place.exists():  # else an old one may be all there is
        shutil.rmtree(old, ignore_errors=True)
        os.replace(place, old)
    os.replace(partial, place)
    shutil.rmtree(old, ignore_errors=True)


def restore(trainer: Trainer, folder: Path) -> bool:
    """Go on from the last checkpoint, if there is one.

    The run may be given more tokens than before; anything else that differs would make a mixture of two runs.

    Returns:
        whether there was one.

    Raises:
        ConfigError: the checkpoint is of another recipe.
    """
    place = next((p for p in (folder / _NAME, folder / f"{_NAME}.old") if (p / "state.json").is_file()), None)
    if place is None:
        return False
    state = json.loads((place / "state.json").read_text(encoding="utf-8"))
    before = DraftRecipe.model_validate(state["recipe"])
    if before.model_copy(update={"tokens": trainer.recipe.tokens}) != trainer.recipe:
        raise ConfigError(
            "the run in this folder has another recipe; give another --out, or remove its work folder"
        )
    _put_back(trainer, load_file(place / "state.safetensors"))
    trainer.progress = Progress(**state["progress"])
    return True


def _tensors(trainer: Trainer) -> dict[str, Tensor]:
    """Weights and both moments; those of a parameter that has had no step yet are left out."""
    found: dict[str, Tensor] = {}
    for name, parameter in trainer.weights.items():
        found[f"weight/{name}"] = parameter.detach().contiguous()
        for key, value in trainer.optimizer.state.get(parameter, {}).items():
            found[f"{key}/{name}"] = torch.as_tensor(value).contiguous()
    return found


def _put_back(trainer: Trainer, tensors: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in trainer.weights.items():
            parameter.copy_(tensors[f"weight/{name}"])
            moments = {k.split("/", 1)[0]: v for k, v in tensors.items() if k.split("/", 1)[1] == name}
            moments.pop("weight")
            if moments:
                trainer.optimizer.state[parameter] = moments
    trainer.publish()
