"""A request with a seed gives the same bits whatever else is in the batch, in the precisions people use."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import EngineConfig, RefusalPolicy, Sampling, SSDConfig
from langchain_ssd.engine.engine import Engine
from langchain_ssd.events import Token
from langchain_ssd.testing.tiny_pair import tiny_pair


def request(text: str, seed: int | None, temperature: float, block_size: int = 3) -> ChatRequest:
    return ChatRequest(
        (ChatMessage("user", text),),
        sampling=Sampling(temperature=temperature, seed=seed, max_tokens=40),
        safety=SSDConfig(hold_back="none", block_size=block_size),
        refusal=RefusalPolicy(enabled=False),
    )


def numbers(engine: Engine, name: str) -> list[tuple[Any, ...]]:
    """Everything a request's tokens say, evidence to the last bit but the sums that are split by thread."""
    found = []
    while engine.busy:
        found += [e for owner, e in engine.step(0.0) if owner == name and isinstance(e, Token)]
    return [
        (t.token_id, t.mode, t.accepted, t.agreement, t.p_target, t.p_draft, t.p_composite) for t in found
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_the_same_bits_alone_and_in_a_batch(dtype: torch.dtype, temperature: float) -> None:
    pair = tiny_pair("gemma3", divergence=0.02, dtype=dtype, end_ids=frozenset())
    alone = Engine(pair, EngineConfig())
    alone.submit("x", request("tell me", 7, temperature), 0.0)
    expected = numbers(alone, "x")
    assert len(expected) == 40
    crowd = Engine(pair, EngineConfig(max_batch=4))
    for i in range(3):
        crowd.submit(f"before {i}", request("something else " * (i + 1), None, 1.0, block_size=1 + i), 0.0)
        crowd.step(0.0)
    crowd.submit("x", request("tell me", 7, temperature), 0.0)
    crowd.submit("after", request("and another", 3, 0.5), 0.0)
    assert numbers(crowd, "x") == expected


@pytest.mark.parametrize(
    "seeds", [(None, 7, None), (7, None, None), (None, None, 7), (1, 7, None), (1, None, 7)]
)
def test_every_answer_is_complete_wherever_the_seeded_ones_are(seeds: tuple[int | None, ...]) -> None:
    pair = tiny_pair("llama", divergence=0.02, dtype=torch.float32, end_ids=frozenset())
    engine = Engine(pair, EngineConfig(max_batch=3))
    for i, seed in enumerate(seeds):
        engine.submit(str(i), request("tell me " * (i + 1), seed, 0.0), 0.0)
    events = []
    while engine.busy:
        events += engine.step(0.0)
    for i in range(len(seeds)):
        mine = [e for owner, e in events if owner == str(i)]
        expected = Engine(pair, EngineConfig())
        expected.submit("x", request("tell me " * (i + 1), None, 0.0), 0.0)
        assert [e.token_id for e in mine if isinstance(e, Token)] == [n[0] for n in numbers(expected, "x")]
