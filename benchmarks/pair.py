"""The default pair in bfloat16, and one-token forwards of its target."""

from __future__ import annotations

import gc
from functools import lru_cache

from langchain_ssd.config import EngineConfig
from langchain_ssd.drafts.default_pair import default_draft, default_target
from langchain_ssd.engine.loading import load_pair
from langchain_ssd.engine.pair import Pair

from .common import median_seconds


@lru_cache(maxsize=1)
def default_pair() -> Pair:
    """Loaded once per run, on all cores."""
    pair = load_pair(default_target(), default_draft(), EngineConfig(), lambda stage, fraction: None)
    gc.collect()
    gc.freeze()  # as the worker does
    return pair


@lru_cache(maxsize=1)
def plain_pair() -> Pair:
    """The same as transformers loads it, for peers."""
    return load_pair(default_target(), default_draft(), EngineConfig(prepack=False), lambda stage, part: None)


def one_token_forward(pair: Pair, streams: int = 1, cached: int = 200) -> float:
    """Median seconds of a forward of one token of each stream over ``cached`` tokens."""
    model = pair.target.model
    rows = [model.join() for _ in range(streams)]
    for row in rows:
        model.extend([[5] * cached], first_row=row, rows_wanted=False)

    def forward() -> None:
        model.extend([[7]] * streams, first_row=rows[0])
        for row in rows:
            model.rewind(row, cached)

    seconds = median_seconds(forward, runs=40)
    for row in reversed(rows):
        model.leave(row)
    return seconds
