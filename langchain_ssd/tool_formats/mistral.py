"""The formats of Mistral: ``[TOOL_CALLS] [{"name": ..., "arguments": {...}}]``, and one with ``[ARGS]``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from hashlib import blake2b
from typing import Any

from .base import (
    Call,
    CallArguments,
    CallClosed,
    CallOpened,
    CallParser,
    Mark,
    Piece,
    ToolFormat,
    json_text,
    object_rule,
    quote,
)
from .parsing import Body, MarkedParser
from .scanning import CallsScanner, ValueScanner, is_object

_CALLS, _ARGS, _CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_ID_LENGTH = 9


class _MistralBase(ToolFormat):
    opener = _CALLS
    markers = (_CALLS, _ARGS, _CALL_ID)

    def parser(self, names: Collection[str]) -> CallParser:
        """Reads both formats: models of this family are fine-tuned from each other."""
        return MarkedParser(_CALLS, body=_EitherBody)

    def native_message(self, message: dict[str, Any]) -> dict[str, Any]:
        """Ids of other makers' calls become what these templates insist on: nine letters or digits."""
        changed = dict(message)
        if "tool_calls" in changed:
            changed["tool_calls"] = [{**c, "id": short_id(c.get("id") or "")} for c in changed["tool_calls"]]
        if "tool_call_id" in changed:
            changed["tool_call_id"] = short_id(changed["tool_call_id"])
        return changed


class MistralFormat(_MistralBase):
    """A list of objects behind one marker."""

    name = "mistral"

    def recognises(self, template: str) -> bool:
        """By the marker."""
        return _CALLS in template and _ARGS not in template

    def how_to_call(self) -> str:
        """The marker and the list."""
        return (
            "To call functions, answer with:\n"
            f'{_CALLS} [{{"name": <function-name>, "arguments": <args-json-object>}}]'
        )

    def render_calls(self, calls: Sequence[Call]) -> str:
        """The marker and the list."""
        return f"{_CALLS} {json_text([{'name': c.name, 'arguments': c.arguments} for c in calls])}"

    def call_grammar(self, name: str, arguments: str, mark: Mark) -> str:
        """An object of the list."""
        return object_rule(name, arguments)

    def calls_grammar(self, call: str, parallel: bool, mark: Mark) -> str:
        """The list."""
        more = f" ({quote(', ')} {call})*" if parallel else ""
        return f"{quote(' ')}? {quote('[')} {call}{more} {quote(']')}"


class MistralArgsFormat(_MistralBase):
    """A marker, a name, another marker and the arguments, for every call."""

    name = "mistral_args"

    def recognises(self, template: str) -> bool:
        """By both markers."""
        return _CALLS in template and _ARGS in template

    def how_to_call(self) -> str:
        """The markers."""
        return f"To call a function, answer with:\n{_CALLS}<function-name>{_ARGS}<args-json-object>"

    def render_calls(self, calls: Sequence[Call]) -> str:
        """One after the other."""
        return "".join(f"{_CALLS}{call.name}{_ARGS}{json_text(call.arguments)}" for call in calls)

    def call_grammar(self, name: str, arguments: str, mark: Mark) -> str:
        """Name, marker, arguments."""
        return f"{quote(name)} {mark(_ARGS)} {arguments}"

    def calls_grammar(self, call: str, parallel: bool, mark: Mark) -> str:
        """One after the other."""
        return f"{call} ({mark(_CALLS)} {call})*" if parallel else call


class _NamedBody:
    """``name[ARGS]{...}``, where ``[CALL_ID]...`` may stand before the arguments."""

    interruptible = False

    def __init__(self) -> None:
        self.done = False
        self._head = ""
        self._value: ValueScanner | None = None

    def feed(self, char: str) -> Iterator[Piece]:
        """Read on."""
        if self._value is None:
            yield from self._in_head(char)
            return
        added = self._value.feed(char)
        if added:
            yield CallArguments(added)
        if self._value.done:
            self.done = True
            yield CallClosed(is_object(self._value.text))

    def end(self) -> Iterator[Piece]:
        """Nothing more comes."""
        if self._value is None:
            yield CallOpened("")
            yield CallArguments(self._head)
        yield CallClosed(complete=False)
        self.done = True

    def _in_head(self, char: str) -> Iterator[Piece]:
        if char != "{":
            self._head += char
            return
        self._value = ValueScanner()
        yield CallOpened(self._head.partition(_ARGS)[0].partition(_CALL_ID)[0].strip())
        yield CallArguments(self._value.feed(char))


class _EitherBody:
    """Told apart by the first character."""

    interruptible = False

    def __init__(self) -> None:
        self._body: Body | None = None

    @property
    def done(self) -> bool:
        """Whether the calls are complete."""
        return self._body is not None and self._body.done

    def feed(self, char: str) -> Iterator[Piece]:
        """Read on."""
        if self._body is None and char.isspace():
            return
        if self._body is None:
            self._body = CallsScanner() if char in "[{" else _NamedBody()
        yield from self._body.feed(char)

    def end(self) -> Iterator[Piece]:
        """Nothing more comes."""
        if self._body is not None:
            yield from self._body.end()


def short_id(call_id: str) -> str:
    """An id as it is, if it has nine letters or digits; else nine of its hash."""
    if len(call_id) == _ID_LENGTH and call_id.isascii() and call_id.isalnum():
        return call_id
    return blake2b(call_id.encode(), digest_size=8).hexdigest()[:_ID_LENGTH]
