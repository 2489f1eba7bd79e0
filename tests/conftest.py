"""Shared test setup: no hub, and one thread (tiny models only lose time to a second)."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
