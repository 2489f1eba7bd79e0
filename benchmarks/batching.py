"""Does the rest of a batch change an answer? In exact arithmetic never; in bfloat16 the last bits may differ.

A request with a seed therefore shares no pass with others (outside float64): its answer is its own. One
without shares them, and is faster. The same requests are decoded alone and together.
"""

from __future__ import annotations

import time

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import EngineConfig, Sampling
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.pair import Pair
from langchain_ssd.events import Token

from .common import PROMPTS, show
from .pair import default_pair

TOKENS = 64


def answers(pair: Pair, temperature: float, max_batch: int) -> tuple[list[list[int]], float]:
    """Token ids of every prompt's answer, and the seconds for all."""
    seeded = temperature > 0
    engine = Engine(pair, EngineConfig(max_batch=max_batch))
    for i, text in enumerate(PROMPTS):
        sampling = Sampling(temperature=temperature, max_tokens=TOKENS, seed=i if seeded else None)
        engine.submit(str(i), ChatRequest((ChatMessage("user", text),), sampling=sampling), 0.0)
    found: list[list[int]] = [[] for _ in PROMPTS]
    began = time.perf_counter()
    while engine.busy:
        for name, event in engine.step(0.0):
            if isinstance(event, Token):
                found[int(name)].append(event.token_id)
    return found, time.perf_counter() - began


def common(a: list[int], b: list[int]) -> int:
    """Tokens both answers begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def main() -> None:
    """Greedy and sampled, in the weights' own precision."""
    pair, rows = default_pair(), []
    for name, temperature in (("greedy, no seed", 0.0), ("sampled, with a seed", 0.8)):
        alone, slow = answers(pair, temperature, 1)
        together, fast = answers(pair, temperature, len(PROMPTS))
        same = sum(a == b for a, b in zip(alone, together, strict=True))
        shared = sum(common(a, b) for a, b in zip(alone, together, strict=True))
        total = sum(len(a) for a in alone)
        rows.append(
            {
                "decoding": name,
                "equal answers": f"{same} of {len(PROMPTS)}",
                "tokens before they part": f"{shared} of {total}",
                "tokens/s alone": total / slow,
                "tokens/s together": sum(len(b) for b in together) / fast,
            }
        )
    show(
        "batching",
        "One at a time and eight together, bfloat16",
        rows,
        "in float64 all are equal (tests/laws)",
    )
