"""Health in two tiers, metrics, what the server says of itself, tokens, and a drain that loses nothing."""

from __future__ import annotations

import ssl
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from langchain_ssd import ChatSSD
from langchain_ssd.backend import Health
from langchain_ssd.errors import GenerationFailed, InvalidRequest, Overloaded, WorkerDied
from langchain_ssd.events import Failed, Finished, ModeChanged, Refused, Summary, Token
from langchain_ssd.telemetry import PrometheusRiskHandler
from langchain_ssd.testing import ScriptedBackend, answer, failure, refusal

from .serving import Running, chat, serving, serving_alone, wait_until

CHAT = "/v1/chat/completions"


class Told(ScriptedBackend):
    """A scripted pair whose state the test tells."""

    def __init__(self, *replies: Any, delay: float = 0.0, **state: Any) -> None:
        super().__init__(*replies, delay=delay)
        self.told = replace(Health("ready"), **state)

    def health(self) -> Health:
        return self.told


def status(server: Running) -> int:
    return server.get("/health").status_code


# Health


def test_an_idle_pair_proves_itself_with_one_token_once_an_interval() -> None:
    with serving_alone(ScriptedBackend(), health_interval=0.5) as server:
        assert [status(server) for _ in range(10)] == [200] * 10
        assert len(server.backend.requests) == 1
        assert server.backend.requests[0].sampling.max_tokens == 1
        time.sleep(0.6)
        assert status(server) == 200
        assert len(server.backend.requests) == 2


def test_an_answer_is_proof_enough() -> None:
    with serving_alone(ScriptedBackend()) as server:
        server.post("/generate", {"inputs": "hi"})
        assert status(server) == 200
        assert len(server.backend.requests) == 1


def test_a_busy_pair_is_given_no_work_and_judged_by_its_progress() -> None:
    backend = Told(running=3, stalled=1.0)
    with serving_alone(backend, health_stall=60) as server:
        assert status(server) == 200
        backend.told = replace(backend.told, stalled=61.0)
        response = server.get("/health")
        assert (response.status_code, response.json()["error_type"]) == (503, "healthcheck")
        assert backend.requests == []


def test_a_pair_that_loads_is_not_ready_and_is_not_asked() -> None:
    backend = Told(state="loading")
    with serving_alone(backend) as server:
        assert status(server) == 503
        assert backend.requests == []


def test_after_a_failure_a_token_decides_at_once() -> None:
    broken = failure(GenerationFailed("boom"))
    with serving_alone(ScriptedBackend("ok", broken, broken, "ok")) as server:
        assert server.post("/generate", {"inputs": "hi"}).status_code == 200
        assert server.post("/generate", {"inputs": "hi"}).status_code == 424
        assert status(server) == 503
        assert status(server) == 200
        assert len(server.backend.requests) == 4


def test_a_request_that_was_wrong_says_nothing_of_the_pair() -> None:
    with serving_alone(
        ScriptedBackend("ok", InvalidRequest("wrong"), failure(GenerationFailed("x")))
    ) as server:
        server.post("/generate", {"inputs": "hi"})
        assert server.post("/generate", {"inputs": "hi"}).status_code == 422
        assert status(server) == 200
        assert len(server.backend.requests) == 2


def test_a_dead_worker_is_red_and_the_check_itself_brings_it_back() -> None:
    backend = Told(WorkerDied("it died"), "ok", state="failed")
    with serving_alone(backend) as server:
        assert status(server) == 503
        backend.told = Health("ready")
        assert status(server) == 200


def test_a_pair_that_gives_no_token_is_red_in_bounded_time_and_callers_share_one_proof() -> None:
    with serving_alone(ScriptedBackend(delay=60), health_timeout=0.3) as server:
        began = time.monotonic()
        seen: list[int] = []
        threads = [threading.Thread(target=lambda: seen.append(status(server))) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [503] * 5
        assert time.monotonic() - began < 3
        assert len(server.backend.requests) == 1


def test_a_proof_that_meets_a_full_queue_is_no_failure() -> None:
    with serving_alone(ScriptedBackend(Overloaded("full"))) as server:
        assert status(server) == 200


# Metrics


def test_metrics_are_prometheus_and_count_what_happened() -> None:
    summary = Summary(emitted=3, safety_tokens=1, drafted=6, accepted=4)
    script = [Token(2, 1, "a"), Finished("stop", 0, 3, summary=summary)]
    replies = [script, refusal("No."), failure(GenerationFailed("x")), Overloaded("full")]
    with serving_alone(ScriptedBackend(*replies)) as server:
        for _ in range(4):
            server.post("/generate", {"inputs": "secret"})
        response = server.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        families = {family.name: family for family in text_string_to_metric_families(response.text)}
        assert families["tgi_request_count"].samples[0].value == 4
        assert families["tgi_request_success"].samples[0].value == 2
        failures = {
            s.labels["err"]: s.value for s in families["tgi_request_failure"].samples if "err" in s.labels
        }
        assert failures["generation"] >= 1
        assert failures["overloaded"] >= 1
        assert server.metric("tgi_request_generated_tokens_count") == 2
        assert {
            "tgi_queue_size",
            "tgi_batch_current_size",
            "ssd_server_requests_in_flight",
        } <= families.keys()
        assert "secret" not in response.text
        assert server.metric("ssd_server_http_responses_total", route="/generate", status="200") == 2


def samples(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith("ssd_") and not sample.name.endswith("_created")
    }


def test_metrics_that_the_telemetry_page_has_too_are_counted_as_there() -> None:
    summary = Summary(emitted=3, scored=2, safety_tokens=1, drafted=6, accepted=4, match_ratio=0.5)
    scripts = [
        [
            Token(0, 1, "a"),
            ModeChanged(1, "safety"),
            Token(2, 1, "b"),
            Finished("stop", 0, 3, summary=summary),
        ],
        [Token(0, 1, "a"), Finished("stop", 0, 1, summary=replace(summary, scored=0))],
        refusal("No.", after="Sure, here is"),
        refusal("No.", after="Sure", enforced=False),
        [ModeChanged(0, "safety"), Refused(0), Failed("generation_failed", "x")],
    ]
    registry = CollectorRegistry()
    model = ChatSSD(backend=ScriptedBackend(*scripts), callbacks=[PrometheusRiskHandler(registry)])
    with serving_alone(ScriptedBackend(*scripts)) as server:
        for _ in scripts:
            server.post(CHAT, chat())
            with suppress(GenerationFailed):
                list(model.stream("hi"))
        ours, theirs = samples(server.get("/metrics").text), samples(generate_latest(registry).decode())
    shared = {key: value for key, value in ours.items() if not key[0].startswith("ssd_server_")}
    assert shared.items() <= theirs.items(), shared.items() - theirs.items()
    totals = {
        "ssd_refusals_total",
        "ssd_mode_changes_total",
        "ssd_mode_tokens_total",
        "ssd_draft_tokens_total",
    }
    assert {name for name, _ in shared} == totals | {
        f"ssd_match_ratio_{x}" for x in ("bucket", "sum", "count")
    }
    assert {name for name, _ in ours} & {name for name, _ in theirs} == {name for name, _ in shared}
    reasons = [dict(labels) for name, labels in shared if name == "ssd_refusals_total"]
    assert {labels["enforced"] for labels in reasons} == {"true", "false"}


def test_a_category_that_a_request_names_becomes_no_label() -> None:
    script = [Refused(0, category="my secret"), Finished("refusal")]
    with serving_alone(ScriptedBackend(script, refusal("No.")), lock_safety=False) as server:
        for _ in range(2):
            server.post(CHAT, chat(ssd={"refusal": {"category": "my secret"}}))
        page = server.get("/metrics").text
        assert "secret" not in page
        counted = {
            dict(labels)["category"]: n for (name, labels), n in samples(page).items() if "refus" in name
        }
        assert counted == {"other": 1, "suspected_jailbreak": 1}


# What it says of itself


def test_info_names_the_limits_and_the_protocol() -> None:
    pair = {"target": {"dtype": "bfloat16", "device": "cpu", "context": 50}, "draft": {"context": 40}}
    with serving_alone(Told(info=pair), model_name="org/pair", max_stop_sequences=7) as server:
        info = server.get("/info").json()
        assert (info["model_id"], info["max_stop_sequences"], info["max_best_of"]) == ("org/pair", 7, 1)
        assert (info["max_total_tokens"], info["max_input_tokens"]) == (40, 39)
        assert (info["model_dtype"], info["model_device_type"]) == ("bfloat16", "cpu")
        assert info["ssd"]["protocol"] == 1
        assert info["ssd"]["safety_locked"] is True
        (model,) = server.get("/v1/models").json()["data"]
        assert model["id"] == "org/pair"


def test_tokenize_gives_ids_texts_and_places() -> None:
    with serving(ScriptedBackend()) as server:
        tokens = server.post("/tokenize", {"inputs": "to be or", "add_special_tokens": False}).json()
        assert tokens == [
            {"id": 2, "text": "to", "start": 0, "stop": 2},
            {"id": 3, "text": " be", "start": 2, "stop": 5},
            {"id": 3, "text": " or", "start": 5, "stop": 8},
        ]
        answered = server.post("/chat_tokenize", chat("hi")).json()
        assert answered["templated_text"] == "user: hi"
        assert [token["text"] for token in answered["tokenize_response"]] == ["user:", " hi"]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/tokenize", {"inputs": "x" * 200_000}), ("/tokenize", {"inputs": "a\u0000"}), ("/tokenize", {}),
     ("/chat_tokenize", chat("y" * 200_000)), ("/chat_tokenize", chat(tools=[{"function": {"name": "f"}}]))],
)  # fmt: skip
def test_what_cannot_be_tokenized_is_422(path: str, body: Any) -> None:
    with serving(ScriptedBackend()) as server:
        assert server.post(path, body).status_code == 422


def test_tokens_are_not_waited_for_while_the_pair_loads() -> None:
    with serving_alone(Told(state="loading")) as server:
        assert server.post("/tokenize", {"inputs": "hi"}).status_code == 503


def test_tokenizing_takes_a_place_and_gives_it_back() -> None:
    class Slow(ScriptedBackend):
        def tokenize(self, source: Any) -> Any:
            time.sleep(1.0)
            return super().tokenize(source)

    with serving_alone(Slow(), max_concurrent_requests=1) as server:
        thread = threading.Thread(target=server.post, args=("/tokenize", {"inputs": "hi"}))
        thread.start()
        wait_until(lambda: server.service.admission.running == 1)
        assert server.post("/tokenize", {"inputs": "hi"}).status_code == 429
        thread.join()
        wait_until(lambda: server.service.admission.running == 0)
        assert server.post("/tokenize", {"inputs": "hi"}).status_code == 200


# The drain


def test_what_runs_is_finished_and_what_comes_is_refused() -> None:
    with serving_alone(ScriptedBackend(answer("a b c d"), delay=0.15), {"grace": 10}) as server:
        found: list[Any] = []
        thread = threading.Thread(
            target=lambda: found.append(server.events("/generate_stream", {"inputs": "x"}))
        )
        thread.start()
        wait_until(lambda: server.service.admission.running == 1)
        server.server.drain()
        wait_until(lambda: server.service.admission.closing)
        response = server.post("/generate", {"inputs": "late"})
        assert (response.status_code, response.json()["error_type"]) == (503, "shutdown")
        assert response.headers["retry-after"]
        assert status(server) == 503
        thread.join()
        assert found[0][-1]["generated_text"] == "a b c d"
        server.thread.join(5)
        assert not server.thread.is_alive()


@pytest.mark.parametrize("stream", [True, False])
def test_what_outlasts_the_grace_ends_with_an_error_of_its_own(stream: bool) -> None:
    with serving_alone(ScriptedBackend(answer("a b c d"), delay=0.4), {"grace": 0.6}) as server:
        found: list[Any] = []

        def ask() -> None:
            if stream:
                found.append(server.events("/generate_stream", {"inputs": "x"})[-1])
            else:
                response = server.post("/generate", {"inputs": "x"})
                found.append({**response.json(), "status": response.status_code})

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: server.service.admission.running == 1)
        server.server.drain()
        thread.join(10)
        assert found[0]["error_type"] == "shutdown"
        assert found[0].get("status", 503) == 503
        server.thread.join(5)
        assert not server.thread.is_alive()
        assert server.backend.cancelled == [0]


def test_an_idle_server_ends_at_once() -> None:
    with serving_alone(ScriptedBackend(), {"grace": 60}) as server:
        began = time.monotonic()
        server.server.drain()
        server.thread.join(5)
        assert not server.thread.is_alive()
        assert time.monotonic() - began < 4


def test_a_head_request_is_a_get_without_its_body() -> None:
    with serving(ScriptedBackend()) as server:
        for path in ("/health", "/info"):
            response = server.client.head(path)
            assert (response.status_code, response.content) == (200, b"")


def test_tls(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme", reason="needs the extra 'clients'")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    context = ssl.create_default_context()
    authority.configure_trust(context)
    listen = {"tls_certificate": str(chain), "tls_key": str(key)}
    with serving_alone(ScriptedBackend("Hello"), listen) as server:
        url = f"https://127.0.0.1:{server.port}"
        with httpx.Client(base_url=url, verify=context, trust_env=False) as client:
            assert client.post("/generate", json={"inputs": "hi"}).json() == {"generated_text": "Hello"}
        with httpx.Client(base_url=url, trust_env=False) as stranger, pytest.raises(httpx.ConnectError):
            stranger.get("/info")
        with pytest.raises(httpx.HTTPError):
            server.get("/info")  # not encrypted
