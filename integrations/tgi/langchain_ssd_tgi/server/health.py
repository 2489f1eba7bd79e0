"""Is the pair well? Two tiers: progress while it works, a real token when it is idle. Never a guess.

A check adds no work to a busy engine.  An idle one has to prove itself at most once an interval, and at once
after a failure; any number of callers share one proof.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

from langchain_ssd.backend import Backend, ChatMessage, ChatRequest, Health
from langchain_ssd.config import RefusalPolicy, Sampling, SSDConfig
from langchain_ssd.errors import InvalidRequest, Overloaded, SSDError
from langchain_ssd.streaming import arun

from .problems import Problem
from .settings import ServerConfig

_PROOF = ChatRequest(
    (ChatMessage("user", "Hi"),),
    sampling=Sampling(max_tokens=1),
    safety=SSDConfig(enforce=False, hold_back="none"),
    refusal=RefusalPolicy(enabled=False),
)


class HealthCheck:
    """Judges one backend.

    Args:
        backend: which.
        config: the intervals.
        in_flight: requests that the server has accepted, which are no proofs of ours.
    """

    def __init__(self, backend: Backend, config: ServerConfig, in_flight: Callable[[], int]) -> None:
        self._backend = backend
        self._config = config
        self._in_flight = in_flight
        self._proved = float("-inf")  # when something last came out of the engine
        self._failed = False  # whether the last thing that came out of it was an error of its own
        self._proof: asyncio.Task[str | None] | None = None
        self.closing = False

    def succeeded(self) -> None:
        """A token came out of the engine."""
        self._proved, self._failed = time.monotonic(), False

    def failed(self) -> None:
        """The engine, not the request, was at fault."""
        self._failed = True

    async def check(self) -> None:
        """Return if the pair is well.

        Raises:
            Problem: it is not, and why.
        """
        if self.closing:
            raise _unwell("the server is shutting down")
        health = self._backend.health()
        if health.state == "loading":
            raise _unwell("the pair is loading")
        if self._moves(health):
            return
        if self._busy(health):
            raise _unwell("the engine makes no progress")
        await self._prove()

    def _busy(self, health: Health) -> bool:
        """Whether others have given it work; a proof of ours is no proof of progress."""
        proofs = 0 if self._proof is None or self._proof.done() else 1
        others = max(self._in_flight(), health.running + health.queued - proofs)
        return health.state == "ready" and others > 0

    def _moves(self, health: Health) -> bool:
        """Whether it is well beyond doubt, without asking it anything."""
        if health.state != "ready" or health.stalled > self._config.health_stall:
            return False
        recent = time.monotonic() - self._proved < self._config.health_interval
        return self._busy(health) or (recent and not self._failed)

    async def _prove(self) -> None:
        if self._proof is None or self._proof.done():
            self._proof = asyncio.create_task(self._one_token())
        done, _ = await asyncio.wait({self._proof}, timeout=self._config.health_timeout)
        if done:
            why = self._proof.result()
        elif self._moves(self._backend.health()):
            why = None
        else:
            why = f"the engine gave no token within {self._config.health_timeout:g} s"
        if why is not None:
            raise _unwell(why)

    async def _one_token(self) -> str | None:
        """Why there is none, if there is none."""
        try:
            async with aclosing(arun(self._backend, _PROOF, 0)) as events:
                async for _ in events:
                    pass
        except Overloaded:
            return None  # so much work has come meanwhile that progress will tell
        except InvalidRequest:
            pass  # the engine reads and judges; a template may refuse this prompt
        except SSDError as error:
            self.failed()
            return error.message
        self.succeeded()
        return None

    async def close(self) -> None:
        """End a proof that is running."""
        self.closing = True
        if self._proof is not None:
            self._proof.cancel()
            await asyncio.gather(self._proof, return_exceptions=True)


def _unwell(why: str) -> Problem:
    return Problem(503, "healthcheck", f"unhealthy: {why}", code="unhealthy")
