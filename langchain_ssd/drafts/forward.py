"""Hidden states of chosen positions, and logits of chosen tokens: a vocabulary of 50,000 makes both dear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Span = tuple[int, int]
"""Positions ``start .. end - 1`` of one row of a batch."""


def states_at(model: Any, ids: Tensor, spans: Sequence[Span]) -> Tensor:
    """Run a padded batch and return the last hidden states of one span of positions of each row.

    Args:
        model: a causal LM of transformers whose output matrix is all there is behind its last state.
        ids: ``(B, L)``, padded on the right; causal attention needs no mask for that.
        spans: one for each row.

    Returns:
        ``(N, D)``, N the sum of the spans' lengths, row after row.
    """
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state  # (B, L, D)
    return torch.cat([row[a:b] for row, (a, b) in zip(hidden, spans, strict=True)])


def rows_at(model: Any, ids: Tensor, spans: Sequence[Span]) -> Tensor:
    """The logits ``(N, V)`` of the same positions, for any causal LM."""
    if has_plain_head(model):
        rows: Tensor = model.get_output_embeddings()(states_at(model, ids, spans))
        return rows
    logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return torch.cat([row[a:b] for row, (a, b) in zip(logits, spans, strict=True)])


def has_plain_head(model: Any) -> bool:
    """Whether the logits are the output matrix times the last state, and nothing else is done to them."""
    config = model.config.get_text_config(decoder=True)
    extras = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
    plain = not any(getattr(config, name, None) for name in extras)
    return plain and getattr(model.get_output_embeddings(), "bias", None) is None
