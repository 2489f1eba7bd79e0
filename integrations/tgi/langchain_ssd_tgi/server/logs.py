"""Structured logs: one line of JSON a record, numbers and names, never text of a request.

JSON escapes every control character, so that a record stays one line whatever a client sends.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

logger = logging.getLogger("langchain_ssd_tgi")


def log_request(record: dict[str, Any]) -> None:
    """One request and how it ended."""
    logger.info("request", extra={"fields": record})


def log_unforeseen(error: BaseException) -> None:
    """A fault of this server: its class and place; its text could quote a request."""
    trace = error.__traceback__
    places = []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    logger.error("unforeseen", extra={"fields": {"error": type(error).__name__, "trace": places[-8:]}})


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; of foreign loggers only their name and level."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        if record.name.startswith("langchain_ssd"):
            line["event"] = record.getMessage()
            line |= getattr(record, "fields", {})
        else:
            line |= {"event": "library", "logger": record.name}
        return json.dumps(line, default=str)


class BackgroundHandler(logging.Handler):
    """Writes lines from a thread of its own, since a reader of the log that stalls must not stall the server.

    Args:
        stream: where to.
        limit: lines that may wait; more are dropped.
    """

    def __init__(self, stream: TextIO, limit: int = 10_000) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str] = queue.Queue(limit)
        threading.Thread(target=self._write, name="langchain-ssd-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line, unless too many wait."""
        with suppress(queue.Full):
            self._lines.put_nowait(self.format(record))

    def flush(self) -> None:
        """Give the thread a second to write what waits."""
        end = time.monotonic() + 1
        while self._lines.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.005)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            with suppress(OSError, ValueError):
                self._stream.write(line + "\n")
                self._stream.flush()
            self._lines.task_done()


def set_up(level: str) -> None:
    """Send this process's logs to standard error, as JSON."""
    handler = BackgroundHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("langchain_ssd").setLevel(logging.INFO)
    logger.setLevel(level.upper())
