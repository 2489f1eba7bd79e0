"""Spans say what the conventions say, hang where they belong, and end on every path."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from opentelemetry._logs import Logger
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.trace import SpanKind, StatusCode

from langchain_ssd import ChatSSD
from langchain_ssd.errors import ConfigError, GenerationFailed
from langchain_ssd.telemetry import OpenTelemetryRiskHandler
from langchain_ssd.testing import ScriptedBackend, answer, failure, refusal

from .telemetry_helpers import REFUSED, WAYS, model


@dataclass
class Watched:
    """A handler, and what comes out at its other end."""

    logs: bool = False
    spans: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    records: InMemoryLogRecordExporter = field(default_factory=InMemoryLogRecordExporter)

    def __post_init__(self) -> None:
        self.tracers, self.loggers = TracerProvider(), LoggerProvider()
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self.records))
        logger = self.loggers if self.logs else None
        self.handler = OpenTelemetryRiskHandler(self.tracers, self.meters, logger_provider=logger)
        self.tracer = self.tracers.get_tracer("application")

    @property
    def ended(self) -> list[ReadableSpan]:
        return [span for span in self.spans.get_finished_spans() if span.name.startswith("chat ")]

    def metrics(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        assert data is not None
        (scope,) = data.resource_metrics[0].scope_metrics
        return {metric.name: list(metric.data.data_points) for metric in scope.metrics}

    def close(self) -> None:
        for provider in (self.tracers, self.loggers, self.meters):
            provider.shutdown()


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.close()


@pytest.fixture
def logged() -> Iterator[Watched]:
    made = Watched(logs=True)
    yield made
    made.close()


def told(span: ReadableSpan) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, dict(event.attributes or {})) for event in span.events]


VERDICT = {
    "gen_ai.evaluation.name": "ssd.match_ratio",
    "gen_ai.evaluation.score.value": 0.5,
    "gen_ai.evaluation.score.label": "refused",
    "gen_ai.evaluation.explanation": "sequential monitor: 2 of 4 tokens agree; evidence at token 2",
}
EVENTS = [
    ("ssd.prefill_scored", {"ssd.tokens": 3, "ssd.match_ratio": 0.5, "ssd.statistic": 2.0,
                            "ssd.mode": "utility"}),
    ("ssd.mode_changed", {"ssd.position": 1, "ssd.mode": "safety", "ssd.statistic": 5.0}),
    ("ssd.refusal", {"ssd.position": 2, "ssd.reason": "evidence", "ssd.category": "suspected_jailbreak",
                     "ssd.language": "en", "ssd.enforced": True}),
    ("gen_ai.evaluation.result", VERDICT),
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_one_span_a_response_on_every_path(way: str, watched: Watched) -> None:
    config = {"callbacks": [watched.handler], "metadata": {"thread_id": "thread-7"}}
    WAYS[way](model(temperature=0.5, top_p=0.9, max_tokens=9, stop=["END"], seed=4), "how are you", config)
    (span,) = watched.ended
    assert (span.name, span.kind, span.status.status_code) == (
        "chat SmolLM2-135M-Instruct",
        SpanKind.CLIENT,
        StatusCode.UNSET,
    )
    found = dict(span.attributes or {})
    run_id, first = found.pop("ssd.run_id"), found.pop("gen_ai.response.time_to_first_chunk", None)
    streamed = way in ("stream", "astream", "astream_events")
    assert (found.pop("gen_ai.request.stream", False), first is not None) == (streamed, streamed)
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "langchain-ssd",
        "gen_ai.request.model": "SmolLM2-135M-Instruct",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 4,
        "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.conversation.id": "thread-7",
        "gen_ai.response.finish_reasons": ("refusal",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 5,
        "ssd.monitor": "sequential",
        "ssd.calibrated": False,
        "ssd.enforced": True,
        "ssd.match_ratio": 0.5,
        "ssd.acceptance_rate": 4 / 6,
        "ssd.mode_changes": 1,
        "ssd.safety_tokens": 2,
        "ssd.final_mode": "safety",
        "ssd.statistic": 5.0,
        "ssd.max_statistic": 6.0,
        "ssd.time_to_first_token": 0.3,
        "ssd.queue_seconds": 0.02,
    }
    assert len(str(run_id)) == 36
    assert told(span) == EVENTS
    assert not watched.handler._open


def test_names_are_those_of_the_conventions(watched: Watched) -> None:
    model().invoke("x", {"callbacks": [watched.handler], "metadata": {"thread_id": "t"}})
    list(model().stream("x", {"callbacks": [watched.handler]}))
    spans = watched.ended
    used = {name for span in spans for name in span.attributes or {}}
    used |= {name for span in spans for _, values in told(span) for name in values}
    used |= {name for points in watched.metrics().values() for point in points for name in point.attributes}
    official = {
        getattr(gen_ai_attributes, name) for name in dir(gen_ai_attributes) if name.startswith("GEN_AI_")
    }
    assert {name for name in used if not name.startswith("ssd.")} <= official | {"error.type"}
    assert watched.metrics().keys() == {
        gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION,
        gen_ai_metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK,
        gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE,
    }
    assert gen_ai_attributes.GenAiOperationNameValues.CHAT.value == "chat"


@pytest.mark.parametrize(
    ("script", "label"),
    [
        (answer("all is well"), "pass"),
        (answer("half of it", modes=["utility", "safety", "utility"]), "guarded"),
        (refusal("No.", after="Well", enforced=False), "flagged"),
        (refusal("No.", after="Well"), "refused"),
    ],
)
def test_the_verdict_has_one_of_four_labels(script: Any, label: str, watched: Watched) -> None:
    model(script).invoke("x", {"callbacks": [watched.handler]})
    name, values = told(watched.ended[0])[-1]
    assert (name, values["gen_ai.evaluation.score.label"]) == ("gen_ai.evaluation.result", label)


def test_events_as_log_records_belong_to_the_span(logged: Watched) -> None:
    list(model().stream("x", {"callbacks": [logged.handler]}))
    (span,) = logged.ended
    records = [data.log_record for data in logged.records.get_finished_logs()]
    assert [(record.event_name, dict(record.attributes or {})) for record in records] == EVENTS
    assert {(r.trace_id, r.span_id) for r in records} == {(span.context.trace_id, span.context.span_id)}
    assert not span.events


def test_log_records_need_an_api_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Logger, "emit", lambda self, record: None)
    with pytest.raises(ConfigError, match=r"opentelemetry-api>=1\.39"):
        OpenTelemetryRiskHandler(logger_provider=LoggerProvider(shutdown_on_exit=False))


# Where spans hang


def chained(scripted: ChatSSD) -> Any:
    return ChatPromptTemplate.from_template("{x}") | scripted | StrOutputParser()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("in_chain", [False, True])
def test_the_span_is_a_child_of_the_current_one(way: str, in_chain: bool, watched: Watched) -> None:
    asked: Any = {"x": "hello"} if in_chain else "hello"
    with watched.tracer.start_as_current_span("request") as outer:
        WAYS[way](chained(model()) if in_chain else model(), asked, {"callbacks": [watched.handler]})
    (span,) = watched.ended
    assert span.parent is not None
    assert span.parent.span_id == outer.get_span_context().span_id
    assert not span.links
    assert ("ssd.parent_run_id" in (span.attributes or {})) == in_chain
    assert not watched.handler._called_in


def test_without_a_span_around_it_a_span_begins_a_trace(watched: Watched) -> None:
    chained(model()).batch([{"x": "a"}, {"x": "b"}], {"callbacks": [watched.handler]})
    assert [span.parent for span in watched.ended] == [None, None]
    assert len({span.context.trace_id for span in watched.ended}) == 2


def test_where_the_context_is_lost_the_parent_run_leads_back(watched: Watched) -> None:
    scripted = model()

    def elsewhere(asked: str, config: Any) -> str:
        answers: list[str] = []
        work = threading.Thread(target=lambda: answers.append(scripted.invoke(asked, config).text))
        Context().run(work.start)  # a new context: the application's own thread pool forgets the span
        work.join()
        return answers[0]

    with watched.tracer.start_as_current_span("request") as outer:
        RunnableLambda(elsewhere).invoke("x", {"callbacks": [watched.handler]})
    (span,) = watched.ended
    assert span.parent is not None
    assert span.parent.span_id == outer.get_span_context().span_id
    assert span.context.trace_id == outer.get_span_context().trace_id


def test_a_span_in_between_is_the_parent_and_the_parent_run_is_linked(watched: Watched) -> None:
    scripted = model()

    @tool
    def ask(question: str, config: Any = None) -> str:
        """Ask the model."""
        with watched.tracer.start_as_current_span("inner") as inner:
            seen.append(inner.get_span_context().span_id)
            return str(scripted.invoke(question).text)

    seen: list[int] = []
    with watched.tracer.start_as_current_span("request") as outer:
        ask.invoke({"question": "x"}, {"callbacks": [watched.handler]})
    (span,) = watched.ended
    assert span.parent is not None
    assert [span.parent.span_id] == seen
    assert [link.context.span_id for link in span.links] == [outer.get_span_context().span_id]
    assert not watched.handler._called_in


def test_parents_are_forgotten_when_their_runs_fail_and_are_never_too_many(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched.tracer.start_as_current_span("request"):
        with pytest.raises(GenerationFailed):
            chained(model(GenerationFailed("broken"))).invoke({"x": "a"}, {"callbacks": [watched.handler]})
        assert not watched.handler._called_in
        monkeypatch.setattr("langchain_ssd.telemetry.opentelemetry._MOST_PARENTS", 3)
        for number in range(9):
            watched.handler.on_chain_start({}, {}, run_id=number)  # type: ignore[arg-type]
        assert list(watched.handler._called_in) == [6, 7, 8]


# How spans end


def test_an_error_is_named_by_its_code_and_nothing_else(watched: Watched) -> None:
    broken = model(failure(GenerationFailed("words of the error"), after="so far"))
    with pytest.raises(GenerationFailed):
        broken.invoke("x", {"callbacks": [watched.handler]})
    with pytest.raises(ZeroDivisionError):
        model(lambda _: str(1 / 0)).invoke("x", {"callbacks": [watched.handler]})
    first, second = watched.ended
    for span, code in ((first, "generation_failed"), (second, "unexpected")):
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, code)
        assert (span.attributes or {})["error.type"] == code
        assert (span.attributes or {})["gen_ai.response.finish_reasons"] == ("error",)
        assert not span.events
    durations = watched.metrics()["gen_ai.client.operation.duration"]
    assert {point.attributes["error.type"]: point.count for point in durations} == {
        "generation_failed": 1,
        "unexpected": 1,
    }


@pytest.mark.parametrize("how", ["break", "async break", "cancel"])
def test_a_consumer_that_leaves_ends_the_span_without_an_error(how: str, watched: Watched) -> None:
    slow = ChatSSD(backend=ScriptedBackend("one two three four", delay=0.02))
    config: Any = {"callbacks": [watched.handler]}

    async def leave() -> None:
        if how == "async break":
            stream = slow.astream("x", config)
            await anext(stream)
            await stream.aclose()  # type: ignore[attr-defined]
        else:
            task = asyncio.create_task(slow.ainvoke("x", config))
            await asyncio.sleep(0.03)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    if how == "break":
        for _ in slow.stream("x", config):
            break
    else:
        asyncio.run(leave())
    (span,) = watched.ended
    assert span.status.status_code == StatusCode.UNSET
    assert (span.attributes or {})["ssd.cancelled"] is True
    assert "error.type" not in (span.attributes or {})
    assert not watched.handler._open


def test_another_model_has_no_span(watched: Watched) -> None:
    other = GenericFakeChatModel(messages=iter([AIMessage("hi")]))
    list(other.stream("hello", {"callbacks": [watched.handler]}))
    assert not watched.ended


def test_spans_and_metrics_are_exact_from_many_threads_and_tasks(watched: Watched) -> None:
    config: Any = {"callbacks": [watched.handler], "max_concurrency": 8}
    scripts = [REFUSED, answer("one two three"), "four five"] * 30
    model(*scripts).batch(["a b"] * 90, config)

    async def gathered() -> None:
        same = model(*scripts)
        await asyncio.gather(*(same.ainvoke("a b", config) for _ in range(90)))

    asyncio.run(gathered())
    spans = watched.ended
    assert len({span.context.span_id for span in spans}) == 180
    assert len({(span.attributes or {})["ssd.run_id"] for span in spans}) == 180
    refused = [s for s in spans if (s.attributes or {})["gen_ai.response.finish_reasons"] == ("refusal",)]
    assert len(refused) == 60
    assert all(told(span) == EVENTS for span in refused)
    usage = {p.attributes["gen_ai.token.type"]: p for p in watched.metrics()["gen_ai.client.token.usage"]}
    assert (usage["input"].count, usage["input"].sum) == (180, 360)
    assert (usage["output"].count, usage["output"].sum) == (180, 60 * (5 + 3 + 2))
    (duration,) = watched.metrics()["gen_ai.client.operation.duration"]
    assert (duration.count, duration.explicit_bounds[0]) == (180, 0.01)
    assert not watched.handler._open
    assert not watched.handler._running
