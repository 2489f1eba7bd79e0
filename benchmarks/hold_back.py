"""What hold-back costs benign streams: how long a token's text waits, in tokens and milliseconds.

Every prompt is decoded twice, greedily: once with each text released at once, once with the default. The
tokens are the same, so the difference between the two releases of a token is what hold-back costs it.
"""

from __future__ import annotations

import time
from statistics import mean, median
from typing import Any

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import EngineConfig, Sampling, SSDConfig
from langchain_ssd.drafts.default_pair import DRAFTS, default_draft, default_target
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.loading import load_pair
from langchain_ssd.events import Token
from langchain_ssd.profile import find_profile

from .common import PROMPTS, show

TOKENS, ASKED = 64, 4


def main() -> None:
    """Both default drafts with the monitor of their profile, and the paper's monitor."""
    rows = []
    for name in DRAFTS:
        pair = load_pair(default_target(), default_draft(name), EngineConfig(), lambda stage, part: None)
        profile = find_profile(None, default_target(), default_draft(name))
        calibrated = profile.apply(SSDConfig()) if profile else SSDConfig()
        engine = Engine(pair, EngineConfig())
        for safety in (calibrated, SSDConfig()):
            rows.append({"draft": name, "monitor": safety.monitor, **measured(engine, safety)})
            print(rows[-1], flush=True)
    note = f"bf16, one stream, greedy, {ASKED} benign prompts, up to {TOKENS} tokens"
    show("hold_back", "What hold-back costs a benign stream", rows, note)


def measured(engine: Engine, safety: SSDConfig) -> dict[str, Any]:
    """Delays of every token of every prompt."""
    waits: list[tuple[int, float]] = []
    firsts: list[float] = []
    for text in PROMPTS[:ASKED]:
        emitted, _ = released(engine, text, safety.model_copy(update={"hold_back": "none"}))
        shown, clock = released(engine, text, safety.model_copy(update={"hold_back": "verdict"}))
        # Both runs take the same steps, so one clock times both: two clocks would differ by noise.
        for index, (came, went) in enumerate(zip(emitted, shown, strict=False)):
            later = sum(step <= went for step in emitted) - 1 - index
            waits.append((max(0, later), clock[went] - clock[came]))
        firsts.append(clock[shown[0]] - clock[emitted[0]])
    tokens = [n for n, _ in waits]
    return {
        "tokens": len(waits),
        "shown at once": sum(n == 0 for n in tokens) / len(tokens),
        "waits, tokens (mean)": mean(tokens),
        "waits, tokens (most)": max(tokens),
        "waits, ms (mean)": 1000 * mean(seconds for _, seconds in waits),
        "first token later by, ms (median)": 1000 * median(firsts),
    }


def released(engine: Engine, text: str, safety: SSDConfig) -> tuple[list[int], list[float]]:
    """The engine's step at which each token's text was released, and the time at the end of each step."""
    request = ChatRequest((ChatMessage("user", text),), sampling=Sampling(max_tokens=TOKENS), safety=safety)
    began, steps, clock = time.perf_counter(), [], []
    engine.submit("x", request, 0.0)
    while engine.busy:
        events = [e for _, e in engine.step(0.0) if isinstance(e, Token)]
        steps += [len(clock)] * len(events)
        clock.append(time.perf_counter() - began)
    return steps, clock
