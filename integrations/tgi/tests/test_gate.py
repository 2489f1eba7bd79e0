"""Keys, hosts, origins, quotas and logs."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
import time
from typing import Any

import pytest
from pydantic import ValidationError

from langchain_ssd.errors import GenerationFailed
from langchain_ssd.testing import ScriptedBackend, answer, failure
from langchain_ssd_tgi.server.app import ROUTES
from langchain_ssd_tgi.server.logs import BackgroundHandler, JsonFormatter
from langchain_ssd_tgi.server.quotas import Bucket
from langchain_ssd_tgi.server.settings import ServerConfig

from .serving import KEY, chat, serving, serving_alone, wait_until

KEYS = ({"name": "team-a", "key": KEY}, {"name": "team-b", "key": KEY.upper() + "x"})
CHAT = "/v1/chat/completions"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1] != "/health"])
@pytest.mark.parametrize(
    "headers",
    [{}, bearer(KEY.upper()), bearer(KEY[:-1]), bearer(KEY + "x"),
     {"authorization": "Bearer"}, {"authorization": KEY},
     {"authorization": f"Digest {KEY}"}, {"x-api-key": KEY}, {"authorization": "Basic ???"}],
)  # fmt: skip
def test_every_route_but_health_wants_the_exact_key(method: str, path: str, headers: dict[str, str]) -> None:
    with serving(ScriptedBackend(), keys=KEYS) as server:
        response = server.client.request(method, path, headers=headers, json={} if method == "POST" else None)
        assert response.status_code == 401
        assert response.json()["error_type"] == "unauthorized"
        assert KEY not in response.text
        assert response.headers["www-authenticate"].startswith("Bearer" if method == "POST" else "Basic")


def test_unknown_routes_are_401_too_and_health_is_open() -> None:
    with serving(ScriptedBackend(), keys=KEYS) as server:
        assert server.get("/nonsense").status_code == 401
        assert server.client.options(CHAT).status_code == 401
        assert server.get("/health").status_code == 200


@pytest.mark.parametrize("key", [KEY, KEY.upper() + "x"])
def test_a_key_opens_as_bearer_or_as_a_browsers_password(key: str) -> None:
    basic = base64.b64encode(f"anyone:{key}".encode()).decode()
    with serving(ScriptedBackend(), keys=KEYS) as server:
        for authorization in (f"Bearer {key}", f"bearer {key}", f"Basic {basic}"):
            assert server.get("/info", headers={"authorization": authorization}).status_code == 200


@pytest.mark.parametrize("keys", [
    ({"name": "a", "key": "short"},), ({"name": "a b", "key": KEY},), ({"name": "a", "key": KEY + " x"},),
    ({"name": "a", "key": KEY}, {"name": "b", "key": KEY}),
    ({"name": "a", "key": KEY}, {"name": "a", "key": "y" * 20}),
])  # fmt: skip
def test_weak_or_double_keys_are_refused_without_quoting_them(keys: Any) -> None:
    with pytest.raises(ValidationError):
        ServerConfig(keys=keys)
    assert KEY not in repr(ServerConfig(keys=KEYS))


# Hosts and origins


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("127.0.0.1:1234", 200), ("LOCALHOST:80", 200), ("[::1]:80", 200), ("evil.com", 421),
     ("localhost.evil.example", 421), ("x/?", 421), ("localhost@evil", 421), ("", 421), ("127.0.0.1:x", 421)],
)  # fmt: skip
def test_only_known_hosts_are_served(host: str, status: int) -> None:
    with serving(ScriptedBackend()) as server:
        assert server.get("/info", headers={"host": host}).status_code == status
        assert server.get("/health", headers={"host": host}).status_code == 200


def test_any_host_can_be_allowed() -> None:
    with serving(ScriptedBackend(), allowed_hosts=("*",)) as server:
        assert server.get("/info", headers={"host": "any.example"}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost", "file://"])
def test_pages_of_other_origins_may_not_ask(origin: str) -> None:
    with serving(ScriptedBackend()) as server:
        for method in ("POST", "OPTIONS"):
            headers = {"origin": origin, "access-control-request-method": "POST"}
            response = server.client.request(method, CHAT, headers=headers, json=chat())
            assert response.status_code == 403
            assert not [name for name in response.headers if name.startswith("access-control")]
        assert server.backend.requests == []


def test_the_servers_own_page_may_ask_and_so_may_allowed_ones() -> None:
    with serving(ScriptedBackend("a"), cors_origins=("https://app.example",), keys=KEYS) as server:
        own = {"origin": server.url, **bearer(KEY)}
        assert server.post(CHAT, chat(), headers=own).status_code == 200
        other = {"origin": "https://app.example"}
        preflight = {**other, "access-control-request-method": "POST"}
        allowed = server.client.options(CHAT, headers=preflight)
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        answered = server.post(CHAT, chat(), headers={**other, **bearer(KEY)})
        assert answered.headers["access-control-allow-origin"] == "https://app.example"
        assert server.post(CHAT, chat(), headers=other).status_code == 401


def test_every_response_has_its_own_id_and_the_usual_headers() -> None:
    with serving(ScriptedBackend("a")) as server:
        responses = [
            server.post("/generate", {"inputs": "x"}, headers={"x-request-id": "mine"}),
            server.get("/nonsense"),
        ]
        ids = [response.headers["x-request-id"] for response in responses]
        assert len(set(ids)) == 2
        assert "mine" not in ids
        for response in responses:
            assert response.headers["cache-control"] == "no-store"
            assert response.headers["x-content-type-options"] == "nosniff"
            assert "server" not in response.headers


# Quotas


def test_a_bucket_refills_by_the_minute_and_may_be_overdrawn() -> None:
    bucket = Bucket(60, 0.0)
    assert bucket.wait(60, 0.0) == 0
    bucket.take(60, 0.0)
    assert bucket.wait(1, 0.0) == 1
    assert bucket.wait(1, 1.0) == 0
    bucket.take(31, 1.0)
    assert bucket.wait(1, 1.0) == 31
    assert bucket.wait(60, 10_000.0) == 0
    assert bucket.wait(61, 10_000.0) == 1  # never more than a minute's


def test_quotas_are_kept_for_each_key_apart() -> None:
    keys = (
        {"name": "few", "key": "k" * 20, "requests_per_minute": 2},
        {"name": "tokens", "key": "t" * 20, "tokens_per_minute": 4},
        {"name": "free", "key": "f" * 20},
    )
    with serving_alone(ScriptedBackend("a b c"), keys=keys) as server:

        def ask(letter: str) -> Any:
            return server.post("/generate", {"inputs": "hi"}, headers=bearer(letter * 20))

        assert [ask("k").status_code for _ in range(4)] == [200, 200, 429, 429]
        assert [ask("t").status_code for _ in range(3)] == [200, 429, 429]
        assert [ask("f").status_code for _ in range(5)] == [200] * 5
        refused = ask("k")
        assert refused.json()["error_type"] == "overloaded"
        assert 1 <= int(refused.headers["retry-after"]) <= 60


def test_places_of_a_key() -> None:
    keys = ({"name": "one", "key": "o" * 20, "max_concurrent": 1}, {"name": "free", "key": "f" * 20})
    with serving_alone(ScriptedBackend(answer("a b"), delay=0.3), keys=keys) as server:
        with server.client.stream("POST", "/generate_stream", json={"inputs": "x"}, headers=bearer("o" * 20)):
            assert server.post("/generate", {"inputs": "x"}, headers=bearer("o" * 20)).status_code == 429
            assert server.post("/generate", {"inputs": "x"}, headers=bearer("f" * 20)).status_code == 200
        wait_until(lambda: server.service.admission.running == 0)
        assert server.post("/generate", {"inputs": "x"}, headers=bearer("o" * 20)).status_code == 200


# Logs


def test_one_line_a_request_and_no_word_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = failure(GenerationFailed("boom"), after="secret words")
    with serving(ScriptedBackend("secret words", script), keys=KEYS) as server:
        with caplog.at_level(logging.INFO, "langchain_ssd_tgi"):
            for path in ("/generate", "/generate_stream", "/secret%0d%0aforged:+yes?secret=1"):
                headers = {**bearer(KEY), "user-agent": "secret", "referer": "secret"}
                server.post(
                    path, {"inputs": "secret prompt", "parameters": {"stop": ["secret!"]}}, headers=headers
                )
            wait_until(lambda: len(caplog.records) == 3)
        lines = [JsonFormatter().format(record) for record in caplog.records]
        assert all("secret" not in line and "\n" not in line for line in lines)
        first, second, third = map(json.loads, lines)
        assert first["status"], first["route"] == (200, "/generate")
        assert (first["key"], first["finish_reason"]) == ("team-a", "stop")
        assert (first["prompt_tokens"], first["completion_tokens"]) == (2, 2)
        assert (second["status"], second["code"]) == (200, "generation_failed")
        assert (third["status"], third["route"]) == (404, "other")
        assert KEY not in "".join(lines)


def test_foreign_loggers_are_named_and_not_quoted() -> None:
    record = logging.LogRecord("uvicorn.error", logging.WARNING, "x", 1, "secret %s", ("text",), None)
    line = json.loads(JsonFormatter().format(record))
    assert (line["logger"], line["level"]) == ("uvicorn.error", "warning")
    assert "secret" not in str(line)


def test_a_reader_of_the_log_that_stalls_does_not_stall_the_server() -> None:
    class Stalled(io.StringIO):
        def write(self, text: str) -> int:
            gate.wait(10)
            return super().write(text)

    gate, stream = threading.Event(), Stalled()
    handler = BackgroundHandler(stream, limit=5)
    handler.setFormatter(JsonFormatter())
    record = logging.LogRecord("langchain_ssd_tgi", logging.INFO, "x", 1, "request", None, None)
    began = time.monotonic()
    for _ in range(50):
        handler.emit(record)
    assert time.monotonic() - began < 1
    gate.set()
    handler.flush()
    assert 5 <= stream.getvalue().count("\n") <= 6
