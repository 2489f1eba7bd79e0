"""How much one key may use: a bucket that refills by the minute. No clock of its own."""

from __future__ import annotations

import math


class Bucket:
    """Holds a minute's allowance and refills evenly; may be overdrawn by what was not known before.

    Args:
        per_minute: the allowance.
        now: the present instant.
    """

    def __init__(self, per_minute: int, now: float) -> None:
        self._size = float(per_minute)
        self._rate = per_minute / 60.0
        self._level = self._size
        self._seen = now

    def wait(self, needed: float, now: float) -> int:
        """Whole seconds until ``needed`` is there; 0 if it is."""
        self._refill(now)
        return max(0, math.ceil((needed - self._level) / self._rate))

    def take(self, amount: float, now: float) -> None:
        """Use some of it."""
        self._refill(now)
        self._level -= amount

    def _refill(self, now: float) -> None:
        self._level = min(self._size, self._level + (now - self._seen) * self._rate)
        self._seen = max(self._seen, now)
