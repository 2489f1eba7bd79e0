"""Metrics count every response once, on every path and from many threads, and their labels stay few."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from langchain_ssd import ChatSSD
from langchain_ssd.errors import ConfigError, GenerationFailed, Overloaded
from langchain_ssd.events import Event, Finished, Refused, Summary, Token
from langchain_ssd.telemetry import PrometheusRiskHandler
from langchain_ssd.testing import ScriptedBackend, answer, failure, refusal

from .telemetry_helpers import REFUSED, WAYS, model

DASHBOARD = Path(__file__).parents[2] / "examples" / "grafana_dashboard.json"
WHY = {"enforced": "true", "reason": "evidence"}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(registry: CollectorRegistry) -> Samples:
    """What Prometheus reads, by its own parser; ``_created`` is left out."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def watched(**options: Any) -> tuple[PrometheusRiskHandler, CollectorRegistry]:
    registry = CollectorRegistry()
    return PrometheusRiskHandler(registry, **options), registry


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return scraped(registry).get((name, tuple(sorted(labels.items()))))


@pytest.mark.parametrize("way", WAYS)
def test_a_response_is_counted_once_on_every_path(way: str) -> None:
    handler, registry = watched()
    asked = "how are you all"
    WAYS[way](model(), asked, {"callbacks": [handler]})
    expected = {
        ("ssd_responses_total", (("finish_reason", "refusal"),)): 1,
        ("ssd_refusals_total", tuple({"category": "suspected_jailbreak", **WHY}.items())): 1,
        ("ssd_tokens_total", (("type", "input"),)): 4,
        ("ssd_tokens_total", (("type", "output"),)): 5,
        ("ssd_mode_tokens_total", (("mode", "utility"),)): 3,
        ("ssd_mode_tokens_total", (("mode", "safety"),)): 2,
        ("ssd_mode_changes_total", (("mode", "safety"),)): 1,
        ("ssd_draft_tokens_total", (("outcome", "accepted"),)): 4,
        ("ssd_draft_tokens_total", (("outcome", "rejected"),)): 2,
        ("ssd_requests_in_progress", ()): 0,
        ("ssd_match_ratio_sum", ()): 0.5,
        ("ssd_match_ratio_count", ()): 1,
        ("ssd_time_to_first_token_seconds_sum", ()): 0.3,
        ("ssd_queue_seconds_sum", ()): 0.02,
        ("ssd_response_seconds_sum", ()): 1.5,
    }  # fmt: skip
    found = scraped(registry)
    assert {key: found[key] for key in expected} == expected
    assert not [key for key in found if key[0] == "ssd_errors_total"]


def test_match_ratios_fall_into_the_bucket_of_their_share() -> None:
    handler, registry = watched()
    ratios = [0.0, 0.29, 0.3, 0.31, 0.6, 0.97, 1.0]
    scripts = [[Finished("stop", 0, 9, summary=Summary(scored=9, match_ratio=r))] for r in ratios]
    model(*scripts).batch(["x"] * len(ratios), {"callbacks": [handler], "max_concurrency": 1})
    found = scraped(registry)
    buckets = {
        float(dict(labels)["le"]): n
        for (name, labels), n in found.items()
        if name == "ssd_match_ratio_bucket"
    }
    assert buckets == {bound: sum(r <= bound for r in ratios) for bound in buckets}
    assert {0.3, 0.6, 1.0} < buckets.keys()


def test_counts_are_exact_from_many_threads_and_tasks() -> None:
    handler, registry = watched()
    config: Any = {"callbacks": [handler], "max_concurrency": 8}
    scripts = [
        answer("one two three", modes=["utility", "safety"]),
        refusal("No.", after="Well"),
        "four five",
    ] * 40
    model(*scripts).batch(["a b"] * 120, config)

    async def gathered() -> None:
        same = model(*scripts)
        await asyncio.gather(*(same.ainvoke("a b", config) for _ in range(120)))

    asyncio.run(gathered())
    assert value(registry, "ssd_responses_total", finish_reason="stop") == 160
    assert value(registry, "ssd_responses_total", finish_reason="refusal") == 80
    assert value(registry, "ssd_tokens_total", type="input") == 480
    assert value(registry, "ssd_tokens_total", type="output") == 80 * (3 + 1 + 2)
    assert value(registry, "ssd_mode_tokens_total", mode="safety") == 80
    assert value(registry, "ssd_match_ratio_count") == 240
    assert value(registry, "ssd_requests_in_progress") == 0


def test_errors_are_counted_by_code_and_leaving_is_told_apart() -> None:
    handler, registry = watched()
    config: Any = {"callbacks": [handler]}
    for broken in (failure(GenerationFailed("it broke"), after="so far"), Overloaded("full")):
        with pytest.raises((GenerationFailed, Overloaded)):
            model(broken).invoke("x", config)
    with pytest.raises(ZeroDivisionError):
        model(lambda _: str(1 / 0)).invoke("x", config)
    with pytest.raises(Exception, match="nonsense"):
        model().invoke("x", config, nonsense=1)
    stream = model().stream("x", config)
    next(stream)
    stream.close()
    codes = {
        dict(labels)["code"]: n
        for (name, labels), n in scraped(registry).items()
        if name == "ssd_errors_total"
    }
    assert codes == {
        "generation_failed": 1,
        "overloaded": 1,
        "unexpected": 1,
        "invalid_request": 1,
        "cancelled": 1,
    }
    assert value(registry, "ssd_requests_in_progress") == 0


@pytest.mark.parametrize("streamed", [False, True])
def test_a_cancelled_call_ends_its_run(streamed: bool) -> None:
    handler, registry = watched()
    slow = ChatSSD(backend=ScriptedBackend("one two three", delay=0.2), streaming=streamed)

    async def cancelled() -> None:
        task = asyncio.create_task(slow.ainvoke("x", {"callbacks": [handler]}))
        while not value(registry, "ssd_requests_in_progress"):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert value(registry, "ssd_requests_in_progress") == 0
    assert value(registry, "ssd_errors_total", code="cancelled") == 1
    assert not handler._running
    assert not handler._reader._runs


def test_requests_in_progress_are_those_that_run() -> None:
    handler, registry = watched()
    seen: list[float | None] = []

    def reply(_: Any) -> str:
        seen.append(value(registry, "ssd_requests_in_progress"))
        return "hello"

    model(reply).invoke("x", {"callbacks": [handler]})
    assert seen == [1]
    assert value(registry, "ssd_requests_in_progress") == 0


def test_another_model_is_not_counted() -> None:
    handler, registry = watched()
    before = scraped(registry)
    other = GenericFakeChatModel(messages=iter([AIMessage("hi")]))
    other.invoke("hello", {"callbacks": [handler]})
    with pytest.raises(StopIteration):
        other.invoke("hello", {"callbacks": [handler]})
    assert scraped(registry) == before


def test_no_run_thread_or_tag_is_a_label_unless_it_is_named() -> None:
    config: Any = {"metadata": {"thread_id": "thread-7", "tenant": "acme"}, "tags": ["tag-9", "beta"]}
    silent, registry = watched()
    model().invoke("x", {**config, "callbacks": [silent]})
    page = generate_latest(registry).decode()
    assert not re.search(r"thread-7|acme|tag-9|beta", page)
    named, registry = watched(metadata_labels=["tenant"], tag_labels=["alpha", "beta"])
    model().invoke("x", {**config, "callbacks": [named]})
    model().invoke("x", {"callbacks": [named]})
    assert value(registry, "ssd_responses_total", finish_reason="refusal", tenant="acme", tag="beta") == 1
    assert value(registry, "ssd_responses_total", finish_reason="refusal", tenant="", tag="") == 1
    assert value(registry, "ssd_requests_in_progress", tenant="acme", tag="beta") == 0
    assert not re.search(r"thread-7|tag-9", generate_latest(registry).decode())


def test_values_of_a_label_stay_few() -> None:
    handler, registry = watched(metadata_labels=["tenant"], max_label_values=3)
    for number in range(20):
        script: list[Event] = [Refused(0, f"reason-{number}", text="No."), Finished("refusal")]
        model(script).invoke("x", {"callbacks": [handler], "metadata": {"tenant": f"t{number}" + "x" * 500}})
    found = scraped(registry)
    labels = [dict(labels) for (name, labels), _ in found.items() if name == "ssd_refusals_total"]
    assert {row["tenant"][:2] for row in labels} == {"t0", "t1", "t2", "ot"}
    assert {row["reason"] for row in labels} == {"reason-0", "reason-1", "reason-2", "other"}
    assert max(len(text) for row in labels for text in row.values()) <= 100
    assert sum(n for (name, _), n in found.items() if name == "ssd_refusals_total") == 20
    assert all(n == 0 for (name, _), n in found.items() if name == "ssd_requests_in_progress")


@pytest.mark.parametrize("key", ["le", "mode", "user-id", "__x", "9x", "", "tag"])
def test_labels_that_cannot_be_used_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a label"):
        watched(metadata_labels=[key], tag_labels=["a"])


def test_two_handlers_of_one_registry_are_refused() -> None:
    _, registry = watched()
    with pytest.raises(ConfigError, match="share one handler"):
        PrometheusRiskHandler(registry)
    with pytest.raises(ConfigError, match="at least 1"):
        watched(max_label_values=0)


def test_shadow_mode_is_told_apart_and_a_missing_time_is_not_observed() -> None:
    handler, registry = watched()
    model(refusal("No.", after="Well then", enforced=False)).invoke("x", {"callbacks": [handler]})
    model([Token(0, 0, "a"), Finished("length", 0, 1)]).invoke("x", {"callbacks": [handler]})
    labels = {"reason": "evidence", "category": "suspected_jailbreak", "enforced": "false"}
    assert value(registry, "ssd_refusals_total", **labels) == 1
    assert value(registry, "ssd_responses_total", finish_reason="stop") == 1
    assert value(registry, "ssd_responses_total", finish_reason="length") == 1
    assert value(registry, "ssd_time_to_first_token_seconds_count") == 0
    assert value(registry, "ssd_match_ratio_count") == 1  # the second one had no scored token


def everything() -> Samples:
    """Samples of a registry in which every metric has been used."""
    handler, registry = watched()
    model(REFUSED).invoke("x", {"callbacks": [handler]})
    with pytest.raises(Overloaded):
        model(Overloaded("full")).invoke("x", {"callbacks": [handler]})
    return scraped(registry)


def test_names_follow_the_conventions() -> None:
    handler, registry = watched()
    families = {family.name: family for family in registry.collect()}
    assert len(families) == 12
    for name, family in families.items():
        assert name.startswith("ssd_")
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|millis|minutes|percent|total)$", name)
        assert (family.type == "histogram") == name.endswith(("_seconds", "_ratio"))
    assert handler.run_inline


def test_the_dashboard_names_only_metrics_and_labels_that_are_exported() -> None:
    text = DASHBOARD.read_text(encoding="utf-8")
    board = json.loads(text)
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    exported: dict[str, set[str]] = {}
    for name, labels in everything():
        exported.setdefault(name, set()).update(key for key, _ in labels)
    named = {name for query in queries for name in re.findall(r"\bssd_\w+", query)}
    assert named <= exported.keys()
    assert not set(re.findall(r"\bssd_\w+", re.sub(r'"expr": "(\\.|[^"\\])*"', "", text)))
    families = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in exported}
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in named} == families
    for query in queries:
        used = {
            key for part in re.findall(r"by \(([^)]*)\)", query) for key in part.replace(" ", "").split(",")
        }
        for name, matchers in re.findall(r"\b(ssd_\w+)(?:\{([^}]*)\})?", query):
            assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= exported[name] | {"job", "instance"}
        assert used <= {label for name in re.findall(r"\bssd_\w+", query) for label in exported[name]}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
