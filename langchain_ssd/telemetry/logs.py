"""Two loggers of risk: JSON lines in a file that rotates, and Python's own ``logging``."""

from __future__ import annotations

import json
import logging
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..events import SCHEMA_VERSION, BinScored, Event, Finished, ModeChanged, PrefillScored, Queued, Refused
from .handlers import SSDCallbackHandler
from .reading import RiskRun

NAMES: dict[type[Event], str] = {
    Queued: "ssd.queued",
    PrefillScored: "ssd.prefill_scored",
    BinScored: "ssd.bin_scored",
    ModeChanged: "ssd.mode_changed",
    Refused: "ssd.refusal",
    Finished: "ssd.response_finished",
}


EVIDENCE = ("kl", "total_variation", "entropy_target", "entropy_draft", "refusal_gain")


def line_of(event: Event, run: RiskRun) -> dict[str, Any]:
    """An event as one JSON object: who, when, what; numbers and names, never words."""
    values = event.to_wire()
    values.pop("kind")
    values.pop("text", None)  # the refusal's own
    return {
        "schema_version": SCHEMA_VERSION,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": NAMES[type(event)],
        "run_id": str(run.run_id),
        "parent_run_id": str(run.parent_run_id) if run.parent_run_id else None,
        "thread_id": _plain_id(run.metadata.get("thread_id")),
        "tags": list(run.tags),
        **values,
    }


def _plain_id(value: Any) -> str | None:
    return str(value)[:200] if value is not None else None


def trace_of(run: RiskRun) -> dict[str, Any]:
    """The released tokens of a response in little room: one letter or number each.

    ``mode`` has u (utility) or s (safety), ``agreement`` 1 or 0, ``scored`` 0 where a grammar left no choice,
    ``characters`` the length of each text. The rest is what ``langchain-ssd calibrate --from-log`` reads.
    """
    tokens = run.trace
    return {
        "mode": "".join(str(t["mode"])[0] for t in tokens),
        "agreement": "".join(str(int(t["agreement"])) for t in tokens),
        "scored": "".join(str(int(t.get("scored", True))) for t in tokens),
        "characters": [t["characters"] for t in tokens],
        **{name: [_short(t.get(name)) for t in tokens] for name in ("statistic", *EVIDENCE)},
    }


def _short(number: float | None) -> float | None:
    return None if number is None else round(number, 4)


class JsonlRiskLogger(SSDCallbackHandler):
    """One line an event, each handed to the system whole: a crash loses at most the line being written.

    Args:
        path: the file; its folder must be there.
        trace: the last line of a response also tells of every token, in numbers.
        include_text: the last line also has the conversation and the answer. They may hold anything that
            users type: mind who can read the file, and for how long.
        max_bytes: a line that would pass this starts a new file; 0 never does.
        backups: older files that are kept, as ``NAME.1`` (the youngest) and so on.

    Raises:
        ConfigError: the file cannot be opened.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        trace: bool = True,
        include_text: bool = False,
        max_bytes: int = 50_000_000,
        backups: int = 5,
    ) -> None:
        super().__init__(keep_text=include_text)
        self._trace, self._include_text = trace, include_text
        self._path, self._max_bytes, self._backups = Path(path), max_bytes, backups
        self._writing = threading.Lock()
        self._file = self._open()

    def on_queued(self, event: Queued, run: RiskRun) -> None:
        """One line."""
        self._write(event, run)

    def on_prefill_scored(self, event: PrefillScored, run: RiskRun) -> None:
        """One line."""
        self._write(event, run)

    def on_bin_scored(self, event: BinScored, run: RiskRun) -> None:
        """One line."""
        self._write(event, run)

    def on_mode_changed(self, event: ModeChanged, run: RiskRun) -> None:
        """One line."""
        self._write(event, run)

    def on_refusal(self, event: Refused, run: RiskRun) -> None:
        """One line."""
        self._write(event, run)

    def on_response_finished(self, event: Finished, run: RiskRun) -> None:
        """One line, with what was asked for beside the numbers of the response."""
        more: dict[str, Any] = {"trace": trace_of(run)} if self._trace else {}
        if self._include_text:
            more |= {"prompt": run.prompt, "answer": "".join(run.answer)}
        self._write(event, run, more)

    def close(self) -> None:
        """Close the file; later events are lost."""
        with self._writing:
            os.close(self._file)
            self._file = -1

    def _open(self) -> int:
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError:
            raise ConfigError(f"{self._path.name} cannot be written; check its folder") from None
        if _ends_inside_a_line(self._path):
            os.write(file, b"\n")
        return file

    def _write(self, event: Event, run: RiskRun, more: dict[str, Any] | None = None) -> None:
        values = {**line_of(event, run), **(more or {})}
        line = json.dumps(values, separators=(",", ":")).encode() + b"\n"
        with self._writing:
            if self._file < 0:
                return
            size = os.fstat(self._file).st_size
            if self._max_bytes and size and size + len(line) > self._max_bytes:
                self._rotate()
            os.write(self._file, line)  # one call: appended whole, also beside other processes

    def _rotate(self) -> None:
        os.close(self._file)
        for n in range(self._backups, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{n}")
            younger = self._path.with_name(f"{self._path.name}.{n - 1}") if n > 1 else self._path
            if younger.exists():
                os.replace(younger, older)
        if not self._backups:
            self._path.unlink()
        self._file = self._open()


def _ends_inside_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


class LoggingRiskHandler(SSDCallbackHandler):
    """Risk as log records: refusals are warnings, mode changes infos, the rest debug messages.

    Args:
        logger: where to; ``langchain_ssd.risk`` by default.  The event is in the record's ``ssd`` attribute.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        super().__init__()
        self._logger = logger or logging.getLogger("langchain_ssd.risk")

    def on_queued(self, event: Queued, run: RiskRun) -> None:
        """One record."""
        self._record(logging.DEBUG, event, run, f"{event.prompt_tokens} prompt tokens")

    def on_prefill_scored(self, event: PrefillScored, run: RiskRun) -> None:
        """One record."""
        self._record(logging.DEBUG, event, run, f"{event.tokens} tokens, match ratio {event.match_ratio:.2f}")

    def on_bin_scored(self, event: BinScored, run: RiskRun) -> None:
        """One record."""
        self._record(logging.DEBUG, event, run, f"bin {event.index}, match ratio {event.match_ratio:.2f}")

    def on_mode_changed(self, event: ModeChanged, run: RiskRun) -> None:
        """One record."""
        self._record(logging.INFO, event, run, f"{event.mode} from token {event.position}")

    def on_refusal(self, event: Refused, run: RiskRun) -> None:
        """One record."""
        how = "" if event.enforced else ", shadow mode"
        self._record(logging.WARNING, event, run, f"{event.reason} at token {event.position}{how}")

    def on_response_finished(self, event: Finished, run: RiskRun) -> None:
        """One record."""
        said = f"{event.finish_reason}, match ratio {event.summary.match_ratio:.2f}"
        self._record(logging.DEBUG, event, run, said)

    def _record(self, level: int, event: Event, run: RiskRun, said: str) -> None:
        line = line_of(event, run)
        self._logger.log(level, "%s run=%s %s", line["event"], run.run_id, said, extra={"ssd": line})
