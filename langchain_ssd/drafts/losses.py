"""What a draft learns from: the target's distributions on benign text, plain labels on refusals.

The output matrix is most of a small draft's work. Its rows are therefore taken for a sample of the
vocabulary: every token that some row of the batch is about, and a random draw of the others, weighted so that
the softmax's denominator stays unbiased (sampled softmax; Bengio and Senecal 2008).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

_SMALL = 1e-6


class Vocabulary(NamedTuple):
    """The tokens that a batch is scored over.

    Attributes:
        ids: ``(S,)`` token ids, ascending; those that matter and those drawn at random.
        log_weight: ``(S,)`` what to add to a logit: 0, or the log of how many tokens a drawn one stands for.
    """

    ids: Tensor
    log_weight: Tensor

    def places(self, tokens: Tensor) -> Tensor:
        """Where tokens stand in ``ids``; each must be there."""
        return torch.searchsorted(self.ids, tokens)


def sample_vocabulary(wanted: Tensor, size: int, drawn: int, generator: torch.Generator) -> Vocabulary:
    """All wanted tokens and ``drawn`` others.

    Args:
        wanted: token ids of any shape.
        size: of the whole vocabulary.
        drawn: how many of the others to draw; if no more are left, all are taken and nothing is weighted.
        generator: makes the draw repeatable.
    """
    matters = torch.zeros(size, dtype=torch.bool)
    matters[wanted.reshape(-1)] = True
    others = (~matters).nonzero()[:, 0]
    if len(others) > drawn:
        others = others[torch.randperm(len(others), generator=generator)[:drawn]]
    ids = torch.cat([matters.nonzero()[:, 0], others]).sort().values
    weight = (size - int(matters.sum())) / max(1, len(others))
    log_weight = torch.where(matters[ids], 0.0, math.log(max(1.0, weight)))
    return Vocabulary(ids, log_weight)


def log_probs(states: Tensor, head: Tensor, vocabulary: Vocabulary) -> Tensor:
    """``(N, S)`` log-probabilities of hidden states ``(N, D)`` under an output matrix ``(V, D)``."""
    logits = linear(states, head[vocabulary.ids.to(head.device)]).float()  # (N, S)
    log_z = (logits + vocabulary.log_weight.to(logits.device)).logsumexp(dim=-1, keepdim=True)
    return logits - log_z


def distillation(student: Tensor, at: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) per row ``(N,)`` in nats, everything outside the teacher's K tokens lumped.

    Args:
        student: ``(N, S)`` log-probabilities.
        at: ``(N, K)`` where the teacher's tokens stand in them.
        teacher: ``(N, K)`` the teacher's log-probabilities.
    """
    p, log_q = teacher.exp(), student.gather(1, at)
    rest_p = (1 - p.sum(dim=-1)).clamp_min(_SMALL)
    rest_q = (1 - log_q.exp().sum(dim=-1)).clamp_min(_SMALL)
    return (p * (teacher - log_q)).sum(dim=-1) + rest_p * (rest_p.log() - rest_q.log())


def cross_entropy(student: Tensor, labels: Tensor) -> Tensor:
    """Negative log-probability per row ``(N,)`` of the labels' places ``(N,)``."""
    return -student.gather(1, labels.unsqueeze(1))[:, 0]
