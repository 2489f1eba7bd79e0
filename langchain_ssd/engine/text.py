"""Tokens → text that may be shown: incremental UTF-8, stop strings, thinking, hold-back.

Order of the stages: a token becomes a piece of text; the piece is searched for stop strings; it waits
until the hold-back rule clears its token; then its thinking part is told from its answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..config import HoldBack
from ..events import Token

_MAX_PENDING = 8  # tokens an unfinished character may span before it is shown as it is
MakeToken = Callable[[str, bool], Token]
_OPEN, _CLOSE = "<think>", "</think>"


class TokenDecoder:
    """Ids → text, piece by piece, so that the pieces join to the text of all ids.

    Args:
        decode: text of a list of ids.
        context: ids before the first new one (a prefill); they decide on a leading space.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], context: Sequence[int] = ()) -> None:
        self._decode = decode
        self._window = list(context[-_MAX_PENDING:])  # ids whose text is known, then pending ones
        self._known = len(self._window)
        self._known_text = decode(self._window) if self._window else ""

    @property
    def pending(self) -> int:
        """Tokens at the end whose character is unfinished."""
        return len(self._window) - self._known

    def push(self, token: int) -> str:
        """The text this token completes; empty while a character is unfinished."""
        self._window.append(token)
        text = self._decode(self._window)
        if not text.endswith("\ufffd"):
            return self._advance(text, 0)
        if self.pending <= _MAX_PENDING:
            return ""
        # So many tokens are no unfinished character; only the last three can still begin one.
        return self._advance(self._decode(self._window[:-3]), 3)

    def _advance(self, text: str, keep: int) -> str:
        """Take over ``text`` as known; the last ``keep`` tokens stay pending."""
        piece = text[len(self._known_text) :]
        known = len(self._window) - keep
        if piece:  # without text (a control token) the window must go on beginning with a visible token
            self._window = self._window[self._known :]
            known -= self._known
        self._known, self._known_text = known, self._decode(self._window[:known])
        return piece

    def flush(self) -> str:
        """What is left at the end of the answer: an unfinished character becomes U+FFFD."""
        if not self.pending:
            return ""
        return self._decode(self._window)[len(self._known_text) :]


class StopMatcher:
    """Finds stop strings in a growing text, also where they cross pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._tail = ""
        self.length = 0  # characters seen
        self.safe = 0  # characters that cannot be part of a stop string

    def push(self, piece: str) -> int | None:
        """Where the text ends (an offset), if a stop string is complete."""
        start = self.length - len(self._tail)  # offset of the tail
        text = self._tail + piece
        self.length += len(piece)
        found = [(text.find(stop) + len(stop), text.find(stop)) for stop in self._stops if stop in text]
        if found:  # the one that was complete first, so that the cut into pieces does not matter
            self.safe = start + min(found)[1]
            return self.safe
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._tail = text[len(text) - keep :]
        self.safe = self.length - keep
        return None


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper beginning of ``stop`` that ``text`` ends with."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0


class ThinkingSplitter:
    """Tells ``<think>…</think>`` at the start of an answer from the answer itself."""

    def __init__(self, enabled: bool, opened: bool = False) -> None:
        self._state = "thinking" if opened else ("start" if enabled else "answer")
        self._held = ""

    def push(self, text: str) -> list[tuple[str, bool]]:
        """Pieces as (text, is thinking); a piece that may be half a tag waits."""
        if self._state == "answer":
            return [(text, False)]
        self._held += text
        if self._state == "start":
            opening = self._held.lstrip()
            if _OPEN.startswith(opening):
                if opening != _OPEN:
                    return []
                self._state, self._held = "thinking", ""
            elif opening.startswith(_OPEN):
                self._state, self._held = "thinking", opening[len(_OPEN) :]
            else:
                self._state = "answer"
                return self.flush()
        return self._thinking()

    def _thinking(self) -> list[tuple[str, bool]]:
        thought, tag, answer = self._held.partition(_CLOSE)
        if tag:
            self._state, self._held = "answer", ""
            return [(t, is_thought) for t, is_thought in ((thought, True), (answer, False)) if t]
        keep = _overlap(self._held, _CLOSE)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return [(shown, True)] if shown else []

    @property
    def holding(self) -> bool:
        """Whether text waits that may be half a tag."""
        return bool(self._held)

    def flush(self) -> list[tuple[str, bool]]:
        """What waits at the end."""
        held, self._held = self._held, ""
        return [(held, self._state == "thinking")] if held else []


@dataclass(slots=True)
class _Waiting:
    """A token whose text is not out yet. ``end`` is the offset of the end of its text."""

    index: int
    make: MakeToken
    text: str
    end: int


class TextStream:
    """All stages for one answer: tokens go in, events of tokens that may be shown come out.

    Args:
        decoder: the answer's own decoder.
        stops: stop strings.
        hold_back: the rule; ``"verdict"`` follows the monitor's ``cleared``.
        thinking: splits off the thinking part.
        include_thinking: whether thinking text is shown or dropped.
    """

    def __init__(
        self,
        decoder: TokenDecoder,
        stops: Sequence[str],
        hold_back: HoldBack,
        thinking: ThinkingSplitter,
        include_thinking: bool,
    ) -> None:
        self._decoder, self._stop, self._hold_back = decoder, StopMatcher(stops), hold_back
        self._thinking, self._include_thinking = thinking, include_thinking
        self._waiting: deque[_Waiting] = deque()
        self._half_tags: list[tuple[MakeToken, list[tuple[str, bool]]]] = []
        self.thinking_tokens = 0

    def push(self, index: int, token_id: int, make: MakeToken) -> bool:
        """Add a token; true if a stop string is complete.

        Args:
            index: its place in the answer.
            token_id: which token it is.
            make: builds its event from (text, is thinking), once that is known.
        """
        piece = self._decoder.push(token_id)
        end = self._stop.push(piece)
        self._waiting.append(_Waiting(index, make, piece, self._stop.length))
        if end is not None:
            self._cut(end)
        return end is not None

    def _cut(self, end: int) -> None:
        """Drop text from ``end`` on: the stop string may have begun in earlier tokens."""
        for waiting in self._waiting:
            if waiting.end > end:
                waiting.text = waiting.text[: max(0, end - (waiting.end - len(waiting.text)))]

    def release(self, emitted: int, cleared: int) -> list[Token]:
        """Tokens that may be shown now.

        Args:
            emitted: tokens emitted so far.
            cleared: leading tokens whose risk question is settled.
        """
        limit = min(self._limit(emitted, cleared), emitted - self._decoder.pending)
        out: list[Token] = []
        while self._waiting and self._waiting[0].index < limit and self._waiting[0].end <= self._stop.safe:
            out += self._split(self._waiting.popleft())
        return out

    def _limit(self, emitted: int, cleared: int) -> int:
        if self._hold_back == "verdict":
            return cleared
        if self._hold_back == "none":
            return emitted
        return 0 if self._hold_back == "response" else emitted - self._hold_back

    def finish(self, stopped: bool) -> list[Token]:
        """Everything left, at the normal end of an answer."""
        if self._waiting and not stopped:
            self._waiting[-1].text += self._decoder.flush()
        out = [token for waiting in self._waiting for token in self._split(waiting)]
        self._waiting.clear()
        if self._half_tags:
            self._half_tags[-1][1].extend(self._thinking.flush())
        return out + self._report_half_tags()

    def _split(self, waiting: _Waiting) -> list[Token]:
        """Tell thinking from answer; a token that may hold half a tag is reported once that is known."""
        self._half_tags.append((waiting.make, self._thinking.push(waiting.text)))
        return [] if self._thinking.holding else self._report_half_tags()

    def _report_half_tags(self) -> list[Token]:
        out = [token for make, pieces in self._half_tags for token in self._events(make, pieces)]
        self._half_tags.clear()
        return out

    def _events(self, make: MakeToken, pieces: list[tuple[str, bool]]) -> list[Token]:
        """One event per kind of text; a token without any is reported as well."""
        thought = any(is_thought for _, is_thought in pieces)
        self.thinking_tokens += thought
        shown = [make(text, kind) for text, kind in pieces if not kind or self._include_thinking]
        return shown or [make("", thought)]
