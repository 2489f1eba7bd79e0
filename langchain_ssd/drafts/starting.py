"""Where a draft starts from: the target, some of its layers, or another model; and what of it is trained."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError
from .recipe import DraftRecipe


def start(recipe: DraftRecipe, model: Any, layers: list[int] | None) -> Any:
    """A float32 copy of a model with the parameters to train marked.

    Args:
        recipe: method and rank.
        model: the target, or the model named by ``init``; it is left as it is.
        layers: which of its layers to keep; all of them if ``None``.
    """
    from ..engine.delta import keep_layers

    draft = copy.deepcopy(model).float()
    if layers is not None:
        keep_layers(draft, layers)
    draft.requires_grad_(False)
    torch.manual_seed(recipe.seed)
    return _with_adapters(recipe, draft) if recipe.method == "lora" else _all_weights(draft)


def _with_adapters(recipe: DraftRecipe, draft: nn.Module) -> Any:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ConfigError("training an adapter needs peft: pip install 'langchain-ssd[peft]'") from None
    config = LoraConfig(
        r=recipe.rank, lora_alpha=2 * recipe.rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    adapted = inject_adapter_in_model(config, draft)
    if recipe.adapter:
        _fill_adapters(adapted, Path(recipe.adapter))
    return adapted


@torch.no_grad()
def _fill_adapters(model: nn.Module, folder: Path) -> None:
    """Go on from an adapter's folder instead of from none."""
    from ..engine.delta import read_factors

    places = {name: m for name, m in model.named_modules() if hasattr(m, "lora_A")}
    shapes = {name + ".weight": m.weight.shape for name, m in places.items()}
    factors = read_factors(folder, shapes)
    if factors.keys() != shapes.keys():
        raise ConfigError("the adapter to go on from changes other weights; give one made for this target")
    for name, module in places.items():
        down, up = factors[name + ".weight"]  # (r, in), (out, r)
        if down.shape != module.lora_A["default"].weight.shape:
            raise ConfigError("the adapter to go on from has another rank; give that rank")
        module.lora_A["default"].weight.copy_(down)
        module.lora_B["default"].weight.copy_(up / module.scaling["default"])


def _all_weights(draft: Any) -> Any:
    """Everything but the embeddings and the output matrix: most of a small model, and good already."""
    draft.requires_grad_(True)
    for part in (draft.get_input_embeddings(), draft.get_output_embeddings()):
        part.requires_grad_(False)
    return draft


def trained_parameters(model: Any) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
