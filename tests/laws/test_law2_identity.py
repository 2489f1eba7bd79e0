"""Law 2: at the ends of alpha the composite is one model's own greedy choice."""

from __future__ import annotations

import pytest
import torch

from langchain_ssd.config import EngineConfig
from langchain_ssd.decoding.monitor import Mode
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.pair import Pair
from langchain_ssd.events import Token
from langchain_ssd.testing.tiny_pair import FAMILIES, tiny_pair

from .driving import Case, pin, run
from .reference import Settings


def greedy(model: torch.nn.Module, prompt: list[int], length: int) -> list[int]:
    """A model's own greedy continuation, without a cache."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(length):
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def decode(pair: Pair, monkeypatch: pytest.MonkeyPatch, mode: Mode, alpha: float, c: int) -> list[int]:
    pin(monkeypatch, mode, alpha)
    settings = Settings(c=c, alpha_utility=alpha, alpha_floor=0.0, alpha_safety=alpha)
    case = Case("tell me", settings, block_size=4, max_tokens=20)
    events = run(Engine(pair, EngineConfig()), [case])[0]
    return [e.token_id for e in events if isinstance(e, Token)]


@pytest.mark.parametrize("c", [1, 10, 100])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_utility_at_alpha_0_is_the_target(family: str, c: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = tiny_pair(family, divergence=0.1, end_ids=frozenset())
    messages = Case("tell me").request().messages
    own = greedy(pair.target.model.model, pair.target.renderer.render(messages), 20)
    assert decode(pair, monkeypatch, "utility", 0.0, c) == own


@pytest.mark.parametrize("c", [1, 10, 100])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_safety_at_alpha_1_is_the_draft(family: str, c: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = tiny_pair(family, divergence=0.1, end_ids=frozenset())
    messages = Case("tell me").request().messages
    own = greedy(pair.draft.model.model, pair.draft.renderer.render(messages), 20)
    assert decode(pair, monkeypatch, "safety", 1.0, c) == own
