"""Reads JSON while it grows: one value, one call, and the list or sequence of calls of one answer.

Raw line breaks and tabs inside strings, which models write and JSON forbids, become escapes on the way, so
that every reader of the arguments reads the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from .base import CallArguments, CallClosed, CallOpened, Piece

_ARGUMENTS = frozenset({"arguments", "parameters"})
_CLOSER = {"{": "}", "[": "]"}
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class ValueScanner:
    """One JSON value, character by character, beginning with its first."""

    def __init__(self) -> None:
        self.text = ""
        self.done = False
        self.broken = False
        self._closers: list[str] = []
        self._in_string = self._escaped = False

    def feed(self, char: str) -> str:
        """Read on; the text this adds. Nothing, and ``done``: the character is not part of the value."""
        added = self._string(char) if self._in_string else self._outside(char)
        self.text += added
        return added

    def _string(self, char: str) -> str:
        if self._escaped:
            self._escaped = False
        elif char == "\\":
            self._escaped = True
        elif char == '"':
            self._in_string = False
            self.done = not self._closers
        return json.dumps(char)[1:-1] if char < " " else char

    def _outside(self, char: str) -> str:
        if not self._closers and self.text and (char in ",]}" or char.isspace()):
            self.done = True  # a number or a word ends by what follows it
            return ""
        if char == '"':
            self._in_string = True
        elif char in _CLOSER:
            self._closers.append(_CLOSER[char])
        elif char in "]}":
            if not self._closers or self._closers.pop() != char:
                self.broken = self.done = True
            self.done |= not self._closers
        return char

    def wrong_end(self) -> str:
        """What makes the text unreadable for good, also for readers that close what was left open."""
        finished = ("n" if self._escaped else "") + ('"' if self._in_string else "")
        return finished + ("}" if self._closers and self._closers[-1] == "]" else "]")

    def value(self) -> object:
        """What the value is.

        Raises:
            ValueError: it is no JSON.
        """
        return json.loads(self.text)


class CallScanner:
    """One call as a JSON object with a name and arguments, in any order; other members are passed over."""

    def __init__(self) -> None:
        self.raw = ""
        self.name: str | None = None
        self.done = self.broken = False
        self._arguments: str | None = None  # what is known of them and was not handed out yet
        self._key = ""
        self._wants = "object"
        self._value: ValueScanner | None = None

    def feed(self, char: str) -> None:
        """Read on; a character that cannot stand there breaks the call."""
        self.raw += char
        if self._value is not None:
            added = self._value.feed(char)
            if self._arguments is not None and self._streams(self._value):
                self._arguments += added
            if not self._value.done:
                return
            self._finish(self._value)
            if added:
                return
        if not char.isspace() and not self.broken:
            self._between(char)

    def take(self) -> str:
        """Arguments that became known, once the name is known."""
        if self.name is None or self._arguments is None:
            return ""
        taken, self._arguments = self._arguments, ""
        return taken

    @property
    def has_arguments(self) -> bool:
        """Whether any have come, handed out or not."""
        return self._arguments is not None

    def _streams(self, value: ValueScanner) -> bool:
        """Whether a value is the arguments as they should be; others are looked at when they are whole."""
        return self._wants == "value" and self._key in _ARGUMENTS and value.text[0] == "{"

    def _between(self, char: str) -> None:
        match self._wants, char:
            case "object", "{":
                self._wants = "key or end"
            case (("key or end" | "comma"), "}"):
                self.done = True
            case "colon", ":":
                self._wants = "value"
            case "comma", ",":
                self._wants = "key"
            case (("key or end" | "key"), '"'):
                self._wants = "key"
                self._begin(char)
            case "value", _:
                self._begin(char)
            case _:
                self.broken = True

    def _begin(self, char: str) -> None:
        self._value = ValueScanner()
        added = self._value.feed(char)
        if self._streams(self._value):
            self._arguments = added
        self.broken |= self._value.broken

    def _finish(self, scanner: ValueScanner) -> None:
        self._value = None
        try:
            value = scanner.value()
        except (ValueError, RecursionError):
            self.broken = True
            return
        if self._wants == "key":
            self._key, self._wants = str(value), "colon"
            return
        self._wants = "comma"
        if self._key == "name":
            self.name = value if isinstance(value, str) else None
            self.broken |= self.name is None
        elif self._key in _ARGUMENTS and not isinstance(value, dict):
            # Some models write them as a text that holds JSON, or null for none.
            self._arguments = value if isinstance(value, str) else "{}" if value is None else scanner.text


class CallsScanner:
    """The calls of one place: an object, or a list of objects."""

    def __init__(self) -> None:
        self.done = self._broken = False
        self._in_list: bool | None = None
        self._call: CallScanner | None = None
        self._opened = False
        self._arguments = ""

    def feed(self, char: str) -> Iterator[Piece]:
        """Read on."""
        if self._broken:
            yield from self._stray(char)
        elif self._call is not None:
            yield from self._inside(self._call, char)
        elif char == "{":
            self._in_list = bool(self._in_list)
            self._call, self._opened, self._arguments = CallScanner(), False, ""
            self._call.feed(char)
        elif char == "[" and self._in_list is None:
            self._in_list = True
        elif char == "]" and self._in_list:
            self.done = True
        elif not char.isspace() and not (char == "," and self._in_list):
            yield from self._break(char)

    @property
    def interruptible(self) -> bool:
        """Whether no call is open, or a broken one, which takes in everything."""
        return self._call is None

    def end(self) -> Iterator[Piece]:
        """Nothing more comes: a call that is open is not complete."""
        if self._call is not None or self._broken:
            yield from self._open(self._call.raw if self._call else "")
            yield CallClosed(complete=False)
        self._call, self._broken, self.done = None, False, True

    def _inside(self, call: CallScanner, char: str) -> Iterator[Piece]:
        call.feed(char)
        if call.broken:
            self._call = None
            yield from self._break(call.raw if not self._opened else char)
            return
        if call.name is not None and not self._opened:
            self._opened = True
            yield CallOpened(call.name)
        added = call.take()
        if added:
            self._arguments += added
            yield CallArguments(added)
        if call.done:
            yield from self._close(call)

    def _close(self, call: CallScanner) -> Iterator[Piece]:
        self._call, self.done = None, not self._in_list
        complete = self._opened
        if not self._opened:
            yield from self._open(call.raw)
        elif not call.has_arguments:
            yield CallArguments("{}")
        elif not is_object(self._arguments):
            complete = False
        yield CallClosed(complete)
        self._opened = False

    def _break(self, raw: str) -> Iterator[Piece]:
        self._broken = True
        yield from self._open(raw) if not self._opened else self._stray(raw)

    def _open(self, raw: str) -> Iterator[Piece]:
        """A call without a name; what was written stands for its arguments."""
        if not self._opened:
            self._opened = True
            yield CallOpened("")
            yield from self._stray(raw)

    def _stray(self, raw: str) -> Iterator[Piece]:
        if raw:
            yield CallArguments(raw)


def is_object(text: str) -> bool:
    """Whether a text is a JSON object that can be sent back: no lone surrogates, no NUL."""
    try:
        value = json.loads(text)
        plain = json.dumps(value, ensure_ascii=False)
        plain.encode()
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and not _NUL.search(plain)
