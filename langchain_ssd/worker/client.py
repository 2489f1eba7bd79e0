"""The parent's side: a :class:`LocalBackend` starts its worker when it is first needed, or needed again.

Nothing here imports torch or a tokenizer.  The threads and the process belong to one
:class:`~langchain_ssd.worker.supervisor.Supervisor` at a time; this page decides when there is one, and
hands what it reports to the responses and calls that wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..backend import Backend, ChatMessage, ChatRequest, Health, TextToken
from ..config import EngineConfig, ModelSpec
from ..errors import (
    Cancelled,
    ConfigError,
    InvalidRequest,
    ProtocolError,
    SSDError,
    WorkerDied,
    WorkerError,
    WorkerStartFailed,
    WorkerUnavailable,
    from_wire,
)
from ..events import Finished
from . import lifecycle
from .calls import Answer, Progress, Reply, wait_for
from .child import worker_command
from .protocol import Frame, FrameTooLarge
from .stream import Mailbox, MailboxStream
from .supervisor import Supervisor
from .wire import encode_submit, events_from_wire, hello, request_body, tokens_call, tokens_from_wire

DEFAULT_ENGINE = "langchain_ssd.engine.loading:build_engine"
_BACKOFF_START, _BACKOFF_LIMIT = 0.5, 30.0
_log = logging.getLogger(__name__)


class LocalBackend(Backend):
    """A protected pair in a worker process of its own.

    The process starts with the first request, call or :meth:`warm_up`.  If it dies, everything in flight
    fails at once and the next request starts a fresh one: after a growing pause when it keeps dying, and
    not at all after ``config.max_restarts`` restarts without a finished request in between.

    Args:
        target: the model to protect.
        draft: the small safe model.
        config: how the worker runs.
        engine: ``module:function`` that builds the engine in the worker; for test doubles.

    Raises:
        ConfigError: the settings are not plain values.
    """

    def __init__(
        self, target: ModelSpec, draft: ModelSpec, config: EngineConfig, *, engine: str = DEFAULT_ENGINE
    ) -> None:
        self._hello = hello(target, draft, config)
        self._config = config
        self._command = worker_command(engine)
        self._lock = threading.RLock()
        self._last_id = 0
        self._closed = False
        self._crashes = 0  # in a row, without a finished request in between
        self._not_before = 0.0
        self._reset()
        lifecycle.track(self)

    def _reset(self) -> None:
        self._supervisor: Supervisor | None = None
        self._mailboxes: dict[int, Mailbox] = {}
        self._replies: dict[int, Reply] = {}
        self._progress: dict[str, Any] = {}
        self._error: SSDError | None = None

    # --- what a caller does ---

    def submit(self, request: ChatRequest) -> MailboxStream:
        """Hand a request over; every failure arrives as a ``Failed`` event."""
        now = time.monotonic()
        number = self._next_id()
        mailbox = Mailbox(partial(self._cancel, number))
        try:
            body = request_body(request)
            with self._lock:
                supervisor = self._started()
                self._mailboxes[number] = mailbox
            supervisor.send_later(partial(encode_submit, number, body, now))
        except SSDError as error:
            mailbox.fail(error)
        return MailboxStream(mailbox, request.timeout)

    def token_ids(self, text: str) -> list[int]:
        """Token ids of plain text by the target's own tokenizer; starts the worker if needed.

        Raises:
            InvalidRequest: the text cannot be tokenized.
            ConfigError: the pair cannot work.
            WorkerError: the worker failed.
        """
        return self._call(list, {"type": "token_ids", "text": text})

    def tokenize(self, source: str | Sequence[ChatMessage]) -> list[TextToken]:
        """Tokens of text, or of a conversation in the target's template; fails like :meth:`token_ids`."""
        return self._call(list, tokens_call(source))

    def warm_up(self, on_progress: Progress | None = None) -> Health:
        """Start the worker if needed and wait until the pair is loaded.

        Args:
            on_progress: called here, in the calling thread, with a stage and a fraction from 0 to 1.

        Raises:
            ConfigError: the pair cannot work.
            WorkerError: the worker failed to start.
        """
        self._call(dict, None, on_progress)
        return self.health()

    def health(self) -> Health:
        """State at this moment; adds no work and never blocks."""
        with self._lock:
            supervisor = self._supervisor
            if self._closed:
                return Health("closed")
            if supervisor is None and self._error is None:
                return Health("idle")
            if supervisor is None:
                return Health("failed", info={"error": self._error.to_wire() if self._error else {}})
            if supervisor.info is None:
                return Health("loading", queued=len(self._mailboxes), info=dict(self._progress))
            counts = supervisor.running, supervisor.queued
            return Health("ready", *counts, dict(supervisor.info), supervisor.stalled)

    def close(self) -> None:
        """End the worker and wait until it is gone; requests in flight fail as cancelled. Idempotent."""
        with self._lock:
            self._closed = True
            supervisor = self._supervisor
            self._fail_everything(Cancelled("the model was closed before this was finished"))
        if supervisor is not None:
            supervisor.stop()
            supervisor.join()

    def dismiss(self) -> None:
        """For finalizers: end the worker without waiting for it and without taking a lock."""
        self._closed = True
        supervisor = self._supervisor
        if supervisor is not None:
            supervisor.stop()

    @property
    def pid(self) -> int | None:
        """The process id of the present worker."""
        supervisor = self._supervisor
        return None if supervisor is None else supervisor.pid

    @property
    def exhausted(self) -> bool:
        """Whether the worker died too often to be started again."""
        return self._crashes > self._config.max_restarts

    def forget(self) -> None:
        """In a forked child: the worker, its threads and its responses belong to the parent process."""
        self._lock = threading.RLock()
        supervisor, mailboxes = self._supervisor, list(self._mailboxes.values())
        self._crashes, self._not_before = 0, 0.0
        self._reset()
        if supervisor is not None:
            supervisor.abandon()
        for mailbox in mailboxes:
            mailbox.orphan(
                WorkerDied("this process was forked from the one that made the request; try again")
            )

    # --- the worker's life ---

    def _next_id(self) -> int:
        with self._lock:
            self._last_id += 1
            return self._last_id

    def _call(self, wanted: type[Answer], frame: Frame | None, on_progress: Progress | None = None) -> Answer:
        """Wait for the pair's description or, where there is a ``frame``, for its answer."""
        number, reply = self._next_id(), Reply()
        with self._lock:
            supervisor = self._started()
            if supervisor.info is not None and frame is None:
                reply.put(supervisor.info)
            self._replies[number] = reply
        try:
            if frame is not None:
                supervisor.send({**frame, "id": number})
            return wait_for(wanted, reply, self._config.start_timeout + _BACKOFF_LIMIT, on_progress)
        except FrameTooLarge:
            raise InvalidRequest("the text is too large to be tokenized at once; send less") from None
        finally:
            self._replies.pop(number, None)

    def _started(self) -> Supervisor:
        """The worker, started if there is none. The lock is held."""
        if self._closed:
            raise WorkerError("this model is closed; create a new one")
        if self._supervisor is None:
            if self.exhausted:
                last = "" if self._error is None else f" (last: {self._error.message})"
                failures = f"the worker failed {self._crashes} times in a row{last}"
                raise WorkerUnavailable(f"{failures}; close the model, look at the cause, then start anew")
            delay = max(0.0, self._not_before - time.monotonic())
            supervisor = Supervisor(self._command, self._hello, self._config, self, delay)
            self._progress = {}
            try:
                supervisor.start()
            except RuntimeError:
                raise WorkerStartFailed("no thread could be started for the worker") from None
            self._supervisor = supervisor
        return self._supervisor

    def on_exit(self, supervisor: Supervisor, error: SSDError) -> None:
        """Called by the supervisor, last: its process is gone."""
        with self._lock:
            if supervisor is not self._supervisor:
                return
            self._supervisor = None
            self._error = error
            if not self._closed and not isinstance(error, ConfigError):
                self._crashes += 1
                pause = min(_BACKOFF_LIMIT, _BACKOFF_START * 2.0 ** (self._crashes - 1))
                self._not_before = time.monotonic() + pause
                _log.warning("the worker failed (%s), %d in a row", error.code, self._crashes)
            self._fail_everything(error)

    def _fail_everything(self, error: SSDError) -> None:
        """The lock is held, or a request that starts the next worker could be caught by this one's end."""
        mailboxes, self._mailboxes = self._mailboxes, {}
        replies, self._replies = self._replies, {}
        for mailbox in mailboxes.values():
            mailbox.fail(error)
        for reply in replies.values():
            reply.put(error)

    # --- what the worker says ---

    def on_progress(self, stage: str, fraction: float) -> None:
        """Called by the supervisor: loading goes on."""
        with self._lock:
            self._progress = {"stage": stage, "fraction": fraction}
            waiting = list(self._replies.values())
        for reply in waiting:
            reply.put((stage, fraction))

    def on_ready(self, info: dict[str, Any]) -> None:
        """Called by the supervisor: the pair is loaded."""
        with self._lock:
            self._error = None
            waiting = list(self._replies.values())
        for reply in waiting:
            reply.put(info)

    def on_reply(self, frame: Frame) -> None:
        """Called by the supervisor: an answer. One that nobody waits for any more is dropped.

        Raises:
            ProtocolError: nobody ever asked for it, or it is no answer.
        """
        number = frame["id"]
        if not 0 < number <= self._last_id:
            raise ProtocolError("a frame answers a request that was never made; the channel is closed")
        if frame["type"] == "events":
            self._deliver(number, frame["events"])
            return
        reply = self._replies.get(number)
        answer = tokens_from_wire(frame)
        if answer is not None:
            self._crashes = 0
        if reply is not None:
            reply.put(from_wire(frame["code"], frame["message"]) if answer is None else answer)

    def _deliver(self, number: int, wires: list[Any]) -> None:
        events = events_from_wire(wires)
        mailbox = self._mailboxes.get(number)
        if mailbox is None:  # cancelled while this was on its way
            return
        if mailbox.deliver(events):
            self._mailboxes.pop(number, None)
        if any(isinstance(event, Finished) for event in events):
            self._crashes = 0

    def _cancel(self, number: int) -> None:
        """Takes no lock: the garbage collector may call this from any thread."""
        supervisor = self._supervisor
        if self._mailboxes.pop(number, None) is not None and supervisor is not None:
            supervisor.send({"type": "cancel", "id": number})
