"""One worker process as the parent sees it: started, written to, read from, watched and ended.

Three threads: the supervisor itself (start, watch, end), one that reads frames and one that writes them.
No caller ever waits for a pipe or for the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol, cast

from ..config import EngineConfig
from ..errors import Cancelled, ProtocolError, SSDError, WorkerDied, WorkerStartFailed, from_wire
from . import lifecycle
from .child import LOG_VARIABLE, PATIENCE, Process, close_pipes, describe_exit, end, spawn, wait
from .protocol import TO_PARENT, Frame, FrameWriter, Sink, Source, TruncatedFrame, encode, read_frame
from .watchdog import Watchdog

_STOP = "stop"
_END = "end"


class Listener(Protocol):
    """Who is told what the worker does; called from the supervisor's threads."""

    def on_progress(self, stage: str, fraction: float) -> None:
        """Loading went on."""

    def on_ready(self, info: dict[str, Any]) -> None:
        """The pair is loaded."""

    def on_reply(self, frame: Frame) -> None:
        """An answer to a request or a call arrived."""

    def on_exit(self, supervisor: Supervisor, error: SSDError) -> None:
        """The process is gone. Called exactly once, last."""


class Supervisor:
    """The life of one worker process.

    Args:
        command: the program and its arguments.
        hello: the first frame.
        config: the limits to watch.
        listener: who is told.
        delay: seconds to wait before the start.
    """

    def __init__(
        self, command: Sequence[str], hello: Frame, config: EngineConfig, listener: Listener, delay: float
    ) -> None:
        self._command = list(command)
        self._config = config
        self._listener = listener
        self._delay = delay
        self._outbox: SimpleQueue[Callable[[], bytes] | bytes | None] = SimpleQueue()
        self._signals: SimpleQueue[str | ProtocolError] = SimpleQueue()
        self._process: Process | None = None
        self._watchdog: Watchdog | None = None
        self._last_words: SSDError | None = None
        self._thread = threading.Thread(target=self._supervise, name="langchain-ssd-worker", daemon=True)
        self.info: dict[str, Any] | None = None
        self.running = 0
        self.queued = 0
        self.send(hello)

    # --- for the owner: nothing waits, except join ---

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def send(self, frame: Frame) -> None:
        """Have a frame written."""
        self._outbox.put(encode(frame))

    def send_later(self, make: Callable[[], bytes]) -> None:
        """Have a frame written that is made only then."""
        self._outbox.put(make)

    def stop(self) -> None:
        """Have the process ended, politely first. Takes no lock, so a finalizer may call it."""
        self._signals.put(_STOP)

    def join(self) -> None:
        """Wait until the process and the threads are gone."""
        if self._thread is not threading.current_thread():
            self._thread.join()

    def abandon(self) -> None:
        """In a forked child: close this process's copies of the pipes; the worker belongs to the parent."""
        process = self._process
        if process is not None:
            process.returncode = 0  # or its finalizer would wait for a process that is not our child
            close_pipes(process)

    @property
    def pid(self) -> int | None:
        """The worker's process id, once it has one."""
        return None if self._process is None else self._process.pid

    @property
    def stalled(self) -> float:
        """Seconds without a sign of life, or without a step while there is work."""
        return 0.0 if self._watchdog is None else self._watchdog.stalled(time.monotonic())

    # --- the supervisor's thread ---

    def _supervise(self) -> None:
        error: SSDError = WorkerStartFailed("the worker could not be started: its supervisor failed")
        try:
            error = self._live()
        except OSError as cause:
            error = WorkerStartFailed(
                f"the worker could not be started ({type(cause).__name__}); "
                f"check this Python's executable and {LOG_VARIABLE}"
            )
        finally:
            self._listener.on_exit(self, error)

    def _live(self) -> SSDError:
        if self._delay and self._stopped_within(self._delay):
            return _closed()
        with lifecycle.fork_gate():
            process = self._process = spawn(self._command)
        watchdog = self._watchdog = Watchdog(self._config, time.monotonic())
        reader = threading.Thread(target=self._read, args=(process, watchdog), daemon=True)
        writer = threading.Thread(target=self._write, args=(process,), daemon=True)
        reader.start()
        writer.start()
        error: SSDError | None = WorkerDied("the worker was stopped because its supervisor failed; try again")
        try:
            error = self._watch(process, watchdog)
        finally:
            end(process, error)
            self._bury(process, (reader, writer))
        return error or self._cause_of_death(process)

    def _stopped_within(self, seconds: float) -> bool:
        try:
            return self._signals.get(timeout=seconds) == _STOP
        except Empty:
            return False

    def _watch(self, process: Process, watchdog: Watchdog) -> SSDError | None:
        """Until the worker must end or has ended; ``None`` when it ended by itself."""
        while True:
            try:
                news = self._signals.get(timeout=watchdog.interval)
            except Empty:
                lost = watchdog.check(time.monotonic())
                # A stranger that inherited the pipe can hide its end from the reader, so ask the system too.
                if lost is not None or process.poll() is not None:
                    return lost
                continue
            if news == _STOP:
                if self.info is not None:  # while it loads it takes no frames
                    self.send({"type": "close"})
                    wait(process)
                return _closed()
            return news if isinstance(news, ProtocolError) else None

    def _bury(self, process: Process, threads: Sequence[threading.Thread]) -> None:
        """Leave no thread and no pipe behind."""
        self._outbox.put(None)
        for thread in threads:
            thread.join(PATIENCE)
        if not any(thread.is_alive() for thread in threads):  # a descriptor in use must not be given away
            close_pipes(process)

    def _cause_of_death(self, process: Process) -> SSDError:
        if self._last_words is not None:
            return self._last_words
        how = describe_exit(process.returncode)
        if self.info is None:
            return WorkerStartFailed(
                f"the worker ended while loading ({how}); set {LOG_VARIABLE} to a file and look there"
            )
        return WorkerDied(
            f"the worker ended ({how}) before this was finished; try again, or set {LOG_VARIABLE} to see why"
        )

    # --- the reader's thread ---

    def _read(self, process: Process, watchdog: Watchdog) -> None:
        outcome: str | ProtocolError = _END
        source = cast("Source", process.stdout)
        try:
            while (frame := read_frame(source, TO_PARENT)) is not None:
                self._dispatch(frame, watchdog)
        except TruncatedFrame:
            pass  # it died while writing: how it ended says more
        except ProtocolError as error:
            outcome = error
        except (OSError, ValueError):
            pass  # the pipe is gone, so is the worker
        finally:
            self._signals.put(outcome)

    def _dispatch(self, frame: Frame, watchdog: Watchdog) -> None:
        now = time.monotonic()
        watchdog.heard(now)
        match frame["type"]:
            case "beat":
                self.running, self.queued = frame["running"], frame["queued"]
                watchdog.beat(frame["steps"], frame["busy"], now)
            case "progress":
                self._listener.on_progress(frame["stage"], frame["fraction"])
            case "ready":
                watchdog.ready(now)
                self.info = frame["info"]
                self._listener.on_ready(frame["info"])
            case "failed":  # acted upon when it is gone, so that the next request meets a fresh one
                self._last_words = from_wire(frame["code"], frame["message"])
            case _:
                self._listener.on_reply(frame)

    # --- the writer's thread ---

    def _write(self, process: Process) -> None:
        writer = FrameWriter(cast("Sink", process.stdin))
        try:
            while (item := self._outbox.get()) is not None:
                writer.write(item if isinstance(item, bytes) else item())
        except (OSError, ValueError):
            pass  # the pipe is gone; the reader sees that too, and reports it


def _closed() -> Cancelled:
    return Cancelled("the model was closed before this was finished")
