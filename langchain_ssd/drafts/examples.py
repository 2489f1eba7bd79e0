"""What one training example is, and how unsafe requests become refusals at any depth of an answer.

For an unsafe request with a harmful beginning ``h`` and a refusal ``r``, half of the examples are
``request -> r`` and half ``request -> h[:k] -> r``, k uniform in 1..min(depth, |h|), with the loss on ``r``
alone (Qi et al., "Safety Alignment Should Be Made More Than Just a Few Tokens Deep", ICLR 2025).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .refusals import compose_refusal

Encode = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence to learn from.

    Attributes:
        ids: prompt and answer.
        start: index of the first token whose prediction counts.
        refusal: its labels are the tokens themselves; else the teacher's stored rows are.
    """

    ids: tuple[int, ...]
    start: int
    refusal: bool


@dataclass(frozen=True, slots=True)
class UnsafeRequest:
    """A request to refuse.

    Attributes:
        text: the request.
        prompt: its rendering.
        wrapped: renderings of the same request inside jailbreak wrappers.
        harmful: how the target would go on; may be empty.
    """

    text: str
    prompt: tuple[int, ...]
    wrapped: tuple[tuple[int, ...], ...]
    harmful: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RefusalMaker:
    """Turns a request into a new example at every visit.

    Args:
        encode: text to ids, without control tokens.
        decode: ids to text.
        end: the token that ends a turn.
        depth: longest harmful beginning.
        wrapped: share of examples whose request is in a wrapper.
    """

    encode: Encode
    decode: Callable[[Sequence[int]], str]
    end: int
    depth: int
    wrapped: float

    def draw(self, requests: Sequence[UnsafeRequest], rng: random.Random) -> Example:
        """An example of one of the requests; half of them, where there are any, with a harmful beginning."""
        begun = [r for r in requests if r.harmful] if rng.random() < 0.5 else []
        return self.make(rng.choice(begun or requests), bool(begun), rng)

    def make(self, request: UnsafeRequest, deep: bool, rng: random.Random) -> Example:
        """One example, ``deep`` in a harmful answer or at its start."""
        in_wrapper = bool(request.wrapped) and rng.random() < self.wrapped
        prompt = rng.choice(request.wrapped) if in_wrapper else request.prompt
        beginning: tuple[int, ...] = ()
        if deep and request.harmful:
            beginning = request.harmful[: rng.randint(1, min(self.depth, len(request.harmful)))]
        refusal = compose_refusal(request.text, rng)
        if beginning and not self.decode(beginning)[-1:].isspace():
            refusal = " " + refusal  # the turn comes in the middle of a sentence
        ids = (*prompt, *beginning, *self.encode(refusal), self.end)
        return Example(ids, len(prompt) + len(beginning), refusal=True)
