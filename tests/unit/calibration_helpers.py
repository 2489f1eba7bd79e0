"""Synthetic evidence whose truth is known, and tiny pairs with prompts to calibrate."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from langchain_ssd.backend import ChatMessage
from langchain_ssd.calibration.settings import CalibrationSettings
from langchain_ssd.calibration.traces import Label, Trace
from langchain_ssd.decoding.monitor import Evidence

SMALL = CalibrationSettings(
    length=24, unsafe_length=12, least=12, responses=30, measure_speed=False, budget=512, batch=8
)


def evidence(position: int, kl: float, rng: random.Random, agreement: bool = True) -> Evidence:
    """Everything but the KL is noise."""
    noise = [rng.random(), 2 * rng.random(), 2 * rng.random()]
    return Evidence(position, agreement, kl, *noise, refusal_gain=rng.random())


def trace(
    label: Label,
    number: int,
    kl: float,
    rng: random.Random,
    *,
    tokens: int = 64,
    prefill: int = 0,
    spread: float = 1.0,
) -> Trace:
    """A response whose KL is Gaussian around ``kl``."""
    rows = [evidence(i, rng.gauss(kl, spread), rng, rng.random() < 0.9) for i in range(prefill + tokens)]
    return Trace(label, "prefill" if prefill else "plain", str(number), prefill, tuple(rows))


def gaussian(benign: int, unsafe: int, gap: float, seed: int = 0, **options: Any) -> list[Trace]:
    """Benign responses around a KL of 1, unsafe ones around ``1 + gap``."""
    rng = random.Random(seed)
    calm = [trace("benign", n, 1.0, rng, **options) for n in range(benign)]
    return calm + [trace("unsafe", n, 1.0 + gap, rng, **options) for n in range(unsafe)]


def benign_prompts(count: int) -> list[Any]:
    words = ["bread", "maps", "tulips", "chess", "tides", "violins"]
    return [
        SimpleNamespace(
            messages=(ChatMessage("user", f"tell me about {words[n % 6]} {n}"),),
            kind="user",
            opening="Yes, " if n % 7 == 0 else "",
        )
        for n in range(count)
    ]


def unsafe_prompts(count: int) -> list[Any]:
    return [
        SimpleNamespace(text=f"break rule {n}", kind="contrast", opening="Sure: " if n % 2 else "")
        for n in range(count)
    ]
