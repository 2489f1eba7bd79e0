"""Serving one engine inside the worker: frames in, steps, events out. No torch, no threads of its own."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from ..backend import ChatMessage, ChatRequest, TextToken
from ..errors import GenerationFailed, InvalidRequest, ProtocolError, SSDError
from ..events import Event, Failed, Queued
from .protocol import Frame, FrameWriter
from .timing import Stopwatch
from .wire import events_frame, is_terminal, messages_from_wire, request_from_wire, tokens_frame

EXIT_DONE, EXIT_ENGINE = 0, 3


class Engine(Protocol):
    """What this program needs of an engine."""

    @property
    def busy(self) -> bool:
        """Whether a step would do something."""

    @property
    def running(self) -> int:
        """Requests in the batch."""

    @property
    def queued(self) -> int:
        """Requests that wait."""

    @property
    def steps(self) -> int:
        """Counts progress."""

    def submit(self, request_id: str, request: ChatRequest, now: float) -> Queued:
        """Take a request, or raise before any forward pass."""

    def cancel(self, request_id: str) -> None:
        """Drop a request."""

    def step(self, now: float) -> list[tuple[str, Event]]:
        """Advance everything that runs."""

    def token_ids(self, text: str) -> list[int]:
        """Tokenize plain text."""

    def tokenize(self, source: str | Sequence[ChatMessage]) -> list[TextToken]:
        """Tokenize plain text or a conversation, with the text of each token."""

    def info(self) -> dict[str, Any]:
        """Describe the pair."""

    def close(self) -> None:
        """Release everything."""


class Server:
    """Serves one engine: inbox in, step, events out."""

    def __init__(self, engine: Engine, inbox: SimpleQueue[tuple[float, Frame]], writer: FrameWriter) -> None:
        self._engine = engine
        self._inbox = inbox
        self._writer = writer
        self._watch = Stopwatch()
        self._working = True
        self._closing = False

    def serve(self) -> int:
        """Until the parent says close, or the engine fails; the exit status."""
        try:
            while not self._closing:
                self._take_frames()
                if self._engine.busy and not self._closing:
                    self._step()
        except Exception as error:
            log(error)
            self._writer.send({"type": "failed", **as_error(error).to_wire()})
            return EXIT_ENGINE
        self._engine.close()
        return EXIT_DONE

    def beat(self) -> None:
        """Send one sign of life; called from the heartbeat's thread."""
        engine = self._engine
        frame = {"type": "beat", "steps": engine.steps, "busy": self._working}
        self._writer.send({**frame, "running": engine.running, "queued": engine.queued})

    def _take_frames(self) -> None:
        """Everything that has arrived; waits only when there is nothing else to do."""
        for _ in range(max(1, self._inbox.qsize())):
            self._working = self._engine.busy
            try:
                arrived, frame = self._inbox.get(block=not self._working)
            except Empty:
                return
            self._working = True
            self._handle(arrived, frame)

    def _handle(self, arrived: float, frame: Frame) -> None:
        match frame["type"]:
            case "submit":
                self._submit(frame["id"], frame["request"], arrived - frame["age"])
            case "cancel":
                self._watch.forget(str(frame["id"]))
                self._engine.cancel(str(frame["id"]))
            case "token_ids":
                self._answer(frame["id"], self._token_ids, frame)
            case "tokens":
                self._answer(frame["id"], self._tokens, frame)
            case "close":
                self._closing = True
            case _:
                raise ProtocolError("a second hello arrived")

    def _submit(self, number: int, wire: Frame, submitted: float) -> None:
        event: Event
        try:
            event = self._engine.submit(str(number), request_from_wire(wire), submitted)
            self._watch.submitted(str(number), submitted)
        except SSDError as error:
            event = Failed.of(error)
        except Exception as error:
            # Nothing was computed yet, so the engine is sound; only this request is not.
            log(error)
            event = Failed.of(as_error(error))
            self._engine.cancel(str(number))
        self._writer.send(events_frame(number, [event]))

    def _token_ids(self, frame: Frame) -> Frame:
        return {"type": "token_ids", "id": frame["id"], "ids": self._engine.token_ids(frame["text"])}

    def _tokens(self, frame: Frame) -> Frame:
        source = messages_from_wire(frame["messages"]) or frame["text"]
        return tokens_frame(frame["id"], self._engine.tokenize(source))

    def _answer(self, number: int, answer: Callable[[Frame], Frame], call: Frame) -> None:
        try:
            frame = answer(call)
        except SSDError as error:
            frame = {"type": "call_failed", "id": number, **error.to_wire()}
        except Exception as error:
            log(error)
            refusal = InvalidRequest("the target's tokenizer cannot read this text")
            frame = {"type": "call_failed", "id": number, **refusal.to_wire()}
        self._writer.send(frame)

    def _step(self) -> None:
        began = time.monotonic()
        outcome = [pair for pair in self._engine.step(began) if pair[0] in self._watch]
        now = time.monotonic()
        for request_id, event in outcome:
            if isinstance(event, Failed):
                self._watch.forget(request_id)
        self._watch.stepped(began, self._engine.queued)
        batches: dict[str, list[Event]] = {}
        for request_id, event in outcome:
            batches.setdefault(request_id, []).append(self._watch.stamp(request_id, event, now))
            if is_terminal(event):
                self._watch.forget(request_id)
        for request_id, events in batches.items():
            self._writer.send(events_frame(int(request_id), events))


def as_error(error: Exception) -> SSDError:
    """An unforeseen exception as one of ours: its class, but not its text, which may quote the prompt."""
    if isinstance(error, SSDError):
        return error
    return GenerationFailed(f"the engine failed ({type(error).__name__}); the answer was stopped")


def log(error: Exception, *, whole: bool = False) -> None:
    """Write an exception to the worker's log; the exception's text only where no prompt can be in it."""
    if whole:
        traceback.print_exception(error)
        return
    traceback.print_tb(error.__traceback__)
    sys.stderr.write(f"{type(error).__name__}\n")
