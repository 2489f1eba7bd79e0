"""Prometheus metrics: text-generation-inference's names, so that its dashboards work, and SSD's own.

No label ever holds text of a request; keys appear by their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from langchain_ssd.backend import Health

from .flights import Flight

MEDIA_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKENS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_SHARES = tuple(n / 20 for n in range(1, 21))


class Metrics:
    """The counters of one server.

    Args:
        health: the backend's state, read when somebody looks.
        waiting: requests in flight that the server has accepted.
    """

    def __init__(self, health: Callable[[], Health], waiting: Callable[[], int]) -> None:
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
        self._http = self._counter("ssd_http_responses", "Responses by route and status.", "route", "status")
        self._refusals = self._counter("ssd_refusals", "Answers that became a refusal.", "reason")
        self._tokens = self._counter("ssd_tokens", "Tokens by the mode that chose them.", "mode")
        self._changes = self._counter("ssd_mode_changes", "Changes of mode.")
        self._drafted = self._counter("ssd_drafted_tokens", "Tokens that the draft proposed.")
        self._accepted = self._counter("ssd_accepted_tokens", "Proposals that were accepted.")
        self._ratio = self._histogram("ssd_match_ratio", "Match ratio of an answer.", _SHARES)

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
        self._tokens.labels("safety").inc(summary.safety_tokens)
        self._tokens.labels("utility").inc(max(0, summary.emitted - summary.safety_tokens))
        self._changes.inc(summary.mode_changes)
        self._drafted.inc(summary.drafted)
        self._accepted.inc(summary.accepted)
        self._ratio.observe(summary.match_ratio)
        if flight.refused is not None:
            self._refusals.labels(flight.refused.reason).inc()


class _Gauges(Collector):
    """What is so at the moment of looking."""

    def __init__(self, health: Callable[[], Health], waiting: Callable[[], int]) -> None:
        self._health = health
        self._waiting = waiting

    def collect(self) -> Iterator[Metric]:
        health = self._health()
        yield GaugeMetricFamily("tgi_batch_current_size", "Requests in the batch.", health.running)
        yield GaugeMetricFamily("tgi_queue_size", "Requests that wait.", health.queued)
        yield GaugeMetricFamily("ssd_requests_in_flight", "Requests in flight.", self._waiting())
        yield GaugeMetricFamily("ssd_ready", "Whether the pair is loaded.", float(health.state == "ready"))
        yield GaugeMetricFamily("ssd_stalled_seconds", "Seconds without progress.", health.stalled)
