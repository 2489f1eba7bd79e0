"""What HTTP itself costs per streamed token, in one-token forwards of the default target.

The backend is scripted and costs next to nothing; what it does cost is measured alone and taken off.
Server and client are two processes: the server's own processor time is the cost that counts, since on a
machine with few cores it is what the models lose.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import time
from typing import Any

from langchain_ssd.backend import ChatMessage, ChatRequest

from .common import show
from .serving import Server, scripted, serving

TOKENS = 3000
RUNS = 7
PACE = 0.002  # seconds between tokens that come one at a time, as a model's do
LIMIT = 0.02
CHAT = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "/generate_stream": ("/generate_stream", {"inputs": "hi"}),
    "/v1/chat/completions": ("/v1/chat/completions", CHAT),
    "/v1/chat/completions with telemetry": ("/v1/chat/completions", {**CHAT, "ssd": True}),
}


def read_all(port: int, path: str, body: dict[str, Any]) -> int:
    """Ask, and read to the end as fast as bytes come; how many events there were."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Connection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + content)
        events, end = 0, b""
        while data := connection.recv(1 << 20):
            data = end + data
            events += data.count(b"data: ")
            end = data[-5:]  # a mark may be cut in two, but is never counted twice
    return events


def measure(server: Server, path: str, body: dict[str, Any]) -> tuple[float, float]:
    """Median seconds a token: of the server's processor, and on the clock."""
    spent, passed = [], []
    for _ in range(RUNS):
        cpu, clock = server.cpu_seconds(), time.perf_counter()
        if read_all(server.port, path, body) < TOKENS:
            raise RuntimeError("events are missing")
        passed.append((time.perf_counter() - clock) / TOKENS)
        spent.append((server.cpu_seconds() - cpu) / TOKENS)
    return statistics.median(spent), statistics.median(passed)


def scripted_alone(delay: float) -> float:
    """Processor seconds a token of the scripted backend without a server."""
    backend = scripted(TOKENS, delay)
    request = ChatRequest((ChatMessage("user", "hi"),))

    async def read() -> None:
        async for _ in backend.submit(request):
            pass

    times = []
    for _ in range(RUNS):
        began = time.process_time()
        asyncio.run(read())
        times.append((time.process_time() - began) / TOKENS)
    return statistics.median(times)


def client_cost(server: Server) -> float:
    """Processor seconds a token of ``ChatSSD``'s backend, in the client's process."""
    from langchain_ssd_tgi import RemoteBackend

    backend = RemoteBackend(server.url)
    request = ChatRequest((ChatMessage("user", "hi"),))
    times = []
    for _ in range(RUNS):
        began = time.process_time()
        if sum(event.kind == "token" for event in backend.submit(request)) != TOKENS:
            raise RuntimeError("tokens are missing")
        times.append((time.process_time() - began) / TOKENS)
    return statistics.median(times[1:])


def main() -> None:
    """Each way of streaming, and the client's backend."""
    alone, alone_paced = scripted_alone(0.0), scripted_alone(PACE)
    found: dict[str, tuple[float, float | None]] = {}
    with serving(TOKENS) as server:
        read_all(server.port, *REQUESTS["/generate_stream"])  # warm
        for name, (path, body) in REQUESTS.items():
            cpu, clock = measure(server, path, body)
            found[name] = cpu - alone, clock
        client = client_cost(server)
    with serving(TOKENS, PACE) as server:
        cpu, clock = measure(server, *REQUESTS["/v1/chat/completions with telemetry"])
        found["the same, one token at a time"] = cpu - alone_paced, clock - PACE
    found["the client's backend (in its own process)"] = client, None
    forward = _forward()
    rows = [
        {
            "what": name,
            "processor ms a token": 1e3 * cpu,
            "clock ms a token": "-" if clock is None else 1e3 * clock,
            "one-token forward, ms": 1e3 * forward,
            "ratio": cpu / forward,
        }
        for name, (cpu, clock) in found.items()
    ]
    taken = f"taken off: {1e3 * alone:.3f} and {1e3 * alone_paced:.3f} ms of the backend alone"
    note = f"{TOKENS} tokens, median of {RUNS}; {taken}; load average {os.getloadavg()[0]:.1f}"
    show("http_cost", f"HTTP's own cost a streamed token (limit {LIMIT} forwards)", rows, note)


def _forward() -> float:
    """Seconds of a one-token forward of the default target, with nothing else running."""
    from .pair import default_pair, one_token_forward

    return one_token_forward(default_pair())
