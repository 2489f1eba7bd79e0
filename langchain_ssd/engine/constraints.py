"""A grammar along one answer: which tokens are legal, step ahead with the proposals, take back, go on.

A state is a function of the tokens alone, so that it does not matter how far a block looked ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..errors import GrammarFailed
from .refusal_branch import CAPTURE

_TOO_COMPLEX = "the grammar became too complex along the answer; simplify it"


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


class GrammarState:
    """A compiled grammar at some point of an answer.

    Args:
        compiled: the library's matcher at the beginning; it is copied.
        writable: the tokens, as bits, that may be written as text or where the grammar names them.
        ends: tokens that end a turn; legal exactly where the grammar accepts.
    """

    def __init__(self, compiled: Any, writable: int, ends: frozenset[int]) -> None:
        self._compiled, self._matcher = compiled, compiled.deep_copy()
        self._writable, self._ends = writable, ends
        self._all_ends, self._an_end = (bits_of(some) for some in (ends, sorted(ends)[:1]))
        self._taken: list[int] = []
        self._ahead: list[int] = []
        self._legal: list[Legal] = []  # before each token that is ahead, and perhaps after the last
        self._ended = False  # the last token ahead ends the turn

    def begin(self, given: Sequence[int]) -> bool:
        """Take a prefill; false if no answer of this form begins so."""
        self._taken += given
        return bool(calmly(self._matcher.try_consume_tokens, list(given)) == len(given))

    @property
    def front(self) -> Legal:
        """What may come after everything that was proposed."""
        if len(self._legal) == len(self._ahead):
            self._legal.append(self._look())
        return self._legal[-1]

    @property
    def closed(self) -> bool:
        """Whether nothing can be proposed any more."""
        return self._ended or bool(self._ahead and self._matcher.is_stopped())

    @property
    def over(self) -> bool:
        """Whether nothing may follow what was emitted."""
        return not self._ahead and bool(self._matcher.is_stopped())

    @property
    def declined(self) -> bool:
        """Whether the answer has begun to refuse. Read from a fresh run: captures are not taken back."""
        fresh = self._compiled.deep_copy()
        calmly(fresh.try_consume_tokens, self._taken)
        return fresh.get_capture(CAPTURE) is not None

    def legal(self, depth: int) -> Legal:
        """What could come in place of a proposal: 0 is the first that is not emitted yet."""
        return self._legal[depth]

    def propose(self, token: int) -> None:
        """Step ahead."""
        self._ahead.append(token)
        self._ended = token in self._ends
        if not self._ended:
            self._consume(token)

    def retract(self) -> None:
        """Take the last step ahead back."""
        self._ahead.pop()
        self._take_back(0 if self._ended else 1)

    def settle(self, token: int) -> None:
        """A token was emitted: the first of those ahead, or another in its place."""
        self._taken.append(token)
        if self._ahead and self._ahead[0] == token:
            del self._ahead[0], self._legal[0]
            return
        self.rewind()
        self._legal.clear()
        if token not in self._ends:
            self._consume(token)

    def rewind(self) -> None:
        """Forget what is ahead."""
        steps = len(self._ahead) - self._ended
        self._ahead.clear()
        self._take_back(steps)

    def _take_back(self, steps: int) -> None:
        self._ended = False
        del self._legal[len(self._ahead) + 1 :]
        if steps and not calmly(self._matcher.rollback, steps):
            raise GrammarFailed("this grammar cannot be taken back; simplify it")

    def _consume(self, token: int) -> None:
        if not calmly(self._matcher.consume_token, token):
            raise GrammarFailed(_TOO_COMPLEX)

    def _look(self) -> Legal:
        bits = int.from_bytes(calmly(self._matcher.compute_bitmask), "little") & self._writable
        if self._matcher.is_error():
            raise GrammarFailed(_TOO_COMPLEX)
        if self._matcher.is_accepting():
            # Where only the end is left, one end token stands for all: there is nothing to choose.
            bits |= self._all_ends if bits else self._an_end
        if not bits:
            raise GrammarFailed("the grammar leaves no token that could come next; check it")
        return Legal(bits, bits.bit_length() - 1 if bits.bit_count() == 1 else None)
