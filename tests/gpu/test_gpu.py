"""On a CUDA device: tiny pairs answer as on the CPU, models may sit apart, the default pair runs in bf16."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import EngineConfig, Sampling, SSDConfig
from langchain_ssd.drafts import default_pair
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.loading import build_engine
from langchain_ssd.engine.models import CachedModel, check_rewind
from langchain_ssd.engine.pair import Pair, Side
from langchain_ssd.events import Event, Finished, Token
from langchain_ssd.testing.tiny_pair import FAMILIES, tiny_pair

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SHOWN = SSDConfig(hold_back="none")
REQUESTS = (
    ChatRequest((ChatMessage("user", "hello"),), sampling=Sampling(max_tokens=24), safety=SHOWN),
    ChatRequest(
        (ChatMessage("user", "a longer question"),),
        prefill="Sure",
        sampling=Sampling(max_tokens=24, temperature=0.9, top_p=0.95, seed=3, repetition_penalty=1.2),
        safety=SHOWN,
    ),
    ChatRequest(
        (ChatMessage("user", "x"),),
        sampling=Sampling(max_tokens=24, temperature=1.0, top_k=50, seed=4),
        safety=SSDConfig(monitor="sequential", hold_back="none"),
    ),
)


def moved(side: Side, device: str) -> Side:
    """The same side with its model on a device, and a new cache there."""
    old = side.model
    return replace(side, model=CachedModel(old.model.to(device), old.vocab_size, old.max_positions))


def pair(family: str, target: str, draft: str) -> Pair:
    made = tiny_pair(family, end_ids=frozenset())
    return replace(made, target=moved(made.target, target), draft=moved(made.draft, draft))


def answers(engine: Engine, requests: tuple[ChatRequest, ...]) -> list[list[Event]]:
    events: dict[str, list[Event]] = {str(i): [] for i in range(len(requests))}
    for i, one in enumerate(requests):
        engine.submit(str(i), one, 0.0)
    while engine.busy:
        for name, event in engine.step(0.0):
            events[name].append(event)
    return list(events.values())


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize(("target", "draft"), [("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda")])
def test_answers_equal_those_of_the_cpu(family: str, target: str, draft: str) -> None:
    expected = answers(Engine(pair(family, "cpu", "cpu"), EngineConfig()), REQUESTS)
    got = answers(Engine(pair(family, target, draft), EngineConfig()), REQUESTS)
    for mine, reference in zip(got, expected, strict=True):
        assert isinstance(mine[-1], Finished)
        tokens, wanted = ([e for e in x if isinstance(e, Token)] for x in (mine, reference))
        assert [t.token_id for t in tokens] == [t.token_id for t in wanted]
        assert [t.mode for t in tokens] == [t.mode for t in wanted]
        assert [t.kl for t in tokens] == pytest.approx([t.kl for t in wanted], rel=1e-6, abs=1e-8)
        assert [t.p_composite for t in tokens] == pytest.approx([t.p_composite for t in wanted], rel=1e-6)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_caches_rewind(family: str, dtype: torch.dtype) -> None:
    made = tiny_pair(family, dtype=dtype)
    check_rewind(moved(made.target, "cuda").model)


def test_the_default_pair_answers_in_bfloat16() -> None:
    if not default_pair.is_ready():
        pytest.skip("the default pair is not set up: run `langchain-ssd setup`")
    update = {"device": "cuda", "dtype": "bfloat16"}
    specs = [
        spec.model_copy(update=update)
        for spec in (default_pair.default_target(), default_pair.default_draft())
    ]
    engine = build_engine(*specs, EngineConfig(), lambda *_: None)
    info = engine.info()
    assert [(info[side]["device"], info[side]["dtype"]) for side in ("target", "draft")] == [
        ("cuda:0", "bfloat16")
    ] * 2
    question = ChatRequest(
        (ChatMessage("user", "What is the capital of France?"),),
        sampling=Sampling(max_tokens=24),
        safety=SHOWN,
    )
    [events] = answers(engine, (question,))
    assert isinstance(events[-1], Finished)
    assert "Paris" in "".join(e.text for e in events if isinstance(e, Token))
