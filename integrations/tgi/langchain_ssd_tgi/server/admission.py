"""Who may run now: places in flight, per key and in all, and quotas. A refusal leaves nothing behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from .problems import Problem, shutting_down
from .quotas import Bucket
from .settings import ApiKey, ServerConfig

_OVERLOADED = "overloaded"


class Admission:
    """Places and quotas.

    Args:
        config: the limits.
        clock: seconds that never go back.
    """

    def __init__(self, config: ServerConfig, clock: Callable[[], float]) -> None:
        self._limit = config.max_concurrent_requests
        self._clock = clock
        self._busy: Counter[str] = Counter()
        now = clock()
        self._requests = {
            k.name: Bucket(k.requests_per_minute, now) for k in config.keys if k.requests_per_minute
        }
        self._tokens = {k.name: Bucket(k.tokens_per_minute, now) for k in config.keys if k.tokens_per_minute}
        self.closing = False

    @property
    def running(self) -> int:
        """Places that are taken."""
        return self._busy.total()

    def enter(self, key: ApiKey | None) -> None:
        """Take a place.

        Raises:
            Problem: there is none, or the key has used its quota; nothing was taken.
        """
        if self.closing:
            raise shutting_down()
        if self.running >= self._limit:
            raise Problem(429, _OVERLOADED, "Model is overloaded")
        if key is not None:
            self._check(key)
            if key.name in self._requests:
                self._requests[key.name].take(1, self._clock())
        self._busy[_name(key)] += 1

    def leave(self, key: ApiKey | None, tokens: int) -> None:
        """Give the place back, and charge what was used."""
        name = _name(key)
        self._busy[name] -= 1
        if not self._busy[name]:
            del self._busy[name]
        if name in self._tokens:
            self._tokens[name].take(tokens, self._clock())

    def _check(self, key: ApiKey) -> None:
        if key.max_concurrent is not None and self._busy[key.name] >= key.max_concurrent:
            raise Problem(429, _OVERLOADED, "this key has as many requests in flight as it may")
        now = self._clock()
        waits = [
            bucket[key.name].wait(1, now) for bucket in (self._requests, self._tokens) if key.name in bucket
        ]
        if max(waits, default=0) > 0:
            raise Problem(
                429, _OVERLOADED, "this key has used its quota; try again later", retry_after=max(waits)
            )


def _name(key: ApiKey | None) -> str:
    return "" if key is None else key.name
