"""One compiled grammar along an answer, also where the answer has left it. No torch.

The grammar library's matcher at arm's length: where it gives up or breaks, that is a typed error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


class Branch:
    """One compiled grammar along an answer. Where it cannot follow it only counts, until it is taken back.

    Args:
        compiled: the library's matcher at the beginning; it is copied.
    """

    def __init__(self, compiled: Any) -> None:
        self._matcher = compiled.deep_copy()
        self.missed = 0  # tokens since the one it could not follow

    def copy(self) -> Branch:
        """Another one at the same point."""
        other = Branch(self._matcher)
        other.missed = self.missed
        return other

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
