"""Random tiny pairs of real architectures, for tests that need rows but no sense.

``divergence`` says how far the draft's weights are from the target's: 0 is the same model, 1 nearly
unrelated. Everything is seeded, runs in float64 by default, and takes milliseconds on a CPU.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from ..config import ModelSpec
from ..engine.models import CachedModel
from ..engine.pair import Pair, Side
from ..engine.rendering import Renderer
from .byte_tokenizer import OTHER_TEMPLATE, TEMPLATE, byte_tokenizer

VOCAB = 260


def _common(context: int) -> dict[str, Any]:
    return {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def _gemma3(context: int) -> Any:
    layers = ["sliding_attention", "full_attention"]
    return transformers.Gemma3TextConfig(
        **_common(context), head_dim=8, sliding_window=9, layer_types=layers, tie_word_embeddings=False
    )


def _gpt2(context: int) -> Any:
    return transformers.GPT2Config(
        vocab_size=VOCAB,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=context,
        bos_token_id=None,
        eos_token_id=None,
    )


def _opt(context: int) -> Any:
    common = _common(context)
    common.pop("intermediate_size")
    common.pop("num_key_value_heads")
    return transformers.OPTConfig(**common, ffn_dim=48, word_embed_proj_dim=32)


FAMILIES: dict[str, Callable[[int], Any]] = {
    "llama": lambda context: transformers.LlamaConfig(**_common(context)),
    "qwen2": lambda context: transformers.Qwen2Config(**_common(context)),
    "mistral": lambda context: transformers.MistralConfig(**_common(context), sliding_window=11),
    "gemma3": _gemma3,
    "gpt2": _gpt2,
    "opt": _opt,
}


def tiny_model(
    family: str = "llama",
    *,
    seed: int = 0,
    context: int = 256,
    dtype: torch.dtype = torch.float64,
    sharpness: float = 1.0,
) -> nn.Module:
    """A random causal LM over the byte tokenizer's 260 tokens.

    Args:
        family: one of ``FAMILIES``.
        seed: of the weights.
        context: positions the model can hold.
        dtype: of the weights.
        sharpness: scales the logits; at 1 the greatest probability is mostly between 0.1 and 0.9.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = transformers.AutoModelForCausalLM.from_config(FAMILIES[family](context)).to(dtype)
        for name, weight in model.named_parameters():
            # Random networks of this size say the same for every prefix; larger weights make them differ.
            nn.init.normal_(weight, std=0.35) if weight.dim() > 1 else None
            if "lm_head" in name or "embed_tokens" in name or "wte" in name:
                nn.init.normal_(weight, std=0.6 * sharpness)
    return model.eval().requires_grad_(False)


def diverge(model: nn.Module, divergence: float, *, seed: int = 1) -> nn.Module:
    """A copy whose weights are mixed with noise of the same size."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for weight in other.parameters():
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight.dtype)
        weight.mul_(1 - divergence).add_(noise * weight.std(correction=0), alpha=divergence)
    return other


def tiny_pair(
    family: str = "llama",
    *,
    divergence: float = 0.1,
    seed: int = 0,
    context: int = 256,
    draft_context: int | None = None,
    dtype: torch.dtype = torch.float64,
    draft_family: str | None = None,
    draft_template: str = OTHER_TEMPLATE,
    end_ids: frozenset[int] = frozenset({256}),
) -> Pair:
    """A loaded pair with two different chat templates.

    Args:
        family: of the target, and of the draft unless ``draft_family`` is given.
        divergence: distance of the draft's weights from the target's.
        seed: of all weights.
        context: positions of the target.
        draft_context: positions of the draft, if other.
        dtype: of both.
        draft_family: an unrelated draft of another architecture.
        draft_template: the draft's chat template; by default not the target's.
        end_ids: tokens that end a turn.
    """
    target = tiny_model(family, seed=seed, context=context, dtype=dtype)
    if draft_family or draft_context:
        draft = tiny_model(draft_family or family, seed=seed, context=draft_context or context, dtype=dtype)
        draft = diverge(draft, divergence, seed=seed + 1)
    else:
        draft = diverge(target, divergence, seed=seed + 1)
    return Pair(
        _side("tiny-target", target, context, TEMPLATE, end_ids),
        _side("tiny-draft", draft, draft_context or context, draft_template, end_ids),
        VOCAB,
    )


def _side(name: str, model: nn.Module, context: int, template: str, end_ids: frozenset[int]) -> Side:
    renderer = Renderer(byte_tokenizer(template), ModelSpec(name="tiny"))
    return Side(name, CachedModel(model, VOCAB, context), renderer, end_ids)


def save_tiny_pair(
    folder: Path, family: str = "llama", *, divergence: float = 0.1, seed: int = 0
) -> tuple[ModelSpec, ModelSpec]:
    """Write a tiny pair as safetensors, so that a worker can load it; returns both specs.

    Args:
        folder: gets two subfolders.
        family: as for :func:`tiny_pair`.
        divergence: as for :func:`tiny_pair`.
        seed: as for :func:`tiny_pair`.
    """
    target = tiny_model(family, seed=seed, dtype=torch.float32)
    specs = []
    for name, model, template in (
        ("target", target, TEMPLATE),
        ("draft", diverge(target, divergence, seed=seed + 1), OTHER_TEMPLATE),
    ):
        model.save_pretrained(folder / name)  # type: ignore[operator]
        byte_tokenizer(template).save_pretrained(folder / name)
        specs.append(ModelSpec(name=str(folder / name), device="cpu"))
    return specs[0], specs[1]
