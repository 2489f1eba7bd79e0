"""Prompts go into the caches chunk by chunk; a prefilled answer is shown to the monitor on the way."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch

from ..decoding.evidence import Rows, on_device, rows
from ..decoding.verify import score
from .models import CachedModel
from .outbox import Outbox, no_finite
from .refusal_look import wants_to_refuse
from .sequence import Sequence

_SCORED_AT_ONCE = 32  # positions of a prefilled answer whose logits are in memory together


class PromptReader:
    """Advances a sequence towards decoding, a bounded amount of work at a time.

    Args:
        target: the model that verifies.
        draft: the model that proposes.
        chunk: prompt tokens per step and model.
        out: takes the events.
        dtype: precision of the rows.
        refusal_ids: tokens that open a refusal.
    """

    def __init__(
        self,
        target: CachedModel,
        draft: CachedModel,
        chunk: int,
        out: Outbox,
        dtype: torch.dtype,
        refusal_ids: Seq[int] = (),
    ) -> None:
        self._target, self._draft, self._chunk, self._out = target, draft, chunk, out
        self._dtype, self._refusal_ids = dtype, refusal_ids

    def advance(self, row: int, s: Sequence) -> None:
        """Cache one more chunk for both models; then score some of the prefill, if there is one."""
        waiting = False
        for model, tokens in self._sides(s):
            # All but the last prompt token: its row already predicts the answer.
            cached, end = model.lengths[row], len(tokens) - len(s.prefill) - 1
            if cached < end:
                chunk = tokens[cached : min(end, cached + self._chunk)]
                model.extend([chunk], first_row=row, rows_wanted=False)
                waiting = waiting or model.lengths[row] < end
        if not waiting and s.scored_prefill < len(s.prefill):
            self._score_prefill(row, s)
        s.ready = not waiting and s.scored_prefill == len(s.prefill)
        if s.ready and not s.done:
            self._look(row, s)

    def _score_prefill(self, row: int, s: Sequence) -> None:
        """Show the monitor the n rows that predict the next n prefilled tokens; nothing is drawn."""
        n = min(_SCORED_AT_ONCE, len(s.prefill) - s.scored_prefill)
        pair: list[Rows] = []
        for role, (model, tokens) in zip(("target", "draft"), self._sides(s), strict=True):
            at = model.lengths[row]
            logits = model.extend([tokens[at : at + n]], first_row=row)  # (n, V)
            new = rows(logits.to(self._dtype))
            if not bool(new.finite.all()):
                self._out.fail(s, no_finite(role))
                return
            pair.append(on_device(new, pair[0].probs.device) if pair else new)
        positions = range(s.scored_prefill, s.scored_prefill + n)
        # Sampled rows want some q; it is never drawn from here.
        settings = [s.row_settings()] * n
        scored = score(pair[0], pair[1], pair[1].probs, settings, positions, refusal_ids=self._refusal_ids)
        self._out.emit(s, s.observe_prefill(scored.evidence))

    def _look(self, row: int, s: Sequence) -> None:
        """Close the way out of a form where nobody wants to take it.

        The draft is asked, as the one that was made to refuse; in shadow mode the target, whose answer it is.
        """
        refusal = s.form.way_out
        if refusal is not None:
            model, tokens = self._sides(s)[1 if s.settings.enforce else 0]
            if not wants_to_refuse(model, row, s, refusal, tokens, self._dtype):
                s.form.close_way_out()

    def _sides(self, s: Sequence) -> tuple[tuple[CachedModel, list[int]], tuple[CachedModel, list[int]]]:
        return (self._target, s.target_tokens), (self._draft, s.draft_tokens)
