"""Repetition, presence and frequency penalties and logit bias, the same for both models.

They act on logits before the composite, so that both rows have gone through the same processing.
Repetition counts the target's prompt and the answer; presence and frequency count the answer alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..config import Sampling


class Penalties:
    """The processing one request asks for, and the counts it depends on."""

    def __init__(self, sampling: Sampling, prompt: Iterable[int], answer: Iterable[int], vocab: int) -> None:
        self._repetition = sampling.repetition_penalty
        self._presence = sampling.presence_penalty
        self._frequency = sampling.frequency_penalty
        self._bias = {token: bias for token, bias in sampling.logit_bias.items() if token < vocab}
        self.active = bool(
            self._repetition != 1.0 or self._presence or self._frequency or any(self._bias.values())
        )
        self._prompt = set(prompt) if self._repetition != 1.0 else set()
        self._answer = Counter(answer) if self.active else Counter()

    def add(self, token: int) -> None:
        """Count one more token of the answer."""
        if self.active:
            self._answer[token] += 1

    def apply_(self, out: Tensor, ahead: Sequence[int]) -> None:
        """Process one row ``(V,)`` in place, as if the tokens ``ahead`` had been emitted too."""
        if not self.active:
            return
        counts = self._answer + Counter(ahead)
        if self._repetition != 1.0:
            at = torch.tensor(sorted(self._prompt | counts.keys()), dtype=torch.long, device=out.device)
            seen = out[at]
            out[at] = torch.where(seen > 0, seen / self._repetition, seen * self._repetition)
        if counts and (self._presence or self._frequency):
            at = torch.tensor(list(counts), dtype=torch.long, device=out.device)
            times = torch.tensor(list(counts.values()), dtype=out.dtype, device=out.device)
            out[at] -= self._presence + self._frequency * times
        if self._bias:
            at = torch.tensor(list(self._bias), dtype=torch.long, device=out.device)
            out[at] += torch.tensor(list(self._bias.values()), dtype=out.dtype, device=out.device)
