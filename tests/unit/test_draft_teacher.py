"""The target's rows along its answers: what is stored is what it says, and it is asked once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from langchain_ssd.drafts import teacher as page
from langchain_ssd.drafts.forward import has_plain_head
from langchain_ssd.drafts.teacher import TeacherStore, TopRows, sequence_key, store_top_rows, top_rows
from langchain_ssd.testing.tiny_pair import tiny_model

from .draft_helpers import sequences

K = 12
WANTED = [(ids, 1 + n % 5) for n, ids in enumerate(sequences(9))]


@torch.inference_mode()
def direct(model: nn.Module, ids: list[int], start: int) -> torch.Tensor:
    """Log-probabilities of the rows that predict ``ids[start:]``, from one sequence alone."""
    return model(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1].log_softmax(-1)


def same_rows(rows: TopRows, model: nn.Module, ids: list[int], start: int) -> None:
    top = direct(model, ids, start).topk(K, dim=-1)
    assert torch.equal(rows.ids.long(), top.indices)
    torch.testing.assert_close(rows.log_probs.double(), top.values.double(), rtol=1e-3, atol=1e-3)


class Counting:
    """Counts what the teacher is asked."""

    def __init__(self) -> None:
        self.tokens = 0

    def __call__(self, tokens: int) -> None:
        self.tokens += tokens


def stored(folder: Path, wanted: Any = WANTED) -> TeacherStore:
    store = TeacherStore(folder)
    store_top_rows(tiny_model(), wanted, store, budget=100, k=K)
    return store


# Rows


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3", "gpt2", "opt"])
def test_rows_of_a_padded_batch_are_those_of_each_sequence_alone(family: str) -> None:
    model = tiny_model(family)
    found = top_rows(model, [ids for ids, _ in WANTED], [start for _, start in WANTED], K)
    assert [len(r.ids) for r in found] == [len(ids) - start for ids, start in WANTED]
    for rows, (ids, start) in zip(found, WANTED, strict=True):
        same_rows(rows, model, ids, start)


def test_a_model_that_caps_its_logits_is_read_through_its_whole_forward() -> None:
    config = transformers.Gemma2Config(
        vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, final_logit_softcapping=2.0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    assert not has_plain_head(model)
    model.get_output_embeddings().weight.mul_(15)  # else the cap changes nothing
    ids, start = WANTED[0]
    (rows,) = top_rows(model, [ids], [start], K)
    same_rows(rows, model, ids, start)


def test_a_key_depends_on_the_tokens_and_the_start() -> None:
    keys = {sequence_key(ids, start) for ids, start in [((1, 2), 1), ((1, 2), 2), ((2, 1), 1), ((12,), 1)]}
    assert len(keys) == 4
    assert sequence_key([1, 2], 1) in keys


# The store


def test_a_store_survives_reopening(tmp_path: Path) -> None:
    stored(tmp_path)
    again = TeacherStore(tmp_path)
    assert len(again) == len(WANTED)
    loaded, model = again.load(), tiny_model()
    for ids, start in WANTED:
        assert sequence_key(ids, start) in again
        same_rows(loaded[sequence_key(ids, start)], model, ids, start)


def test_a_partial_file_of_an_interrupted_run_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "teacher-00000.tmp").write_bytes(b"half of a shard")
    assert len(TeacherStore(tmp_path)) == 0
    assert len(stored(tmp_path).load()) == len(WANTED)
    assert len(TeacherStore(tmp_path)) == len(WANTED)


def test_nothing_partial_is_left_behind(tmp_path: Path) -> None:
    stored(tmp_path)
    assert [p.suffix for p in tmp_path.iterdir()] == [".safetensors"]


def test_what_is_stored_is_not_asked_again(tmp_path: Path) -> None:
    stored(tmp_path, WANTED[:4])
    asked = Counting()
    store_top_rows(tiny_model(), WANTED, TeacherStore(tmp_path), k=K, progress=asked)
    assert asked.tokens == sum(len(ids) for ids, _ in WANTED[4:])
    asked = Counting()
    store_top_rows(None, WANTED, TeacherStore(tmp_path), k=K, progress=asked)
    assert asked.tokens == 0


def test_a_sequence_that_is_wanted_twice_is_asked_once(tmp_path: Path) -> None:
    asked = Counting()
    store_top_rows(tiny_model(), [WANTED[0]] * 3, TeacherStore(tmp_path), k=K, progress=asked)
    assert asked.tokens == len(WANTED[0][0])


def test_an_interruption_keeps_the_shards_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_SHARD", 3)
    asked = Counting()

    def stop(tokens: int) -> None:
        asked(tokens)
        if asked.tokens > sum(len(ids) for ids, _ in WANTED[:3]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_top_rows(tiny_model(), WANTED, TeacherStore(tmp_path), k=K, progress=stop)
    again = TeacherStore(tmp_path)
    assert set(again.load()) == {sequence_key(*item) for item in WANTED[:3]}


def test_shards_hold_a_few_sequences_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_SHARD", 4)
    store = stored(tmp_path)
    assert len(list(tmp_path.glob("teacher-*.safetensors"))) == 3
    assert store.load().keys() == TeacherStore(tmp_path).load().keys()
