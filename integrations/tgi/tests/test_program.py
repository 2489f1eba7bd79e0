"""The program, its worker and its signals: whatever dies, every accepted request ends with a word."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from langchain_ssd import ChatSSD
from langchain_ssd.errors import SSDError

from .serving import read_events, wait_until

PROGRAM = Path(__file__).with_name("scripted_server.py")


class Program:
    """The server as a process of its own."""

    def __init__(self, grace: float) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, str(PROGRAM), str(self.port), str(grace)]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the program
        self.process = subprocess.Popen(command, stderr=self.log, text=True, env=dict(os.environ))
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False, verify=False)
        try:
            wait_until(lambda: self.health() == 200, 120)
        except AssertionError:
            self.close()
            raise

    def health(self) -> int:
        try:
            return self.client.get("/health").status_code
        except httpx.HTTPError:
            return 0

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.log.close()

    def worker(self) -> int:
        (child,) = psutil.Process(self.process.pid).children()
        return child.pid

    def ask(self, text: str) -> Any:
        """The last event of a stream, or an error before it."""
        body = {"inputs": text, "parameters": {"details": True}}
        try:
            with self.client.stream("POST", "/generate_stream", json=body) as response:
                if response.status_code != 200:
                    return json.loads(response.read())
                return list(read_events(response.iter_lines()))[-1]
        except httpx.HTTPError as error:
            return type(error).__name__


@contextmanager
def program(grace: float = 5.0) -> Iterator[Program]:
    server = Program(grace)
    try:
        yield server
    finally:
        server.close()


def ask_all(server: Program, texts: list[str]) -> tuple[list[threading.Thread], dict[str, Any]]:
    found: dict[str, Any] = {}
    threads = [
        threading.Thread(target=lambda text=text: found.__setitem__(text, server.ask(text))) for text in texts
    ]
    for thread in threads:
        thread.start()
    return threads, found


def test_a_worker_that_is_killed_under_load_loses_no_request_silently_and_comes_back() -> None:
    with program() as server:
        texts = [f"echo {n} slow 0.02" for n in range(20, 40)]
        threads, found = ask_all(server, texts)
        time.sleep(0.4)
        os.kill(server.worker(), signal.SIGKILL)
        for thread in threads:
            thread.join(30)
        assert found.keys() == set(texts)
        for text, last in found.items():
            finished = last.get("details", {}) if isinstance(last, dict) else {}
            whole = finished and finished["generated_tokens"] == int(text.split()[1])
            failed = isinstance(last, dict) and last.get("error_type") == "generation"
            assert whole or failed, (text, last)
        assert any("error_type" in last for last in found.values())
        wait_until(lambda: server.health() == 200, 30)
        assert server.ask("echo 3")["details"]["generated_tokens"] == 3


@pytest.mark.slow
def test_the_first_signal_lets_running_requests_finish_and_exits_with_0() -> None:
    with program(grace=20) as server:
        threads, found = ask_all(server, ["echo 10 slow 0.1"])
        wait_until(lambda: "tgi_request_count_total 1.0" in server.client.get("/metrics").text)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.health() == 503)
        assert server.ask("echo 1")["error_type"] == "shutdown"
        threads[0].join(20)
        assert found["echo 10 slow 0.1"]["details"]["generated_tokens"] == 10
        worker = server.process.pid
        assert server.process.wait(20) == 0
        assert not psutil.pid_exists(worker) or psutil.Process(worker).status() == "zombie"
        server.log.seek(0)
        errors = server.log.read()
        assert all(json.loads(line) for line in errors.splitlines())
        assert "echo" not in errors


@pytest.mark.slow
def test_what_outlasts_the_grace_ends_with_a_typed_error_and_a_second_signal_ends_at_once() -> None:
    with program(grace=0.5) as server:
        threads, found = ask_all(server, ["echo 1000 slow 0.1"])
        wait_until(lambda: "tgi_request_count_total 1.0" in server.client.get("/metrics").text)
        server.process.send_signal(signal.SIGTERM)
        threads[0].join(20)
        assert found["echo 1000 slow 0.1"]["error_type"] == "shutdown"
        assert server.process.wait(20) == 0
    with program(grace=600) as server:
        threads, _ = ask_all(server, ["echo 1000 slow 0.1"])
        wait_until(lambda: "tgi_request_count_total 1.0" in server.client.get("/metrics").text)
        worker = server.worker()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        threads[0].join(20)
        wait_until(lambda: not psutil.pid_exists(worker))


def test_a_server_that_is_killed_gives_clients_a_typed_error_and_leaves_no_worker() -> None:
    with program() as server:
        worker = server.worker()
        model = ChatSSD(base_url=server.url, max_retries=0)
        stream = model.stream("echo 1000 slow 0.05")
        next(stream)
        server.process.kill()
        with pytest.raises(SSDError) as caught:
            list(stream)
        assert caught.value.code == "worker_died"
        wait_until(lambda: not psutil.pid_exists(worker), 20)
