"""``python -m benchmarks [NAME …]``: run all benchmarks, or the named ones."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from langchain_ssd.worker.child import MALLOC

NAMES = {
    "composite": "composite of 64 pairs of rows against one target forward",
    "overhead": "everything that is not a model forward, per target pass",
    "published": "against a plain re-statement of the published algorithm",
    "memory": "peak memory of worker and parent",
    "imports": "import time of the package",
    "speed": "tokens per second beside the target alone",
    "drafts": "the same for both default drafts, and for a costlier target",
    "holes": "holes 4 and 6 of the paper monitor before and after calibration",
    "grammar": "tokens per second under a grammar beside free text",
    "forms": "whether a form trips the monitor: benign prompts with and without a schema",
    "grammar_libraries": "llguidance against xgrammar: masks, compiling, rollback (needs xgrammar)",
    "hold_back": "what hold-back costs benign streams, in tokens and milliseconds",
    "telemetry": "tokens per second with three risk handlers on",
    "tool_injection": "alarms of the pair over results of tools, clean and with an injected instruction",
    "http_cost": "what HTTP costs per streamed token, in forwards (needs langchain-ssd-tgi)",
    "load": "fifty clients, some of whom leave or read slowly (needs langchain-ssd-tgi)",
    "batching": "the same requests one at a time and together: speed, and whether the answers stay equal",
}

# Runs only if it is named: it wants what none of our extras installs.
OPTIONAL = {"grammar_libraries": "xgrammar"}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Run benchmarks; results go to benchmarks/results/NAME.json.",
        epilog="\n".join(f"{name:17} {text}" for name, text in NAMES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="which (default: all but optional)")
    names = parser.parse_args().names or _usual()
    if not MALLOC.items() <= os.environ.items():  # the engine is measured in the memory it has in the worker
        environment = {**os.environ, **MALLOC}
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *names], environment)
    for name in names:
        importlib.import_module(f"benchmarks.{name}").main()


def _usual() -> list[str]:
    """All but the optional ones, which are left out with a line that says what to install."""
    for name, needed in OPTIONAL.items():
        print(f"{name} is left out: pip install {needed}, then python -m benchmarks {name}")
    return [name for name in NAMES if name not in OPTIONAL]


if __name__ == "__main__":
    sys.exit(main())
