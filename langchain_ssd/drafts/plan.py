"""What a training run will take, told before any weights are loaded."""

from __future__ import annotations

from typing import Any

import torch

from ..config import ModelSpec
from ..engine.loading import pick_device
from ..engine.reading import load_config
from ..errors import ConfigError
from .compute import wants_bfloat16
from .recipe import DraftRecipe

_BYTES = 4  # float32


def estimate(recipe: DraftRecipe, spec: ModelSpec) -> dict[str, str]:
    """Precision, parameters and peak memory, by name.

    Args:
        recipe: the run.
        spec: the target. Only its configuration is read.

    Raises:
        ConfigError: the target has fewer layers than are to be kept.
        ModelNotFound: the target or ``init`` cannot be read.
    """
    target = _sizes(load_config(spec))
    start = _sizes(load_config(ModelSpec(name=recipe.init))) if recipe.init else target
    wanted = max([recipe.layers or 1, *(i + 1 for i in recipe.layer_ids)])
    if wanted > start["layers"]:
        raise ConfigError(f"the target has {start['layers']} layers; choose layers among them")
    kept = recipe.layers or len(recipe.layer_ids) or start["layers"]
    body = start["body"] * kept // start["layers"]
    trained = body if recipe.method == "full" else start["rank_one"] * recipe.rank * kept // start["layers"]
    weights = (target["body"] + target["embeddings"] + body + start["embeddings"]) * _BYTES
    states = 3 * trained * _BYTES  # gradient and two moments
    work = recipe.micro_tokens * (kept * 34 * start["width"] + 2 * 8192) * _BYTES
    device = torch.device(pick_device(spec).replace("auto", "cpu"))
    arithmetic = "bfloat16" if wants_bfloat16(recipe, device) else "float32"
    return {
        "target": _model(target["body"] + target["embeddings"], target["layers"]),
        "draft": _model(body + start["embeddings"], kept),
        "trained": f"{trained / 1e6:,.1f} M parameters ({recipe.method}), {recipe.tokens:,} tokens",
        "precision": f"float32 weights, {arithmetic} arithmetic",
        "memory": f"about {(weights + states + work) / 2**30:.1f} GiB",
    }


def _model(parameters: int, layers: int) -> str:
    return f"{parameters / 1e6:,.0f} M parameters, {layers} layers"


def _sizes(config: Any) -> dict[str, int]:
    """Parameters of a plain transformer, from its configuration alone."""
    text = config.get_text_config(decoder=True)
    width, layers = int(text.hidden_size), int(text.num_hidden_layers)
    heads = int(text.num_attention_heads)
    head = int(getattr(text, "head_dim", None) or width // heads)
    kv = int(getattr(text, "num_key_value_heads", None) or heads)
    inner = int(getattr(text, "intermediate_size", None) or 4 * width)
    shapes = [(width, heads * head), (width, kv * head), (width, kv * head), (heads * head, width)]
    shapes += [(width, inner), (width, inner), (inner, width)]
    tied = 1 if getattr(text, "tie_word_embeddings", True) else 2
    return {
        "width": width,
        "layers": layers,
        "body": layers * sum(a * b for a, b in shapes),
        "rank_one": layers * sum(a + b for a, b in shapes),
        "embeddings": tied * int(text.vocab_size) * width,
    }
