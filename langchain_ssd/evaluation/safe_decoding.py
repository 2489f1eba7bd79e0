"""SafeDecoding, as a system to compare with: an expert steers the first tokens of an answer, then leaves.

For the first ``m`` tokens the next token is the best, among the smallest two top-k sets that share ``c``
tokens, by ``p + alpha (p_expert - p)``; after them the target goes on alone.  Values as published: m = 2,
c = 5, alpha = 3.  The draft is the expert here; in the paper the expert is the target's size.

Source: Xu et al., "SafeDecoding: Defending against Jailbreak Attacks via Safety-Aware Decoding", ACL 2024,
section 4; the implementation is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..drafts.generation import generate
from ..engine.models import CachedModel
from ..engine.pair import Pair
from .cases import Case
from .records import Record
from .systems import System, plain_record, rendered

FIRST, COMMON, ALPHA = 2, 5, 3.0


class SafeDecoding(System):
    """The target with its first tokens steered by the draft.

    Args:
        pair: the target, and the draft as the expert.
        limit: tokens of an answer.
        batch: answers written together.
    """

    name, label = "safedecoding", "SafeDecoding"
    note = f"the draft as the expert over the first {FIRST} tokens, alpha {ALPHA:g}, c {COMMON}"

    def __init__(self, pair: Pair, limit: int, batch: int) -> None:
        self._pair, self._limit, self._batch = pair, limit, batch

    def answer(self, cases: Sequence[Case]) -> Iterator[Record]:
        """As :meth:`System.answer`."""
        target = self._pair.target
        begun = [self._first(case) for case in cases]
        ended = [bool(ids) and ids[-1] in target.end_ids for ids in begun]
        going = [i for i, end in enumerate(ended) if not end]
        for i, end in enumerate(ended):
            if end:
                yield plain_record(target, cases[i].key, self.name, begun[i][:-1], True)
        prompts = [rendered(target, cases[i]) + begun[i] for i in going]
        limits = [max(1, self._limit + cases[i].extra_tokens - FIRST) for i in going]
        for n, ids, finished in generate(
            target.model, prompts, target.end_ids, max(limits, default=1), batch=self._batch, limits=limits
        ):
            i = going[n]
            yield plain_record(target, cases[i].key, self.name, begun[i] + ids, finished)

    def _first(self, case: Case) -> list[int]:
        """The steered tokens; they end early with an end of turn."""
        sides = (self._pair.target, self._pair.draft)
        new = [rendered(side, case) for side in sides]
        rows = [side.model.join() for side in sides]
        said: list[int] = []
        try:
            for _ in range(FIRST):
                target, expert = (_last(s.model, r, ids) for s, r, ids in zip(sides, rows, new, strict=True))
                said.append(steer(target, expert))
                new = [[said[-1]], [said[-1]]]
                if said[-1] in sides[0].end_ids:
                    break
        finally:
            for side, row in zip(sides, rows, strict=True):
                side.model.leave(row)
        return said


def _last(model: CachedModel, row: int, ids: Sequence[int]) -> Tensor:
    """The logits ``(V,)`` behind new tokens."""
    if len(ids) > 1:
        model.extend([list(ids[:-1])], first_row=row, rows_wanted=False)
    return model.extend([[ids[-1]]], first_row=row)[0]


def steer(target: Tensor, expert: Tensor, common: int = COMMON, alpha: float = ALPHA) -> int:
    """The next token by SafeDecoding's rule, from two rows of logits ``(V,)``."""
    p, q = target.float().softmax(dim=-1).cpu(), expert.float().softmax(dim=-1).cpu()
    space = shared_top(p, q, common)  # (W,)
    steered = p[space] + alpha * (q[space] - p[space])
    return int(space[int(steered.argmax())])


def shared_top(p: Tensor, q: Tensor, common: int) -> Tensor:
    """Ids, ascending, in both top-k sets for the smallest k at which these share ``common`` tokens."""
    ranks = torch.stack([_ranks(p), _ranks(q)]).amax(dim=0)  # (V,): the worse of the two
    k = ranks.sort().values[min(common, len(ranks)) - 1]
    return (ranks <= k).nonzero()[:, 0]


def _ranks(values: Tensor) -> Tensor:
    """The place of each value in descending order; the lower id comes first among equals."""
    order = values.sort(descending=True, stable=True).indices
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order))
    return ranks
