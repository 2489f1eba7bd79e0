"""Engine overhead: per target pass, everything that is not a model forward, in one-token target forwards."""

from __future__ import annotations

import time
from typing import Any

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import EngineConfig, Sampling, SSDConfig
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.models import CachedModel
from langchain_ssd.engine.pair import Pair

from .common import PROMPTS, show
from .pair import default_pair, one_token_forward

TOKENS = 96


class Meter:
    """Adds up the time a model spends inside its own forward."""

    def __init__(self, *models: CachedModel) -> None:
        self.seconds = 0.0
        for model in models:
            network = model.model
            if not hasattr(network, "metered"):
                network.metered = network.forward  # type: ignore[assignment]
            network.forward = self._metered(network.metered)  # type: ignore[method-assign, arg-type]

    def _metered(self, forward: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return forward(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - began

        return call


def measure(pair: Pair, streams: int, temperature: float, monitor: str) -> dict[str, float]:
    """Decode, and split the time of the steps after the prompts into forwards and everything else."""
    engine = Engine(pair, EngineConfig(max_batch=streams))
    for i in range(streams):
        request = ChatRequest(
            (ChatMessage("user", PROMPTS[i % len(PROMPTS)]),),
            sampling=Sampling(temperature=temperature, max_tokens=TOKENS),
            safety=SSDConfig(monitor=monitor),  # type: ignore[arg-type]
        )
        engine.submit(str(i), request, 0.0)
    engine.step(0.0)  # prompts
    meter = Meter(pair.target.model, pair.draft.model)
    passes, began, tokens = pair.target.model.passes, time.perf_counter(), 0
    while engine.busy and engine.running == streams:
        tokens += sum(event.kind == "token" for _, event in engine.step(0.0))
    total = time.perf_counter() - began
    engine.close()
    passes = pair.target.model.passes - passes
    return {"outside": (total - meter.seconds) / passes, "total": total / passes, "tokens": tokens / total}


def main() -> None:
    """One stream and eight, greedy and sampled."""
    pair = default_pair()
    rows = []
    for streams in (1, 8):
        for name, temperature, monitor in (
            ("greedy, paper", 0.0, "paper"),
            ("greedy, sequential", 0.0, "sequential"),
            ("sampled, paper", 0.8, "paper"),
        ):
            forward, batch_forward = one_token_forward(pair), one_token_forward(pair, streams)
            found = measure(pair, streams, temperature, monitor)
            rows.append(
                {
                    "streams": streams,
                    "decoding": name,
                    "outside forwards, ms": found["outside"] * 1e3,
                    "one-token forward, ms": forward * 1e3,
                    "ratio": found["outside"] / forward,
                    "ratio to a forward of all streams": found["outside"] / batch_forward,
                    "tokens/s": found["tokens"],
                }
            )
    show(
        "overhead",
        "Engine overhead per target pass (limit 0.10)",
        rows,
        f"bf16, block size 3, {TOKENS} tokens",
    )
