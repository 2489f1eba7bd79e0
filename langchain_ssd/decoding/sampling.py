"""Temperature, top-k, top-p, and draws whose randomness is a function of where they happen.

Every draw uses a number keyed by (request seed, position, purpose). A proposal that is thrown away
never influenced an earlier coin, so the law of the output stays exact, and a sampled run is the same
whatever the block size, the batch or the cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .ranking import top

Purpose = Literal["propose", "accept", "residual"]
_FIRST_TOP = 256
_BLOCK = 64
_COLDEST = 1e30  # greatest 1/T: 0 times it is 0, so that the argmax keeps its mass


@dataclass(frozen=True, slots=True)
class SamplingRule:
    """How a distribution is sharpened before a draw. Temperature 0 is the argmax."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0

    @property
    def greedy(self) -> bool:
        """Whether the draw is the argmax."""
        return self.temperature == 0.0

    @property
    def filters(self) -> bool:
        """Whether top-k or top-p can remove anything."""
        return self.top_k is not None or self.top_p < 1.0


def keyed_uniform(seed: int, position: int, purpose: Purpose) -> float:
    """A number in [0, 1) that depends on nothing but its three keys (53 bits of BLAKE2b)."""
    key = f"{seed}:{position}:{purpose}".encode()
    return (int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 11) * 2.0**-53


def sharpen(p: Tensor, rules: Sequence[SamplingRule]) -> Tensor:
    """``p`` raised to ``1/T``, then top-k, then top-p, renormalised after each; row by row.

    Greedy rows are left as they are: their draw is the argmax, which no sharpening moves.

    Args:
        p: ``(R, W)`` probabilities, whole rows or sample spaces with ids ascending.
        rules: one per row.
    """
    warm = [i for i, r in enumerate(rules) if not r.greedy and r.temperature != 1.0]
    cut = [i for i, r in enumerate(rules) if not r.greedy and r.filters]
    if not warm and not cut:
        return p
    p = p.clone()  # rows that nothing is asked of keep their bits
    if warm:
        colds = [[min(1 / rules[i].temperature, _COLDEST)] for i in warm]
        inverse = torch.tensor(colds, dtype=p.dtype, device=p.device)  # (R, 1)
        logs = p[warm].log()  # log(0) = -inf stays without mass
        logs -= logs.amax(dim=1, keepdim=True)
        p[warm] = (logs * inverse).softmax(dim=1)
    if cut:
        p[cut] = _filter(p[cut], [rules[i] for i in cut])
    return p


def _filter(p: Tensor, rules: Sequence[SamplingRule]) -> Tensor:
    """Keep the top-k, then the smallest set of them with at least ``top_p`` of their mass."""
    W = p.shape[1]
    ks = [min(r.top_k or W, W) for r in rules]
    top_k = torch.tensor(ks, device=p.device).unsqueeze(1)  # (R, 1)
    top_p = torch.tensor([r.top_p for r in rules], dtype=torch.float64, device=p.device).unsqueeze(1)
    K = min(W, max(_FIRST_TOP, *(k for k in ks if k < W), 1))  # every top-k lies within
    while True:
        values, at = top(p, K)  # (R, K), greatest first
        values = values.double().masked_fill(torch.arange(K, device=p.device) >= top_k, 0.0)
        mass = torch.where(top_k < W, values.sum(dim=1, keepdim=True), 1.0)  # (R, 1): what top-k left
        before = values.cumsum(dim=1) - values  # (R, K): mass ahead of each entry
        keep = ((before < top_p * mass) | (top_p == 1.0)) & (values > 0)
        if K == W or not bool((keep[:, -1:] & (top_k > K)).any()):
            break
        K = min(W, 2 * K)
    kept = torch.zeros_like(p).scatter_(1, at, values.to(p.dtype) * keep)
    return kept / kept.sum(dim=1, keepdim=True)


def draw(p: Tensor, u: float) -> int:
    """Inverse CDF in id order over one row ``(V,)``; ``p`` need not be normalised.

    Two levels, so that a row of 50,000 entries costs one pass and two short cumulative sums.
    """
    V = p.shape[0]
    pad = -V % _BLOCK
    blocks = torch.nn.functional.pad(p, (0, pad)).view(-1, _BLOCK)
    sums = blocks.sum(dim=1, dtype=torch.float64).cumsum(0)  # (V / 64,)
    goal = u * float(sums[-1])
    b = min(int(torch.searchsorted(sums, goal, right=True)), len(sums) - 1)
    inside = blocks[b].double().cumsum(0) + (sums[b - 1] if b else 0.0)
    x = b * _BLOCK + int(torch.searchsorted(inside, goal, right=True).clamp_max(_BLOCK - 1))
    # Rounding may point past the last entry with mass, or at padding: step back to one that has some.
    return x if x < V and p[x] > 0 else int(p[: min(x, V - 1) + 1].nonzero()[-1])


def draw_index(weights: Sequence[float], u: float) -> int:
    """Inverse CDF over a short list, in the order given; weights need not be normalised."""
    goal, reached, last = u * sum(weights), 0.0, 0
    for index, weight in enumerate(weights):
        if weight > 0:
            reached += weight
            last = index
            if reached > goal:
                break
    return last
