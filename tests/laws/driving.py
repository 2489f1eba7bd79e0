"""Run requests through an engine and hold the events against the naive reference."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from llguidance import LLMatcher, LLTokenizer

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import EvidenceWeights, RefusalPolicy, Sampling, SequentialConfig, SSDConfig
from langchain_ssd.constraint import Constraint
from langchain_ssd.decoding.monitor import Decision, Mode
from langchain_ssd.engine import prompts, requests
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.grammar_text import grammar_text, refusal_text
from langchain_ssd.engine.pair import Pair
from langchain_ssd.events import BinScored, Event, Finished, PrefillScored, Refused, Token
from langchain_ssd.testing.byte_tokenizer import byte_tokenizer

from .reference import Answer, Settings, Step, answer, choose, composite, evidence, naive, one_pass


def bias(**of_characters: float) -> dict[int, float]:
    """A logit bias of the byte tokenizer's tokens, by their characters."""
    tokenizer = byte_tokenizer()
    return {tokenizer.convert_tokens_to_ids(c): value for c, value in of_characters.items()}


class Pinned:
    """A monitor that never changes its mind."""

    statistic = None
    cleared = 0

    def __init__(self, mode: Mode, alpha: float) -> None:
        self.decision = Decision(mode, alpha)

    def observe(self, evidence: object) -> Decision:
        return self.decision

    def settle(self, accepted: bool) -> None:
        return None


def pin(monkeypatch: pytest.MonkeyPatch, mode: Mode, alpha: float) -> None:
    """Every answer from here on is decoded in one mode."""
    monkeypatch.setattr(requests, "make_monitor", lambda *_: Pinned(mode, alpha))


@dataclass
class Case:
    """One request of a batch: what is asked, how it is decoded, and when it joins."""

    text: str
    settings: Settings = field(default_factory=Settings)
    block_size: int = 3
    max_tokens: int = 12
    prefill: str = ""
    constraint: Constraint | None = None
    joins_at: int = 0  # step number
    cancel_after: int | None = None  # steps after joining

    def request(self) -> ChatRequest:
        s = self.settings
        weights = EvidenceWeights(
            bias=s.bias, disagreement=s.disagreement, kl=s.kl, refusal_gain=s.refusal_gain, clip=s.clip
        )
        return ChatRequest(
            messages=(ChatMessage("user", self.text),),
            prefill=self.prefill,
            constraint=self.constraint,
            sampling=Sampling(
                temperature=s.temperature,
                top_k=s.top_k,
                top_p=s.top_p,
                max_tokens=self.max_tokens,
                seed=None if s.temperature == 0 else s.seed,  # a seeded request shares no pass below float64
                repetition_penalty=s.repetition,
                presence_penalty=s.presence,
                frequency_penalty=s.frequency,
                logit_bias=s.bias_of_token,
            ),
            safety=SSDConfig(
                monitor=s.monitor,
                enforce=s.enforce,
                common_tokens=s.c,
                bin_size=s.b,
                block_size=self.block_size,
                theta=s.theta,
                theta_decay=s.theta_decay,
                alpha_utility=s.alpha_utility,
                alpha_floor=s.alpha_floor,
                alpha_decay=s.alpha_decay,
                alpha_safety=s.alpha_safety,
                sequential=SequentialConfig(
                    h_safety=s.h_safety, h_release=s.h_release, h_refuse=s.h_refuse, evidence=weights
                ),
                hold_back="none",
            ),
            refusal=RefusalPolicy(patience=s.patience, refuse_below=s.refuse_below),
        )

    def reference(self, pair: Pair, emitted: list[int] | None = None) -> Answer:
        """The naive answer; given the tokens a run emitted, its rows come from one pass over them."""
        messages = (ChatMessage("user", self.text),)
        prompts = [side.renderer.render(messages) for side in (pair.target, pair.draft)]
        prefill = pair.target.renderer.encode(self.prefill)
        sides = list(zip((pair.target.model, pair.draft.model), prompts, strict=True))
        room = min([self.max_tokens, *(m.max_positions - len(p) - len(prefill) for m, p in sides)])
        if emitted is None:
            sources = [naive(m.model, p, pair.vocab_size) for m, p in sides]
        else:
            sources = [one_pass(m.model, p, prefill + emitted, pair.vocab_size) for m, p in sides]
        grammar = None if self.constraint is None else StepByStep(pair, self.constraint, self.text)
        settings = replace(self.settings, refusal_ids=pair.refusal_ids)
        return answer(*sources, prompts[0], prefill, settings, room, pair.end_ids, grammar)


def wanted(asked: str) -> bool:
    """Random models never begin to refuse, so here every other prompt makes them want to."""
    return len(asked) % 2 == 0


def leave_prompts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts do not tell of the form: of bytes, they would be too long for the contexts here."""
    monkeypatch.setattr(requests, "offer_of", lambda *_: None)


def let_some_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the look before an answer finds is :func:`wanted`."""
    monkeypatch.setattr(prompts, "wants_to_refuse", lambda m, r, s, *_: wanted(s.request.messages[0].content))


class StepByStep:
    """The legal tokens at any point, from new matchers that have seen the answer's tokens, nothing else."""

    def __init__(self, pair: Pair, constraint: Constraint, asked: str) -> None:
        self._ends = sorted(pair.end_ids)
        self._control = pair.target.renderer.control_ids
        description = pair.target.renderer.tokenizer.backend_tokenizer.to_str()  # type: ignore[attr-defined]
        tokenizer = LLTokenizer(description, eos_token=self._ends)
        texts = [
            grammar_text(constraint, 65_536),
            *([refusal_text()] if constraint.may_refuse and wanted(asked) else []),
        ]
        self._unused = [LLMatcher(tokenizer, text, log_level=0) for text in texts]

    def _after(self, given: list[int]) -> list[LLMatcher]:
        """Those of the grammars that can go so far."""
        fresh = [matcher.deep_copy() for matcher in self._unused]
        return [matcher for matcher in fresh if matcher.try_consume_tokens(given) == len(given)]

    def legal(self, given: list[int]) -> list[int]:
        text, accepting = set(), False
        for matcher in self._after(given):
            bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
            text |= {*np.nonzero(bits)[0].tolist()} - {*self._ends} - self._control
            accepting = accepting or matcher.is_accepting()
        ends = self._ends if text else self._ends[:1]
        return sorted([*text, *ends]) if accepting else sorted(text)

    def over(self, given: list[int]) -> bool:
        return self.legal(given) == self._ends[:1]


def run(engine: Engine, cases: list[Case]) -> list[list[Event]]:
    """Submit every case at its step, cancel those that leave early, and collect all events."""
    events: dict[str, list[Event]] = {str(i): [] for i in range(len(cases))}
    step, open_cases = 0, set(range(len(cases)))
    while open_cases or engine.busy:
        for i in sorted(open_cases):
            if cases[i].joins_at <= step:
                engine.submit(str(i), cases[i].request(), 0.0)
                open_cases.remove(i)
        for i, case in enumerate(cases):
            if case.cancel_after is not None and step == case.joins_at + case.cancel_after:
                engine.cancel(str(i))
        for name, event in engine.step(0.0):
            events[name].append(event)
        step += 1
        if step > 2000:
            raise RuntimeError("the engine does not come to an end")
    return [events[str(i)] for i in range(len(cases))]


def check(events: list[Event], expected: Answer, pair: Pair, tolerance: float = 1e-9) -> None:
    """Tokens, evidence, modes, bins and refusals are those of the reference."""
    finished = events[-1]
    assert isinstance(finished, Finished), events[-1]
    assert finished.finish_reason == expected.reason
    summary = finished.summary
    assert summary.emitted == len(expected.steps)
    tokens = [e for e in events if isinstance(e, Token)]
    # The token a refusal falls on, and an end token, are drawn but never shown.
    after_its_token = expected.reason == "refusal" and expected.refusal == "low_match_ratio"
    ended = expected.reason == "stop" and not expected.complete
    shown = expected.steps[: len(expected.steps) - (ended or after_its_token)]
    if expected.reason == "refusal":  # it also swallows bytes of a character that was not finished
        for end in range(len(tokens) + 1, len(shown) + 1):
            assert pair.decode([s.token for s in shown[:end]]).endswith("\ufffd")
        shown = shown[: len(tokens)]
    assert [t.token_id for t in tokens] == [s.token for s in shown]
    assert [t.mode for t in tokens] == [s.mode for s in shown]
    assert [t.accepted for t in tokens] == [s.accepted for s in shown]
    assert [t.agreement for t in tokens] == [s.agreement for s in shown]
    assert [t.scored for t in tokens] == [s.scored for s in shown]
    for t, s in zip(tokens, shown, strict=True):
        got = (
            t.kl,
            t.total_variation,
            t.entropy_target,
            t.entropy_draft,
            t.refusal_gain,
            t.p_target,
            t.p_draft,
            t.p_composite,
        )
        want = (
            s.kl,
            s.tv,
            s.entropy_target,
            s.entropy_draft,
            s.refusal_gain,
            s.p_target,
            s.p_draft,
            s.p_composite,
        )
        for a, b in zip(got, want, strict=True):
            assert math.isclose(a, b, rel_tol=tolerance * 10, abs_tol=tolerance), (got, want)
        assert (t.statistic is None) == (s.statistic is None)
        if t.statistic is not None:
            assert math.isclose(t.statistic, s.statistic, rel_tol=tolerance, abs_tol=tolerance * 100)
    bins = [e for e in events if isinstance(e, BinScored)]
    assert [(b.match_ratio, b.acceptance, b.threshold, b.mode, b.verdict) for b in bins] == expected.bins
    assert summary.scored == sum(s.scored for s in expected.steps)
    assert summary.agreeing == sum(s.agreement for s in expected.steps if s.scored)
    assert summary.accepted == sum(s.accepted for s in expected.steps if s.scored)
    assert summary.safety_tokens == sum(s.mode == "safety" for s in expected.steps)
    refused = [e.reason for e in events if isinstance(e, Refused)]
    assert refused == ([expected.refusal] if expected.refusal else [])
    scored = [e for e in events if isinstance(e, PrefillScored)]
    if scored:
        assert scored[0].match_ratio == expected.prefill_agreeing / scored[0].tokens


def first_difference(events: list[Event], expected: Answer, tolerance: float) -> int | None:
    """Index of the first token at which a run and the reference part, or None.

    Raises:
        AssertionError: the evidence differs by more than the tolerance before any token does.
    """
    tokens = [e for e in events if isinstance(e, Token)]
    for n, (t, s) in enumerate(zip(tokens, expected.steps, strict=False)):
        if (t.token_id, t.mode, t.agreement, t.accepted) != (s.token, s.mode, s.agreement, s.accepted):
            return n
        for got, want in ((t.kl, s.kl), (t.total_variation, s.tv), (t.p_target, s.p_target)):
            assert math.isclose(got, want, rel_tol=tolerance, abs_tol=tolerance), (n, got, want)
    return None if len(tokens) >= len(expected.steps) - 1 else len(tokens)


def undecided(step: Step, s: Settings, position: int, margin: float = 1e-5) -> bool:
    """Whether rows that differ by no more than the margin lead to another decision at this position."""
    if step.rows is None:
        return False
    pM, pm, mode, alpha = step.rows
    if step.statistic is not None and any(
        abs(step.statistic - h) < 100 * margin for h in (s.h_safety, s.h_release)
    ):
        return True
    noise = np.random.default_rng(0)
    decisions = set()
    for _ in range(40):
        a, b = (p * (1 + margin * noise.uniform(-1, 1, len(p))) for p in (pM, pm))
        Q = composite(a, b, mode, alpha, s.c) if s.enforce else a
        token, accepted, _ = choose(Q, b, position, s)
        decisions.add((token, accepted, evidence(a, b, s)["agreement"]))
    return len(decisions) > 1
