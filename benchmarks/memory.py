"""Peak memory of the worker, and what the parent adds to a process that imports langchain-core.

The worker's limit: the weights of both models, plus caches, plus 700 MiB. The parent's: 60 MiB.
"""

from __future__ import annotations

import json
import subprocess
import sys

from langchain_ssd.drafts.default_pair import default_draft, default_target
from langchain_ssd.engine.reading import weight_bytes

from .common import show

MIB = 2**20
_CORE = """
import langchain_core.language_models.chat_models, json, psutil
def peak(pid="self"):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
"""
_PARENT = _CORE + "print(json.dumps({'rss': peak()}))"
_SSD = (
    _CORE
    + """
from langchain_ssd import ChatSSD
model = ChatSSD(max_tokens=128)
answers = model.batch(["Write a story about the sea. Number %d." % i for i in range(8)])
print(json.dumps({
    "rss": peak(),
    "worker": max(peak(child.pid) for child in psutil.Process().children()),
    "tokens": sum(a.usage_metadata["total_tokens"] for a in answers),
}))
model.close()
"""
)


def run(script: str) -> dict[str, int]:
    """Run a script in a fresh process; it prints JSON on its last line."""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(out.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Eight requests at once through the default pair."""
    base, found = run(_PARENT), run(_SSD)
    target, draft = default_target(), default_draft()
    shared = target.name == draft.name
    weights = (weight_bytes(target) or 0) + (0 if shared else weight_bytes(draft) or 0)
    layers, heads, dim, sides = 30, 3, 64, 2
    caches = found["tokens"] * 2 * layers * heads * dim * 2 * sides  # keys and values, bf16, both models
    rows = [
        {
            "process": "worker, peak",
            "MiB": found["worker"] / MIB,
            "weights": weights / MIB,
            "caches": caches / MIB,
            "beyond both": (found["worker"] - weights - caches) / MIB,
            "limit": 700,
        },
        {
            "process": "parent, added",
            "MiB": (found["rss"] - base["rss"]) / MIB,
            "weights": 0.0,
            "caches": 0.0,
            "beyond both": (found["rss"] - base["rss"]) / MIB,
            "limit": 60,
        },
    ]
    note = "default pair, 8 requests of 128 tokens at once" + (
        "; both sides share the weights" if shared else ""
    )
    show("memory", "Memory", rows, note)
