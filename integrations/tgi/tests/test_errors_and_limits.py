"""Status codes, error bodies, limits, and clients that leave or stop reading: nothing leaks or hangs."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from langchain_ssd import errors
from langchain_ssd.events import Finished, Queued, Token
from langchain_ssd.testing import ScriptedBackend, answer, failure
from langchain_ssd_tgi.server.problems import problem_of

from .serving import Running, chat, serving, serving_alone, wait_until

CHAT = "/v1/chat/completions"
LONG = answer("word " * 300)

STATUS = {
    errors.InvalidRequest: (422, "validation"),
    errors.UnsupportedContent: (422, "validation"),
    errors.ContextOverflow: (422, "validation"),
    errors.TemplateError: (422, "template_error"),
    errors.SafetyLocked: (403, "safety_locked"),
    errors.Overloaded: (429, "overloaded"),
    errors.QueueTimeout: (429, "overloaded"),
    errors.RequestTimeout: (424, "generation"),
    errors.Cancelled: (424, "generation"),
    errors.NonFiniteLogits: (424, "generation"),
    errors.OutOfMemory: (424, "generation"),
    errors.GenerationFailed: (424, "generation"),
    errors.RequestFailed: (424, "generation"),
    errors.WorkerDied: (424, "generation"),
    errors.WorkerUnavailable: (503, "unhealthy"),
    errors.WorkerStartFailed: (503, "unhealthy"),
    errors.StartupTimeout: (503, "unhealthy"),
    errors.WorkerError: (503, "unhealthy"),
    errors.ProtocolError: (500, "incomplete_generation"),
    errors.ModelNotFound: (503, "unhealthy"),
}


@pytest.mark.parametrize(("kind", "expected"), STATUS.items(), ids=lambda v: getattr(v, "__name__", ""))
def test_every_error_has_its_status_before_a_stream_and_its_event_within(kind: Any, expected: Any) -> None:
    error = kind("what to do")
    body = {"error": "what to do", "error_type": expected[1], "code": kind.code}
    with serving(ScriptedBackend(error, error, failure(error, after="some words"))) as server:
        response = server.post("/generate", {"inputs": "hi"})
        assert (response.status_code, response.json()) == (expected[0], body)
        assert ("retry-after" in response.headers) is (expected[0] in (429, 503))
        assert server.post(CHAT, chat(stream=True)).status_code == expected[0]
        events = server.events(CHAT, chat(stream=True))
        assert events[-1] == body
        assert "[DONE]" not in events
        assert server.events("/generate_stream", {"inputs": "hi"})[-1] == body
        assert server.post("/generate", {"inputs": "hi"}).json() == body


def test_every_typed_error_is_in_the_table() -> None:
    for kind in errors._tree(errors.SSDError):
        assert problem_of(kind("x")).status in (403, 422, 424, 429, 500, 503)


@pytest.mark.parametrize("script", [[Queued()], [Token(0, 0, "x")], []])
def test_an_answer_without_an_end_is_incomplete(script: Any) -> None:
    with serving(ScriptedBackend(script)) as server:
        response = server.post("/generate", {"inputs": "hi"})
        assert (response.status_code, response.json()["error_type"]) == (500, "incomplete_generation")
        assert (
            server.events("/generate_stream", {"inputs": "hi"})[-1]["error_type"] == "incomplete_generation"
        )


def test_an_unforeseen_fault_is_a_500_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ScriptedBackend):
        def submit(self, request: Any) -> Any:
            raise RuntimeError(f"quoting {request.messages[0].content}")

    with serving(Broken()) as server, caplog.at_level("INFO", "langchain_ssd_tgi"):
        response = server.post("/generate", {"inputs": "secret"})
        assert (response.status_code, response.json()["error_type"]) == (500, "internal")
        wait_until(lambda: "unforeseen" in caplog.text)
        assert "secret" not in response.text + caplog.text + str([vars(record) for record in caplog.records])


# Routes, methods, bodies


@pytest.mark.parametrize("path", ["/nonsense", "/generate/", "/v1", "/%2e%2e/generate", "/HEALTH"])
def test_unknown_routes_are_404(path: str) -> None:
    with serving(ScriptedBackend()) as server:
        assert server.get(path).status_code == 404
        assert server.get(path).json()["error_type"] == "not_found"


def test_a_wrong_method_is_405() -> None:
    with serving(ScriptedBackend()) as server:
        for method, path in (("GET", "/generate"), ("PUT", CHAT), ("DELETE", "/"), ("POST", "/health")):
            response = server.client.request(method, path)
            assert response.status_code == 405
            assert response.headers["allow"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b'{"inputs": NaN}', b'{"inputs": "\xff"}', b'{"inputs": "\\ud800"}',
     b"[" * 100_000, b'{"inputs": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", b'{"inputs":"a"} trailing',
     b'\x00\x01', b'{"a": ' * 5000 + b"1" + b"}" * 5000],
)  # fmt: skip
def test_a_body_that_is_no_json_is_422(body: bytes) -> None:
    with serving(ScriptedBackend()) as server:
        headers = {"content-type": "application/json"}
        response = server.client.post("/generate", content=body, headers=headers)
        assert response.status_code == 422
        assert response.json()["error_type"] == "validation"


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_a_body_must_be_declared_as_json(kind: str) -> None:
    with serving(ScriptedBackend()) as server:
        response = server.client.post(
            "/generate", content=b'{"inputs": "hi"}', headers={"content-type": kind}
        )
        assert response.status_code == 415
        kind = "Application/JSON; charset=utf-8"
        response = server.client.post(
            "/generate", content=b'{"inputs": "hi"}', headers={"content-type": kind}
        )
        assert response.status_code == 200


def test_names_that_are_no_names_are_not_quoted() -> None:
    with serving(ScriptedBackend()) as server:
        response = server.post("/generate", {"inputs": "hi", "my secret\r\nplan": 1})
        assert response.status_code == 422
        assert "secret" not in response.text


def test_a_body_above_the_limit_is_413_declared_or_in_chunks() -> None:
    def chunks() -> Any:
        for _ in range(100):
            yield b"x" * 1000

    headers = {"content-type": "application/json"}
    with serving(ScriptedBackend(), max_body_bytes=10_000) as server:
        for content in (b"x" * 100_000, chunks()):
            response = server.client.post("/generate", content=content, headers=headers)
            assert response.status_code == 413
            assert response.json()["error_type"] == "payload_too_large"


def raw(server: Running, *pieces: bytes, wait: float = 0.0) -> bytes:
    """What the server says to these bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(wait)
        answered = b""
        try:
            while data := connection.recv(65536):
                answered += data
        except ConnectionResetError:
            pass
        return answered


def test_a_huge_header_is_400_and_leaves_the_server_well() -> None:
    with serving(ScriptedBackend()) as server:
        head = b"GET /info HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n"
        assert raw(server, head).startswith(b"HTTP/1.1 400 ") or raw(server, head) == b""
        assert server.get("/info").status_code == 200


def test_bytes_that_are_no_http_are_400() -> None:
    with serving(ScriptedBackend()) as server:
        for head in (
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"GARBAGE\r\n\r\n",
            b"\x00" * 50,
        ):
            assert raw(server, head + b"\r\n\r\n").startswith(b"HTTP/1.1 400 "), head


def test_a_head_or_a_body_that_drips_is_cut_off() -> None:
    slow = {"head_timeout": 0.3}
    with serving_alone(ScriptedBackend(), slow, body_timeout=0.3) as server:
        began = time.monotonic()
        assert raw(server, b"GET /info HT", b"TP/1.1\r\n", b"Host: ", wait=0.15) == b""
        head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        answered = raw(server, head + b"Content-Length: 100\r\nConnection: close\r\n\r\n{")
        assert answered.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 5
        wait_until(lambda: not server.server.server_state.connections)


# Places


def hold(server: Running, count: int, path: str = "/generate") -> list[threading.Thread]:
    threads = [threading.Thread(target=server.post, args=(path, {"inputs": "hi"})) for _ in range(count)]
    for thread in threads:
        thread.start()
    wait_until(lambda: server.service.admission.running == count)
    return threads


def test_more_than_the_limit_is_429_at_once_and_leaves_nothing() -> None:
    with serving_alone(ScriptedBackend(answer("a"), delay=1.0), max_concurrent_requests=2) as server:
        threads = hold(server, 2)
        began = time.monotonic()
        for _ in range(20):
            response = server.post("/generate", {"inputs": "hi"})
            assert (response.status_code, response.json()["error_type"]) == (429, "overloaded")
            assert int(response.headers["retry-after"]) >= 1
        assert time.monotonic() - began < 4  # it does not wait for a place
        for thread in threads:
            thread.join()
        assert len(server.backend.requests) == 2
        wait_until(lambda: server.service.admission.running == 0)
        assert server.post("/generate", {"inputs": "hi"}).status_code == 200


def test_a_prompt_above_the_limit_is_422_and_is_cancelled() -> None:
    with serving(ScriptedBackend("a"), max_input_tokens=3) as server:
        assert server.post("/generate", {"inputs": "a b c"}).status_code == 200
        for path in ("/generate", "/generate_stream"):
            response = server.post(path, {"inputs": "a b c d"})
            assert response.status_code == 422
            assert "at most 3 tokens" in response.json()["error"]
        assert server.backend.cancelled == [1, 2]


# Clients that leave


def leave(server: Running, head: str, body: dict[str, Any], until: Callable[[bytes], bool]) -> None:
    """Ask, read until the condition holds, and go."""
    content = json.dumps(body).encode()
    request = (
        f"POST {head} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    ).encode() + content
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        connection.settimeout(0.01)
        seen, end = b"", time.monotonic() + 10
        while not until(seen):
            assert time.monotonic() < end
            with suppress(TimeoutError):
                seen += connection.recv(4096)


@pytest.mark.parametrize("path", ["/generate_stream", "/v1/completions"])
def test_a_client_that_leaves_a_stream_cancels_the_work(path: str) -> None:
    with serving(ScriptedBackend(LONG, delay=0.01)) as server:
        body = {"inputs": "hi"} if path == "/generate_stream" else {"prompt": "hi", "stream": True}
        leave(server, path, body, lambda seen: seen.count(b"data: ") >= 3)
        wait_until(lambda: server.backend.cancelled == [0])
        wait_until(lambda: server.service.admission.running == 0)
        assert not server.service.flights


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", CHAT])
def test_a_client_that_leaves_in_silence_is_noticed(path: str) -> None:
    script = [Queued(), Token(0, 0, "x"), Finished()]
    with serving(ScriptedBackend(script, delay=30)) as server:
        body = {"inputs": "hi"} if "generate" in path else chat()
        leave(server, path, body, lambda _: len(server.backend.requests) == 1)
        wait_until(lambda: server.backend.cancelled == [0])
        wait_until(lambda: server.service.admission.running == 0)


def test_a_client_that_leaves_harms_no_other() -> None:
    with serving(ScriptedBackend(LONG, LONG, delay=0.002)) as server:
        texts: list[str] = []

        def stay() -> None:
            events = server.events("/generate_stream", {"inputs": "stay"})
            texts.append("".join(event["token"]["text"] for event in events))

        thread = threading.Thread(target=stay)
        thread.start()
        wait_until(lambda: len(server.backend.requests) == 1)
        leave(server, "/generate_stream", {"inputs": "go"}, lambda seen: b"data: " in seen)
        thread.join()
        assert texts == ["".join(event.text for event in LONG if isinstance(event, Token))]
        assert server.backend.cancelled == [1]


def test_a_reader_that_stalls_is_cut_off_and_its_work_cancelled() -> None:
    endless = answer("x" * 5000 + " " + " ".join("y" * 5000 for _ in range(2000)))
    with serving_alone(ScriptedBackend(endless), write_timeout=0.3) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        content = b'{"inputs": "hi"}'
        connection.sendall(
            b"POST /generate_stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(content) + content
        )
        wait_until(lambda: server.backend.cancelled == [0], 10)
        wait_until(lambda: not server.server.server_state.connections)
        # The connection is struck off before the request that ran on it has ended.
        wait_until(lambda: server.service.admission.running == 0)
        assert server.post("/generate", {"inputs": "hi"}).status_code == 200


def test_silence_is_broken_by_comments_that_clients_skip() -> None:
    with serving(ScriptedBackend(answer("a b"), delay=0.25), keep_alive=0.1) as server:
        with server.client.stream("POST", "/generate_stream", json={"inputs": "hi"}) as response:
            lines = [line for line in response.iter_lines() if line]
        assert lines.count(": keep-alive") >= 2
        assert [line for line in lines if not line.startswith(("data: {", ": "))] == []
        assert server.events(CHAT, chat(stream=True))[-1] == "[DONE]"


def test_two_requests_on_one_connection_and_a_head_only_request() -> None:
    with serving(ScriptedBackend("a")) as server:
        ports = set()
        for _ in range(3):
            response = server.post("/generate", {"inputs": "hi"})
            ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(ports) == 1
