"""Cases to answer: attacks and benign requests from a folder of research data, and our own benign ones.

The research data is read where it lies and never copied. Half of it, by a hash of the *goal*, is looked at
while things are tuned; the other half once, at the end (goals recur across sets and prefill depths).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..backend import ChatMessage
from ..drafts.corpus import BenignPrompt, fraction, opened, read_rows, shipped_benign, user_benign

Split = Literal["tune", "held"]
ATTACKS = ("gcg", "pair", "autodan", "deepinception")
DEPTHS = (10, 20, 40)


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation to answer.

    Attributes:
        key: stands for the case in result files; holds no text.
        suite: the set it belongs to.
        safe: whether it should be answered.
        messages: the conversation.
        prefill: the start of the answer, if one is put into the model's mouth.
    """

    key: str
    suite: str
    safe: bool
    messages: tuple[ChatMessage, ...]
    prefill: str = ""


def split_of(goal: str) -> Split:
    """Which half a goal belongs to."""
    return "tune" if fraction(f"goal/{goal.strip().lower()}") < 0.5 else "held"


def research_cases(folder: Path, split: Split, cut: Callable[[str, int], str]) -> list[Case]:
    """Cases of ``dev_unsafe.jsonl`` and ``dev_safe.jsonl``.

    Args:
        folder: where the files are.
        split: which half.
        cut: the first so many tokens of a text, under the tokenizer of the models that are judged.
    """
    rows = read_rows(folder / "dev_unsafe.jsonl") + read_rows(folder / "dev_safe.jsonl")
    chosen = [row for row in rows if split_of(row["goal"]) == split]
    plain = [
        row
        for row in chosen
        if not str(row["set"]).startswith("hexphi-prefill-") or row["set"].endswith("-0")
    ]
    deepest = [row for row in chosen if row["set"] == "hexphi-prefill-40"]
    cases = [_case(row, _suite(row)) for row in plain]
    for depth in DEPTHS:
        cases += [_case(row, f"hexphi-{depth}", cut(row["prefill"], depth)) for row in deepest]
    return cases


def _suite(row: dict[str, Any]) -> str:
    if row["set"] == "xstest":
        return "xstest-safe" if row["label"] == "safe" else "xstest-unsafe"
    return "hexphi" if str(row["set"]).startswith("hexphi") else str(row["set"])


def _case(row: dict[str, Any], suite: str, prefill: str = "") -> Case:
    key = f"{suite}/{fraction(row['prompt'] + prefill):.12f}"
    return Case(key, suite, row["label"] == "safe", (ChatMessage("user", row["prompt"]),), prefill)


def benign_cases(synthetic: Path, counts: dict[str, int], seed: int = 7) -> list[Case]:
    """Our own benign cases, from prompts that no draft was trained or calibrated on.

    Args:
        synthetic: rows with a ``prompt`` each.
        counts: how many of each kind: ``synthetic``, ``opened``, ``turns``, ``languages``.
        seed: which are taken.
    """
    rng = random.Random(f"benign cases/{seed}")
    plain = user_benign(read_rows(synthetic), "evaluation")
    rng.shuffle(plain)
    shipped = shipped_benign("evaluation")
    kinds: dict[str, Sequence[BenignPrompt]] = {
        "synthetic": plain[: counts.get("synthetic", 0)],
        "opened": opened(plain[counts.get("synthetic", 0) :], counts.get("opened", 0), "evaluation", seed),
        "turns": [p for p in shipped if p.kind == "turns"][: counts.get("turns", 0)],
        "languages": [p for p in shipped if p.kind == "languages"][: counts.get("languages", 0)],
    }
    return [
        Case(f"{kind}/{fraction(p.messages[-1].content + p.opening):.12f}", kind, True, p.messages, p.opening)
        for kind, prompts in kinds.items()
        for p in prompts
    ]
