"""Metrics for Prometheus: counts and histograms of risk, with labels that stay few."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..events import Finished, ModeChanged, Refused, Summary
from .lifecycle import RunHandler
from .reading import RiskRun

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OTHER = "other"
"""The label of values beyond ``max_label_values``."""
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_LONGEST = 100
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*\Z")
_OWN = frozenset({"finish_reason", "reason", "category", "enforced", "code", "type", "mode", "outcome", "le"})

_COUNTERS = {
    "ssd_responses": ("Complete responses, by how they ended.", ["finish_reason"]),
    "ssd_refusals": (
        "Refusals, also those of shadow mode.",
        ["reason", "category", "enforced"],
    ),
    "ssd_errors": ("Runs without a response, by error code; cancelled: the consumer left.", ["code"]),
    "ssd_tokens": ("Tokens read (input) and written (output).", ["type"]),
    "ssd_mode_tokens": ("Emitted tokens, by the mode that decoded them.", ["mode"]),
    "ssd_mode_changes": ("Switches of the decoding, by the mode that began.", ["mode"]),
    "ssd_draft_tokens": ("Tokens that the draft proposed, by what the target said.", ["outcome"]),
}
_HISTOGRAMS = {
    "ssd_match_ratio": ("Share of scored tokens on which draft and target agree, per response.", RATIOS),
    "ssd_time_to_first_token_seconds": ("From the request to its first token.", SECONDS),
    "ssd_queue_seconds": ("What a request waited for a place in the batch.", SECONDS),
    "ssd_response_seconds": ("From the request to the end of its response.", SECONDS),
}


class PrometheusRiskHandler(RunHandler):
    """Risk as metrics. No run, thread or tag becomes a label unless it is named here.

    Args:
        registry: where the metrics are; the library's own by default.
        metadata_labels: keys of a run's metadata whose values become labels of the same name.
        tag_labels: tags that become values of the label ``tag``: the first of them that a run has, or none.
        max_label_values: most values of one label; later ones are counted as "other".

    Raises:
        ConfigError: prometheus-client is missing, a label cannot be used, or the registry has these metrics.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        metadata_labels: Sequence[str] = (),
        tag_labels: Sequence[str] = (),
        max_label_values: int = 100,
    ) -> None:
        super().__init__()
        self._keys, self._tags = tuple(metadata_labels), tuple(tag_labels)
        _check_labels(self._keys, has_tags=bool(self._tags))
        self._values = _FewValues(max_label_values)
        names = [*self._keys, *(["tag"] if self._tags else [])]
        self._counters, self._histograms, self._in_progress = _metrics(registry, names)

    def on_run_start(self, run: RiskRun, settings: dict[str, Any]) -> None:
        """One more in progress."""
        self._of(self._in_progress, run).inc()

    def on_run_end(self, run: RiskRun) -> None:
        """One less in progress."""
        self._of(self._in_progress, run).dec()

    def on_run_failed(self, run: RiskRun, code: str) -> None:
        """One error."""
        self._count("ssd_errors", run, 1, code=code)

    def on_mode_changed(self, event: ModeChanged, run: RiskRun) -> None:
        """One switch."""
        self._count("ssd_mode_changes", run, 1, mode=event.mode)

    def on_refusal(self, event: Refused, run: RiskRun) -> None:
        """One refusal."""
        enforced = "true" if event.enforced else "false"
        self._count("ssd_refusals", run, 1, reason=event.reason, category=event.category, enforced=enforced)

    def on_response_finished(self, event: Finished, run: RiskRun) -> None:
        """What the response was, in numbers."""
        self._count("ssd_responses", run, 1, finish_reason=event.finish_reason)
        self._count("ssd_tokens", run, event.prompt_tokens, type="input")
        self._count("ssd_tokens", run, event.completion_tokens, type="output")
        self._count_summary(event.summary, run)
        for name, value in _observed(event.summary).items():
            if value is not None:
                self._of(self._histograms[name], run).observe(value)

    def _count_summary(self, summary: Summary, run: RiskRun) -> None:
        calm = summary.emitted - summary.safety_tokens
        self._count("ssd_mode_tokens", run, calm, mode="utility")
        self._count("ssd_mode_tokens", run, summary.safety_tokens, mode="safety")
        self._count("ssd_draft_tokens", run, summary.accepted, outcome="accepted")
        self._count("ssd_draft_tokens", run, summary.drafted - summary.accepted, outcome="rejected")

    def _count(self, name: str, run: RiskRun, amount: int, **labels: str) -> None:
        few = {key: self._values.one_of(f"{name}.{key}", value) for key, value in labels.items()}
        self._of(self._counters[name], run, **few).inc(max(0, amount))

    def _of(self, metric: Any, run: RiskRun, **labels: str) -> Any:
        """The metric for a run's own labels."""
        for key in self._keys:
            labels[key] = self._values.one_of(key, run.metadata.get(key))
        if self._tags:
            labels["tag"] = next((tag for tag in self._tags if tag in run.tags), "")
        return metric.labels(**labels) if labels else metric


class _FewValues:
    """Keeps the values of every label to a number; a label with endless values would fill the server."""

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ConfigError("max_label_values must be at least 1")
        self._most = most
        self._known: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def one_of(self, label: str, value: Any) -> str:
        """The value, or "other" if there are too many already."""
        text = "" if value is None else str(value)[:_LONGEST]
        with self._lock:
            known = self._known.setdefault(label, set())
            if text not in known and len(known) >= self._most:
                return OTHER
            known.add(text)
            return text


def _check_labels(keys: Sequence[str], *, has_tags: bool) -> None:
    taken = _OWN | {"tag"} if has_tags else _OWN
    for key in keys:
        if not _LABEL.match(key) or key in taken or keys.count(key) > 1:
            raise ConfigError(
                f"metadata key {key!r} cannot be a label; use letters, digits, _ and a free name"
            )


def _observed(summary: Summary) -> dict[str, float | None]:
    return {
        "ssd_match_ratio": summary.match_ratio if summary.scored else None,
        "ssd_time_to_first_token_seconds": summary.time_to_first_token,
        "ssd_queue_seconds": summary.queue_seconds,
        "ssd_response_seconds": summary.seconds,
    }


def _metrics(
    registry: CollectorRegistry | None, names: Sequence[str]
) -> tuple[dict[str, Counter], dict[str, Histogram], Gauge]:
    try:
        import prometheus_client as prometheus
    except ImportError:
        raise ConfigError(
            "Prometheus metrics need prometheus-client: pip install 'langchain-ssd[prometheus]'"
        ) from None
    place = prometheus.REGISTRY if registry is None else registry
    try:
        counters = {
            name: prometheus.Counter(name, text, [*own, *names], registry=place)
            for name, (text, own) in _COUNTERS.items()
        }
        histograms = {
            name: prometheus.Histogram(name, text, names, buckets=buckets, registry=place)
            for name, (text, buckets) in _HISTOGRAMS.items()
        }
        gauge = prometheus.Gauge(
            "ssd_requests_in_progress",
            "Requests in progress.",
            names,
            registry=place,
            multiprocess_mode="livesum",
        )
    except ValueError:
        raise ConfigError(
            "this registry has metrics of these names; share one handler, or give each its own registry"
        ) from None
    return counters, histograms, gauge
