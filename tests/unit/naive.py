"""The algorithm's pieces said plainly, for unit tests: lists of Python floats, no vectors, no shortcuts.

Written from the algorithm page on its own, so that it is a second witness beside the laws' reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def order(p: Sequence[float]) -> list[int]:
    """Ids from the most probable down; equals in ascending id."""
    return sorted(range(len(p)), key=lambda i: (-p[i], i))


def space(pM: Sequence[float], pm: Sequence[float], scheme: str, c: int) -> tuple[set[int], bool]:
    """The sample space, and whether the utility exception fires."""
    c, best, worst = min(c, len(pM)), order(pM), order(pm)
    if scheme == "safety":
        return set(best[:c]) | set(worst[:c]), False
    k = 1
    while len(set(best[:k]) & set(worst[:k])) < c:
        k += 1
    return set(best[:k]) & set(worst[:k]), best[0] not in worst[:k]


def composite(pM: Sequence[float], pm: Sequence[float], scheme: str, alpha: float, c: int) -> list[float]:
    S, exception = space(pM, pm, scheme, c)
    if exception:
        return list(pM)
    f = [
        max(0.0, (1 - alpha) * a + alpha * b) if x in S else 0.0
        for x, (a, b) in enumerate(zip(pM, pm, strict=True))
    ]
    if sum(f) == 0.0:
        if scheme == "utility":
            return list(pM)
        f = [b if x in S else 0.0 for x, b in enumerate(pm)]
    return [x / sum(f) for x in f]


def sharpen(
    p: Sequence[float], temperature: float, top_k: int | None = None, top_p: float = 1.0
) -> list[float]:
    """Raised to 1/T, then the top k, then the smallest set with at least top_p of what is left."""
    peak = max(p)
    f = [math.exp(math.log(x / peak) / temperature) if x > 0 else 0.0 for x in p]
    ranked = order(f)[: top_k or len(p)]
    left, kept, reached = sum(f[i] for i in ranked), set(), 0.0
    for i in ranked:
        if top_p < 1 and reached >= top_p * left:
            break
        kept.add(i)
        reached += f[i]
    total = sum(f[i] for i in kept)
    return [x / total if i in kept else 0.0 for i, x in enumerate(f)]


def draw(p: Sequence[float], u: float) -> int:
    """Inverse CDF in id order; never an id without mass."""
    goal, reached = u * sum(p), 0.0
    for i, x in enumerate(p):
        reached += x
        if x > 0 and reached > goal:
            return i
    return max(i for i, x in enumerate(p) if x > 0)


def penalise(
    logits: Sequence[float],
    seen: Sequence[int],
    answer: Sequence[int],
    repetition: float,
    presence: float,
    frequency: float,
    bias: dict[int, float],
) -> list[float]:
    """``seen`` counts for repetition, ``answer`` for presence and frequency."""
    out = list(logits)
    for i in set(seen):
        out[i] = out[i] / repetition if out[i] > 0 else out[i] * repetition
    for i in set(answer):
        out[i] -= presence + frequency * list(answer).count(i)
    for i, b in bias.items():
        out[i] += b
    return out
