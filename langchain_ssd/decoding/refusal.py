"""Verdicts → stop or go on (algorithm, section 4). Pure Python."""

from __future__ import annotations

from dataclasses import dataclass

from .monitor import BinVerdict


@dataclass(slots=True)
class RefusalRule:
    """The paper monitor's fallback: ``patience`` low bins in a row that ran in safety.

    A bin counts when it ran in safety, argues for safety, and its match ratio is below
    ``refuse_below``; any other bin starts the count again (hole 8 of the published monitor).
    """

    patience: int = 2
    refuse_below: float = 0.3
    _low: int = 0

    def refuses(self, verdict: BinVerdict) -> bool:
        """Whether generation ends with this bin."""
        low = verdict.mode == verdict.verdict == "safety" and verdict.match_ratio < self.refuse_below
        self._low = self._low + 1 if low else 0
        return self._low >= self.patience
