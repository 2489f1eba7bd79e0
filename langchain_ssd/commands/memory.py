"""How much memory a model will take, told from its configuration, and how much a device has left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..config import ModelSpec

_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


def weights_in_memory(config: Any, spec: ModelSpec) -> int | None:
    """Bytes of a model's weights as they will be held; None where only loading would tell."""
    if spec.quantization is None and getattr(config, "quantization_config", None) is not None:
        return None
    size = parameter_count(config) * bits_per_weight(config, spec) / 8
    return int(size) + _second_head(config, spec) if size else None


def _second_head(config: Any, spec: ModelSpec) -> int:
    """Bytes of an output matrix that is also the embedding and is held again, in the CPU kernels' order."""
    from ..engine.loading import pick_device

    text = config.get_text_config(decoder=True)
    tied = bool(getattr(text, "tie_word_embeddings", False))
    ordered = spec.quantization is None and _dtype(config, spec) == "bfloat16" and pick_device(spec) == "cpu"
    return 2 * int(text.vocab_size) * int(text.hidden_size) if tied and ordered else 0


def parameter_count(config: Any) -> int:
    """Number of weights, from a model without storage; tied ones count once."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(weight.numel() for weight in model.parameters())


def bits_per_weight(config: Any, spec: ModelSpec) -> float:
    """Bits of one weight in the chosen type; 0 for a quantisation whose size its settings do not say."""
    if spec.quantization is None:
        return 8.0 * _BYTES.get(_dtype(config, spec), 4)
    if spec.quantization.get("load_in_4bit"):
        return 4.5  # with the scales
    if spec.quantization.get("load_in_8bit"):
        return 8.25
    return float(spec.quantization.get("bits", 0))


def cache_bytes(config: Any, spec: ModelSpec, tokens: int = 1000) -> int:
    """Bytes of keys and values for one sequence; layers with a sliding window keep no more than it."""
    text = config.get_text_config(decoder=True)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    window = getattr(text, "sliding_window", None) or tokens
    kept = sum(min(tokens, window) if kind == "sliding_attention" else tokens for kind in kinds)
    return int(2 * kept * heads * width * _BYTES.get(_dtype(config, spec), 4))


def _dtype(config: Any, spec: ModelSpec) -> str:
    if spec.dtype != "auto":
        return spec.dtype
    if spec.gguf_file:
        return "bfloat16"
    return str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")


def available_memory(device: str) -> int | None:
    """Free bytes on a device, or None where that cannot be told."""
    import torch

    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            return None
        return int(torch.cuda.mem_get_info(None if device == "cuda" else device)[0])
    limits = [limit for limit in (_meminfo(), _cgroup()) if limit is not None]
    return min(limits) if limits else _physical()


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    free = [line for line in lines if line.startswith("MemAvailable:")]
    return int(free[0].split()[1]) * 1024 if free else None


def _cgroup() -> int | None:
    """What a container may still use, where it has a limit."""
    root = Path("/sys/fs/cgroup")
    try:
        limit = (root / "memory.max").read_text(encoding="ascii").strip()
        used = (root / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return None if limit == "max" else int(limit) - int(used)


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def human(size: int) -> str:
    """A size for people."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
