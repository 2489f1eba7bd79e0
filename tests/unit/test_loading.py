"""Tiny models on disk → a pair: what is loaded, what is shared, which vocabularies fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import EngineConfig, Sampling
from langchain_ssd.engine import loading
from langchain_ssd.errors import (
    VocabularyMismatch,
)
from langchain_ssd.events import Finished, Token
from langchain_ssd.testing.tiny_pair import VOCAB

from .loading_helpers import Specs, edit, load, on_cpu, refused


def test_both_models_are_loaded_with_progress(saved: Specs) -> None:
    seen: list[tuple[str, float]] = []
    engine = loading.build_engine(*saved, EngineConfig(), lambda stage, part: seen.append((stage, part)))
    parts = [part for _, part in seen]
    assert (parts[0], parts[-1]) == (0.0, 1.0)
    assert parts == sorted(parts)
    info = engine.info()
    assert info["vocab_size"] == VOCAB
    assert info["target"] == {"name": "target", "device": "cpu", "dtype": "float32", "context": 256}
    assert json.loads(json.dumps(info)) == info
    engine.submit("a", ChatRequest((ChatMessage("user", "hi"),), sampling=Sampling(max_tokens=5)), 0.0)
    events = [event for _ in range(20) for _, event in engine.step(0.0)]
    assert isinstance(events[-1], Finished)
    assert engine.token_ids("abc") == engine.token_ids("a") + engine.token_ids("bc")


def test_weights_are_frozen_and_in_evaluation_mode(saved: Specs) -> None:
    pair = load(*saved)
    for side in (pair.target, pair.draft):
        assert not side.model.model.training
        assert not any(p.requires_grad for p in side.model.model.parameters())


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_dtypes(saved: Specs, dtype: str) -> None:
    spec = saved[1].model_copy(update={"dtype": dtype})
    model = loading.load_model(spec)
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}
    loading.check_rewind(loading.CachedModel(model, VOCAB, 256))


def test_the_same_weights_are_held_once(saved: Specs) -> None:
    target, other = saved
    prompted = target.model_copy(update={"system_prompt": "Refuse harm.", "chat_template": "plain"})
    pair = load(target, prompted)
    assert pair.shared
    assert pair.target.model.model is pair.draft.model.model
    assert pair.target.model.cache is not pair.draft.model.cache
    messages = (ChatMessage("user", "hi"),)
    assert pair.target.renderer.render(messages) != pair.draft.renderer.render(messages)
    assert not load(target, other).shared
    for change in ({"dtype": "float64"}, {"adapter": "x"}, {"revision": "y"}, {"device": "cuda"}):
        assert not loading.same_weights(target, target.model_copy(update=change))


@pytest.mark.parametrize(("bound", "expected"), [(None, 256), (64, 64), (1000, 256)])
def test_max_context_bounds_both(saved: Specs, bound: int | None, expected: int) -> None:
    pair = load(*saved, max_context=bound)
    assert (pair.target.model.max_positions, pair.draft.model.max_positions) == (expected, expected)


def test_end_tokens_come_from_template_and_configuration(saved: Specs, copied: Path) -> None:
    end = load(*saved).target.renderer.tokenizer.convert_tokens_to_ids("<|end|>")
    assert end in load(*saved).end_ids
    edit(copied / "generation_config.json", eos_token_id=[65, 66])
    assert load(saved[0], on_cpu(copied)).end_ids >= {end, 65, 66}


def test_a_padded_vocabulary_works_and_padding_is_never_emitted(saved: Specs, copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    padding = torch.full((60, 32), 9.0)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = torch.cat([weights[name], padding, -padding])  # one of each pair has a huge logit
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    edit(copied / "config.json", vocab_size=VOCAB + 120)
    engine = loading.build_engine(saved[0], on_cpu(copied), EngineConfig(), lambda *_: None)
    for temperature in (0.0, 1.5):
        sampling = Sampling(max_tokens=12, temperature=temperature, seed=1)
        engine.submit("a", ChatRequest((ChatMessage("user", "hi"),), sampling=sampling), 0.0)
        events = [event for _ in range(20) for _, event in engine.step(0.0)]
        assert isinstance(events[-1], Finished)
        assert all(e.token_id < VOCAB for e in events if isinstance(e, Token))


def test_a_mismatch_names_the_first_differing_token(saved: Specs, copied: Path) -> None:
    tokenizer = json.loads((copied / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    first, second = (next(t for t, i in vocab.items() if i == n) for n in (40, 41))
    vocab[first], vocab[second] = 41, 40
    (copied / "tokenizer.json").write_text(json.dumps(tokenizer))
    message = refused(VocabularyMismatch, saved[0], on_cpu(copied))
    assert f"token 40 is {first!r} for the target and {second!r} for the draft" in message


def test_a_longer_vocabulary_is_a_mismatch(saved: Specs, copied: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(copied)
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(copied)
    message = refused(VocabularyMismatch, saved[0], on_cpu(copied))
    assert "token 260 is None for the target and '<extra>' for the draft" in message


def test_a_matrix_smaller_than_the_tokenizer_is_refused(saved: Specs, tmp_path: Path) -> None:
    specs = []
    for spec in saved:
        folder = Path(shutil.copytree(spec.name, tmp_path / Path(spec.name).name))
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        tokenizer.add_tokens(["<extra>"])
        tokenizer.save_pretrained(folder)
        specs.append(on_cpu(folder))
    assert "261 tokens" in refused(VocabularyMismatch, *specs)
