"""Import time of the package and of ChatSSD against langchain-core's chat models, in fresh processes."""

from __future__ import annotations

import statistics
import subprocess
import sys

from .common import show

CORE = "import langchain_core.language_models.chat_models"
_TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
RUNS = 15


def seconds(statement: str) -> float:
    """Import time inside one fresh process."""
    out = subprocess.run(
        [sys.executable, "-c", _TIMED.format(statement)], capture_output=True, text=True, check=True
    )
    return float(out.stdout)


def main() -> None:
    """In turn, so that a drift of the machine meets all alike."""
    statements = {
        "langchain_core chat models": CORE,
        "import langchain_ssd": f"{CORE}; import langchain_ssd",
        "from langchain_ssd import ChatSSD": "from langchain_ssd import ChatSSD",
    }
    found: dict[str, list[float]] = {name: [] for name in statements}
    for name in [*statements] * (RUNS + 1):
        found[name].append(seconds(statements[name]))
    base = statistics.median(found["langchain_core chat models"][1:])
    rows = []
    for name, times in found.items():
        ratio = statistics.median(
            a / b for a, b in zip(times[1:], found["langchain_core chat models"][1:], strict=True)
        )
        rows.append({"what": name, "ms": statistics.median(times[1:]) * 1e3, "ratio": ratio})
    note = (
        f"medians of {RUNS} fresh processes, ratios pair by pair; limit 1.15; core alone {base * 1e3:.0f} ms"
    )
    show("imports", "Import time", rows, note)
