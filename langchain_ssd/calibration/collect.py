"""Evidence along the target's own answers, for many prompts at once and without the engine.

In shadow mode the engine's output is the target's own greedy answer, so that answer can be had first, in big
batches, and both models then read the whole sequence in one pass each, without a cache. The rows are the same
ones that the engine would show its monitor; a test holds the two against each other.

Limit: with ``enforce=True`` the text leaves the target's path wherever the composite picks another token, and
for good once safety mode has begun. What is measured here is the path up to there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..decoding.composite import weigh
from ..decoding.evidence import Rows, on_device, rows
from ..decoding.monitor import Evidence
from ..decoding.verify import RowSettings, Scored, score
from ..drafts.batching import pack_batches, pad
from ..drafts.forward import has_plain_head, states_at
from ..drafts.generation import generate
from ..engine.pair import Pair, Side
from ..errors import NonFiniteLogits
from .traces import Label, Trace

ROWS_AT_ONCE = 64  # rows of the vocabulary held together
ALPHAS = (0.1, 0.2, 0.3, 0.5)
Report = Callable[[str, float], None]


class Answer(NamedTuple):
    """Ids after the prefill, without an end token, and whether an end token came next."""

    ids: tuple[int, ...]
    finished: bool


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt in both models' renderings, and what is already in the assistant's mouth."""

    target: tuple[int, ...]
    draft: tuple[int, ...]
    label: Label
    kind: str
    group: str
    prefill: tuple[int, ...] = ()

    def room(self, pair: Pair) -> int:
        """Tokens that both contexts still hold."""
        models = (pair.target.model, self.target), (pair.draft.model, self.draft)
        return min(m.max_positions - len(prompt) for m, prompt in models) - len(self.prefill)


@dataclass(slots=True)
class AlphaCounts:
    """How many tokens the composite leaves to the target, by the draft's weight in utility mode."""

    tokens: int = 0
    kept: dict[float, int] = field(default_factory=lambda: dict.fromkeys(ALPHAS, 0))

    def add(self, scored: Scored) -> None:
        """Count the rows of one batch."""
        space, best = scored.spaces.utility, scored.target.best
        self.tokens += len(best)
        for alpha in ALPHAS:
            mixed = weigh(space, alpha)
            own = mixed.ids.gather(1, mixed.best.unsqueeze(1))[:, 0] == best
            self.kept[alpha] += int((own | mixed.whole_target).sum())

    def shares(self) -> dict[float, float]:
        """The share of tokens that stay the target's own choice."""
        return {alpha: kept / max(1, self.tokens) for alpha, kept in self.kept.items()}


def answer(
    pair: Pair, requests: Sequence[Request], limits: Sequence[int], batch: int, report: Report, stage: str
) -> list[Answer]:
    """The target's greedy answers, as shadow mode gives them: any end token of either model ends them.

    Args:
        pair: whose target is asked.
        requests: each with room for at least one token.
        limits: longest answers in tokens.
        batch: answers that are decoded together.
        report: told how far it is.
        stage: what to call it.
    """
    prompts = [r.target + r.prefill for r in requests]
    capped = [min(n, r.room(pair)) for n, r in zip(limits, requests, strict=True)]
    found: dict[int, Answer] = {}
    asked = generate(pair.target.model, prompts, pair.end_ids, 0, batch=batch, limits=capped)
    for i, ids, finished in asked:
        found[i] = Answer(tuple(ids), finished)
        report(stage, len(found) / len(prompts))
    return [found[i] for i in range(len(prompts))]


@torch.inference_mode()
def collect(
    pair: Pair,
    requests: Sequence[Request],
    answers: Sequence[Answer],
    settings: RowSettings,
    *,
    budget: int = 2048,
    counts: AlphaCounts | None = None,
    report: Report = lambda stage, fraction: None,
) -> list[Trace]:
    """Read every sequence in both models and note the evidence of each position of the assistant's turn.

    The row that predicts an answer's end token belongs to it: the monitor sees that row as well.

    Args:
        pair: both models; their caches are not used.
        requests: the prompts.
        answers: what the target said to each.
        settings: what agreement is measured with.
        budget: positions of one forward pass, padding counted.
        counts: takes the benign rows' choices.
        report: told how far it is.
    """
    spans = [len(r.prefill) + len(a.ids) + a.finished for r, a in zip(requests, answers, strict=True)]
    lengths = [max(len(r.target), len(r.draft)) + n for r, n in zip(requests, spans, strict=True)]
    found: dict[int, Trace] = {}
    for packed in pack_batches(lengths, budget):
        items = [(requests[i], answers[i], spans[i]) for i in packed]
        for i, (request, _, _), evidence in zip(
            packed, items, _read(pair, items, settings, counts), strict=True
        ):
            trace = Trace(request.label, request.kind, request.group, len(request.prefill), tuple(evidence))
            found[i] = trace
        report("reading the answers in both models", len(found) / len(requests))
    return [found[i] for i in range(len(requests))]


_Item = tuple[Request, Answer, int]


def _read(
    pair: Pair, items: Sequence[_Item], settings: RowSettings, counts: AlphaCounts | None
) -> Iterator[list[Evidence]]:
    """The evidence of each sequence of one batch."""
    target = _Side(pair.target, [(r.target, r.prefill + a.ids, n) for r, a, n in items])
    draft = _Side(pair.draft, [(r.draft, r.prefill + a.ids, n) for r, a, n in items])
    precise = torch.float64 in (pair.target.model.dtype, pair.draft.model.dtype)
    dtype = torch.float64 if precise else torch.float32
    for at, (request, _, n) in enumerate(items):
        evidence: list[Evidence] = []
        for start in range(0, n, ROWS_AT_ONCE):
            part = slice(start, min(n, start + ROWS_AT_ONCE))
            M = target.rows(at, part, dtype)
            m = on_device(draft.rows(at, part, dtype), M.probs.device)
            positions = range(part.start, part.stop)
            scored = score(M, m, None, [settings] * len(M.probs), positions, refusal_ids=pair.refusal_ids)
            evidence += scored.evidence
            if counts is not None and request.label == "benign":
                counts.add(scored)
        yield evidence


class _Side:
    """One model over a batch: its last states at once, the logits of a few rows when they are asked for."""

    def __init__(self, side: Side, sequences: Sequence[tuple[Sequence[int], Sequence[int], int]]) -> None:
        model: Any = side.model.model
        self._side, self._model = side, model
        # The last id of an unfinished answer predicts nothing that is scored; no earlier row looks at it.
        self._ids = pad([[*prompt, *turn] for prompt, turn, _ in sequences]).ids.to(side.model.device)
        self._spans = [(len(prompt) - 1, len(prompt) - 1 + n) for prompt, _, n in sequences]
        self._head = model.get_output_embeddings() if has_plain_head(model) else None
        self._states: Sequence[Tensor] = ()
        if self._head is not None:
            counts = [end - start for start, end in self._spans]
            self._states = torch.split(states_at(model, self._ids, self._spans), counts)  # (n, D) each
        self._logits: tuple[int, Tensor] | None = None

    def rows(self, at: int, part: slice, dtype: torch.dtype) -> Rows:
        """Some rows of one sequence."""
        logits: Tensor = self._all(at)[part] if self._head is None else self._head(self._states[at][part])
        made = rows(logits[:, : self._side.model.vocab_size].to(dtype))
        if not bool(made.finite.all()):
            raise NonFiniteLogits(f"{self._side.name} gave no finite probability; load it in a wider dtype")
        return made

    def _all(self, at: int) -> Tensor:
        """All logits of one sequence, for models that do more to them than multiply; one is kept."""
        if self._logits is None or self._logits[0] != at:
            self._logits = None  # two of them together would be too many
            logits = self._model(input_ids=self._ids[at : at + 1], use_cache=False).logits
            self._logits = at, logits[0, slice(*self._spans[at])]
        return self._logits[1]
