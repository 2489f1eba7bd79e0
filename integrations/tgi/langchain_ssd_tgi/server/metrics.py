"""Prometheus metrics: text-generation-inference's names, so that its dashboards work, and SSD's own.

What begins with ``ssd_server_`` is of this server alone. Other names that begin with ``ssd_`` are those of
``PrometheusRiskHandler``, with its labels and buckets, so that one dashboard reads both pages.
No label ever holds text of a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from langchain_ssd.backend import Health
from langchain_ssd.events import Refused, Summary

from .flights import Flight

MEDIA_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKENS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_OTHER = "other"
_RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


class Metrics:
    """The counters of one server.

    Args:
        health: the backend's state, read when somebody looks.
        waiting: requests in flight that the server has accepted.
        category: of refusals, by the server's own policy; where a request may name another, it is no label.
    """

    def __init__(self, health: Callable[[], Health], waiting: Callable[[], int], category: str) -> None:
        self._category = category
        self._registry = CollectorRegistry()
        self._registry.register(_Gauges(health, waiting))
        self._count = self._counter("tgi_request_count", "Requests that were accepted.")
        self._success = self._counter("tgi_request_success", "Requests that were answered.")
        self._failure = self._counter("tgi_request_failure", "Requests that failed.", "err")
        self._duration = self._histogram("tgi_request_duration", "Seconds of a request.", _SECONDS)
        self._queue = self._histogram("tgi_request_queue_duration", "Seconds in the queue.", _SECONDS)
        self._inference = self._histogram("tgi_request_inference_duration", "Seconds of decoding.", _SECONDS)
        self._per_token = self._histogram(
            "tgi_request_mean_time_per_token_duration", "Seconds a token.", _SECONDS
        )
        self._input = self._histogram("tgi_request_input_length", "Tokens of the prompt.", _TOKENS)
        self._generated = self._histogram("tgi_request_generated_tokens", "Tokens of the answer.", _TOKENS)
        self._http = self._counter(
            "ssd_server_http_responses", "Responses by route and status.", "route", "status"
        )
        self._refusals = self._counter(
            "ssd_refusals", "Refusals, also those of shadow mode.", "reason", "category", "enforced"
        )
        self._changes = self._counter(
            "ssd_mode_changes", "Switches of the decoding, by the mode that began.", "mode"
        )
        self._tokens = self._counter(
            "ssd_mode_tokens", "Emitted tokens, by the mode that decoded them.", "mode"
        )
        self._proposals = self._counter(
            "ssd_draft_tokens", "Tokens that the draft proposed, by what the target said.", "outcome"
        )
        self._ratio = self._histogram(
            "ssd_match_ratio",
            "Share of scored tokens on which draft and target agree, per response.",
            _RATIOS,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, registry=self._registry, buckets=buckets)

    def text(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self._registry)

    def accepted(self) -> None:
        """A request was accepted."""
        self._count.inc()

    def responded(self, route: str, status: int) -> None:
        """A response was sent."""
        self._http.labels(route, str(status)).inc()

    def failed(self, error_type: str) -> None:
        """A request failed, or was not even accepted."""
        self._failure.labels(error_type).inc()

    def finished(self, flight: Flight, seconds: float) -> None:
        """A request was answered."""
        if flight.finished is None:
            return
        end, summary = flight.finished, flight.finished.summary
        self._success.inc()
        self._duration.observe(seconds)
        queued = summary.queue_seconds or 0.0
        self._queue.observe(queued)
        decoding = max(0.0, (summary.seconds or seconds) - queued)
        self._inference.observe(decoding)
        if end.completion_tokens:
            self._per_token.observe(decoding / end.completion_tokens)
        self._input.observe(end.prompt_tokens)
        self._generated.observe(end.completion_tokens)
        self._count_summary(summary)

    def _count_summary(self, summary: Summary) -> None:
        self._tokens.labels("utility").inc(max(0, summary.emitted - summary.safety_tokens))
        self._tokens.labels("safety").inc(summary.safety_tokens)
        self._proposals.labels("accepted").inc(summary.accepted)
        self._proposals.labels("rejected").inc(max(0, summary.drafted - summary.accepted))
        if summary.scored:
            self._ratio.observe(summary.match_ratio)

    def left(self, flight: Flight) -> None:
        """A request is over, answered or not."""
        for event in flight.turns:
            if isinstance(event, Refused):
                category = event.category if event.category == self._category else _OTHER
                enforced = "true" if event.enforced else "false"
                self._refusals.labels(event.reason, category, enforced).inc()
            else:
                self._changes.labels(event.mode).inc()


class _Gauges(Collector):
    """What is so at the moment of looking."""

    def __init__(self, health: Callable[[], Health], waiting: Callable[[], int]) -> None:
        self._health = health
        self._waiting = waiting

    def collect(self) -> Iterator[Metric]:
        health = self._health()
        yield GaugeMetricFamily("tgi_batch_current_size", "Requests in the batch.", health.running)
        yield GaugeMetricFamily("tgi_queue_size", "Requests that wait.", health.queued)
        yield GaugeMetricFamily("ssd_server_requests_in_flight", "Requests in flight.", self._waiting())
        yield GaugeMetricFamily(
            "ssd_server_ready", "Whether the pair is loaded.", float(health.state == "ready")
        )
        yield GaugeMetricFamily("ssd_server_stalled_seconds", "Seconds without progress.", health.stalled)
