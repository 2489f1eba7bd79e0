"""When is a worker lost? Pure arithmetic on instants that the caller supplies: no clock, no threads."""

from __future__ import annotations

from ..config import EngineConfig
from ..errors import StartupTimeout, WorkerDied, WorkerError


class Watchdog:
    """Judges one worker from the frames it sends.

    Before it is ready only ``start_timeout`` counts: loading holds the interpreter for long stretches, so
    silence means nothing then.  Afterwards a worker is lost when it sends nothing for ``heartbeat_timeout``,
    or when it says it is busy and makes no step for ``stall_timeout``.
    """

    def __init__(self, config: EngineConfig, now: float) -> None:
        self._config = config
        self._started = now
        self._ready = False
        self._heard = now
        self._progressed = now
        self._busy = False
        self._steps = -1
        self._checked = now

    @property
    def interval(self) -> float:
        """Seconds between two checks that see every limit in time."""
        limits = (self._config.start_timeout, self._config.heartbeat_timeout, self._config.stall_timeout)
        return min(0.5, min(limits) / 4)

    def ready(self, now: float) -> None:
        """The worker has loaded the pair."""
        self._ready = True
        self._heard = self._progressed = now

    def heard(self, now: float) -> None:
        """Some frame arrived."""
        self._heard = now

    def beat(self, steps: int, busy: bool, now: float) -> None:
        """A beat arrived; work that begins, ends or moves is progress."""
        if steps != self._steps or busy != self._busy or not busy:
            self._progressed = now
        self._steps, self._busy = steps, busy

    def stalled(self, now: float) -> float:
        """Seconds without a sign of life, or without a step while there is work."""
        if not self._ready:
            return 0.0
        return max(now - self._heard, now - self._progressed if self._busy else 0.0)

    def check(self, now: float) -> WorkerError | None:
        """Why the worker is lost, if it is. Call it every :attr:`interval` seconds."""
        self._forgive_own_sleep(now)
        config = self._config
        if not self._ready:
            if now - self._started > config.start_timeout:
                return StartupTimeout(
                    f"the worker was not ready within EngineConfig.start_timeout={config.start_timeout:g} s; "
                    "raise it, or set LANGCHAIN_SSD_WORKER_LOG to a file and look there"
                )
        elif now - self._heard > config.heartbeat_timeout:
            return WorkerDied(
                f"the worker hung: nothing heard for EngineConfig.heartbeat_timeout="
                f"{config.heartbeat_timeout:g} s; it was stopped, try again"
            )
        elif self._busy and now - self._progressed > config.stall_timeout:
            return WorkerDied(
                f"the worker hung: no step within EngineConfig.stall_timeout={config.stall_timeout:g} s; "
                "it was stopped, try again"
            )
        return None

    def _forgive_own_sleep(self, now: float) -> None:
        """If this process itself was stopped or suspended, that time is not the worker's fault."""
        slept = now - self._checked - self.interval
        if slept > 2 * self.interval:
            self._started += slept
            self._heard = min(now, self._heard + slept)
            self._progressed = min(now, self._progressed + slept)
        self._checked = now
