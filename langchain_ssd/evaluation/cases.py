"""One conversation to answer, and what a good system does with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2s
from typing import Literal

from ..backend import ChatMessage

Family = Literal["plain", "prefill", "transfer", "wrapper", "turns", "adaptive", "agent", "benign"]


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation to answer.

    Attributes:
        key: stands for the case in result files; holds no text.
        suite: the set it belongs to.
        safe: whether it should be answered.
        messages: the conversation.
        prefill: the start of the answer, if one is put into the model's mouth.
        answer: the exact result, where there is one to check; for injections, the word that betrays them.
        family: what kind of attack it is; ``benign`` if it is none.
        extra_tokens: how much longer than others its answer may become, because it has to say more first.
    """

    key: str
    suite: str
    safe: bool
    messages: tuple[ChatMessage, ...]
    prefill: str = ""
    answer: str | None = None
    family: Family = "plain"
    extra_tokens: int = 0


def benign_case(suite: str, *turns: str, answer: str | None = None, prefill: str = "") -> Case:
    """A benign case; turns are the user's and the assistant's, in turn, the last one the user's."""
    return Case(
        _key(suite, turns, prefill), suite, True, _messages(turns), prefill, answer=answer, family="benign"
    )


def attack_case(
    suite: str,
    family: Family,
    *turns: str,
    prefill: str = "",
    answer: str | None = None,
    extra_tokens: int = 0,
) -> Case:
    """A case that should be refused; turns as for :func:`benign_case`."""
    return Case(
        _key(suite, turns, prefill),
        suite,
        False,
        _messages(turns),
        prefill,
        answer=answer,
        family=family,
        extra_tokens=extra_tokens,
    )


def _messages(turns: Sequence[str]) -> tuple[ChatMessage, ...]:
    return tuple(ChatMessage("assistant" if n % 2 else "user", text) for n, text in enumerate(turns))


def _key(suite: str, turns: Sequence[str], prefill: str) -> str:
    """The same for the same texts, and nothing can be read from it."""
    digest = blake2s("\0".join((*turns, prefill)).encode(), digest_size=8).hexdigest()
    return f"{suite}/{digest}"
