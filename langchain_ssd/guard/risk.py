"""The risk of one answer and of a conversation: two formulae, pure Python.

``score = 1`` for a refusal, else ``max(disagreeing / (scored + 8), safety_tokens / emitted)``: eight agreeing
tokens are added, so that one odd token of a short answer means little.
``risk = decay * risk + (1 - decay) * score``, from 0.
"""

from __future__ import annotations

from .reading import Summary

SMOOTHING = 8


def answer_score(summary: Summary | None, refused: bool) -> float:
    """The risk of one answer, from 0 to 1; without numbers it is the greatest."""
    if refused or summary is None:
        return 1.0
    disagreeing = (1 - summary["match_ratio"]) * summary["scored"]
    share = summary["safety_tokens"] / summary["emitted"] if summary["emitted"] else 0.0
    return max(disagreeing / (summary["scored"] + SMOOTHING), share)


def next_risk(risk: float, score: float, decay: float) -> float:
    """The risk of a conversation after one more answer."""
    return decay * risk + (1 - decay) * score
