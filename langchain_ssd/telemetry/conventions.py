"""What a response is called in OpenTelemetry: attributes, the verdict, and metrics.

Names are those of the semantic conventions for generative AI (status: development) as release 0.66b2 of
opentelemetry-semantic-conventions has them.  What they do not know is under ``ssd.``.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..chunks import PROVIDER
from ..events import Event, Finished, Refused, Summary
from .reading import RiskRun

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, Meter

Values = dict[str, Any]
EVALUATION = "gen_ai.evaluation.result"
STREAM = "gen_ai.request.stream"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
FINISH_REASONS = "gen_ai.response.finish_reasons"
_LONGEST = 200
# Stop strings are left out: they are a user's words.
_SETTINGS = ("temperature", "top_p", "top_k", "max_tokens", "seed", "frequency_penalty", "presence_penalty")
_SUMMARY = (
    "monitor", "calibrated", "enforced", "match_ratio", "acceptance_rate", "mode_changes", "safety_tokens",
    "final_mode", "statistic", "max_statistic", "time_to_first_token", "queue_seconds",
)  # fmt: skip
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_NOT_NUMBERS = frozenset({"kind", "text"})
_TOKENS = tuple(4**power for power in range(14))


def operation(run: RiskRun) -> Values:
    """What spans and metrics have in common."""
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": str(run.metadata.get("ls_model_name", "unknown")),
    }


def request(run: RiskRun, settings: Values) -> Values:
    """Whose call it is, and what it asks for."""
    asked = {f"gen_ai.request.{name}": settings.get(name) for name in _SETTINGS}
    thread = run.metadata.get("thread_id")
    whose = {
        "gen_ai.conversation.id": str(thread)[:_LONGEST] if thread is not None else None,
        "ssd.run_id": str(run.run_id),
        "ssd.parent_run_id": str(run.parent_run_id) if run.parent_run_id else None,
    }
    return known({**operation(run), **asked, **whose})


def response(event: Finished) -> Values:
    """What a complete response was, in numbers."""
    numbers = asdict(event.summary)
    return known(
        {
            FINISH_REASONS: [event.finish_reason],
            "gen_ai.usage.input_tokens": event.prompt_tokens,
            "gen_ai.usage.output_tokens": event.completion_tokens,
            **{f"ssd.{name}": numbers[name] for name in _SUMMARY},
        }
    )


def occurrence(event: Event) -> Values:
    """One event's fields, without its words."""
    return known(
        {f"ssd.{name}": value for name, value in event.to_wire().items() if name not in _NOT_NUMBERS}
    )


def verdict(summary: Summary, refused: Refused | None) -> Values:
    """The monitor's judgement as the conventions' evaluation.

    Labels: "pass" (never out of utility), "guarded" (answered, in part in safety mode), "flagged" (only
    shadow mode kept it from being refused), "refused".
    """
    why = f"{summary.monitor} monitor: {summary.agreeing} of {summary.scored} tokens agree"
    if refused is not None:
        label = "refused" if refused.enforced else "flagged"
        why = f"{why}; {refused.reason} at token {refused.position}"
    else:
        label = "guarded" if summary.safety_tokens or summary.final_mode == "safety" else "pass"
    return {
        "gen_ai.evaluation.name": "ssd.match_ratio",
        "gen_ai.evaluation.score.value": summary.match_ratio,
        "gen_ai.evaluation.score.label": label,
        "gen_ai.evaluation.explanation": why,
    }


def known(values: Values) -> Values:
    """Without what is not known: OpenTelemetry has no null."""
    return {name: value for name, value in values.items() if value is not None}


class Metrics:
    """The conventions' client metrics."""

    def __init__(self, meter: Meter) -> None:
        self._duration = _histogram(
            meter, "gen_ai.client.operation.duration", "s", "GenAI operation duration.", _SECONDS
        )
        self._first_chunk = _histogram(
            meter, "gen_ai.client.operation.time_to_first_chunk", "s", "Time to the first chunk.", _SECONDS
        )
        self._usage = _histogram(
            meter, "gen_ai.client.token.usage", "{token}", "Input and output tokens used.", _TOKENS
        )

    def ended(self, values: Values, seconds: float, error: str | None) -> None:
        """A run has ended."""
        self._duration.record(seconds, known({**values, "error.type": error}))

    def first_chunk(self, values: Values, seconds: float) -> None:
        """A stream has begun."""
        self._first_chunk.record(seconds, values)

    def used(self, values: Values, event: Finished) -> None:
        """A response is complete."""
        self._usage.record(event.prompt_tokens, {**values, "gen_ai.token.type": "input"})
        self._usage.record(event.completion_tokens, {**values, "gen_ai.token.type": "output"})


def _histogram(meter: Meter, name: str, unit: str, text: str, bounds: tuple[float, ...]) -> Histogram:
    try:
        return meter.create_histogram(name, unit, text, explicit_bucket_boundaries_advisory=bounds)
    except TypeError:  # opentelemetry-api before 1.30: the application chooses the buckets
        return meter.create_histogram(name, unit, text)
