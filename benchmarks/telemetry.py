"""Tokens per second of a stream with three risk handlers on beside one without, in one run, turn by turn."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from langchain_ssd import ChatSSD
from langchain_ssd.telemetry import JsonlRiskLogger, LoggingRiskHandler, PrometheusRiskHandler

from .common import PROMPTS, show

TOKENS, ROUNDS = 64, 2
AIM = 0.97


def main() -> None:
    """The default pair in its worker, as an application has it."""
    with tempfile.TemporaryDirectory() as folder, ChatSSD(max_tokens=TOKENS) as model:
        quiet = logging.getLogger("benchmarks.risk")
        quiet.propagate = False
        handlers = [
            JsonlRiskLogger(Path(folder) / "risk.jsonl"),
            LoggingRiskHandler(quiet),
            PrometheusRiskHandler(),
        ]
        model.warm_up()
        speeds(model, "warm up", [])
        ratios, plain = [], []
        for number in range(ROUNDS):
            for text in PROMPTS:
                order = ([], handlers) if number % 2 else (handlers, [])
                first, second = (speeds(model, text, some) for some in order)
                without, with_them = (first, second) if number % 2 else (second, first)
                ratios.append(with_them / without)
                plain.append(without)
    rows = [
        {
            "handlers": "JSONL, logging, Prometheus",
            "tokens/s without": median(plain),
            "ratio (median of pairs)": median(ratios),
            "pairs": len(ratios),
            "aim": AIM,
        }
    ]
    how = f"up to {TOKENS} tokens, {ROUNDS} rounds of {len(PROMPTS)} prompts"
    note = f"default pair in bf16, one stream, greedy, {how}"
    show("telemetry", "What telemetry costs", rows, note)


def speeds(model: ChatSSD, text: str, handlers: list[Any]) -> float:
    """Tokens per second of one stream."""
    began, tokens = time.perf_counter(), 0
    for chunk in model.stream(text, {"callbacks": handlers}):
        tokens += len(chunk.response_metadata.get("ssd_trace", []))
    return tokens / (time.perf_counter() - began)
