"""A server for the benchmarks, as a process of its own, so that its costs can be told from the client's."""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil


def scripted(tokens: int, delay: float = 0.0) -> Any:
    """Answers of so many tokens with full telemetry, ``delay`` seconds apart, without a worker process."""
    from langchain_ssd.events import Finished, Token
    from langchain_ssd.testing import ScriptedBackend

    numbers = {"p_target": 0.123456789, "p_draft": 0.23456789, "p_composite": 0.3456789, "kl": 0.456789}
    script = [Token(i, 1000 + i, f" w{i}", statistic=1.2345678, **numbers) for i in range(tokens)]
    return ScriptedBackend([*script, Finished("length", 0, tokens)], delay=delay)


def _worker() -> Any:
    """A real worker process with a scripted engine."""
    from langchain_ssd.config import EngineConfig, ModelSpec
    from langchain_ssd.worker.client import LocalBackend

    spec = ModelSpec(name="scripted")
    config = EngineConfig(max_batch=64, max_queue=256)
    engine = "langchain_ssd.testing.engines:build_scripted"
    backend = LocalBackend(spec, spec, config, engine=engine)
    backend.warm_up()
    return backend


def _serve(port: int, tokens: int, delay: float, settings: dict[str, Any]) -> None:
    from langchain_ssd_tgi.server.run import ListenConfig, run
    from langchain_ssd_tgi.server.settings import ServerConfig

    backend = scripted(tokens, delay) if tokens else _worker()
    run(backend, ServerConfig(**settings), ListenConfig(port=port, grace=1.0))


class Server:
    """The process, its address and what it uses."""

    def __init__(self, process: Any, port: int) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self._process = psutil.Process(process.pid)

    def cpu_seconds(self) -> float:
        """Processor time so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        """Resident bytes."""
        return int(self._process.memory_info().rss)

    def descriptors(self) -> int:
        """Open files and sockets."""
        return int(self._process.num_fds())


@contextmanager
def serving(tokens: int = 0, delay: float = 0.0, **settings: Any) -> Iterator[Server]:
    """A server until the block ends; ``tokens`` says how long its answers are, 0 takes a real worker."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context, arguments = multiprocessing.get_context("spawn"), (port, tokens, delay, settings)
    process = context.Process(target=_serve, args=arguments)
    process.start()
    try:
        _wait(port)
        yield Server(process, port)
    finally:
        process.terminate()
        process.join(30)


def _wait(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the server did not start")
