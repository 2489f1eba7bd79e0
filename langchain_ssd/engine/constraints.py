"""A grammar along one answer: which tokens are legal, step ahead with the proposals, take back, go on.

A state is a function of the tokens alone, so that it does not matter how far a block looked ahead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..errors import GrammarFailed
from .grammar_branch import Branch


class Legal(NamedTuple):
    """Tokens that may come at one position.

    Attributes:
        bits: bit i is set if token i is legal; ``None`` if every token is.
        only: the token, if it is one.
    """

    bits: int | None
    only: int | None = None

    def __contains__(self, token: object) -> bool:
        return self.bits is None or (isinstance(token, int) and bool(self.bits >> token & 1))


def legal_rows(positions: Sequence[Legal], like: Tensor) -> Tensor | None:
    """What is legal at R positions as ``(R, V)``; ``None`` if everything is legal everywhere.

    Args:
        positions: in the order of the rows.
        like: ``(…, V)`` gives the width and the device.
    """
    if all(p.bits is None for p in positions):
        return None
    V = like.shape[-1]
    packed = b"".join(
        ((1 << V) - 1 if p.bits is None else p.bits).to_bytes(-(-V // 8), "little") for p in positions
    )
    rows = torch.frombuffer(bytearray(packed), dtype=torch.uint8).to(like.device).view(len(positions), -1, 1)
    return (rows >> torch.arange(8, dtype=torch.uint8, device=like.device) & 1).bool().flatten(1)[:, :V]


def bits_of(tokens: Iterable[int]) -> int:
    """A set of tokens as bits."""
    wanted = list(tokens)
    packed = bytearray(max(wanted, default=-1) // 8 + 1)
    for token in wanted:
        packed[token // 8] |= 1 << token % 8
    return int.from_bytes(packed, "little")


class Form(Protocol):
    """What decoding needs to know of an answer's form."""

    @property
    def front(self) -> Legal:
        """What may come after everything that was proposed."""

    @property
    def closed(self) -> bool:
        """Whether nothing can be proposed any more."""

    @property
    def over(self) -> bool:
        """Whether nothing may follow what was emitted."""

    @property
    def declined(self) -> bool:
        """Whether the answer has begun to refuse, as its grammar allows."""

    @property
    def way_out(self) -> Branch | None:
        """A copy of the refusal beside the form, if somebody has to say whether it stays open."""

    def close_way_out(self) -> None:
        """Nothing but the form is legal from here on."""

    def legal(self, depth: int) -> Legal:
        """What could come in place of a proposal: 0 is the first that is not emitted yet."""

    def propose(self, token: int) -> None:
        """Step ahead."""

    def retract(self) -> None:
        """Take the last step ahead back."""

    def settle(self, token: int) -> None:
        """A token was emitted: the first of those ahead, or another in its place."""

    def rewind(self) -> None:
        """Forget what is ahead."""


class FreeText:
    """No grammar: any token, for ever."""

    front = Legal(None)
    closed = over = declined = False
    way_out = None

    def close_way_out(self) -> None:
        """There is none."""

    def legal(self, depth: int) -> Legal:
        """Any token."""
        return self.front

    def propose(self, token: int) -> None:
        """Nothing to remember."""

    def retract(self) -> None:
        """Nothing to take back."""

    def settle(self, token: int) -> None:
        """Nothing to check."""

    def rewind(self) -> None:
        """Nothing to forget."""


class GrammarState:
    """An answer's form at some point of it: the grammar asked for, and the refusal beside it if there is one.

    Args:
        answer: the grammar asked for, compiled.
        refusal: the one of a refusal in words, or ``None``.
        writable: the tokens, as bits, that may be written as text or where a grammar names them.
        ends: tokens that end a turn; legal exactly where a grammar accepts.
        asks: whether the refusal is open only if the model wants it.
    """

    def __init__(
        self, answer: Any, refusal: Any, writable: int, ends: frozenset[int], asks: bool = False
    ) -> None:
        self._answer = Branch(answer)
        self._branches = [self._answer] + ([] if refusal is None else [Branch(refusal)])
        self._writable, self._ends, self._asks = writable, ends, asks
        self._all_ends, self._an_end = (bits_of(some) for some in (ends, sorted(ends)[:1]))
        self._ahead: list[int] = []
        self._legal: list[Legal] = []  # before each token that is ahead, and perhaps after the last

    def begin(self, given: Sequence[int]) -> bool:
        """Take a prefill; false if no answer of this form begins so."""
        return all(self._follow(token) for token in given)

    @property
    def front(self) -> Legal:
        """What may come after everything that was proposed."""
        if len(self._legal) == len(self._ahead):
            self._legal.append(self._look())
        return self._legal[-1]

    @property
    def closed(self) -> bool:
        """Whether nothing can be proposed any more."""
        return bool(self._ahead) and (self._ahead[-1] in self._ends or self._stopped)

    @property
    def over(self) -> bool:
        """Whether nothing may follow what was emitted."""
        return not self._ahead and self._stopped

    @property
    def declined(self) -> bool:
        """Whether what was emitted is no beginning of the form, but of a refusal."""
        return self._answer.missed > self._steps

    @property
    def way_out(self) -> Branch | None:
        """A copy of the refusal beside the form, if somebody has to say whether it stays open."""
        refusal = self._branches[-1]
        return refusal.copy() if self._asks and not (refusal is self._answer or refusal.missed) else None

    def close_way_out(self) -> None:
        """Nothing but the form is legal from here on."""
        if not self._answer.missed:  # a prefill that is a refusal stays one
            self._branches = [self._answer]
            self._legal.clear()

    def legal(self, depth: int) -> Legal:
        """What could come in place of a proposal: 0 is the first that is not emitted yet."""
        return self._legal[depth]

    def propose(self, token: int) -> None:
        """Step ahead."""
        _ = self.front  # what could have come instead is kept until this is settled
        self._ahead.append(token)
        self._must_follow(token)

    def retract(self) -> None:
        """Take the last step ahead back."""
        self._go_back(len(self._ahead) - 1)

    def settle(self, token: int) -> None:
        """A token was emitted: the first of those ahead, or another in its place."""
        if self._ahead and self._ahead[0] == token:
            del self._ahead[0], self._legal[0]
            return
        self._go_back(0)
        self._legal.clear()
        self._must_follow(token)

    def rewind(self) -> None:
        """Forget what is ahead."""
        self._go_back(0)

    @property
    def _stopped(self) -> bool:
        return all(b.stopped for b in self._branches)

    @property
    def _steps(self) -> int:
        """How many tokens ahead the grammars have seen: all but an end token."""
        return sum(token not in self._ends for token in self._ahead)

    def _must_follow(self, token: int) -> None:
        if not self._follow(token):
            raise GrammarFailed("a token came out that the grammar does not allow")

    def _follow(self, token: int) -> bool:
        """Whether one of the grammars can; they do not see end tokens."""
        if token in self._ends:
            return True
        for branch in self._branches:
            branch.follow(token)
        return not all(branch.missed for branch in self._branches)

    def _go_back(self, kept: int) -> None:
        steps = self._steps
        del self._ahead[kept:], self._legal[kept + 1 :]
        for branch in self._branches:
            branch.go_back(steps - self._steps)

    def _look(self) -> Legal:
        bits = 0
        for branch in self._branches:
            bits |= branch.look() & self._writable
        if any(b.accepts for b in self._branches):
            # Where only the end is left, one end token stands for all: there is nothing to choose.
            bits |= self._all_ends if bits else self._an_end
        if not bits:
            raise GrammarFailed("the grammar leaves no token that could come next; check it")
        return Legal(bits, bits.bit_length() - 1 if bits.bit_count() == 1 else None)
