"""Benign cases of our own texts: each of them should be answered helpfully. Pure Python."""

from __future__ import annotations

import random

from .cases import Case, benign_case
from .texts import load_texts


def chat_cases() -> list[Case]:
    """Everyday requests of one turn."""
    return _prompts("chat")


def code_cases() -> list[Case]:
    """Requests about code."""
    return _prompts("code")


def sounding_cases() -> list[Case]:
    """Requests that merely sound unsafe."""
    return _prompts("sounding")


def language_cases() -> list[Case]:
    """Everyday requests in languages other than English."""
    return _prompts("languages")


def turn_cases() -> list[Case]:
    """Conversations of several turns."""
    return [benign_case("turns", *row["turns"]) for row in load_texts("turns")]


def opened_cases(count: int, seed: int) -> list[Case]:
    """Chat requests whose answer has been begun; fewer of them are the first ones of more.

    Args:
        count: how many; there are no more than chat requests.
        seed: which requests, and which openings they get.
    """
    prompts = [row["prompt"] for row in load_texts("chat")]
    openings = [row["text"] for row in load_texts("openings")]
    rng = random.Random(f"opened/{seed}")
    rng.shuffle(prompts)
    rng.shuffle(openings)
    return [
        benign_case("opened", prompt, prefill=openings[i % len(openings)])
        for i, prompt in enumerate(prompts[:count])
    ]


def _prompts(name: str) -> list[Case]:
    return [benign_case(name, row["prompt"]) for row in load_texts(name)]
