"""Ten thousand requests that nobody would send: no undocumented 5xx, no dead worker, nothing left behind.

Half come from schemathesis and our own OpenAPI page, half are raw bytes on a socket.  The server is a
program of its own over a real worker process; its engine is scripted, so every 5xx is the server's fault.
"""

from __future__ import annotations

import os
import random
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from langchain_ssd_tgi.server.openapi import document

from .serving import chat, wait_until
from .test_program import Program, program

FULL = int(os.environ.get("LANGCHAIN_SSD_FUZZ", "10000"))
DOCUMENTED = {200, 204, 400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 429}


@pytest.fixture(scope="module")
def server() -> Iterator[Program]:
    with program() as running:
        worker = running.worker()
        yield running
        assert running.worker() == worker  # it has not died in between
        assert running.health() == 200
        assert running.ask("echo 3")["details"]["generated_tokens"] == 3
        wait_until(lambda: "ssd_server_requests_in_flight 0.0" in running.client.get("/metrics").text)
        assert running.process.poll() is None


# Raw bytes

WORDS = [
    b"inputs", b"messages", b"parameters", b"stream", b"ssd", b"true", b"null", b"-1", b"1e999", b"NaN", b'"',
    b"{", b"}", b"[", b"]", b":", b",", b"\\u0000", b"\\ud800", b"\xff", b"\x00", b"\r\n", b"<|im_end|>",
    b"{{7*7}}",
    b"user", b"system", b"tools", b"grammar", b"best_of", b"temperature", b"max_new_tokens", b"stop", b"seed",
]  # fmt: skip
PATHS = [
    b"/", b"/generate", b"/generate_stream", b"/v1/chat/completions", b"/v1/completions", b"/v1/models",
    b"/info",
    b"/health", b"/metrics", b"/tokenize", b"/chat_tokenize", b"/openapi.json",
    b"/page.js", b"//", b"/../etc",
    b"/%00", b"*", b"/generate?x=%ff",
]  # fmt: skip
HEADERS = [
    b"Host: localhost", b"Host: evil", b"Content-Type: application/json", b"Content-Type: text/plain",
    b"X-SSD: 1",
    b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Connection: close", b"Connection: upgrade",
    b"Upgrade: websocket", b"Origin: null", b"Authorization: Bearer \xff", b"Authorization: Basic ===",
    b"Content-Length: -1", b"Content-Length: 99999999", b"X: " + b"a" * 20_000, b"\x00: x", b"Cookie: \xf0",
]  # fmt: skip
BODIES = [
    b'{"inputs":"echo 2","parameters":{"max_new_tokens":3,"details":true}}',
    b'{"messages":[{"role":"user","content":"echo 2"}],"stream":true,"ssd":true,"max_tokens":3}',
    b'{"prompt":"echo 2","max_tokens":3}',
]


def mutated(chance: random.Random, body: bytes) -> bytes:
    """A body with some of it cut, doubled or replaced."""
    for _ in range(chance.randrange(4)):
        at, end = sorted(chance.randrange(len(body) + 1) for _ in range(2))
        piece = chance.choice(
            [b"", body[at:end] * 2, chance.choice(WORDS), chance.randbytes(chance.randrange(9))]
        )
        body = body[:at] + piece + body[end:]
    return body


def raw_request(chance: random.Random) -> bytes:
    """Mostly HTTP."""
    if chance.random() < 0.05:
        return chance.randbytes(chance.randrange(1, 400))
    body = mutated(chance, chance.choice(BODIES))
    method = chance.choice([b"POST"] * 6 + [b"GET", b"HEAD", b"PUT", b"OPTIONS", b"\xff"])
    head = [method + b" " + chance.choice(PATHS) + b" HTTP/1." + chance.choice([b"1"] * 9 + [b"0", b"7"])]
    head += [b"Host: localhost", b"Content-Type: application/json"] if chance.random() < 0.8 else []
    head += chance.sample(HEADERS, chance.randrange(3))
    if chance.random() < 0.9:
        head.append(b"Content-Length: %d" % (len(body) + chance.choice([0] * 20 + [-1, 1])))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def status_of(port: int, data: bytes, chance: random.Random) -> int:
    """The status that the server answers with; 0 if it only closes, or was left before it answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        try:
            connection.sendall(data)
            if chance.random() < 0.1:
                return 0  # leave at once
            connection.shutdown(socket.SHUT_WR) if chance.random() < 0.05 else None
            connection.settimeout(0.5)
            first = connection.recv(64)
        except (TimeoutError, ConnectionError):  # it waits for more, or has had enough
            return 0
    status = int(first.split()[1]) if first.startswith(b"HTTP/1.") else 0
    return 0 if status == 100 else status  # it said "continue"


def fuzz_raw(port: int, count: int, seed: int) -> Counter[int]:
    chance = random.Random(seed)
    found: Counter[int] = Counter()
    for _ in range(count):
        data = raw_request(chance)
        status = status_of(port, data, chance)
        found[status] += 1
        assert status in DOCUMENTED | {0}, (status, data[:300])
    return found


def test_raw_bytes(server: Program) -> None:
    found = fuzz_raw(server.port, 150, seed=1)
    assert found[200] > 0
    assert found[422] > 5


@pytest.mark.slow
def test_thousands_of_raw_bytes(server: Program) -> None:
    found = fuzz_raw(server.port, FULL // 2, seed=2)
    assert {200, 400, 422} <= found.keys(), found


# Our OpenAPI page


def fuzz_schema(client: httpx.Client, count: int) -> Counter[int]:
    """Send what schemathesis makes of our own page, right and wrong."""
    schemathesis = pytest.importorskip("schemathesis", reason="needs the extra 'clients'")
    from hypothesis import HealthCheck, Phase, given, seed, settings

    schema = schemathesis.openapi.from_dict(document())
    operations = [result.ok() for result in schema.get_all_operations()]
    posts = [operation for operation in operations if operation.method.upper() == "POST"]
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    found: Counter[int] = Counter()
    for number, (operation, mode) in enumerate((o, m) for o in posts for m in modes):

        @seed(number)
        @settings(
            max_examples=count // (2 * len(posts)),
            database=None,
            phases=[Phase.generate],
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            options: dict[str, Any] = {"headers": {"content-type": case.media_type or "application/json"}}
            kind = "content" if isinstance(case.body, bytes | str) else "json"
            try:
                response = client.request(case.method, case.formatted_path, **{kind: case.body}, **options)
            except (TypeError, ValueError, UnicodeEncodeError):
                return  # the client itself cannot write this down
            found[response.status_code] += 1
            assert response.status_code in DOCUMENTED, (response.status_code, case.path, response.text[:300])
            if response.status_code >= 400:
                assert response.json().keys() == {"error", "error_type", "code"}

        send()
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_thousands_of_requests_from_the_openapi_page(server: Program) -> None:
    found = fuzz_schema(server.client, FULL // 2)
    assert found.total() > 0.8 * (FULL // 2), found
    assert {200, 422} <= found.keys(), found


@pytest.mark.slow
def test_the_page_describes_every_route_and_its_schemas_are_valid() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from langchain_ssd_tgi.server.app import ROUTES

    page = document()
    described = {(method.upper(), path) for path, item in page["paths"].items() for method in item}
    assert described == {route for route in ROUTES if not route[1].startswith("/page.")}
    for schema in page["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    chat_schema = {"$ref": "#/components/schemas/ChatBody", "components": page["components"]}
    jsonschema.validate(chat(stream=True, ssd={"telemetry": True}), chat_schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(chat(nonsense=1), chat_schema)
