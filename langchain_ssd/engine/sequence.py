"""One conversation in flight: its tokens, its monitor, its text. No other sequence can see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor

from ..backend import ChatRequest
from ..decoding.monitor import Evidence, Mode, Monitor
from ..decoding.refusal import RefusalRule
from ..decoding.sampling import SamplingRule
from ..decoding.verify import Emission, RowSettings
from ..events import (
    BinScored,
    Event,
    Finished,
    FinishReason,
    ModeChanged,
    PrefillScored,
    Refused,
    Summary,
    Token,
)
from ..refusal_text import choose_refusal
from .constraints import Form, FreeText
from .penalties import Penalties
from .text import TextStream
from .tool_calls import ToolCallReader


@dataclass(slots=True)
class Tally:
    """Counts of one response (algorithm, section 5)."""

    scored: int = 0
    agreeing: int = 0
    drafted: int = 0
    accepted: int = 0
    target_passes: int = 0
    draft_passes: int = 0
    mode_changes: int = 0
    safety_tokens: int = 0
    max_statistic: float | None = None


@dataclass(slots=True, eq=False)
class Sequence:
    """State of one request from submission to its last event.

    ``target_tokens`` and ``draft_tokens`` are each model's whole prefix: its own rendering of the prompt,
    the prefill, and the tokens emitted so far. What a model has cached is a prefix of its list.
    """

    request_id: str
    request: ChatRequest
    target_tokens: list[int]
    draft_tokens: list[int]
    prefill: list[int]
    room: int  # tokens that may still be emitted
    end_ids: frozenset[int]
    seed: int
    deadline: float | None
    monitor: Monitor
    refusal: RefusalRule
    rule: SamplingRule
    settings: RowSettings
    text: TextStream
    penalties: Penalties
    form: Form = field(default_factory=FreeText)
    calls: ToolCallReader | None = None  # tells calls from text, if tools were offered
    alone: bool = False  # its passes are not shared, so that their last bits are its own
    calibrated: bool = False
    prompt_tokens: int = 0
    emitted: list[int] = field(default_factory=list)
    scored_prefill: int = 0
    prefill_agreeing: int = 0
    mode: Mode = "utility"
    bonus: Tensor | None = None  # (V,) the target's raw logits for the next position, if already known
    ready: bool = False  # prompts are cached; decoding may begin
    done: bool = False
    refused: Refused | None = None
    tally: Tally = field(default_factory=Tally)

    @property
    def position(self) -> int:
        """Index of the next token in its assistant turn, prefilled tokens counted."""
        return len(self.prefill) + len(self.emitted)

    @property
    def refusal_reason(self) -> str:
        """What a refusal during decoding rests on."""
        return "low_match_ratio" if self.request.safety.monitor == "paper" else "evidence"

    def observe_prefill(self, rows: Iterable[Evidence]) -> Iterator[Event]:
        """Let the monitor see the rows that predict prefilled tokens; nothing is drawn or settled there."""
        for evidence in rows:
            decision = self.monitor.observe(evidence)
            self.scored_prefill += 1
            self.prefill_agreeing += evidence.agreement
            self.note_statistic(self.monitor.statistic)
            if decision.refuse:
                yield from self.refuse("prefill", self.monitor.statistic)
                if self.done:
                    return
        if self.scored_prefill == len(self.prefill):
            yield PrefillScored(
                tokens=self.scored_prefill,
                match_ratio=self.prefill_agreeing / self.scored_prefill,
                statistic=self.monitor.statistic,
                mode=decision.mode,
            )

    def row_settings(self) -> RowSettings:
        """The settings of the next rows, with the utility weight the monitor is about to use."""
        alpha = getattr(self.monitor, "alpha", None) if self.mode == "utility" else None
        if alpha is None or alpha == self.settings.alpha_utility:
            return self.settings
        return replace(self.settings, alpha_utility=alpha)

    def take(self, step: Emission) -> Iterator[Event]:
        """Record one emitted token and everything it settles; ``done`` tells whether it was the last."""
        self._count(step)
        yield from self._switch(step.mode, step.statistic)
        token = step.draw.token
        self.emitted.append(token)
        self.target_tokens.append(token)
        self.draft_tokens.append(token)
        self.penalties.add(token)
        self.form.settle(token)
        self.room -= 1
        if step.verdict is not None:
            yield BinScored(*_fields(step.verdict))
        if step.refuse:
            yield from self.refuse(self.refusal_reason, step.statistic)
            if self.done:
                return
        yield from self._show(step)

    def _show(self, step: Emission) -> Iterator[Event]:
        """Turn the token into text, end the answer if it is over, and release what may be shown."""
        if step.draw.token in self.end_ids:
            yield from self.finish("stop")
            return
        index = len(self.emitted) - 1
        stopped = self.text.push(index, step.draw.token, partial(_token, step, index))
        complete = stopped or self.form.over  # where only an end token could follow, none is waited for
        if complete or self.room <= 0:
            yield from self.finish("stop" if complete else "length", stopped)
            return
        cleared = self.monitor.cleared if self.settings.enforce else len(self.emitted)
        shown = self.text.release(len(self.emitted), cleared)
        yield from shown if self.calls is None else self.calls.read(shown)

    def _count(self, step: Emission) -> None:
        t = self.tally
        t.safety_tokens += step.mode == "safety"
        if step.evidence.scored:
            t.scored += 1
            t.accepted += step.accepted
            t.agreeing += step.evidence.agreement
        self.note_statistic(step.statistic)

    def note_statistic(self, statistic: float | None) -> None:
        """Keep the greatest value the monitor's statistic has had."""
        if statistic is not None:
            self.tally.max_statistic = max(statistic, self.tally.max_statistic or 0.0)

    def _switch(self, mode: Mode, statistic: float | None) -> Iterator[Event]:
        if mode != self.mode:
            self.mode = mode
            self.tally.mode_changes += 1
            yield ModeChanged(position=len(self.emitted), mode=mode, statistic=statistic)

    def refuse(self, reason: str, statistic: float | None) -> Iterator[Event]:
        """Settle the refusal question; in shadow mode it is only reported, once."""
        self.note_statistic(statistic)
        if self.refused is not None:
            return
        enforced = self.settings.enforce
        language, text = choose_refusal(self.request.refusal, self.request.messages, reason)
        self.refused = Refused(
            position=len(self.emitted),
            reason=reason,
            category=self.request.refusal.category,
            language=language,
            text=text if enforced else "",
            enforced=enforced,
        )
        yield self.refused
        if enforced:
            yield self._finished("refusal")

    def finish(self, reason: FinishReason, stopped: bool = False) -> Iterator[Event]:
        """End the answer normally: nothing is withheld any more."""
        shown = self.text.finish(stopped)
        yield from shown if self.calls is None else self.calls.finish(shown)
        called = self.calls is not None and self.calls.complete > 0
        yield self._finished("tool_calls" if called and reason == "stop" else reason)

    def _finished(self, reason: FinishReason) -> Finished:
        self.done = True
        return Finished(
            finish_reason=reason,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=len(self.emitted),
            thinking_tokens=self.text.thinking_tokens,
            summary=self._summary(reason),
        )

    def _summary(self, reason: FinishReason) -> Summary:
        t, safety = self.tally, self.request.safety
        return Summary(
            monitor=safety.monitor,
            calibrated=self.calibrated,
            enforced=safety.enforce,
            emitted=len(self.emitted),
            scored=t.scored,
            agreeing=t.agreeing,
            match_ratio=t.agreeing / t.scored if t.scored else 1.0,
            drafted=t.drafted,
            accepted=t.accepted,
            acceptance_rate=t.accepted / t.drafted if t.drafted else 1.0,
            target_passes=t.target_passes,
            draft_passes=t.draft_passes,
            mode_changes=t.mode_changes,
            safety_tokens=t.safety_tokens,
            final_mode=self.mode,
            statistic=self.monitor.statistic,
            max_statistic=t.max_statistic,
            prefill_tokens=len(self.prefill),
            seed=self.seed,
            declined=self.form.declined,
            refusal=_refusal_info(self.refused),
            tool_calls=self.calls.risks() if self.calls is not None and reason != "refusal" else [],
        )


def _token(step: Emission, index: int, text: str, thinking: bool) -> Token:
    """The event of an emitted token, built when its text is released."""
    e, d = step.evidence, step.draw
    return Token(
        index, d.token, text, thinking, step.mode, e.agreement, step.accepted, d.p_target, d.p_draft, d.prob,
        e.kl, e.total_variation, e.entropy_target, e.entropy_draft, step.statistic, e.scored, e.refusal_gain,
    )  # fmt: skip


def _fields(verdict: Any) -> tuple[Any, ...]:
    return (
        verdict.index,
        verdict.match_ratio,
        verdict.acceptance,
        verdict.threshold,
        verdict.mode,
        verdict.verdict,
    )


def _refusal_info(refused: Refused | None) -> dict[str, Any] | None:
    if refused is None:
        return None
    names = ("position", "reason", "category", "language", "enforced")
    return {name: getattr(refused, name) for name in names}
