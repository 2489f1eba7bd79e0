"""A backend that answers from a script: what tests of chains, agents and dashboards need, without models.

A script is a list of events. :func:`answer`, :func:`tool_call`, :func:`refusal` and :func:`failure` write
the usual ones; any list of events that ends with ``Finished`` or ``Failed`` will do, also a wrong one, on
purpose.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..backend import Backend, ChatMessage, ChatRequest, EventStream, Health, TextToken
from ..errors import Cancelled, SSDError
from ..events import (
    CallState,
    Event,
    Failed,
    Finished,
    Mode,
    ModeChanged,
    Queued,
    Refused,
    Summary,
    Token,
    ToolCallPart,
)
from ..tool_formats.scanning import is_object

Arguments = Mapping[str, Any] | str
Script = Sequence[Event]
Reply = str | Script | SSDError | Callable[[ChatRequest], "str | Script | SSDError"]


def split(text: str) -> list[str]:
    """Text as the scripted tokenizer sees it: words with the space before them."""
    return re.findall(r"\s*\S+|\s+$", text)


def answer(
    text: str,
    *,
    thinking: str = "",
    modes: Sequence[Mode] = (),
    agreement: Sequence[bool] = (),
    finish_reason: str = "stop",
) -> list[Event]:
    """A whole answer, token by token; ``modes`` and ``agreement`` tell of the first ones."""
    words = [(word, True) for word in split(thinking)] + [(word, False) for word in split(text)]
    events = _tokens(words, modes, agreement)
    return [*events, _finished(events, len(split(thinking)), finish_reason)]


def tool_call(
    name: str,
    arguments: Arguments,
    *,
    after: str = "",
    modes: Sequence[Mode] = (),
    agreement: Sequence[bool] = (),
) -> list[Event]:
    """What was said, then one call to a tool, slice by slice; see :func:`tool_calls` for several."""
    return tool_calls((name, arguments), after=after, modes=modes, agreement=agreement)


def tool_calls(
    *calls: tuple[str, Arguments],
    after: str = "",
    modes: Sequence[Mode] = (),
    agreement: Sequence[bool] = (),
) -> list[Event]:
    """What was said, then calls to tools.

    Args:
        calls: name and arguments of each; arguments that are a text stand as they are, also if they are no
            JSON, which makes an invalid call.
        after: the text in front.
        modes: of the first tokens, those of the text included; a call has one token a slice.
        agreement: of the same tokens.
    """
    slices = [split(args if isinstance(args, str) else json.dumps(args)) or [""] for _, args in calls]
    words = split(after)
    silent = [("", False)] * sum(map(len, slices))
    events = _tokens([*((word, False) for word in words), *silent], modes, agreement)
    tokens = [event for event in events if isinstance(event, Token)][len(words) :]
    risks = []
    for number, ((name, _), parts) in enumerate(zip(calls, slices, strict=True)):
        call_id = secrets.token_hex(5)[:9]
        own, tokens = tokens[: len(parts)], tokens[len(parts) :]
        for token, part in zip(own, _parts(number, call_id, name, parts), strict=True):
            events.insert(events.index(token) + 1, part)
        risks.append(_risk(call_id, name, own))
    called = any(isinstance(event, ToolCallPart) and event.state == "complete" for event in events)
    finished = _finished(events, 0, "tool_calls" if called else "stop")
    return [*events, replace(finished, summary=replace(finished.summary, tool_calls=risks))]


def _parts(number: int, call_id: str, name: str, slices: Sequence[str]) -> list[ToolCallPart]:
    last: CallState = "complete" if is_object("".join(slices)) else "broken"
    return [
        ToolCallPart(
            number,
            "" if place else call_id,
            "" if place else name,
            text,
            last if place == len(slices) - 1 else "open",
        )
        for place, text in enumerate(slices)
    ]


def _risk(call_id: str, name: str, tokens: Sequence[Token]) -> dict[str, Any]:
    mode = "safety" if any(token.mode == "safety" for token in tokens) else "utility"
    ratio = sum(token.agreement for token in tokens) / len(tokens)
    return {"id": call_id, "name": name, "mode": mode, "match_ratio": ratio}


def _tokens(
    words: Sequence[tuple[str, bool]], modes: Sequence[Mode], agreement: Sequence[bool]
) -> list[Event]:
    events: list[Event] = []
    mode: Mode = "utility"
    for index, (word, thinking) in enumerate(words):
        now: Mode = modes[index] if index < len(modes) else "utility"
        if now != mode:
            events.append(ModeChanged(position=index, mode=now))
        mode = now
        agrees = agreement[index] if index < len(agreement) else True
        events.append(
            Token(index, index, word, thinking=thinking, mode=mode, agreement=agrees, p_composite=0.5)
        )
    return events


def refusal(
    text: str, *, after: str = "", reason: str = "evidence", enforced: bool = True, language: str = "en"
) -> list[Event]:
    """What was released, then a refusal; in shadow mode (``enforced=False``) it is only reported."""
    events = answer(after)[:-1]
    refused = Refused(len(events), reason, language=language, text=text, enforced=enforced)
    return [*events, refused, _finished(events, 0, "refusal" if enforced else "stop")]


def failure(error: SSDError, *, after: str = "") -> list[Event]:
    """What was released, then an error."""
    return [*answer(after)[:-1], Failed.of(error)]


def _finished(events: Script, thinking: int, finish_reason: Any) -> Finished:
    tokens = [event for event in events if isinstance(event, Token)]
    agreeing = sum(token.agreement for token in tokens)
    summary = Summary(
        emitted=len(tokens),
        scored=len(tokens),
        agreeing=agreeing,
        match_ratio=agreeing / len(tokens) if tokens else 1.0,
        mode_changes=sum(isinstance(event, ModeChanged) for event in events),
        safety_tokens=sum(token.mode == "safety" for token in tokens),
        final_mode=tokens[-1].mode if tokens else "utility",
    )
    return Finished(finish_reason, 0, len(tokens), thinking, summary)


class ScriptedBackend(Backend):
    """Gives its replies in order, and the last one for ever after.

    A reply is a text, a script, an error (the request is not even accepted), or a function of the
    request that returns one of these.

    Args:
        replies: what to answer.
        delay: seconds before each event, for tests of cancellation and concurrency.

    Attributes:
        requests: every request, in order.
        cancelled: the numbers (from 0) of the requests whose consumer left early.
        closed: how often ``close`` was called.
    """

    def __init__(self, *replies: Reply, delay: float = 0.0) -> None:
        self._replies = replies or ("Hello!",)
        self._delay = delay
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self.requests: list[ChatRequest] = []
        self.cancelled: list[int] = []
        self.closed = 0

    def submit(self, request: ChatRequest) -> EventStream:
        """Start the next reply."""
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
            self._running.add(number)
        reply = self._replies[min(number, len(self._replies) - 1)]
        reply = reply(request) if callable(reply) else reply
        script = self._script(request, reply)
        return ScriptedStream(script, self._delay, partial(self._ended, number))

    def _ended(self, number: int, *, cancelled: bool) -> None:
        self._running.discard(number)
        if cancelled:
            self.cancelled.append(number)

    def _script(self, request: ChatRequest, reply: str | Script | SSDError) -> Script:
        if isinstance(reply, SSDError):
            return [Failed.of(reply)]
        prompt = sum(self.count_tokens(message.content) for message in request.messages)
        prefill = self.count_tokens(request.prefill)
        return [
            Queued(prompt, prompt, prefill),
            *(
                replace(event, prompt_tokens=prompt + prefill) if isinstance(event, Finished) else event
                for event in (answer(reply) if isinstance(reply, str) else reply)
            ),
        ]

    def token_ids(self, text: str) -> list[int]:
        """One id a word: its length."""
        return [len(word) for word in split(text)]

    def tokenize(self, source: str | Sequence[ChatMessage]) -> list[TextToken]:
        """Words, with the ids of :meth:`token_ids`; a conversation is its messages, one a line."""
        text = source if isinstance(source, str) else "\n".join(f"{m.role}: {m.content}" for m in source)
        return [TextToken(len(word), word) for word in split(text)]

    def warm_up(self) -> Health:
        """There is nothing to load."""
        return self.health()

    def health(self) -> Health:
        """Always ready; ``running`` counts the responses that have not ended."""
        return Health("ready", running=len(self._running), info={"scripted": True})

    def close(self) -> None:
        """Only counted."""
        self.closed += 1


class ScriptedStream(EventStream):
    """One scripted response; after ``cancel`` it ends with a ``Failed`` of code "cancelled"."""

    def __init__(self, script: Script, delay: float, on_end: Callable[..., None]) -> None:
        self._script = script
        self._delay = delay
        self._on_end = on_end
        self._cancelled = threading.Event()
        self._ended = False

    def __iter__(self) -> Iterator[Event]:
        try:
            for event in self._script:
                if self._delay:
                    self._cancelled.wait(self._delay)
                yield self._next(event)
                if self._cancelled.is_set():
                    return
            self._end(cancelled=False)  # also a script without a final event is over now
        finally:
            self.cancel()

    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            for event in self._script:
                await asyncio.sleep(self._delay)
                yield self._next(event)
                if self._cancelled.is_set():
                    return
            self._end(cancelled=False)
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Stop the response, unless it has ended."""
        self._end(cancelled=True)

    def _end(self, *, cancelled: bool) -> None:
        if not self._ended:
            self._ended = True
            if cancelled:
                self._cancelled.set()
            self._on_end(cancelled=cancelled)

    def _next(self, event: Event) -> Event:
        if self._cancelled.is_set():
            return Failed(Cancelled.code, "the request was cancelled")
        if isinstance(event, Finished | Failed):
            self._end(cancelled=False)
        return event
