"""Adapters over the draft: applied as safetensors, or refused; never silently left out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from langchain_ssd.config import ModelSpec
from langchain_ssd.errors import (
    ConfigError,
    ModelNotFound,
    UnsafeModel,
)

from .loading_helpers import Specs, edit, load, refused

# peft asks transformers for this by its old name.
old_name = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def adapter(spec: ModelSpec, folder: Path, rank: int = 4) -> Path:
    """A random LoRA adapter as safetensors."""
    import peft

    model = transformers.AutoModelForCausalLM.from_pretrained(spec.name)
    torch.manual_seed(0)
    config = peft.LoraConfig(r=rank, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.get_peft_model(model, config).save_pretrained(folder)
    return folder


@old_name
def test_an_adapter_changes_the_draft_and_nothing_else(saved: Specs, tmp_path: Path) -> None:
    spec = saved[1].model_copy(update={"adapter": str(adapter(saved[1], tmp_path / "lora"))})
    plain, adapted = load(*saved), load(saved[0], spec)
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        rows = [side.model.model(input_ids=ids).logits for side in (plain.draft, adapted.draft)]
        targets = [pair.target.model.model(input_ids=ids).logits for pair in (plain, adapted)]
    assert (rows[0] - rows[1]).abs().max() > 0.01
    assert torch.equal(*targets)
    assert not adapted.shared


@old_name
def test_an_adapter_over_the_targets_own_weights_is_not_shared(saved: Specs, tmp_path: Path) -> None:
    spec = saved[0].model_copy(update={"adapter": str(adapter(saved[0], tmp_path / "lora"))})
    pair = load(saved[0], spec)
    assert pair.target.model.model is not pair.draft.model.model


@old_name
def test_an_adapter_without_safetensors_is_refused(saved: Specs, tmp_path: Path) -> None:
    folder = adapter(saved[1], tmp_path / "lora")
    weights = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    torch.save(weights, folder / "adapter_model.bin")
    refused(UnsafeModel, saved[0], saved[1].model_copy(update={"adapter": str(folder)}))


@old_name
def test_an_adapter_that_does_not_fit_is_a_typed_error(saved: Specs, tmp_path: Path) -> None:
    folder = adapter(saved[1], tmp_path / "lora")
    edit(folder / "adapter_config.json", r=8)
    refused(ConfigError, saved[0], saved[1].model_copy(update={"adapter": str(folder)}))
    edit(folder / "adapter_config.json", r=4, target_modules=["no_such_module"])
    refused(ConfigError, saved[0], saved[1].model_copy(update={"adapter": str(folder)}))


@old_name
def test_an_adapter_whose_weights_are_missing_is_refused(saved: Specs, tmp_path: Path) -> None:
    """An adapter that is not applied leaves a draft that was never made safe."""
    folder = adapter(saved[1], tmp_path / "lora")
    save_file({}, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    refused(ConfigError, saved[0], saved[1].model_copy(update={"adapter": str(folder)}))


@pytest.mark.parametrize("name", ["/no/such/adapter", "organisation/no-such-adapter"])
def test_a_missing_adapter(saved: Specs, name: str) -> None:
    assert name not in refused(ModelNotFound, saved[0], saved[1].model_copy(update={"adapter": name}))
