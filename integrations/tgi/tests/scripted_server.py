"""A server over a real worker process with a scripted engine: ``scripted_server.py PORT [GRACE]``."""

from __future__ import annotations

import sys

from langchain_ssd.config import EngineConfig, ModelSpec
from langchain_ssd.worker.client import LocalBackend
from langchain_ssd_tgi.server.logs import set_up
from langchain_ssd_tgi.server.run import ListenConfig, run
from langchain_ssd_tgi.server.settings import ServerConfig

if __name__ == "__main__":
    set_up("info")
    backend = LocalBackend(
        ModelSpec(name="scripted"),
        ModelSpec(name="draft"),
        EngineConfig(max_batch=64, max_queue=256, max_restarts=20),
        engine="langchain_ssd.testing.engines:build_scripted",
    )
    backend.warm_up()
    grace = float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
    listen = ListenConfig(port=int(sys.argv[1]), grace=grace)
    run(backend, ServerConfig(health_timeout=5.0, health_interval=0.5), listen)
