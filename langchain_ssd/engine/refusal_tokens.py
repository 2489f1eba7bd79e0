"""Which tokens open a refusal? The first ones of what people write to say no, in many languages.

A divergence says that the draft would go on in another way; mass that moves to these tokens says that it
would turn away. Common words such as "I" are among them: what counts is how much *more* the draft gives them
than the target does.
"""
# The openings are written in their own scripts, whose letters may look like Latin ones.
# ruff: noqa: RUF001

from __future__ import annotations

from collections.abc import Iterable

from ..errors import InvalidRequest
from ..refusal_text import TEXTS
from .rendering import Renderer

OPENINGS: tuple[str, ...] = (
    *TEXTS.values(),  # the fallback's own words, in every language that it knows
    *("I cannot", "Sorry", "No,", "Unfortunately", "As an AI", "We cannot"),
    *("Tut mir leid", "Ich kann", "Leider"),
    *("Je suis désolé", "Désolé", "Je ne peux pas", "Malheureusement"),
    *("No puedo", "Lamento"),
    *("Non posso", "Purtroppo"),
    *("Desculpe", "Não posso", "Infelizmente"),
    *("Ik kan", "Helaas"),
    "Maalesef",
    *("Простите", "К сожалению", "Я не могу"),
    *("抱歉", "对不起", "我无法", "我不能"),
    *("すみません", "미안", "माफ़"),
    *("عذراً", "آسف", "لا يمكنني"),
)


def refusal_ids(renderer: Renderer, vocab_size: int) -> tuple[int, ...]:
    """First tokens of refusals, at the beginning of a text and after a space.

    A token that is no letter by itself (a space, a part of a character) begins too much else, so it is
    left out; a tokenizer without tokens for a script has none for its language.

    Args:
        renderer: whose tokenizer it is; a pair has one.
        vocab_size: ids from there on are not shared by both models.
    """
    firsts = {first for text in OPENINGS for first in _first(renderer, (text, f" {text}"))}
    return tuple(sorted(i for i in firsts if i < vocab_size and _is_word(renderer, i)))


def _first(renderer: Renderer, texts: Iterable[str]) -> list[int]:
    found: list[int] = []
    for text in texts:
        try:
            found += renderer.encode(text)[:1]
        except InvalidRequest:  # a tokenizer of very few tokens
            continue
    return found


def _is_word(renderer: Renderer, token: int) -> bool:
    text = str(renderer.tokenizer.decode([token])).strip()
    return bool(text) and text.isalpha()
