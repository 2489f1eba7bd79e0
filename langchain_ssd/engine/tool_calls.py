"""Released tokens → the answer's text and its calls to tools, with the risk of every call. Pure Python.

It reads what the hold-back rule has released and nothing else, so no call gets out before its tokens may.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from typing import Any

from ..events import Event, Token, ToolCallPart
from ..tool_formats import CallArguments, CallClosed, CallOpened, CallParser, Piece, Text, ToolFormat

_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 9  # what Mistral's templates insist on; all others take it as well


@dataclass(slots=True)
class _Risk:
    """How the tokens of one call were decoded."""

    call_id: str
    name: str | None
    scored: int = 0
    agreeing: int = 0
    unsafe: bool = False

    def add(self, token: Token) -> None:
        self.scored += token.scored
        self.agreeing += token.scored and token.agreement
        self.unsafe |= token.mode == "safety"

    def report(self) -> dict[str, Any]:
        return {
            "id": self.call_id,
            "name": self.name,
            "mode": "safety" if self.unsafe else "utility",
            "match_ratio": self.agreeing / self.scored if self.scored else 1.0,
        }


class ToolCallReader:
    """Reads one answer.

    Args:
        parser: the format's own, for this answer.
        new_id: makes the id of the n-th call.
        names: of the tools that were offered; others are not repeated in the report.
        prefill: the start of the answer, which the caller gave; its text is not shown again.
    """

    def __init__(
        self, parser: CallParser, new_id: Callable[[int], str], names: Collection[str], prefill: str = ""
    ) -> None:
        self._parser, self._new_id, self._names = parser, new_id, frozenset(names)
        self._waiting: list[tuple[Token, str]] = []  # tokens whose text may be part of a call
        self._unplaced: list[Token] = []  # tokens of a call that has no name yet
        self._risks: list[_Risk] = []
        self._current: _Risk | None = None
        self.complete = 0
        """Calls that can be made."""
        self._early = [piece for piece in parser.push(prefill) if not isinstance(piece, Text)]
        self._not_shown = len(parser.holding)  # held text that is the caller's own

    def read(self, tokens: Iterable[Token]) -> Iterator[Event]:
        """The events of released tokens; a token that may be part of a call waits until that is known."""
        for token in tokens:
            if token.thinking:
                yield token
            else:
                yield from self._read(token)

    def finish(self, tokens: Iterable[Token]) -> Iterator[Event]:
        """The answer is over, with these tokens."""
        yield from self.read(tokens)
        pieces = self._parser.flush()
        if self._waiting:
            token, text = self._waiting[-1]
            self._waiting[-1] = token, text + self._shown(pieces)
        yield from self._tell_waiting()
        yield from self._parts(pieces)

    def risks(self) -> list[dict[str, Any]]:
        """One object a call, in order."""
        return [risk.report() for risk in self._risks]

    def _read(self, token: Token) -> Iterator[Event]:
        was_inside = self._parser.inside
        pieces, self._early = [*self._early, *self._parser.push(token.text)], []
        self._waiting.append((token, self._shown(pieces)))
        if not self._parser.holding:
            yield from self._tell_waiting()
        if was_inside or self._parser.inside or not all(isinstance(piece, Text) for piece in pieces):
            self._unplaced.append(token)
        yield from self._parts(pieces)
        self._place()

    def _tell_waiting(self) -> Iterator[Event]:
        for token, text in self._waiting:
            yield replace(token, text=text)
        self._waiting.clear()

    def _shown(self, pieces: list[Piece]) -> str:
        if any(isinstance(piece, CallOpened) for piece in pieces):
            self._not_shown = 0  # the caller's own text has become part of a call
        text = "".join(piece.text for piece in pieces if isinstance(piece, Text))
        skipped = min(self._not_shown, len(text))
        self._not_shown -= skipped
        return text[skipped:]

    def _place(self) -> None:
        """Count tokens for the call they are part of."""
        if self._current is not None:
            for token in self._unplaced:
                self._current.add(token)
        if self._current is not None or not self._parser.inside:
            self._unplaced.clear()
        if not self._parser.inside:
            self._current = None

    def _parts(self, pieces: list[Piece]) -> Iterator[Event]:
        """One event for each call that these pieces are of."""
        part: ToolCallPart | None = None
        for piece in pieces:
            if isinstance(piece, CallOpened):
                if part is not None:
                    yield part
                part = self._open(piece.name)
            elif not isinstance(piece, Text):
                part = self._more(part or ToolCallPart(len(self._risks) - 1), piece)
        if part is not None:
            yield part

    def _open(self, name: str) -> ToolCallPart:
        if self._current is not None:  # one token may end a call and begin the next
            for token in self._unplaced:
                self._current.add(token)
        number = len(self._risks)
        self._current = _Risk(self._new_id(number), name if name in self._names else None)
        self._risks.append(self._current)
        return ToolCallPart(number, self._current.call_id, name)

    def _more(self, part: ToolCallPart, piece: CallArguments | CallClosed) -> ToolCallPart:
        if isinstance(piece, CallArguments):
            return replace(part, arguments=part.arguments + piece.text)
        self.complete += piece.complete
        return replace(part, state="complete" if piece.complete else "broken")


def reader_for(
    format_: ToolFormat, tools: Sequence[Mapping[str, Any]], prefill: str, seed: int, prompt: Sequence[int]
) -> ToolCallReader:
    """A reader whose ids do not occur twice in one conversation, and are the same whenever a seed is.

    Args:
        format_: how the target writes calls.
        tools: that were offered.
        prefill: the start of the answer.
        seed: of the request.
        prompt: the target's token ids of it.
    """
    names = [str(tool["function"]["name"]) for tool in tools]
    digest = blake2b(f"{seed} {','.join(map(str, prompt))}".encode()).digest()
    return ToolCallReader(format_.parser(names), partial(_call_id, digest), names, prefill)


def _call_id(digest: bytes, number: int) -> str:
    value = int.from_bytes(blake2b(digest + number.to_bytes(8), digest_size=8).digest())
    letters = []
    for _ in range(_ID_LENGTH):
        value, letter = divmod(value, len(_LETTERS))
        letters.append(_LETTERS[letter])
    return "".join(letters)
