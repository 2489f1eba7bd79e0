"""Spans for OpenTelemetry, by its conventions for generative AI, with risk in attributes and events."""

from __future__ import annotations

import time
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..errors import Cancelled, ConfigError
from ..events import Finished, ModeChanged, PrefillScored, Refused
from . import conventions as names
from .lifecycle import RunHandler
from .reading import RiskRun

if TYPE_CHECKING:
    from opentelemetry._logs import Logger, LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Link, Span, SpanContext, TracerProvider

_SCOPE = "langchain_ssd"
_MOST_PARENTS = 10_000


@dataclass(slots=True)
class _Open:
    """A span that has not ended."""

    span: Span
    began: float
    first_chunk: float | None = None
    refused: Refused | None = None
    error: str | None = None


class OpenTelemetryRiskHandler(RunHandler):
    """A span for every response: a child of the current span, or of the one its parent run began in.

    Args:
        tracer_provider: the global one by default.
        meter_provider: the global one by default.
        logger_provider: given, events are log records that belong to the span, as the conventions now have
            them; otherwise they are events on the span, which every backend shows.

    Raises:
        ConfigError: opentelemetry-api is missing, or too old for events as log records.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        logger_provider: LoggerProvider | None = None,
    ) -> None:
        super().__init__()
        try:
            from opentelemetry import metrics, trace
        except ImportError:
            raise ConfigError("spans need opentelemetry-api: pip install 'langchain-ssd[otel]'") from None
        self._trace = trace
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        self._metrics = names.Metrics(metrics.get_meter(_SCOPE, meter_provider=meter_provider))
        self._logger = None if logger_provider is None else _logger(logger_provider)
        self._open: dict[UUID, _Open] = {}
        self._called_in: dict[UUID, SpanContext] = {}

    # What happens to a run

    def on_run_start(self, run: RiskRun, settings: dict[str, Any]) -> None:
        """Begin its span."""
        self._open[run.run_id] = _Open(self._begin(run, settings), time.perf_counter())

    def on_chunk(self, run: RiskRun) -> None:
        """Note when the first one came."""
        here = self._open[run.run_id]
        if here.first_chunk is None:
            here.first_chunk = time.perf_counter() - here.began
            here.span.set_attributes({names.STREAM: True, names.FIRST_CHUNK: here.first_chunk})
            self._metrics.first_chunk(names.operation(run), here.first_chunk)

    def on_prefill_scored(self, event: PrefillScored, run: RiskRun) -> None:
        """One event."""
        self._note(run, "ssd.prefill_scored", names.occurrence(event))

    def on_mode_changed(self, event: ModeChanged, run: RiskRun) -> None:
        """One event."""
        self._note(run, "ssd.mode_changed", names.occurrence(event))

    def on_refusal(self, event: Refused, run: RiskRun) -> None:
        """One event, which the verdict will name."""
        self._open[run.run_id].refused = event
        self._note(run, "ssd.refusal", names.occurrence(event))

    def on_response_finished(self, event: Finished, run: RiskRun) -> None:
        """The numbers of the response, and the verdict on it."""
        here = self._open[run.run_id]
        here.span.set_attributes(names.response(event))
        self._note(run, names.EVALUATION, names.verdict(event.summary, here.refused))
        self._metrics.used(names.operation(run), event)

    def on_run_failed(self, run: RiskRun, code: str) -> None:
        """An error, unless the consumer has left."""
        here = self._open[run.run_id]
        here.span.set_attribute(names.FINISH_REASONS, ["error"])
        if code == Cancelled.code:
            here.span.set_attribute("ssd.cancelled", True)
            return
        here.error = code
        here.span.set_attribute("error.type", code)
        here.span.set_status(self._trace.StatusCode.ERROR, code)

    def on_run_end(self, run: RiskRun) -> None:
        """End its span."""
        here = self._open.pop(run.run_id)
        here.span.end()
        self._metrics.ended(names.operation(run), time.perf_counter() - here.began, here.error)

    def _note(self, run: RiskRun, name: str, values: dict[str, Any]) -> None:
        span = self._open[run.run_id].span
        if self._logger is None:
            span.add_event(name, values)
            return
        self._logger.emit(
            event_name=name,
            attributes=values,
            timestamp=time.time_ns(),
            context=self._trace.set_span_in_context(span),
        )

    # Where its span belongs

    def _begin(self, run: RiskRun, settings: dict[str, Any]) -> Span:
        """A span under the current one, linked to its parent run's; under the latter if none is current."""
        trace, context = self._trace, None
        links: list[Link] = []
        current = trace.get_current_span().get_span_context()
        above = self._called_in.get(run.parent_run_id) if run.parent_run_id else None
        if above is not None and not current.is_valid:
            context = trace.set_span_in_context(trace.NonRecordingSpan(above))
        elif above is not None and above.span_id != current.span_id:
            links.append(trace.Link(above))
        values = names.request(run, settings)
        name = f"{values['gen_ai.operation.name']} {values['gen_ai.request.model']}"
        return self._tracer.start_span(name, context, trace.SpanKind.CLIENT, values, links)

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Note in which span a chain, an agent or a node of a graph is called."""
        self._called(run_id)

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: UUID, **kwargs: Any) -> None:
        """Note in which span a tool is called."""
        self._called(run_id)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget it."""
        self._called_in.pop(run_id, None)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget it."""
        self._called_in.pop(run_id, None)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget it."""
        self._called_in.pop(run_id, None)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget it."""
        self._called_in.pop(run_id, None)

    def _called(self, run_id: UUID) -> None:
        with self._guarded("on_chain_start"):
            context = self._trace.get_current_span().get_span_context()
            if context.is_valid:
                self._called_in[run_id] = context
            if len(self._called_in) > _MOST_PARENTS:  # LangChain has not told of some end
                self._called_in.pop(next(iter(self._called_in)), None)


def _logger(provider: LoggerProvider) -> Logger:
    from opentelemetry._logs import Logger, get_logger

    if "event_name" not in signature(Logger.emit).parameters:
        raise ConfigError("events as log records need 'opentelemetry-api>=1.39'; leave out logger_provider")
    return get_logger(_SCOPE, logger_provider=provider)
