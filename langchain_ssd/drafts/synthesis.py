"""Benign prompts without a data set: given the opening of a user's turn, the target writes the turn."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ..backend import ChatMessage
from .generation import generate, sampled
from .pipeline import Teacher

_MARK = "zqx"  # stands for the user's text when the template is looked at
_LENGTH = 64  # tokens of a prompt
_ROUND = 96  # prompts asked for at once
#: How people begin; without them the target's own favourites would be most of what it writes.
_BEGINNINGS = (
    "", "", "", "How", "What", "Why", "Can you", "Write", "Explain", "Please", "I", "My", "Give me",
    "Tell me", "Describe", "Is it", "Which", "Create", "Help me", "Compare", "Summarize", "In", "When",
    "Suggest", "Translate",
)  # fmt: skip


def write_prompts(
    teacher: Teacher, count: int, path: Path, seed: int, report: Callable[[str, float], None]
) -> list[str]:
    """Have the target write varied prompts; those of an interrupted run are kept.

    Args:
        teacher: who writes. A base model without a real chat template writes poor ones: give prompts instead.
        count: how many are wanted. Fewer come back if the target keeps repeating itself.
        path: JSON lines with a ``prompt`` each.
        seed: makes the draws repeatable.
        report: told about the progress.
    """
    found = dict.fromkeys(_read(path))
    opening = user_opening(teacher)
    rounds = 0
    while len(found) < count and rounds < 4 + 4 * count // _ROUND:
        with path.open("a", encoding="utf-8") as file:
            for text in _round(teacher, opening, seed + rounds + len(found)):
                if text not in found and is_sensible(text):
                    found[text] = None
                    file.write(json.dumps({"prompt": text}) + "\n")
        rounds += 1
        report("prompts written by the target", min(1.0, len(found) / count))
    return list(found)[:count]


def user_opening(teacher: Teacher) -> list[int]:
    """Ids of a rendered conversation up to where the user's text begins."""
    ids = teacher.renderer.render([ChatMessage("user", _MARK)])
    decode = teacher.renderer.tokenizer.decode
    for end in range(len(ids), 0, -1):
        if _MARK not in decode(ids[:end]) and not decode(ids[:end]).rstrip().endswith(("z", "zq")):
            return ids[:end]
    return ids[:1]


def _round(teacher: Teacher, opening: list[int], seed: int) -> Iterator[str]:
    rng = random.Random(f"prompts/{seed}")
    beginnings = [rng.choice(_BEGINNINGS) for _ in range(_ROUND)]
    prompts = [opening + teacher.renderer.encode(b) for b in beginnings]
    pick = sampled(temperature=1.0, top_p=0.95, seed=seed)
    for i, ids, finished in generate(teacher.cached, prompts, teacher.end_ids, _LENGTH, pick=pick):
        if finished:
            text = teacher.renderer.tokenizer.decode(ids, skip_special_tokens=True)
            yield " ".join((beginnings[i] + text).split())


def is_sensible(text: str) -> bool:
    """Whether a text can be a request: not too short, not too long, words, and no loop."""
    words = re.findall(r"\w+", text.lower())
    varied = len(set(words)) >= 0.6 * len(words)
    return (
        4 <= len(words) <= 60
        and varied
        and "<|" not in text
        and sum(c.isalpha() for c in text) > len(text) / 2
    )


def _read(path: Path) -> list[str]:
    """Prompts of an interrupted run; half a line at the end is left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = []
    whole = path.read_text(encoding="utf-8") if path.exists() else ""
    if whole and not whole.endswith("\n"):  # what follows must not be joined to half a line
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
    for line in whole.split("\n"):
        try:
            texts.append(str(json.loads(line)["prompt"]))
        except (ValueError, KeyError):
            continue
    return texts
