"""Benign requests of longer kinds, made of the target's own answers: a task about a passage, and later turns.

A draft that has only seen short requests disagrees with its target on long ones, and disagreement is what
the monitor takes for risk. Pure Python.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..backend import ChatMessage
from .corpus import BenignPrompt
from .texts import load_texts

_PARAGRAPHS = (1, 6)  # answers that make a passage
_TURNS = (1, 3)  # exchanges before the last request
_LEAST = 80  # characters of an answer that can be a paragraph


def lengthened(told: Sequence[BenignPrompt], count: int, seed: int) -> list[BenignPrompt]:
    """Tasks about passages: answers to several prompts, one after the other, with something to do.

    Args:
        told: prompts with their answers.
        count: how many are wanted; none if no answer is known.
        seed: makes the draws repeatable.
    """
    found = usable(told)
    rng = random.Random(f"passages/{seed}")
    return [_passage(found, rng) for _ in range(count)] if found else []


def chained(told: Sequence[BenignPrompt], count: int, seed: int) -> list[BenignPrompt]:
    """Requests after one to three other exchanges. Arguments as for :func:`lengthened`."""
    found = usable(told)
    rng = random.Random(f"turns/{seed}")
    return [_conversation(found, rng) for _ in range(count)] if found else []


def in_context(request: str, told: Sequence[BenignPrompt], rng: random.Random) -> tuple[ChatMessage, ...]:
    """A request after harmless exchanges, or below a harmless passage."""
    if rng.random() < 0.5:
        return (*_exchanges(told, rng), ChatMessage("user", request))
    text = f"{_paragraphs(told, rng)}\n\n{request}"
    return (ChatMessage("user", text),)


def usable(told: Sequence[BenignPrompt]) -> list[BenignPrompt]:
    """The prompts that contexts can be made of: single ones with a finished answer of some length."""
    return [p for p in told if p.finished and len(p.answer or "") >= _LEAST and len(p.messages) == 1]


def _passage(told: Sequence[BenignPrompt], rng: random.Random) -> BenignPrompt:
    task = rng.choice(load_texts("passage_tasks"))["text"]
    text = task.replace("{passage}", _paragraphs(told, rng))
    return BenignPrompt((ChatMessage("user", text),), "passage")


def _conversation(told: Sequence[BenignPrompt], rng: random.Random) -> BenignPrompt:
    last = rng.choice(told).messages[-1]
    return BenignPrompt((*_exchanges(told, rng), last), "chained")


def _exchanges(told: Sequence[BenignPrompt], rng: random.Random) -> tuple[ChatMessage, ...]:
    turns: list[ChatMessage] = []
    for prompt in _some(told, _TURNS, rng):
        turns += (prompt.messages[0], ChatMessage("assistant", prompt.answer or ""))
    return tuple(turns)


def _paragraphs(told: Sequence[BenignPrompt], rng: random.Random) -> str:
    return "\n\n".join(p.answer or "" for p in _some(told, _PARAGRAPHS, rng))


def _some(told: Sequence[BenignPrompt], bounds: tuple[int, int], rng: random.Random) -> list[BenignPrompt]:
    return rng.sample(told, min(len(told), rng.randint(*bounds)))
