"""No handler lets a word out, breaks a request, or needs a library that nobody asked for."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from langchain_ssd import telemetry
from langchain_ssd.errors import GenerationFailed, SSDError
from langchain_ssd.events import Refused
from langchain_ssd.telemetry import (
    JsonlRiskLogger,
    LoggingRiskHandler,
    OpenTelemetryRiskHandler,
    PrometheusRiskHandler,
    RiskRun,
    RiskWebhook,
)
from langchain_ssd.testing import failure

from .telemetry_helpers import MARKER, WAYS, model
from .test_opentelemetry import Watched
from .test_webhook import Receiver

LATE = failure(GenerationFailed(f"the draft broke at {MARKER}"), after=f"so far {MARKER}")


class Sinks:
    """Every shipped handler, and everything that it has emitted."""

    def __init__(self, folder: Path) -> None:
        self.receiver, self.spans, self.logs = Receiver(), Watched(), Watched(logs=True)
        self.path, self.registry = folder / "risk.jsonl", CollectorRegistry()
        self.webhook = RiskWebhook(self.receiver.url, events=ALL_EVENTS, secret="0" * 32)
        self.jsonl = JsonlRiskLogger(self.path)
        self.handlers = [
            self.jsonl,
            LoggingRiskHandler(),
            PrometheusRiskHandler(self.registry),
            self.spans.handler,
            self.logs.handler,
            self.webhook,
        ]

    def emitted(self, caplog: pytest.LogCaptureFixture) -> dict[str, str]:
        self.webhook.close()
        records = [data.to_json() for data in self.logs.records.get_finished_logs()]
        return {
            "jsonl": self.path.read_text(),
            "records": "".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records),
            "prometheus": generate_latest(self.registry).decode(),
            "spans": "".join(span.to_json() for span in self.spans.ended + self.logs.ended),
            "metrics": str(self.spans.reader.get_metrics_data()),
            "log records": "".join(records),
            "webhook": "".join(
                f"{path} {headers} {body!r}" for _, path, headers, body in self.receiver.posts
            ),
        }

    def close(self) -> None:
        self.webhook.close()
        self.jsonl.close()
        self.receiver.close()
        self.spans.close()
        self.logs.close()


ALL_EVENTS = [
    "ssd.prefill_scored",
    "ssd.bin_scored",
    "ssd.mode_changed",
    "ssd.refusal",
    "ssd.response_finished",
]


@pytest.fixture
def sinks(tmp_path: Path) -> Iterator[Sinks]:
    made = Sinks(tmp_path)
    yield made
    made.close()


def drive(way: str, handlers: list[Any]) -> list[str]:
    """A refusal, a late error, an unexpected one, and a consumer that leaves; what was raised."""
    raised: list[str] = []
    config = {"callbacks": handlers, "metadata": {"thread_id": "t1"}}
    for script in (None, LATE, lambda _: int(MARKER)):
        asked = model(script) if script else model()
        try:
            WAYS[way](asked, f"tell me about {MARKER}", config)
        except (SSDError, ValueError) as error:
            raised.append(type(error).__name__)
    stream = model().stream([("system", MARKER), ("human", MARKER)], config, stop=[MARKER + "!"])
    next(stream)
    stream.close()
    return raised


@pytest.mark.parametrize("way", WAYS)
def test_no_word_gets_out_of_any_handler(way: str, sinks: Sinks, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert drive(way, sinks.handlers) == ["GenerationFailed", "ValueError"]
        emitted = sinks.emitted(caplog)
    for name, text in emitted.items():
        assert "refus" in text or name == "metrics", name  # it was at work, and is searched
        assert not re.search(f"{MARKER}|secret", text), name
    assert "generation_failed" in emitted["metrics"]
    assert "unexpected" in emitted["spans"]
    assert 'ssd_errors_total{code="unexpected"}' in emitted["prometheus"]


def test_words_of_an_event_do_not_get_out_even_if_they_get_in(
    sinks: Sinks, caplog: pytest.LogCaptureFixture
) -> None:
    run = RiskRun(uuid4(), metadata={"ls_provider": "langchain-ssd"})
    with caplog.at_level(logging.DEBUG):
        for handler in sinks.handlers:
            handler.on_chat_model_start({}, [], run_id=run.run_id, metadata=run.metadata)
            handler._tell(run, Refused(0, text=MARKER))
            handler.on_llm_error(GenerationFailed("no"), run_id=run.run_id)
        emitted = sinks.emitted(caplog)
    assert MARKER not in "".join(emitted.values())
    assert sum("low_match_ratio" in text for text in emitted.values()) == 6


class BrokenError(Exception):
    """Quotes the prompt."""


def broken(*args: Any, **kwargs: Any) -> Any:
    raise BrokenError(MARKER)


INNER = [
    "on_run_start",
    "on_chunk",
    "on_run_failed",
    "on_run_end",
    "on_mode_changed",
    "on_response_finished",
    "_tell",
]


@pytest.mark.parametrize("inner", [*INNER, "_reader.start", "_reader.of_chunk", "_reader.of_result"])
@pytest.mark.parametrize("which", [2, 3, 5])
def test_what_breaks_inside_a_handler_is_logged_once_and_breaks_nothing(
    which: int, inner: str, sinks: Sinks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handler: Any = sinks.handlers[which]
    holder, _, name = inner.rpartition(".")
    monkeypatch.setattr(handler._reader if holder else handler, name, broken)
    with caplog.at_level(logging.DEBUG):
        for _ in range(2):
            assert len(list(model().stream("x", {"callbacks": [handler]}))) > 3
            with pytest.raises(GenerationFailed):
                model(LATE).invoke("x", {"callbacks": [handler]})
    said = [record for record in caplog.records if "BrokenError" in record.getMessage()]
    assert len(said) == 1
    assert said[0].name == "langchain_ssd.telemetry.reading"
    assert not [record for record in caplog.records if record.name.startswith("langchain_core")]
    assert MARKER not in caplog.text
    assert not handler._running


# Optional libraries

BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")
sys.meta_path.insert(0, Block())
from langchain_ssd import telemetry
from langchain_ssd.errors import ConfigError
telemetry.JsonlRiskLogger, telemetry.RiskWebhook("https://example.com")
for handler in ("PrometheusRiskHandler", "OpenTelemetryRiskHandler"):
    try:
        getattr(telemetry, handler)()
    except ConfigError as error:
        print(error)
"""


def python(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    ).stdout


def test_a_missing_library_is_named_with_the_command_that_installs_it() -> None:
    said = python(BLOCKED.format(blocked=("prometheus_client", "opentelemetry"))).splitlines()
    assert said == [
        "Prometheus metrics need prometheus-client: pip install 'langchain-ssd[prometheus]'",
        "spans need opentelemetry-api: pip install 'langchain-ssd[otel]'",
    ]


def test_telemetry_is_imported_without_any_of_them() -> None:
    loaded = "[n for n in ('prometheus_client', 'opentelemetry', 'httpcore') if n in sys.modules]"
    names = python(f"import sys; from langchain_ssd import telemetry; print({loaded}, dir(telemetry))")
    assert names.startswith("[] ")
    for handler in (OpenTelemetryRiskHandler, PrometheusRiskHandler, RiskWebhook):
        assert f"'{handler.__name__}'" in names
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = telemetry.Nonsense


def test_the_extras_are_declared() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert [need.split(">=")[0] for need in extras["prometheus"] + extras["otel"]] == [
        "prometheus-client",
        "opentelemetry-api",
    ]
    assert json.dumps(project["dependencies"]).count("httpx") == 1
