"""How many tokens to propose: the number that gives the most tokens per second on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

import torch

from ..engine.models import CachedModel
from ..engine.pair import Pair

BLOCK_SIZES = range(1, 9)
_PREFIX, _TRIES = 64, 5


def tokens_per_pass(acceptance: float, block_size: int) -> float:
    """Expected tokens of one block, the bonus token counted, if proposals are accepted independently.

    ``(1 - a^(g+1)) / (1 - a)``: Leviathan et al., "Fast Inference from Transformers via Speculative
    Decoding", ICML 2023.
    """
    return sum(acceptance**i for i in range(block_size + 1))


def choose_block_size(acceptance: float, draft_cost: float, verify_cost: float | Sequence[float]) -> int:
    """The block size from 1 to 8 with the most expected tokens per second; the smaller among equals.

    Args:
        acceptance: share of proposals that are accepted.
        draft_cost: seconds of the draft for one token.
        verify_cost: seconds of the target's pass; one number, or one for each block size from 1 on.
    """

    def rate(g: int) -> float:
        verify = verify_cost if isinstance(verify_cost, float | int) else verify_cost[g - 1]
        return tokens_per_pass(acceptance, g) / (g * draft_cost + verify)

    return max(BLOCK_SIZES, key=lambda g: (rate(g), -g))


def pass_times(pair: Pair) -> tuple[float, list[float]]:
    """Seconds of the draft for one token, and of the target for each block size, behind a short prefix."""
    draft = _seconds(pair.draft.model, [1])[0]
    return draft, _seconds(pair.target.model, list(BLOCK_SIZES))


def _seconds(model: CachedModel, widths: Sequence[int]) -> list[float]:
    row = model.join()
    try:
        prefix = min(_PREFIX, model.max_positions - max(widths) - 1)
        model.extend([[i % model.vocab_size for i in range(prefix)]], first_row=row, rows_wanted=False)
        return [_median(lambda n=n: _pass(model, row, prefix, n), model) for n in widths]  # type: ignore[misc]
    finally:
        model.leave(row)


def _pass(model: CachedModel, row: int, prefix: int, tokens: int) -> None:
    model.extend([[1] * tokens], first_row=row)
    model.rewind(row, prefix)


def _median(work: Callable[[], None], model: CachedModel) -> float:
    work()  # the first one allocates
    times = []
    for _ in range(_TRIES):
        begun = time.perf_counter()
        work()
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        times.append(time.perf_counter() - begun)
    return median(times)
