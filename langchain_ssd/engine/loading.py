"""Names → models: safetensors (or GGUF) only, no remote code.

Everything that can be checked without weights is checked before any weights are touched.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.cache_utils import DynamicCache
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from ..backend import ChatMessage
from ..config import EngineConfig, ModelSpec
from ..draft_folder import read_card
from ..errors import (
    ConfigError,
    ModelNotFound,
    UnsafeModel,
    UnsupportedModel,
    VocabularyMismatch,
)
from ..profile import fingerprint
from .delta import apply_delta, keep_layers
from .engine import Engine
from .models import CachedModel, cache_argument, check_rewind
from .pair import Pair, Side
from .rendering import Renderer

Progress = Callable[[str, float], None]
_CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


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
    sides = {}
    for role, spec in specs.items():
        context = context_length(configs[role], config.max_context)
        check_matrix(models[role], vocab)
        model = CachedModel(models[role], vocab, context)
        check_rewind(model)
        sides[role] = Side(
            _label(spec), model, renderers[role], end_ids(configs[role], models[role], renderers[role])
        )
    progress("ready", 1.0)
    return Pair(sides["target"], sides["draft"], vocab, shared=models["draft"] is models["target"])


def load_config(spec: ModelSpec) -> PretrainedConfig:
    """A model's configuration, without weights.

    Raises:
        ModelNotFound: it cannot be read.
        UnsafeModel: it needs code that comes with the weights.
    """
    return _read(spec, lambda **kw: AutoConfig.from_pretrained(spec.name, **kw))


def load_tokenizer(spec: ModelSpec) -> PreTrainedTokenizerBase:
    """A model's tokenizer. Raises as :func:`load_config`."""
    source = spec.base or spec
    return _read(source, lambda **kw: AutoTokenizer.from_pretrained(source.name, **kw))


def _hub_arguments(spec: ModelSpec) -> dict[str, Any]:
    token = spec.token.get_secret_value() if spec.token else None
    return {
        "revision": spec.revision or "main",
        "token": token,
        "cache_dir": spec.cache_dir,
        "trust_remote_code": False,
        **({"gguf_file": spec.gguf_file} if spec.gguf_file else {}),
    }


def _read(spec: ModelSpec, read: Callable[..., Any]) -> Any:
    """Call a loader of transformers and turn whatever it raises into one clear line."""
    try:
        return read(**_hub_arguments(spec))
    except ConfigError:
        raise
    except Exception as error:  # files of a stranger: anything can be wrong with them
        raise _as_config_error(spec, error) from None


def _as_config_error(spec: ModelSpec, error: Exception) -> ConfigError:
    text, label = str(error), _label(spec)
    if "trust_remote_code" in text or "custom code" in text:
        return UnsafeModel(f"{label} needs code of its own, which is never run; use another model")
    if ("safetensors" in text and "no file named" in text) or isinstance(error, SafetensorError):
        return UnsafeModel(f"{label} has no readable safetensors weights; convert it, pickles are never read")
    if isinstance(error, ImportError):
        return ConfigError(f"{label} needs a package that is not installed: {_missing(error)}")
    if isinstance(error, torch.OutOfMemoryError):
        return ConfigError(
            f"{label} does not fit into the device's memory; quantise it or take a smaller one"
        )
    if isinstance(error, OSError):
        return ModelNotFound(
            f"{label} cannot be read; check its name, revision, token, and whether a hub is reachable"
        )
    return ModelNotFound(f"{label} is damaged, or not a model that transformers can load")


def _missing(error: ImportError) -> str:
    match = re.search(r"pip install (?:-U )?[\w\-\[\]]+", str(error))
    return match.group(0) if match else (error.name or "see its model card")


def _label(spec: ModelSpec) -> str:
    """The model's name for messages; of a local folder only the last part, no path of the machine."""
    return Path(spec.name).name if os.path.isdir(spec.name) or os.path.isabs(spec.name) else spec.name


def check_config(config: PretrainedConfig) -> None:
    """Refuse what cannot be rewound before any weights are read.

    Raises:
        UnsupportedModel: recurrent or not a causal LM with a key-value cache.
    """
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UnsupportedModel(f"'{config.model_type}' is not a causal language model of transformers")
    forward = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].forward
    positioned = "position_ids" in inspect.signature(forward).parameters
    rewindable = (cache_argument(forward) is not None and positioned) and all(
        type(layer).__name__ in ("DynamicLayer", "DynamicSlidingWindowLayer")
        for layer in DynamicCache(config=config).layers
    )
    if not rewindable:
        raise UnsupportedModel(
            f"the cache of '{config.model_type}' cannot be rewound (recurrent, or positions of its own); "
            "use a model with plain attention"
        )


def check_files(spec: ModelSpec) -> None:
    """Refuse a local folder without safetensors, or whose index points out of it.

    Raises:
        UnsafeModel: as said.
    """
    folder = Path(spec.name)
    if spec.gguf_file or not folder.is_dir():
        return
    _check_base(spec)
    files = {f.name for f in folder.glob("*.safetensors")}
    if not files:
        raise UnsafeModel(f"{_label(spec)} has no safetensors weights; convert it, pickles are never read")
    for index in folder.glob("*.safetensors.index.json"):
        try:
            wanted = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError):
            raise UnsafeModel(
                f"the weight index of {_label(spec)} cannot be read; download it again"
            ) from None
        if not wanted <= files:
            raise UnsafeModel(f"the weight index of {_label(spec)} names files outside its folder")


def _check_base(spec: ModelSpec) -> None:
    """Refuse a draft made of differences whose base is unknown, or is not the one it was made from.

    Raises:
        ConfigError: as said.
    """
    card = read_card(Path(spec.name))
    if card is None:
        return
    if spec.base is None:
        raise ConfigError(
            f"{_label(spec)} is stored as differences to a model that is not here; run langchain-ssd setup, "
            "or name it: ModelSpec(..., base=ModelSpec(...))"
        )
    check_files(spec.base)
    found = fingerprint(spec.base)
    if None not in (found, card.base_fingerprint) and found != card.base_fingerprint:
        raise ConfigError(f"{_label(spec)} was made from other weights than its base's; train it again")


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
    model: nn.Module = _read(spec, lambda **kw: _whole_model(spec, {**options, **kw}))
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
        raise ModelNotFound(f"{_label(spec)} has no draft.json; only such drafts have a base")
    model = load_model(base.model_copy(update={"device": spec.device, "dtype": spec.dtype}))
    if card.layers is not None:
        keep_layers(model, card.layers)
    apply_delta(model, folder)
    return model


def _whole_model(spec: ModelSpec, options: dict[str, Any]) -> nn.Module:
    """Load the network, and refuse it if some weights were missing: transformers would make them up."""
    model, report = AutoModelForCausalLM.from_pretrained(spec.name, output_loading_info=True, **options)
    if report["missing_keys"] or report.get("mismatched_keys"):
        raise ModelNotFound(f"weights of {_label(spec)} are missing or do not fit; download it again")
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
    prompt_only = {"chat_template": None, "system_prompt": None}
    return target.model_copy(update=prompt_only) == draft.model_copy(update=prompt_only)


def pick_device(spec: ModelSpec) -> str:
    """The device asked for, or the best one there is."""
    if spec.device:
        return spec.device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def compare_vocabularies(target: PreTrainedTokenizerBase, draft: PreTrainedTokenizerBase) -> int:
    """The number of token ids both tokenizers share.

    The tokenizers are compared, not the matrices: those may be padded to different sizes.

    Raises:
        VocabularyMismatch: names the first token id that differs.
    """
    of_target = {i: token for token, i in target.get_vocab().items()}
    of_draft = {i: token for token, i in draft.get_vocab().items()}
    if of_target != of_draft:
        first = min(i for i in of_target.keys() | of_draft.keys() if of_target.get(i) != of_draft.get(i))
        raise VocabularyMismatch(
            f"token {first} is {of_target.get(first)!r} for the target and {of_draft.get(first)!r} for the "
            "draft; take a draft of the same model family"
        )
    return int(max(of_target)) + 1


def check_matrix(model: nn.Module, vocab: int) -> None:
    """Refuse a model whose output matrix is smaller than its tokenizer."""
    size = model.config.get_text_config(decoder=True).vocab_size  # type: ignore[operator, union-attr]
    if size < vocab:
        raise VocabularyMismatch(f"the tokenizer has {vocab} tokens, but a model gives only {size} logits")


def context_length(config: PretrainedConfig, bound: int | None) -> int:
    """Positions a model can hold."""
    text = config.get_text_config(decoder=True)
    names: tuple[str, ...] = _CONTEXT_NAMES
    if "longrope" in str(getattr(text, "rope_parameters", None)):
        # It changes its frequencies for a whole batch once one row is long: stay where it does not.
        names = ("original_max_position_embeddings", *names)
    known = [v for name in names if isinstance(v := getattr(text, name, None), int) and v > 0]
    return min([*known[:1], *([bound] if bound else [])], default=2**31 - 1)


def end_ids(config: PretrainedConfig, model: nn.Module, renderer: Renderer) -> frozenset[int]:
    """Every token that ends a turn: configured end tokens, and what the template writes after an answer."""
    found: set[int | None] = set(renderer.turn_end_ids())
    generation = getattr(model, "generation_config", None)
    for source in (config, generation, renderer.tokenizer):
        value = getattr(source, "eos_token_id", None)
        found |= set(value) if isinstance(value, list | tuple) else {value}
    return frozenset(i for i in found if i is not None)


def weight_bytes(spec: ModelSpec) -> int | None:
    """Bytes of a local model's weight files; ``None`` when they lie on a hub."""
    folder = Path(spec.name)
    if not folder.is_dir():
        return None
    files = [folder / spec.gguf_file] if spec.gguf_file else list(folder.glob("*.safetensors"))
    return sum(f.stat().st_size for f in files) + ((weight_bytes(spec.base) or 0) if spec.base else 0)
