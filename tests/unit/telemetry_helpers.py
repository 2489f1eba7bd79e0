"""A scripted response with every event, every way to call a model, and words that must not get out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from langchain_ssd import ChatSSD
from langchain_ssd.events import (
    BinScored,
    Event,
    Finished,
    ModeChanged,
    PrefillScored,
    Refused,
    Summary,
    Token,
)
from langchain_ssd.testing import ScriptedBackend

MARKER = "xyzzy-secret"
SUMMARY = Summary(
    monitor="sequential",
    emitted=5,
    scored=4,
    agreeing=2,
    match_ratio=0.5,
    drafted=6,
    accepted=4,
    acceptance_rate=4 / 6,
    mode_changes=1,
    safety_tokens=2,
    final_mode="safety",
    statistic=5.0,
    max_statistic=6.0,
    time_to_first_token=0.3,
    queue_seconds=0.02,
    seconds=1.5,
)
REFUSED: list[Event] = [
    PrefillScored(3, 0.5, 2.0, "utility"),
    Token(0, 0, MARKER, mode="utility"),
    BinScored(0, 0.4, 0.4, None, "utility", "safety"),
    ModeChanged(1, "safety", 5.0),
    Token(1, 1, " answer", mode="safety"),
    Refused(2, "evidence", text=f"No. {MARKER}"),
    Finished("refusal", 0, 5, summary=SUMMARY),
]
"""Written as the backend sends it; the scripted backend puts in how many tokens the prompt has."""


def model(*scripts: Any, **settings: Any) -> ChatSSD:
    return ChatSSD(backend=ScriptedBackend(*(scripts or (REFUSED,))), max_retries=0, **settings)


async def _astream(runnable: Any, asked: Any, config: Any) -> None:
    async for _ in runnable.astream(asked, config):
        pass


async def _aevents(runnable: Any, asked: Any, config: Any) -> None:
    async for _ in runnable.astream_events(asked, config, version="v2"):
        pass


Way = Callable[[Any, Any, Any], Any]
WAYS: dict[str, Way] = {
    "invoke": lambda r, asked, config: r.invoke(asked, config),
    "ainvoke": lambda r, asked, config: asyncio.run(r.ainvoke(asked, config)),
    "stream": lambda r, asked, config: list(r.stream(asked, config)),
    "astream": lambda r, asked, config: asyncio.run(_astream(r, asked, config)),
    "batch": lambda r, asked, config: r.batch([asked], config),
    "abatch": lambda r, asked, config: asyncio.run(r.abatch([asked], config)),
    "astream_events": lambda r, asked, config: asyncio.run(_aevents(r, asked, config)),
}
