"""The worker program: ``python -m langchain_ssd.worker.process``. It holds the models and serves one parent.

Frames arrive on standard input and leave on standard output, both moved to private descriptors first, so
that no library's print can break the channel.  The main thread loads the pair and then decodes; small
threads read frames, send the heartbeat and watch the parent.  Whatever goes wrong with the engine as a
whole ends the process: the parent starts a fresh one.  It never imports LangChain.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import cast

from ..config import EngineConfig, ModelSpec
from ..errors import ProtocolError, SSDError, WorkerStartFailed
from .protocol import TO_WORKER, Frame, FrameWriter, Sink, read_frame
from .server import Engine, Server, log
from .wire import hello_from_wire

DEFAULT_ENGINE = "langchain_ssd.engine.loading:build_engine"
EXIT_STARTUP, EXIT_PROTOCOL, EXIT_ORPHAN = 2, 4, 5
BEAT_SECONDS = 1.0

Progress = Callable[[str, float], None]
Build = Callable[[ModelSpec, ModelSpec, EngineConfig, Progress], Engine]


class Channel(FrameWriter):
    """The way to the parent; when it is gone, nobody is left to work for."""

    def write(self, data: bytes) -> None:
        """Write one encoded frame, or end the process."""
        try:
            super().write(data)
        except OSError:
            os._exit(EXIT_ORPHAN)


def main(arguments: Sequence[str]) -> int:
    """Run the worker; returns its exit status."""
    parser = argparse.ArgumentParser(prog="langchain_ssd.worker.process", description=__doc__)
    parser.add_argument("--engine", default=DEFAULT_ENGINE, help="module:function that builds the engine")
    engine_name = parser.parse_args(arguments).engine
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes us
    source, sink = _claim_channel()
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()
    try:
        return _run(engine_name, source, Channel(cast("Sink", sink)))
    except ProtocolError:
        return EXIT_PROTOCOL


def _run(engine_name: str, source: io.FileIO, writer: FrameWriter) -> int:
    frame = read_frame(source, TO_WORKER)
    if frame is None:
        return EXIT_ORPHAN
    if frame["type"] != "hello":
        return EXIT_PROTOCOL
    inbox: SimpleQueue[tuple[float, Frame]] = SimpleQueue()
    threading.Thread(target=_read_frames, args=(source, inbox), daemon=True).start()
    try:
        target, draft, config = hello_from_wire(frame)
        engine = _build(engine_name)(target, draft, config, _reporter(writer))
        writer.send({"type": "ready", "info": engine.info()})
    except SSDError as error:
        log(error, whole=True)
        writer.send({"type": "failed", **error.to_wire()})
        return EXIT_STARTUP
    except Exception as error:
        log(error, whole=True)
        failure = WorkerStartFailed(f"the pair could not be loaded ({type(error).__name__})")
        writer.send({"type": "failed", **failure.to_wire()})
        return EXIT_STARTUP
    gc.collect()
    gc.freeze()  # what was loaded stays: collections need not walk through it again
    server = Server(engine, inbox, writer)
    pause = min(BEAT_SECONDS, config.heartbeat_timeout / 3)
    threading.Thread(target=_send_beats, args=(server, pause), daemon=True).start()
    return server.serve()


def _build(name: str) -> Build:
    # A progress bar would be drawn into the void, once per shard.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    module, _, function = name.partition(":")
    return cast("Build", getattr(importlib.import_module(module), function))


def _reporter(writer: FrameWriter) -> Progress:
    """Loading progress, sent when it has moved visibly."""
    last: tuple[str, float] = ("", 0.0)

    def report(stage: str, fraction: float) -> None:
        nonlocal last
        if stage != last[0] or fraction >= 1.0 or fraction - last[1] >= 0.01:
            last = (stage, fraction)
            writer.send({"type": "progress", "stage": stage, "fraction": float(fraction)})

    return report


def _claim_channel() -> tuple[io.FileIO, io.FileIO]:
    """Private copies of standard input and output; the numbers 0 and 1 then lead nowhere near the parent."""
    source = io.FileIO(os.dup(0), "rb")
    sink = io.FileIO(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink


# --- threads ------------------------------------------------------------------------------------------


def _read_frames(source: io.FileIO, inbox: SimpleQueue[tuple[float, Frame]]) -> None:
    """Stamps frames with their arrival, so that a deadline also counts while the pair loads."""
    try:
        while (frame := read_frame(source, TO_WORKER)) is not None:
            inbox.put((time.monotonic(), frame))
    except ProtocolError:
        os._exit(EXIT_PROTOCOL)
    except OSError:
        pass
    os._exit(EXIT_ORPHAN)  # end of input: the parent is gone, and nothing here is worth finishing


def _send_beats(server: Server, pause: float) -> None:
    while True:
        server.beat()
        time.sleep(pause)


def _watch_parent(parent: int) -> None:
    """The end of input can be hidden by a process that was forked from the parent and holds the pipe open."""
    while hasattr(os, "register_at_fork"):  # where there is no fork, there is no such process
        if os.getppid() != parent:
            os._exit(EXIT_ORPHAN)
        time.sleep(BEAT_SECONDS)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # no teardown: libraries can hang there, and daemon threads hold the pipes
