"""What can be told about a model without its weights: configuration, tokenizer, files; every refusal is here.

Safetensors (or GGUF) only, no remote code.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from ..config import ModelSpec
from ..draft_folder import read_card
from ..errors import ConfigError, ModelNotFound, UnsafeModel, UnsupportedModel, VocabularyMismatch
from ..profile import fingerprint
from .models import cache_argument
from .rendering import Renderer

_CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


def load_config(spec: ModelSpec) -> PretrainedConfig:
    """A model's configuration, without weights.

    Raises:
        ModelNotFound: it cannot be read.
        UnsafeModel: it needs code that comes with the weights.
    """
    return read(spec, lambda **kw: AutoConfig.from_pretrained(spec.name, **kw))


def load_tokenizer(spec: ModelSpec) -> PreTrainedTokenizerBase:
    """A model's tokenizer. Raises as :func:`load_config`."""
    source = spec.base or spec
    return read(source, lambda **kw: AutoTokenizer.from_pretrained(source.name, **kw))


def _hub_arguments(spec: ModelSpec) -> dict[str, Any]:
    token = spec.token.get_secret_value() if spec.token else None
    return {
        "revision": spec.revision or "main",
        "token": token,
        "cache_dir": spec.cache_dir,
        "trust_remote_code": False,
        **({"gguf_file": spec.gguf_file} if spec.gguf_file else {}),
    }


def read(spec: ModelSpec, load: Callable[..., Any]) -> Any:
    """Call a loader of transformers and turn whatever it raises into one clear line."""
    try:
        return load(**_hub_arguments(spec))
    except ConfigError:
        raise
    except Exception as error:  # files of a stranger: anything can be wrong with them
        raise _as_config_error(spec, error) from None


def _as_config_error(spec: ModelSpec, error: Exception) -> ConfigError:
    text, name = str(error), label(spec)
    if "trust_remote_code" in text or "custom code" in text:
        return UnsafeModel(f"{name} needs code of its own, which is never run; use another model")
    if ("safetensors" in text and "no file named" in text) or isinstance(error, SafetensorError):
        return UnsafeModel(f"{name} has no readable safetensors weights; convert it, pickles are never read")
    if isinstance(error, ImportError):
        return ConfigError(f"{name} needs a package that is not installed: {_missing(error)}")
    if isinstance(error, torch.OutOfMemoryError):
        return ConfigError(f"{name} does not fit into the device's memory; quantise it or take a smaller one")
    if isinstance(error, OSError):
        return ModelNotFound(
            f"{name} cannot be read; check its name, revision, token, and whether a hub is reachable"
        )
    return ModelNotFound(f"{name} is damaged, or not a model that transformers can load")


def _missing(error: ImportError) -> str:
    match = re.search(r"pip install (?:-U )?[\w\-\[\]]+", str(error))
    return match.group(0) if match else (error.name or "see its model card")


def label(spec: ModelSpec) -> str:
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
        raise UnsafeModel(f"{label(spec)} has no safetensors weights; convert it, pickles are never read")
    for index in folder.glob("*.safetensors.index.json"):
        try:
            wanted = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError):
            raise UnsafeModel(
                f"the weight index of {label(spec)} cannot be read; download it again"
            ) from None
        if not wanted <= files:
            raise UnsafeModel(f"the weight index of {label(spec)} names files outside its folder")


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
            f"{label(spec)} is stored as differences to a model that is not here; run langchain-ssd setup, "
            "or name it: ModelSpec(..., base=ModelSpec(...))"
        )
    check_files(spec.base)
    found = fingerprint(spec.base)
    if None not in (found, card.base_fingerprint) and found != card.base_fingerprint:
        raise ConfigError(f"{label(spec)} was made from other weights than its base's; train it again")


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
