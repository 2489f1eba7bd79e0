"""Fifty clients at once, some of whom leave and some of whom read slowly: nothing leaks, nothing mixes.

The worker is a real process with a scripted engine, so that every answer is known beforehand.
"""

from __future__ import annotations

import json
import random
import socket
import statistics
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field

from .common import show
from .serving import Server, serving

CLIENTS = 50
ROUNDS = 20
TOKENS = 60
STEP = 0.005
_HEAD = "POST /generate_stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@dataclass
class Found:
    """What the clients saw."""

    outcomes: Counter[str] = field(default_factory=Counter)
    first: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def ask(server: Server, count: int) -> socket.socket:
    """A connection that has asked for ``count`` tokens."""
    body = json.dumps(
        {"inputs": f"echo {count} slow {STEP}", "parameters": {"max_new_tokens": 4096}}
    ).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(f"{_HEAD}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def read(connection: socket.socket, pause: float, leave_after: int | None) -> tuple[bytes, float]:
    """Everything until the end, or until this client leaves; and when the first event came."""
    began, first, seen = time.perf_counter(), 0.0, b""
    while data := connection.recv(512 if pause else 65536):
        seen += data
        if not first and b"data: " in seen:
            first = time.perf_counter() - began
        if leave_after is not None and seen.count(b"data: ") >= leave_after:
            break
        time.sleep(pause)
    return seen, first


def client(server: Server, found: Found, seed: int) -> None:
    """One client: in each round it reads to the end, slowly or not, or leaves somewhere."""
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        kind = chance.choice(["read"] * 5 + ["left"] * 3 + ["read slowly"] * 2)
        count = chance.randrange(TOKENS // 2, TOKENS)
        leave_after = chance.randrange(1, count) if kind == "left" else None
        with ask(server, count) as connection:
            seen, first = read(connection, 0.002 if kind == "read slowly" else 0.0, leave_after)
        with found.lock:
            found.outcomes[kind] += 1
            found.first.append(first)
            if leave_after is None and text_of(seen) != "".join(f"w{i} " for i in range(count)):
                found.wrong.append(kind)


def text_of(seen: bytes) -> str:
    """The whole text that a stream's last event holds."""
    lines = [line for line in seen.split(b"\n") if line.startswith(b"data: ")]
    return str(json.loads(lines[-1][6:]).get("generated_text"))


def idle(server: Server) -> dict[str, float]:
    """The server's figures once nothing runs any more."""
    for _ in range(200):
        text = urllib.request.urlopen(f"{server.url}/metrics", timeout=10).read().decode()
        if "ssd_server_requests_in_flight 0.0" in text and "tgi_batch_current_size 0.0" in text:
            break
        time.sleep(0.1)
    numbers = dict(
        line.split(" ")
        for line in text.splitlines()
        if " " in line and "{" not in line[:40] and line[0] != "#"
    )
    return {
        "in flight": float(numbers["ssd_server_requests_in_flight"]),
        "in the batch": float(numbers["tgi_batch_current_size"]),
        "descriptors": server.descriptors(),
        "memory, MiB": server.memory() / 2**20,
    }


def storm(server: Server) -> tuple[Found, float]:
    """All clients at once; what they saw and how long it took."""
    found = Found()
    threads = [threading.Thread(target=client, args=(server, found, seed)) for seed in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, time.perf_counter() - began


def main() -> None:
    """Two storms: the first warms up, and what the second leaves behind is a leak."""
    with serving(max_concurrent_requests=CLIENTS + 10) as server:
        storm(server)
        before = idle(server)
        found, seconds = storm(server)
        after = idle(server)
    first = sorted(found.first)
    rows = [
        {"what": "requests", "value": sum(found.outcomes.values())},
        *({"what": f"of these, {kind}", "value": n} for kind, n in sorted(found.outcomes.items())),
        {"what": "answers that were not exactly right", "value": len(found.wrong)},
        {"what": "requests a second", "value": sum(found.outcomes.values()) / seconds},
        {"what": "first event, ms, median", "value": 1e3 * statistics.median(first)},
        {"what": "first event, ms, 99 %", "value": 1e3 * first[int(0.99 * len(first))]},
        *({"what": f"{name}, afterwards", "value": value} for name, value in after.items()),
        *({"what": f"{name}, more than before", "value": after[name] - before[name]} for name in after),
    ]
    show(
        "load",
        f"{CLIENTS} clients, {ROUNDS} requests each, one step of the engine takes {1e3 * STEP:g} ms",
        rows,
    )
