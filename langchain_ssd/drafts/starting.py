"""Where a draft starts from: the target, some of its layers, or another model; and what of it is trained."""

from __future__ import annotations

import copy
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
    return inject_adapter_in_model(config, draft)


def _all_weights(draft: Any) -> Any:
    """Everything but the embeddings and the output matrix: most of a small model, and good already."""
    draft.requires_grad_(True)
    for part in (draft.get_input_embeddings(), draft.get_output_embeddings()):
        part.requires_grad_(False)
    return draft


def trained_parameters(model: Any) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
