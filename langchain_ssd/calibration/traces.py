"""What calibration reads: the evidence along one response. Numbers only, never a text or a token.

A file of traces has one JSON object a line, in one of three forms:

* a whole response: ``{"label": "benign", "kind": "plain", "group": "7", "prefill": 0, "rows": [[position,
  agreement, kl, total_variation, entropy_target, entropy_draft, refusal_gain], ...]}``;
* one token of a shadow-mode log: ``{"response": "id", "event": "token", "index": 0, "agreement": true,
  "kl": ..., "total_variation": ..., "entropy_target": ..., "entropy_draft": ..., "refusal_gain": ...}``,
  which is :class:`langchain_ssd.events.Token` as a dictionary with its response's id. Instead of ``event``
  its own ``kind`` is read too. ``label`` (else benign) and ``prefill`` (tokens before index 0) are optional,
  a token that is not ``scored`` is left out, other fields are not read, and lines of other events are
  skipped. Lines of several responses may be mixed;
* a log of :class:`~langchain_ssd.telemetry.JsonlRiskLogger` as it is: the last line of a response tells of
  every token.

Lines that were written before there was a ``refusal_gain`` are read as well; signals that use it are then
left out of the calibration.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2s
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Literal, get_args

from ..decoding.monitor import Evidence
from ..errors import ConfigError

Label = Literal["benign", "unsafe"]
_NUMBERS = ("kl", "total_variation", "entropy_target", "entropy_draft")
_GAIN = "refusal_gain"
_WIDTH = 7  # numbers of a whole row
_FINISHED = "ssd.response_finished"


@dataclass(frozen=True, slots=True)
class Trace:
    """The evidence along one response.

    Attributes:
        label: what the request was.
        kind: finer: ``plain``, ``prefill``, or the name of a set of prompts.
        group: responses to one prompt share it, so that they stay in one half; it means nothing else.
        prefill: how many of the leading rows predict prefilled tokens.
        rows: in order of their positions.
        gain_known: whether the rows tell of the ``refusal_gain``; older logs do not.
    """

    label: Label
    kind: str
    group: str
    prefill: int
    rows: tuple[Evidence, ...]
    gain_known: bool = True

    def first(self, tokens: int) -> Trace:
        """The same response, at most so many tokens after its prefill."""
        return replace(self, rows=self.rows[: self.prefill + tokens])


def write_traces(path: Path, traces: Iterable[Trace]) -> None:
    """Write whole responses, one a line."""
    with path.open("w", encoding="utf-8") as file:
        for t in traces:
            rows = [_numbers(e, t.gain_known) for e in t.rows]
            line = {"label": t.label, "kind": t.kind, "group": t.group, "prefill": t.prefill, "rows": rows}
            file.write(json.dumps(line) + "\n")


def _numbers(e: Evidence, gain_known: bool) -> list[float]:
    row = [e.position, e.agreement, e.kl, e.total_variation, e.entropy_target, e.entropy_draft]
    return [*row, e.refusal_gain] if gain_known else row


def read_traces(path: Path) -> list[Trace]:
    """Read a file of traces, or a team's own shadow-mode log.

    Raises:
        ConfigError: it cannot be read, a line is neither, or there is no response in it.
    """
    tokens: dict[str, _Log] = {}
    traces = []
    for number, line in _lines(path):
        try:
            value = json.loads(line)
            if "rows" in value:
                traces.append(_whole(value))
            elif value.get("event") == _FINISHED:
                traces += _logged(value)
            elif "token" in (value.get("event"), value.get("kind")):
                tokens.setdefault(str(value["response"]), _Log(_label(value))).add(value)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ConfigError(f"line {number} of {path.name} is neither a trace nor a logged event") from None
    traces += [log.trace(name) for name, log in tokens.items()]
    traces = [t for t in traces if len(t.rows) > t.prefill]
    if not traces:
        raise ConfigError(f"{path.name} holds no responses; write one in shadow mode (enforce=False)")
    return traces


def halves(traces: Sequence[Trace], seed: int) -> tuple[list[Trace], list[Trace]]:
    """Split into two halves, each with half of the prompts of either label; a prompt is in one of them.

    Args:
        traces: of both labels.
        seed: another seed gives another split.
    """
    second: set[tuple[str, str]] = set()
    for label in get_args(Label):
        groups = {t.group for t in traces if t.label == label}
        order = sorted(groups, key=lambda group: blake2s(f"{seed}/{group}".encode()).digest())
        second |= {(label, group) for group in order[1::2]}
    inside = [(t.label, t.group) in second for t in traces]
    return (
        [t for t, held in zip(traces, inside, strict=True) if not held],
        [t for t, held in zip(traces, inside, strict=True) if held],
    )


@dataclass(slots=True)
class _Log:
    """The logged tokens of one response, in any order."""

    label: Label
    rows: dict[int, Evidence] = field(default_factory=dict)
    gain_known: bool = True

    def add(self, value: dict[str, Any]) -> None:
        index = _count(value["index"])
        if index in self.rows:
            raise ValueError(index)
        position = _count(value.get("prefill", 0)) + index
        self.gain_known = self.gain_known and _GAIN in value
        names = (*_NUMBERS, _GAIN) if _GAIN in value else _NUMBERS
        row = [position, value["agreement"], *(value[name] for name in names)]
        self.rows[index] = _evidence(row, bool(value.get("scored", True)))

    def trace(self, response: str) -> Trace:
        """The tokens up to the first that is missing: the statistic cannot go on without it."""
        rows = [self.rows[n] for n in takewhile(self.rows.__contains__, count())]
        scored = tuple(e for e in rows if e.scored)
        return Trace(self.label, "logged", response, 0, scored, self.gain_known)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from ((n, line) for n, line in enumerate(file, 1) if line.strip())
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path.name} cannot be read as UTF-8 text; check the file's name") from None


def _whole(value: dict[str, Any]) -> Trace:
    rows = tuple(_evidence(row) for row in value["rows"])
    kind, group = str(value.get("kind", "plain")), str(value["group"])
    known = all(len(row) == _WIDTH for row in value["rows"])
    return Trace(_label(value), kind, group, _count(value.get("prefill", 0)), rows, known)


def _logged(value: dict[str, Any]) -> list[Trace]:
    """The response that a risk log's line ends; none if the logger was told to leave tokens out."""
    trace = value.get("trace")
    if not trace or not trace["agreement"]:
        return []
    start = _count(value["summary"]["prefill_tokens"])
    known = _GAIN in trace and None not in trace[_GAIN]
    names = (*_NUMBERS, _GAIN) if known else _NUMBERS
    columns = [[letter == "1" for letter in trace["agreement"]], *(trace[name] for name in names)]
    scored = trace.get("scored", "1" * len(trace["agreement"]))  # older logs know no grammars
    rows = [
        _evidence([start + n, *row]) for n, row in enumerate(zip(*columns, strict=True)) if scored[n] == "1"
    ]
    return [Trace("benign", "logged", str(value["run_id"]), 0, tuple(rows), known)]


def _label(value: dict[str, Any]) -> Label:
    label = value.get("label", "benign")
    if label not in get_args(Label):
        raise ValueError(label)
    return "unsafe" if label == "unsafe" else "benign"


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(value)
    return value


def _evidence(row: Sequence[Any], scored: bool = True) -> Evidence:
    position, agreement, *numbers = row
    kl, tv, H, h, gain = map(float, numbers if len(row) == _WIDTH else (*numbers, 0.0))
    if not isinstance(agreement, bool) or not all(map(math.isfinite, (kl, tv, H, h, gain))):
        raise ValueError(row)
    return Evidence(_count(position), agreement, kl, tv, H, h, scored, gain)
