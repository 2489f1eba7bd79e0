"""What the benchmarks share: the machine in words, the default pair, medians, tables and result files."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
PROMPTS = [
    "Why is the sky blue? Explain it to a child.",
    "Write a short story about a lighthouse keeper and a storm.",
    "Give me a plan for learning to cook in four weeks.",
    "What should I look at when I buy a used bicycle?",
    "Explain how a refrigerator works, step by step.",
    "Write an email that invites my team to a picnic.",
    "Compare trains and planes for a trip of 500 kilometres.",
    "Describe a day in the life of a bee.",
]


def machine() -> dict[str, str]:
    """The machine and the versions, for the record beside every figure."""
    import torch
    import transformers

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            x.split(":", 1)[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")
        ]
        model = names[0] if names else model
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    return {
        "cpu": f"{model}, {os.cpu_count()} cores",
        "gpu": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }


def median_seconds(work: Callable[[], object], runs: int = 15, warmup: int = 2) -> float:
    """Median wall time of a call."""
    for _ in range(warmup):
        work()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def show(name: str, title: str, rows: list[dict[str, Any]], note: str = "", command: str = "") -> None:
    """Print a table and write ``results/NAME.json``."""
    table = Table(title=title, caption=note or None)
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console(width=120).print(table)
    RESULTS.mkdir(exist_ok=True)
    command = command or f"python -m benchmarks {name}"
    record = {"benchmark": title, "command": command, "machine": machine(), "note": note, "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
