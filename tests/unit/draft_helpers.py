"""Tiny teachers, sequences and material, for tests of the rooms that train drafts."""

from __future__ import annotations

import random
from typing import Any

import torch
import transformers
from torch import nn

from langchain_ssd.config import ModelSpec
from langchain_ssd.drafts.examples import Example, RefusalMaker, UnsafeRequest
from langchain_ssd.drafts.pipeline import Teacher
from langchain_ssd.drafts.recipe import DraftRecipe
from langchain_ssd.drafts.starting import start
from langchain_ssd.drafts.teacher import TopRows, sequence_key, top_rows
from langchain_ssd.drafts.training import Material, Trainer
from langchain_ssd.engine.models import CachedModel
from langchain_ssd.engine.rendering import Renderer
from langchain_ssd.testing.byte_tokenizer import TEMPLATE, byte_tokenizer
from langchain_ssd.testing.tiny_pair import FAMILIES, VOCAB, diverge, tiny_model

END = 256
SMALL: dict[str, Any] = {
    "method": "full",
    "precision": "float32",
    "tokens": 900,
    "step_tokens": 128,
    "micro_tokens": 64,
    "drawn": 64,
    "top": 8,
}


def recipe(**changes: Any) -> DraftRecipe:
    return DraftRecipe(**{**SMALL, **changes})


def sequences(count: int, seed: int = 0, least: int = 6, most: int = 24) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(256) for _ in range(rng.randint(least, most))] for _ in range(count)]


def deep_model(layers: int, silent: tuple[int, ...] = ()) -> nn.Module:
    """A tiny Llama of several layers; silent ones add nothing to what passes through them."""
    config = FAMILIES["llama"](256)
    config.num_hidden_layers = layers
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model: nn.Module = transformers.AutoModelForCausalLM.from_config(config)
        for weight in model.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.35)
    model = model.eval().requires_grad_(False)
    for i in silent:
        layer = model.get_decoder().layers[i]  # type: ignore[operator]
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    return model


def tiny_teacher(template: str = TEMPLATE) -> Teacher:
    model = tiny_model(dtype=torch.float32)
    renderer = Renderer(byte_tokenizer(template), ModelSpec(name="tiny"))
    return Teacher(model, CachedModel(model, VOCAB, 256), renderer, frozenset({END}), END)


def word_lengths(text: str) -> list[int]:
    """Refusals in bytes are long; one token a word keeps the tests fast."""
    return [len(word) for word in text.split(" ")]


def rows_along(model: nn.Module, examples: list[Example], k: int = 16) -> dict[str, TopRows]:
    found = top_rows(model, [e.ids for e in examples], [e.start for e in examples], k)
    return {sequence_key(e.ids, e.start): rows for e, rows in zip(examples, found, strict=True)}


def benign_examples(count: int = 12, seed: int = 0) -> list[Example]:
    return [Example(tuple(ids), 4, refusal=False) for ids in sequences(count, seed)]


def material(target: nn.Module, count: int = 12) -> Material:
    """Random benign sequences with the target's rows, and three unsafe requests."""
    benign = benign_examples(count)
    unsafe = [
        UnsafeRequest(f"break rule {n}", (n, 1, 2, 3), ((9, n, 9),), tuple(range(n * 20))) for n in range(3)
    ]
    maker = RefusalMaker(word_lengths, lambda ids: "x" * len(ids), END, 100, 0.4)
    return Material(benign, unsafe, rows_along(target, benign), maker)


TARGET = tiny_model(dtype=torch.float32)
MATERIAL = material(TARGET)


def trainer(base: nn.Module | None = None, learn: Material = MATERIAL, **changes: Any) -> Trainer:
    wanted = recipe(**changes)
    other = diverge(TARGET, 0.2) if base is None else base
    return Trainer(start(wanted, other, None).train(), learn, wanted)


def finished(one: Trainer) -> dict[str, torch.Tensor]:
    for _ in one.run():
        pass
    return {name: p.detach().clone() for name, p in one.model.named_parameters()}
