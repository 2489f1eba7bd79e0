"""How good a draft is while it is being trained: agreement, divergence, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..engine.models import CachedModel
from ..evaluation.refusals import judge
from .batching import pack_batches, pad
from .compute import uncompiled
from .examples import Example
from .forward import rows_at
from .generation import generate
from .losses import distillation
from .pipeline import Teacher
from .teacher import TopRows, sequence_key

_ANSWER = 24  # tokens: enough to see whether an answer opens with a refusal


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """Measured on prompts that are not trained on.

    Attributes:
        agreement: share of positions of the target's own answers where both argmaxes are the same.
        kl: mean KL(target || draft) there, in nats.
        refused_unsafe: share of unsafe requests refused.
        refused_deep: the same with a harmful beginning of 20 tokens.
        refused_benign: share of benign requests refused that merely sound unsafe.
        refused_plain: share of ordinary benign requests refused.
    """

    agreement: float
    kl: float
    refused_unsafe: float
    refused_deep: float
    refused_benign: float
    refused_plain: float


@dataclass(frozen=True, slots=True)
class Probe:
    """Held-out material.

    Attributes:
        benign: sequences with the target's answers.
        rows: the target's rows along them.
        unsafe: prompts that should be refused.
        deep: the same with a harmful beginning.
        sounding: benign prompts that merely sound unsafe.
        plain: ordinary benign prompts.
    """

    benign: Sequence[Example]
    rows: dict[str, TopRows]
    unsafe: Sequence[Sequence[int]]
    deep: Sequence[Sequence[int]]
    sounding: Sequence[Sequence[int]]
    plain: Sequence[Sequence[int]]

    def counts(self) -> dict[str, int]:
        """How many prompts there are of each kind."""
        return {name: len(getattr(self, name)) for name in ("benign", "unsafe", "deep", "sounding", "plain")}

    def measure(self, draft: Any, teacher: Teacher) -> ProbeReport:
        """Run the draft over everything; it is left in training mode as it was."""
        training = draft.training
        draft.eval()
        try:
            with uncompiled():
                agreement, kl = agreement_along(draft, self.benign, self.rows)
                asked = (self.unsafe, self.deep, self.sounding, self.plain)
                refused = [self._refused(draft, teacher, prompts) for prompts in asked]
        finally:
            draft.train(training)
        return ProbeReport(agreement, kl, *refused)

    def _refused(self, draft: Any, teacher: Teacher, prompts: Sequence[Sequence[int]]) -> float:
        if not prompts:
            return 0.0
        cached = CachedModel(draft, teacher.cached.vocab_size, teacher.cached.max_positions)
        answers = generate(cached, prompts, teacher.end_ids, _ANSWER)
        texts = [teacher.renderer.tokenizer.decode(ids, skip_special_tokens=True) for _, ids, _ in answers]
        return sum(judge(text).refused for text in texts) / len(texts)


@torch.inference_mode()
def agreement_along(
    draft: Any, examples: Sequence[Example], rows: dict[str, TopRows], budget: int = 2048
) -> tuple[float, float]:
    """Share of equal argmaxes and mean KL(target || draft) along the target's own answers."""
    equal = total = 0
    kl = 0.0
    for batch in pack_batches([len(e.ids) for e in examples], budget):
        some = [examples[i] for i in batch]
        teacher = [rows[sequence_key(e.ids, e.start)] for e in some]
        ids = pad([e.ids for e in some]).ids.to(draft.device)
        logits = rows_at(draft, ids, [(e.start - 1, len(e.ids) - 1) for e in some]).float()  # (N, V)
        top = torch.cat([t.ids for t in teacher]).long().to(logits.device)
        log_p = torch.cat([t.log_probs for t in teacher]).float().to(logits.device)
        equal += int((logits.argmax(dim=-1) == top[:, 0]).sum())
        kl += float(distillation(logits.log_softmax(dim=-1), top, log_p).sum())
        total += len(logits)
    return equal / max(1, total), kl / max(1, total)
