"""What an answer costs, one request at a time: speed, first token, refusal, passes, memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.engine import Engine
from ..events import Finished, Refused, Token
from .cases import Case
from .records import Record
from .summary import mean
from .systems import System, Together

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Timing:
    """One answer: tokens, seconds, seconds to the first token and to the refusal, passes of the target."""

    tokens: int
    seconds: float
    first: float | None = None
    refused: float | None = None
    passes: int | None = None


def cost_rows(
    system: System,
    cases: Sequence[Case],
    prompts: int,
    engine: Engine | None,
    report: Callable[[float], None],
) -> Iterator[dict[str, Any]]:
    """One row for each suite, from its first ``prompts`` cases, answered one by one."""
    suites = list(dict.fromkeys(c.suite for c in cases))
    for n, suite in enumerate(suites):
        some = [c for c in cases if c.suite == suite][:prompts]
        clear_peak()
        timings = [t for t in (time_one(system, c, engine) for c in some) if t is not None]
        report((n + 1) / len(suites))
        if timings:
            yield {"system": system.name, "suite": suite, **_row(timings), "peak_mib": peak_mib()}


def _row(timings: Sequence[Timing]) -> dict[str, Any]:
    tokens, seconds = sum(t.tokens for t in timings), sum(t.seconds for t in timings)
    counted = [t for t in timings if t.passes is not None and t.tokens]
    return {
        "tokens_per_second": tokens / seconds if tokens and seconds else None,
        "ttft": mean(t.first for t in timings if t.first is not None),
        "time_to_refusal": mean(t.refused for t in timings if t.refused is not None),
        "passes_per_token": (
            sum(t.passes or 0 for t in counted) / sum(t.tokens for t in counted) if counted else None
        ),
    }


def time_one(system: System, case: Case, engine: Engine | None) -> Timing | None:
    """One answer, timed; nothing for a case that the system leaves out."""
    if isinstance(system, Together) and engine is not None:
        return _watched(system, case, engine)
    began = time.perf_counter()
    records: list[Record] = list(system.answer([case]))
    seconds = time.perf_counter() - began
    if not records or records[0].reason == "error":
        return None
    return Timing(len(records[0].ids), seconds, _first_token(system, case), passes=records[0].target_passes)


def _first_token(system: System, case: Case) -> float | None:
    """Seconds of an answer of one token, for a system that is not watched while it decodes."""
    brief = system.brief()
    if brief is None:
        return None
    began = time.perf_counter()
    list(brief.answer([case]))
    return time.perf_counter() - began


def _watched(system: Together, case: Case, engine: Engine) -> Timing:
    """Under the engine the events tell when the first token came, and the refusal."""
    began = time.perf_counter()
    engine.submit(case.key, system.request(case), 0.0)
    first = refused = None
    tokens = passes = 0
    while engine.busy:
        for _, event in engine.step(0.0):
            now = time.perf_counter() - began
            if isinstance(event, Token):
                first = first if first is not None else now
            elif isinstance(event, Refused):
                refused = now if event.enforced else None
            elif isinstance(event, Finished):
                tokens, passes = event.summary.emitted, event.summary.target_passes
    return Timing(tokens, time.perf_counter() - began, first, refused, passes)


def clear_peak() -> None:
    """Start a new measurement of the peak, where the system allows it (Linux)."""
    with suppress(OSError):  # else the peak is the process's since its start
        _CLEAR.write_text("5")


def peak_mib() -> float | None:
    """The most memory the process held since :func:`clear_peak`, all of it; nothing where it is not told."""
    try:
        status = _STATUS.read_text()
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) / 1024 if lines else None
