"""A random tiny pair over a real tokenizer: tokens of many bytes that cross the borders inside a grammar."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
import transformers
from transformers import AutoTokenizer

from langchain_ssd.config import ModelSpec
from langchain_ssd.drafts import default_pair
from langchain_ssd.engine.models import CachedModel
from langchain_ssd.engine.pair import Pair, Side
from langchain_ssd.engine.rendering import Renderer
from langchain_ssd.testing.tiny_pair import diverge


@lru_cache(maxsize=1)
def bpe_pair(divergence: float = 0.3, context: int = 700) -> Pair:
    """The default target's tokenizer (49,152 tokens) and two Llamas of 32 dimensions, in float64."""
    if not default_pair.is_ready():
        pytest.fail("the default pair is not set up; run: langchain-ssd setup")
    tokenizer = AutoTokenizer.from_pretrained(default_pair.default_target().name)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    target = transformers.LlamaForCausalLM(config).double().eval().requires_grad_(False)
    for weight in target.parameters():  # peaked rows, as trained models have them
        weight.mul_(8.0 if weight.shape == (len(tokenizer), 32) else 1.0)
    models = {"target": target, "draft": diverge(target, divergence)}
    renderer = Renderer(tokenizer, ModelSpec(name="bpe"))
    ends = frozenset(tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"]))
    sides = [Side(n, CachedModel(m, len(tokenizer), context), renderer, ends) for n, m in models.items()]
    return Pair(sides[0], sides[1], len(tokenizer))
