"""Events out of what LangChain hands to callbacks: chunks of a stream, or the result of a call.

What a model reports rides on its chunks and on its result, the only road that every path of LangChain takes.
A stream brings both, so a reader remembers how many events of a run it has told.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID

from langchain_core.outputs import LLMResult

from ..errors import RequestRefused
from ..events import Event, Finished, Summary, event_from_wire

_log = logging.getLogger(__name__)
_SUMMARY = frozenset(f.name for f in fields(Summary))


@dataclass(frozen=True, slots=True)
class RiskRun:
    """Whose event it is.

    Attributes:
        run_id: of the model's run.
        parent_run_id: of what called the model, if anything did.
        tags: of the run.
        metadata: of the run; LangGraph puts ``thread_id`` there.
        trace: one dictionary of numbers a token that was released, in order, as far as they are known.
        prompt: roles and texts of the conversation; only for a handler that was made to keep text.
        answer: the text at the end; likewise.
    """

    run_id: UUID
    parent_run_id: UUID | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    trace: list[dict[str, Any]] = field(default_factory=list, compare=False, repr=False)
    prompt: list[dict[str, str]] = field(default_factory=list, compare=False, repr=False)
    answer: list[str] = field(default_factory=list, compare=False, repr=False)


@dataclass(slots=True)
class _Seen:
    run: RiskRun
    told: int = 0


class RunReader:
    """Which runs are in progress, and which of their events are new; safe between threads.

    Args:
        keep_text: whether prompts and answers are kept for the handler, while their run lasts.
    """

    def __init__(self, keep_text: bool = False) -> None:
        self._keep_text = keep_text
        self._runs: dict[UUID, _Seen] = {}
        self._lock = threading.Lock()
        self._complained = False

    def start(
        self,
        run_id: UUID,
        parent: UUID | None,
        tags: list[str] | None,
        metadata: dict[str, Any] | None,
        messages: Sequence[Sequence[Any]] = (),
    ) -> None:
        """A model has been called."""
        run = RiskRun(run_id, parent, tuple(tags or ()), dict(metadata or {}))
        if self._keep_text:
            run.prompt.extend({"role": m.type, "text": str(m.text)} for some in messages for m in some)
        with self._lock:
            self._runs[run_id] = _Seen(run)

    def of_chunk(self, run_id: UUID, chunk: Any) -> Iterator[tuple[RiskRun, Event]]:
        """Events that a chunk carries."""
        info = _info(chunk)
        wires = info.get("ssd_events") or []
        with self._lock:
            seen = self._runs.get(run_id)
            if seen is None:
                return
            seen.told += len(wires)
        seen.run.trace.extend(info.get("ssd_trace") or [])
        for wire in wires:
            yield seen.run, read_event(wire)

    def of_result(self, run_id: UUID, result: LLMResult) -> Iterator[tuple[RiskRun, Event]]:
        """Events of a finished run that no chunk has told, and its end."""
        with self._lock:
            seen = self._runs.pop(run_id, None)
        generation = next((g for some in result.generations for g in some), None)
        info = _info(generation)
        if seen is None or "ssd" not in info:  # another model's
            return
        message = getattr(generation, "message", None)
        if self._keep_text:
            seen.run.answer.append(str(message.text) if message is not None else "")
        yield from _rest(seen, info, getattr(message, "usage_metadata", None) or {})

    def of_error(self, run_id: UUID, error: BaseException) -> Iterator[tuple[RiskRun, Event]]:
        """What was not told yet of a refusal that came as an error; nothing for other errors."""
        with self._lock:
            seen = self._runs.pop(run_id, None)
        if seen is not None and isinstance(error, RequestRefused):
            if self._keep_text:
                seen.run.answer.append(error.text)
            yield from _rest(seen, error.response_metadata, error.usage)

    def complain(self, hook: str, error: BaseException) -> None:
        """Log the first error of a hook, and only that one."""
        if not self._complained:
            self._complained = True
            kind = type(error).__name__
            _log.warning("%s of a risk handler raised %s; more of its errors are not logged", hook, kind)


def _info(generation: Any) -> dict[str, Any]:
    """Metadata of a chunk or a result, wherever this version of LangChain has put it."""
    message = getattr(generation, "message", None)
    return {
        **(getattr(generation, "generation_info", None) or {}),
        **(getattr(message, "response_metadata", None) or {}),
    }


def read_event(wire: dict[str, Any]) -> Event:
    """An event as a chunk carries it: without its words, and ``number`` in place of ``index``."""
    values = dict(wire)
    if "number" in values:
        values["index"] = values.pop("number")
    return event_from_wire(values)


def _rest(seen: _Seen, info: dict[str, Any], usage: dict[str, Any]) -> Iterator[tuple[RiskRun, Event]]:
    whole = info.get("ssd_trace") or []
    if len(whole) > len(seen.run.trace):
        seen.run.trace[:] = whole
    for wire in (info.get("ssd_events") or [])[seen.told :]:
        yield seen.run, read_event(wire)
    yield seen.run, _end(info, usage)


def _end(info: dict[str, Any], usage: dict[str, Any]) -> Finished:
    known = {name: value for name, value in info["ssd"].items() if name in _SUMMARY}
    return Finished(
        info.get("finish_reason", "stop"),
        usage.get("input_tokens", 0),
        usage.get("output_tokens", 0),
        summary=Summary(**known),
    )
