"""The two ways to find calls in an answer: behind an opener, or because the answer begins like a call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Literal, Protocol

from .base import CallOpened, Piece, Text
from .scanning import CallsScanner


class Body(Protocol):
    """Reads what stands behind an opener; ``interruptible``: a closer may stand here."""

    @property
    def done(self) -> bool:
        """Whether everything that belongs to it has come."""

    @property
    def interruptible(self) -> bool:
        """Whether no call is open, or a broken one."""

    def feed(self, char: str) -> Iterator[Piece]:
        """Read on."""

    def end(self) -> Iterator[Piece]:
        """Nothing more comes."""


class MarkedParser:
    """Calls behind an opener, such as ``<tool_call>``; blank space around calls is nobody's text.

    Args:
        opener: the text in front of a call.
        closer: the text behind it; empty if there is none.
        body: makes a reader of what stands between.
    """

    def __init__(self, opener: str, closer: str = "", body: Callable[[], Body] = CallsScanner) -> None:
        self._opener, self._closer, self._new_body = opener, closer, body
        self._held = ""
        self._body: Body | None = None
        self._after_call = False

    @property
    def holding(self) -> str:
        """Text that may yet be an opener, and blank space in front of one."""
        return self._held if self._body is None else ""

    @property
    def inside(self) -> bool:
        """Whether a call is open, or may be about to."""
        return self._body is not None or bool(self._held)

    def push(self, text: str) -> list[Piece]:
        """Read more of the answer."""
        self._held += text
        out: list[Piece] = []
        while self._seek(out) if self._body is None else self._read(self._body, out):
            pass
        return out

    def flush(self) -> list[Piece]:
        """The answer is over."""
        out: list[Piece] = []
        if self._body is None:
            self._text(self._held, out)
        elif not self._body.done:
            for char in self._held:  # it looked like the beginning of the closer
                out += self._body.feed(char)
            out += self._body.end()
        self._held, self._body = "", None
        return out

    def _seek(self, out: list[Piece]) -> bool:
        before, found, after = self._held.partition(self._opener)
        if found:
            self._text(before.rstrip(), out)
            self._held, self._body = after, self._new_body()
            return True
        known = self._held[: len(self._held) - overlap(self._held, self._opener)].rstrip()
        self._text(known, out)
        self._held = self._held[len(known) :]
        return False

    def _text(self, text: str, out: list[Piece]) -> None:
        text = text.lstrip() if self._after_call else text
        if text:
            self._after_call = False
            out.append(Text(text))

    def _read(self, body: Body, out: list[Piece]) -> bool:
        """Go on in a call; true once it is over."""
        held, position = self._held, 0
        while position < len(held) and not body.done:
            if body.interruptible and self._closer and held[position] == self._closer[0]:
                rest = held[position:]
                if rest.startswith(self._closer):
                    out += body.end()
                    break
                if self._closer.startswith(rest):
                    break
            out += body.feed(held[position])
            position += 1
        self._held = held[position:]
        return body.done and self._leave()

    def _leave(self) -> bool:
        """Pass over the closer; whatever else stands there closes a call that is whole just as well."""
        rest = self._held.lstrip()
        if self._closer and self._closer.startswith(rest) and rest != self._closer:
            return False  # nothing yet, or the beginning of the closer
        self._held = rest.removeprefix(self._closer)
        self._body, self._after_call = None, True
        return True


class BareParser:
    """Calls that are the whole answer. It is text unless it begins with a call to a tool that was offered.

    Args:
        names: of the tools.
        opener: a text that may stand in front; behind it a call to any name is one.
    """

    def __init__(self, names: Collection[str], opener: str = "") -> None:
        self._names, self._opener = frozenset(names), opener
        self._state: Literal["start", "call", "text"] = "start"
        self._held = ""
        self._scanner: CallsScanner | None = None
        self._marked = self._after_call = False

    @property
    def holding(self) -> str:
        """Text that may yet be a call."""
        return self._held

    @property
    def inside(self) -> bool:
        """Whether a call is open, or may be about to."""
        return self._state == "call" or bool(self._held)

    def push(self, text: str) -> list[Piece]:
        """Read more of the answer."""
        out: list[Piece] = []
        for position, char in enumerate(text):
            if self._state == "text":
                out.append(Text(text[position:]))
                break
            self._feed(char, out)
        return out

    def flush(self) -> list[Piece]:
        """The answer is over."""
        out: list[Piece] = []
        if self._state == "call" and self._scanner is not None:
            out += self._scanner.end()
        elif self._held.strip() or not self._after_call:
            self._give_up(out)
        self._held, self._scanner = "", None
        return out

    def _feed(self, char: str, out: list[Piece]) -> None:
        if self._state == "call" and self._scanner is not None:
            out += self._scanner.feed(char)
            if self._scanner.done:
                self._state, self._scanner, self._after_call = "start", None, True
            return
        self._held += char
        if self._scanner is None and not self._begins(char):
            if self._impossible():
                self._give_up(out)
            return
        self._scanner = self._scanner or CallsScanner()
        self._settle(list(self._scanner.feed(char)), out)

    def _begins(self, char: str) -> bool:
        return char in "{[" and not self._held[:-1].strip(" \t\r\n;," if self._after_call else None)

    def _impossible(self) -> bool:
        """Whether what is held cannot become a call; passes over an opener."""
        rest = self._held.lstrip(" \t\r\n;," if self._after_call else None)
        if self._opener and rest == self._opener:
            self._held, self._marked = "", True
            return False
        return bool(rest) and not (self._opener and self._opener.startswith(rest))

    def _settle(self, pieces: list[Piece], out: list[Piece]) -> None:
        """Is it a call? That is known with its name."""
        if not pieces:
            return
        first = pieces[0]
        if isinstance(first, CallOpened) and first.name and (self._marked or first.name in self._names):
            self._state, self._held = "call", ""
            out += pieces
        else:
            self._give_up(out)

    def _give_up(self, out: list[Piece]) -> None:
        self._state, self._scanner = "text", None
        if self._held:
            out.append(Text(self._held.lstrip() if self._after_call else self._held))
        self._held = ""


def overlap(text: str, marker: str) -> int:
    """Length of the longest proper beginning of ``marker`` that ``text`` ends with."""
    for size in range(min(len(marker) - 1, len(text)), 0, -1):
        if text.endswith(marker[:size]):
            return size
    return 0
