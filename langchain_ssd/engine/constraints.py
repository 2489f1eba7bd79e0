"""A grammar along one answer: which tokens are legal, step ahead with the proposals, take back, go on.

A state is a function of the tokens alone, so that it does not matter how far a block looked ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..errors import GrammarFailed


def calmly(call: Callable[..., Any], *args: Any) -> Any:
    """Call the library. A panic of Rust code is no ``Exception``: let loose, it would end the worker.

    Raises:
        GrammarFailed: it panicked.
    """
    try:
        return call(*args)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise GrammarFailed("the grammar library failed; simplify the grammar") from None


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


class Branch:
    """One compiled grammar along an answer. Where it cannot follow it only counts, until it is taken back.

    Args:
        compiled: the library's matcher at the beginning; it is copied.
    """

    def __init__(self, compiled: Any) -> None:
        self._matcher = compiled.deep_copy()
        self.missed = 0  # tokens since the one it could not follow

    def look(self) -> int:
        """The tokens that may come next, as bits, without ends of any kind being told apart."""
        if self.missed:
            return 0
        bits = int.from_bytes(calmly(self._matcher.compute_bitmask), "little")
        self._check()
        return bits

    @property
    def accepts(self) -> bool:
        """Whether the answer may end here."""
        return not self.missed and bool(self._matcher.is_accepting())

    @property
    def stopped(self) -> bool:
        """Whether nothing may follow."""
        return bool(self.missed) or bool(self._matcher.is_stopped())

    def follow(self, token: int) -> None:
        """Go on, if the grammar can."""
        if self.missed or not calmly(self._matcher.try_consume_tokens, [token]):
            self._check()
            self.missed += 1

    def go_back(self, steps: int) -> None:
        """Take so many tokens back."""
        unseen = min(steps, self.missed)
        self.missed -= unseen
        if steps > unseen and not calmly(self._matcher.rollback, steps - unseen):
            raise GrammarFailed("this grammar cannot be taken back; simplify it")

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GrammarFailed("the grammar became too complex along the answer; simplify it")


class GrammarState:
    """An answer's form at some point of it: the grammar asked for, and the refusal beside it if there is one.

    Args:
        answer: the grammar asked for, compiled.
        refusal: the one of a refusal in words, or ``None``.
        writable: the tokens, as bits, that may be written as text or where a grammar names them.
        ends: tokens that end a turn; legal exactly where a grammar accepts.
    """

    def __init__(self, answer: Any, refusal: Any, writable: int, ends: frozenset[int]) -> None:
        self._answer = Branch(answer)
        self._branches = [self._answer] + ([] if refusal is None else [Branch(refusal)])
        self._writable, self._ends = writable, ends
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
