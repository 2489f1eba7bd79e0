"""The model seam, for many families: whatever is extended, rewound, kept and moved, the rows are those
of one pass without a cache, in float64."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from langchain_ssd.engine.models import CachedModel, check_rewind
from langchain_ssd.engine.reading import context_length
from langchain_ssd.errors import UnsupportedModel
from langchain_ssd.testing.tiny_pair import FAMILIES, VOCAB, tiny_model

CONTEXT = 256
WINDOW = 6


def _common() -> dict[str, Any]:
    return {
        "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": CONTEXT, "bos_token_id": None,
        "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip


OTHERS: dict[str, Callable[[], Any]] = {
    "qwen3": lambda: transformers.Qwen3Config(**_common(), num_key_value_heads=2, head_dim=8),
    "phi3": lambda: transformers.Phi3Config(**_common(), num_key_value_heads=2, sliding_window=WINDOW),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**_common()),
    "gemma2": lambda: transformers.Gemma2Config(
        **_common(), num_key_value_heads=2, head_dim=8, sliding_window=WINDOW, query_pre_attn_scalar=8
    ),
    "olmo2": lambda: transformers.Olmo2Config(**_common(), num_key_value_heads=2),
}
ALL = sorted([*FAMILIES, *OTHERS])


def network(family: str) -> nn.Module:
    if family in FAMILIES:
        return tiny_model(family, context=CONTEXT)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(OTHERS[family]()).to(torch.float64)
        for weight in model.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.35)
    return model.eval().requires_grad_(False)


def ids(n: int, seed: int) -> list[int]:
    return torch.randint(0, VOCAB, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.inference_mode()
def plain(model: nn.Module, tokens: list[int]) -> torch.Tensor:
    """Rows of one pass without a cache ``(n, V)``."""
    return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]


def same(a: torch.Tensor, b: torch.Tensor, family: str = "") -> None:
    # Gemma 2's attention with capped scores takes its softmax in float32, whatever the weights are.
    tolerance = 1e-4 if family == "gemma2" else 1e-8
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def opened(family: str, rows: int) -> CachedModel:
    model = CachedModel(network(family), VOCAB, CONTEXT)
    for _ in range(rows):
        model.join()
    return model


@pytest.mark.parametrize("family", ALL)
def test_ragged_batches_with_rewinds_equal_plain_passes(family: str) -> None:
    """Three rows, prompts of different lengths, garbage that is taken back, beyond any sliding window."""
    model = opened(family, 3)
    texts = [ids(n, n) for n in (33, 20, 27)]
    expected = [plain(model.model, text) for text in texts]
    for row, text in enumerate(texts):  # prompts one by one
        out = model.extend([text[: 4 + 3 * row]], first_row=row, rows_wanted=False)
        assert out.numel() == 0
    step = 0
    while any(model.lengths[row] < len(text) for row, text in enumerate(texts)):
        known = list(model.lengths)
        model.extend([ids((step + row) % 4, step) for row in range(3)] if step % 3 else [[1, 2], [], [3]])
        for row, length in enumerate(known):
            model.rewind(row, length)
        chunks = [
            t[n : n + 1 + (step + row) % 3] for row, (t, n) in enumerate(zip(texts, known, strict=True))
        ]
        parts = torch.split(model.extend(chunks), [len(c) for c in chunks])
        for row, (part, chunk) in enumerate(zip(parts, chunks, strict=True)):
            same(part, expected[row][known[row] : known[row] + len(chunk)], family)
        step += 1
    assert model.lengths == [33, 20, 27]


@pytest.mark.parametrize("family", ALL)
def test_a_deep_rewind_past_the_window(family: str) -> None:
    model = opened(family, 2)
    text, other = ids(30, 1), ids(30, 2)
    model.extend([text, other[:5]])
    model.rewind(0, 10)
    out = model.extend([other[:12], other[5:9]])
    same(out[:12], plain(model.model, text[:10] + other[:12])[10:], family)
    same(out[12:], plain(model.model, other[:9])[5:], family)


@pytest.mark.parametrize("family", ALL)
def test_a_tree_scores_every_path_and_keeps_one(family: str) -> None:
    """prefix ─ 0 ─ 2 ─ 4        one tree and, beside it, a chain
    └ 1 ─ 3
    """
    model = opened(family, 2)
    prefix, other = ids(12, 1), ids(9, 2)
    model.extend([prefix, other[:6]])
    tree = ids(5, 3)
    parents = [-1, -1, 0, 1, 2]
    out = model.extend([tree, other[6:]], parents=[parents, [-1, 0, 1]])
    for path in ([0, 2, 4], [1, 3]):
        same(out[path], plain(model.model, prefix + [tree[i] for i in path])[12:], family)
    same(out[5:], plain(model.model, other)[6:], family)
    model.keep(0, [1, 3])
    model.keep(1, [0, 1])
    assert model.lengths == [14, 8]
    more = ids(4, 4)
    out = model.extend([more, more[:2]])
    same(out[:4], plain(model.model, [*prefix, tree[1], tree[3], *more])[14:], family)
    same(out[4:], plain(model.model, other[:8] + more[:2])[8:], family)


@pytest.mark.parametrize("family", ALL)
def test_leaving_moves_the_last_row_and_clears_its_place(family: str) -> None:
    model = opened(family, 3)
    texts = [ids(14, n) for n in range(3)]
    model.extend([t[:n] for t, n in zip(texts, (7, 10, 12), strict=True)])
    model.leave(0)
    assert model.lengths == [12, 10]
    assert not any(store[2].any() for store in model.cache._stores())  # nothing of it is left behind
    out = model.extend([texts[2][12:], texts[1][10:]])
    same(out[:2], plain(model.model, texts[2])[12:], family)
    same(out[2:], plain(model.model, texts[1])[10:], family)
    model.leave(1)
    model.leave(0)
    assert model.lengths == []
    assert not any(store.any() for store in model.cache._stores())
    assert model.join() == 0
    same(model.extend([texts[0]]), plain(model.model, texts[0]), family)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_capacity_grows_and_keeps_what_is_stored(family: str) -> None:
    model = opened(family, 1)
    text = ids(250, 0)
    model.extend([text[:100]], rows_wanted=False)
    assert model.cache.placement.capacity == (1, 128)
    for _ in range(2):
        model.join()
    model.extend([[], text[:3], text[:5]])
    before = model.cache.nbytes
    out = model.extend([text[100:240], [], []])
    assert model.cache.nbytes > before
    same(out[-5:], plain(model.model, text[:240])[-5:], family)
    out = model.extend([text[240:], text[3:6], text[5:6]])
    same(out[:10], plain(model.model, text)[240:], family)
    same(out[10:13], plain(model.model, text[:6])[3:], family)
    same(out[13:], plain(model.model, text[:6])[5:], family)


def test_a_growth_that_runs_out_of_memory_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request that is too long must not spoil the cache for the next ones."""
    model = opened("llama", 1)
    text = ids(200, 0)
    model.extend([text[:10]])
    second = model.cache.layers[1]
    grow = second.grow
    monkeypatch.setattr(second, "grow", _raise_out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        model.extend([text[10:]])
    assert model.lengths == [10]
    monkeypatch.setattr(second, "grow", grow)
    same(model.extend([text[10:14]]), plain(model.model, text[:14])[10:])
    same(model.extend([text[14:]]), plain(model.model, text)[14:])


def _raise_out_of_memory(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("no memory")


def test_a_pass_that_raises_leaves_the_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened("llama", 2)
    text = ids(12, 0)
    model.extend([text[:5], text[:7]])
    layer = model.model.model.layers[1]
    forward = layer.forward
    monkeypatch.setattr(layer, "forward", _raise_out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        model.extend([[9, 9, 9], [8]])
    monkeypatch.setattr(layer, "forward", forward)
    out = model.extend([text[5:], text[7:]])
    same(out, torch.cat([plain(model.model, text)[5:], plain(model.model, text)[7:]]))


def test_rewinding_forward_is_an_error() -> None:
    model = opened("llama", 1)
    model.extend([[1, 2, 3]])
    for length in (4, -1):
        with pytest.raises(ValueError, match="rewound"):
            model.rewind(0, length)


def test_padding_of_the_matrix_is_cut_off() -> None:
    model = CachedModel(network("llama"), 200, CONTEXT)
    model.join()
    assert model.extend([[1, 2]]).shape == (2, 200)


@pytest.mark.parametrize("family", ALL)
def test_check_rewind_accepts_what_works(family: str) -> None:
    model = CachedModel(network(family), VOCAB, CONTEXT)
    check_rewind(model)
    assert model.lengths == []
    assert not any(store.any() for store in model.cache._stores())


def shifted_positions(model: nn.Module) -> Callable[..., Any]:
    forward = model.forward
    return lambda *a, position_ids=None, **kw: forward(
        *a, position_ids=None if position_ids is None else position_ids + 1 + position_ids % 2, **kw
    )


def without_mask(model: nn.Module) -> Callable[..., Any]:
    forward = model.forward
    return lambda *a, attention_mask=None, **kw: forward(
        *a, attention_mask=None if attention_mask is None else torch.zeros_like(attention_mask), **kw
    )


def without_cache(model: nn.Module) -> Callable[..., Any]:
    forward = model.forward
    return lambda *a, past_key_values=None, attention_mask=None, **kw: forward(*a, **kw)


def nan_logits(model: nn.Module) -> Callable[..., Any]:
    return lambda input_ids, **kw: SimpleNamespace(logits=torch.full((*input_ids.shape, VOCAB), torch.nan))


def raising(model: nn.Module) -> Callable[..., Any]:
    def forward(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the model says no")

    return forward


@pytest.mark.parametrize("sabotage", [shifted_positions, without_mask, without_cache, nan_logits, raising])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_check_rewind_refuses_a_sabotaged_model(
    sabotage: Callable[..., Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CachedModel(tiny_model("llama", dtype=dtype), VOCAB, CONTEXT)
    monkeypatch.setattr(model.model, "forward", sabotage(model.model))
    with pytest.raises(UnsupportedModel):
        check_rewind(model)


def test_within_its_context_no_row_feels_the_length_of_another() -> None:
    """LongRoPE changes its frequencies for a whole batch once one row is long: contexts must end before."""
    config = transformers.Phi3Config(
        **_common(),
        num_key_value_heads=2,
        original_max_position_embeddings=16,
        rope_scaling={"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).to(torch.float64).eval()
    context = context_length(config, None)
    alone, beside = (CachedModel(model, VOCAB, context) for _ in range(2))
    alone.join()
    beside.join(), beside.join()
    beside.extend([ids(min(40, context - 1), 0)], first_row=1, rows_wanted=False)
    same(beside.extend([[1, 2, 3, 4], [5]])[:4], alone.extend([[1, 2, 3, 4]]))
