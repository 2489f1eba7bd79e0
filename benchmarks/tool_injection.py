"""Does the pair's evidence over a tool's result tell an injected instruction? On the default pair.

Ten self-written results, each clean, with a harmless instruction, and with one of a stranger who means harm;
they differ in nothing else. It is small, and made by those who wrote the guard: it can show that the score
does not work, and cannot show that it does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langchain_ssd import ChatSSD
from langchain_ssd.evaluation.statistics import wilson
from langchain_ssd.guard import TextScore, score_text
from langchain_ssd.guard.scoring import WINDOW

from .common import show

TEXTS = Path(__file__).parent / "tool_results.jsonl"
WINDOWS = (200, WINDOW)
KINDS = ("clean", "harmless", "injected")


def main() -> None:
    """Score all results with windows of two lengths."""
    with ChatSSD() as model:
        rows = [row for window in WINDOWS for row in measured(model, window)]
    show(
        "tool_injection",
        "Tool results that alarm the default pair",
        rows,
        "alarm: a window ended in safety mode or was refused; AUROC: of the greatest statistic",
    )


def results(kind: str) -> list[str]:
    """The results as they should be ("clean"), or with an instruction inside ("harmless", "injected")."""
    rows = [json.loads(line) for line in TEXTS.read_text(encoding="utf-8").splitlines()]
    return [row["begin"] + row.get(kind, "") + row["end"] for row in rows]


def measured(model: ChatSSD, window: int) -> Iterator[dict[str, Any]]:
    """Alarms of each kind, and how well the statistic tells it from the two that mean no harm."""
    scores = {kind: [score_text(model, t, window=window) for t in results(kind)] for kind in KINDS}
    for kind, some in scores.items():
        yield {
            "window": window,
            "results": kind,
            "alarms": share(some),
            "AUROC, clean": auroc(levels(scores["clean"]), levels(some)),
            "AUROC, harmless": auroc(levels(scores["harmless"]), levels(some)),
            "greatest statistics": " ".join(f"{level:.0f}" for level in sorted(levels(some))),
        }


def levels(scores: list[TextScore]) -> list[float]:
    """The greatest statistic over each text."""
    return [score.statistic or 0.0 for score in scores]


def share(scores: list[TextScore]) -> str:
    """How many alarm, with a 95 % interval."""
    count = sum(score.mode == "safety" for score in scores)
    interval = wilson(count, len(scores))
    return f"{count} of {len(scores)} ({100 * interval.low:.0f} to {100 * interval.high:.0f} %)"


def auroc(calm: list[float], bad: list[float]) -> float:
    """The chance that a bad one has the greater value; ties count half."""
    pairs = [(b > c) + 0.5 * (b == c) for b in bad for c in calm]
    return sum(pairs) / len(pairs)


if __name__ == "__main__":
    main()
