"""Names → models: safetensors (or GGUF) only, no remote code.

Everything that can be checked without weights is checked before any weights are touched.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import nn
from transformers import AutoModelForCausalLM

from ..backend import ChatMessage
from ..config import EngineConfig, ModelSpec
from ..draft_folder import read_card
from ..errors import ConfigError, ModelNotFound, UnsafeModel
from .delta import apply_delta, keep_layers
from .engine import Engine
from .models import CachedModel, check_rewind
from .pair import Pair, Side
from .prepack import prepack
from .reading import (
    check_config,
    check_files,
    check_matrix,
    compare_vocabularies,
    context_length,
    end_ids,
    label,
    load_config,
    load_tokenizer,
    read,
)
from .rendering import Renderer

Progress = Callable[[str, float], None]


def build_engine(target: ModelSpec, draft: ModelSpec, config: EngineConfig, progress: Progress) -> Engine:
    """Load a pair and put an engine over it.

    Args:
        target: the big model.
        draft: the small, safe one.
        config: how the worker runs.
        progress: called with a stage's name and the fraction of all work that is done.

    Raises:
        ConfigError: the pair cannot work; nothing was loaded if that could be told without weights.
    """
    return Engine(load_pair(target, draft, config, progress), config)


def load_pair(target: ModelSpec, draft: ModelSpec, config: EngineConfig, progress: Progress) -> Pair:
    """Load both models and check that they fit together. See :func:`build_engine`."""
    if config.threads:
        torch.set_num_threads(config.threads)
    progress("reading tokenizers", 0.0)
    specs = {"target": target, "draft": draft}
    configs = {role: load_config(spec) for role, spec in specs.items()}
    for spec, model_config in zip(specs.values(), configs.values(), strict=True):
        check_config(model_config)
        check_files(spec)
    tokenizers = {role: load_tokenizer(spec) for role, spec in specs.items()}
    vocab = compare_vocabularies(tokenizers["target"], tokenizers["draft"])
    renderers = {role: Renderer(tokenizers[role], spec) for role, spec in specs.items()}
    for renderer in renderers.values():
        renderer.render([ChatMessage("user", "a")])  # a broken template fails here, not at every request
    progress("loading the target", 0.1)
    models = {"target": load_model(target)}
    progress("loading the draft", 0.6)
    models["draft"] = models["target"] if same_weights(target, draft) else load_model(draft)
    progress("checking that caches rewind", 0.9)
    if config.prepack:
        for network in models.values():
            prepack(network)
    sides = {}
    for role, spec in specs.items():
        context = context_length(configs[role], config.max_context)
        check_matrix(models[role], vocab)
        model = CachedModel(models[role], vocab, context)
        check_rewind(model)
        sides[role] = Side(
            label(spec), model, renderers[role], end_ids(configs[role], models[role], renderers[role])
        )
    progress("ready", 1.0)
    return Pair(sides["target"], sides["draft"], vocab, shared=models["draft"] is models["target"])


def load_model(spec: ModelSpec) -> nn.Module:
    """The network, on its device, in evaluation mode. Raises as :func:`load_config`."""
    if spec.base is not None:
        return _from_base(spec, spec.base)
    device = pick_device(spec)
    options: dict[str, Any] = {
        "dtype": "auto" if spec.dtype == "auto" else getattr(torch, spec.dtype),
        "use_safetensors": True,
    }
    if device == "auto":
        options["device_map"] = "auto"
    if spec.quantization is not None:
        options["quantization_config"] = _quantization(spec.quantization)
    if spec.gguf_file:
        options["quantization_config"] = _quantization({"quant_method": "gguf", "dequantize": True})
        options["dtype"] = torch.bfloat16 if spec.dtype == "auto" else options["dtype"]
    model: nn.Module = read(spec, lambda **kw: _whole_model(spec, {**options, **kw}))
    if spec.adapter:
        model = _with_adapter(model, spec)
    if device != "auto" and not _quantised(model, spec):
        model = _to(model, device)
    return model.eval().requires_grad_(False)


def _from_base(spec: ModelSpec, base: ModelSpec) -> nn.Module:
    """Load the base, take the draft's layers of it, and add the differences."""
    folder = Path(spec.name)
    card = read_card(folder)
    if card is None:
        raise ModelNotFound(f"{label(spec)} has no draft.json; only such drafts have a base")
    model = load_model(base.model_copy(update={"device": spec.device, "dtype": spec.dtype}))
    if card.layers is not None:
        keep_layers(model, card.layers)
    apply_delta(model, folder)
    return model


def _whole_model(spec: ModelSpec, options: dict[str, Any]) -> nn.Module:
    """Load the network, and refuse it if some weights were missing: transformers would make them up."""
    model, report = AutoModelForCausalLM.from_pretrained(spec.name, output_loading_info=True, **options)
    if report["missing_keys"] or report.get("mismatched_keys"):
        raise ModelNotFound(f"weights of {label(spec)} are missing or do not fit; download it again")
    whole: nn.Module = model
    return whole


def _quantised(model: nn.Module, spec: ModelSpec) -> bool:
    """Asked for here, or brought by the checkpoint; such weights stay where they were loaded."""
    return spec.quantization is not None or bool(getattr(model, "is_quantized", False))


def _to(model: nn.Module, device: str) -> nn.Module:
    try:
        return model.to(device)
    except torch.OutOfMemoryError:
        raise ConfigError("a model does not fit into the device's memory; quantise it") from None
    except (RuntimeError, AssertionError):
        raise ConfigError(
            "the device asked for is not there; set ModelSpec(device=...) to one that is"
        ) from None


def _quantization(settings: dict[str, Any]) -> Any:
    from transformers.quantizers.auto import AutoQuantizationConfig

    try:
        return AutoQuantizationConfig.from_dict(dict(settings))
    except (ValueError, TypeError, ImportError):
        raise ConfigError("quantization must be the settings of a transformers quantisation config") from None


def _with_adapter(model: nn.Module, spec: ModelSpec) -> nn.Module:
    """Put a peft adapter over the model; merged into the weights unless they are quantised."""
    try:
        from peft import PeftModel
    except ImportError:
        raise ConfigError("an adapter needs peft: pip install 'langchain-ssd[peft]'") from None
    try:
        folder = _adapter_folder(spec)
        with warnings.catch_warnings():
            # peft only warns when weights are missing, and goes on with untrained ones: that is no draft.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(model, str(folder))
    except (OSError, ValueError, RuntimeError, UserWarning):
        raise ModelNotFound("the adapter cannot be read; check its name and that it fits the model") from None
    can_merge = hasattr(adapted, "merge_and_unload") and not _quantised(model, spec)
    merged: nn.Module = adapted.merge_and_unload() if can_merge else adapted
    return merged


def _adapter_folder(spec: ModelSpec) -> Path:
    """The adapter as a local folder that holds safetensors and nothing that could be unpickled."""
    folder = Path(str(spec.adapter))
    if not folder.is_dir():
        token = spec.token.get_secret_value() if spec.token else None
        patterns = ["adapter_config.json", "adapter_model.safetensors"]
        folder = Path(snapshot_download(str(spec.adapter), allow_patterns=patterns, token=token))
    if not (folder / "adapter_model.safetensors").is_file():
        raise UnsafeModel("the adapter has no safetensors weights; convert it, pickles are never read")
    return folder


def same_weights(target: ModelSpec, draft: ModelSpec) -> bool:
    """Whether both specs name the same network, so that it is held once."""
    prompt_only = {"chat_template": None, "system_prompt": None, "tool_format": None}
    return target.model_copy(update=prompt_only) == draft.model_copy(update=prompt_only)


def pick_device(spec: ModelSpec) -> str:
    """The device asked for, or the best one there is."""
    if spec.device:
        return spec.device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
