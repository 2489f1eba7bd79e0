"""One look before an answer is held to a form that may be refused: does the model want to refuse?

A small model that has to fill in a form would rather talk, and of all talk a refusal alone would be legal. So
that way is open only where the model, left free, begins to refuse. Nothing but the prompt decides it: block
size, batch and cache still change no token.
"""

from __future__ import annotations

import torch

from .grammar_branch import Branch
from .models import CachedModel
from .sequence import Sequence


def wants_to_refuse(
    model: CachedModel, row: int, s: Sequence, refusal: Branch, tokens: list[int], dtype: torch.dtype
) -> bool:
    """Let a model say its likeliest words for as long as they may become a refusal.

    Most answers part from every refusal with their first token, so this takes one pass as a rule. The cache
    is left as it was.

    Args:
        model: whose wish counts.
        row: the sequence's row in it.
        s: the sequence; its penalties and its bias apply.
        refusal: the grammar of a refusal, as far as a prefill has led it; it is moved on.
        tokens: the model's whole prefix.
        dtype: precision of the rows.
    """
    cached, said = model.lengths[row], list[int]()
    try:
        while not refusal.accepts and len(tokens) + len(said) < model.max_positions:
            logits = model.extend([(tokens + said)[model.lengths[row] :]], first_row=row)
            last = logits[-1].to(dtype).clone()
            s.penalties.apply_(last, said)
            said.append(int(last.argmax()))
            refusal.follow(said[-1])
            if refusal.missed:
                return False
        return refusal.accepts
    finally:
        model.rewind(row, cached)
