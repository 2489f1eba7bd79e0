"""A risk log, read back: one entry a response, with what happened to it.  Pure Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError

_FORMATS = frozenset({1, 2})


@dataclass(slots=True)
class Response:
    """One response of a log.

    Attributes:
        run_id: of the model's run.
        thread_id: of the conversation, if the application has named it.
        began, ended: times of its first and last line, ISO 8601.
        bins: match ratio of every bin, in order.
        modes: (token, mode) of every switch.
        refused: the reason of a refusal.
        enforced: false if the refusal was only reported.
        finish: how it ended; empty while it runs.
        summary: its numbers, once it has ended.
        trace: of every released token, if the log has it.
        answer: the text, if the log has it.
    """

    run_id: str
    thread_id: str | None = None
    began: str = ""
    ended: str = ""
    bins: list[float] = field(default_factory=list)
    modes: list[tuple[int, str]] = field(default_factory=list)
    refused: str | None = None
    enforced: bool = True
    finish: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    trace: dict[str, Any] = field(default_factory=dict)
    answer: str | None = None

    @property
    def mode(self) -> str:
        """The mode it is in, or was in last."""
        return self.modes[-1][1] if self.modes else "utility"

    @property
    def match_ratio(self) -> float:
        """Agreeing tokens by scored ones; while it runs, the mean of its bins."""
        if "match_ratio" in self.summary:
            return float(self.summary["match_ratio"])
        return sum(self.bins) / len(self.bins) if self.bins else 1.0

    @property
    def risk(self) -> tuple[bool, bool, float]:
        """What sorts the riskiest last: refused, ever in safety mode, disagreement."""
        return self.refused is not None, any(m == "safety" for _, m in self.modes), 1 - self.match_ratio


class RiskLog:
    """The responses of a log, as its lines come in."""

    def __init__(self) -> None:
        self.responses: dict[str, Response] = {}
        self.skipped = 0

    def read(self, lines: Iterable[str]) -> None:
        """Take in more lines; those that are no events of a version known here are counted and skipped."""
        for line in lines:
            if line.strip():
                self._take(line)

    def _take(self, line: str) -> None:
        try:
            row = json.loads(line)
            if row["schema_version"] not in _FORMATS:
                raise ValueError
            self._note(self._response(row), row)
        except (ValueError, KeyError, TypeError):
            self.skipped += 1

    def _response(self, row: dict[str, Any]) -> Response:
        key = str(row["run_id"])
        found = self.responses.setdefault(key, Response(key, row.get("thread_id"), str(row["time"])))
        found.ended = str(row["time"])
        return found

    def _note(self, response: Response, row: dict[str, Any]) -> None:
        event = row["event"]
        if event == "ssd.bin_scored":
            response.bins.append(float(row["match_ratio"]))
        elif event == "ssd.mode_changed":
            response.modes.append((int(row["position"]), str(row["mode"])))
        elif event == "ssd.refusal":
            response.refused, response.enforced = str(row["reason"]), bool(row["enforced"])
        elif event == "ssd.response_finished":
            response.finish, response.summary = str(row["finish_reason"]), dict(row["summary"])
            response.trace, response.answer = dict(row.get("trace") or {}), row.get("answer")
        elif event == "ssd.prefill_scored" and row["mode"] == "safety":
            response.modes.append((0, "safety"))

    def riskiest(self, count: int) -> list[Response]:
        """The riskiest responses, the worst first."""
        return sorted(self.responses.values(), key=lambda r: r.risk, reverse=True)[:count]


def follow(path: Path, offset: int) -> tuple[list[str], int]:
    """Whole lines behind an offset, and the next offset; a file that was rotated is read from its start.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        if path.stat().st_size < offset:
            offset = 0
        with path.open("rb") as file:
            file.seek(offset)
            block = file.read()
    except OSError:
        raise ConfigError(f"{path.name} cannot be read; check the file's name") from None
    whole = block.rfind(b"\n") + 1
    return block[:whole].decode("utf-8", "replace").split("\n"), offset + whole


def spark(values: Iterable[float]) -> str:
    """Shares from 0 to 1 as a line of blocks."""
    blocks = "▁▂▃▄▅▆▇█"
    return "".join(blocks[round(max(0.0, min(1.0, v)) * (len(blocks) - 1))] for v in values)


def totals(responses: Iterable[Response]) -> dict[str, float]:
    """Counts over a log."""
    some = list(responses)
    ended = [r for r in some if r.finish]
    return {
        "responses": len(some),
        "finished": len(ended),
        "refused": sum(r.refused is not None and r.enforced for r in some),
        "would have been refused": sum(r.refused is not None and not r.enforced for r in some),
        "ever in safety mode": sum(any(m == "safety" for _, m in r.modes) for r in some),
        "mean match ratio": sum(r.match_ratio for r in ended) / len(ended) if ended else 1.0,
    }


def in_order(responses: Iterable[Response]) -> Iterator[Response]:
    """Those that run first, then the latest."""
    return iter(sorted(responses, key=lambda r: (not r.finish, r.ended), reverse=True))
