"""The sampled law: what the engine draws, in blocks and batches, has the distribution it should have.

Three tokens are drawn many times across a possible change of mode, and their joint frequencies are held
against the exact probabilities by a chi-square test. Two mutants show that the test can fail.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import pytest
from scipy.stats import chi2

from langchain_ssd.config import EngineConfig
from langchain_ssd.decoding import verify
from langchain_ssd.engine.engine import Engine
from langchain_ssd.events import Token

from .driving import Case
from .reference import Paper, Sequential, Settings, composite, evidence, sharpen
from .toy import V, toy_pair

RUNS = 12_000
N = 3


def settings(monitor: str, temperature: float) -> Settings:
    """Bins of one token and low thresholds, so that modes change within three tokens."""
    return Settings(
        monitor=monitor, c=2, b=1, theta=0.6, alpha_utility=0.4, alpha_safety=1.4, h_safety=0.6,
        h_release=0.2, h_refuse=1e6, bias=-0.3, refuse_below=0.0, temperature=temperature, top_p=0.95,
    )  # fmt: skip


def exact(monitor: str, s: Settings) -> dict[tuple[int, ...], float]:
    """Probability of every three-token answer: the chain of (token, bit) at g = 1, enumerated."""
    pair = toy_pair()
    law: Counter[tuple[int, ...]] = Counter()
    kind = Paper if monitor == "paper" else Sequential
    for bits in itertools.product([True, False], repeat=N):
        for tokens in itertools.product(range(V), repeat=N):
            state, mass = kind(s), 1.0
            for n, (token, bit) in enumerate(zip(tokens, bits, strict=True)):
                prefix = [0, 0, *tokens[:n]]
                pM, pm = pair.target.model.row(prefix), pair.draft.model.row(prefix)
                mode, alpha, _ = state.observe(evidence(pM, pm, s))
                Q, q = sharpen(composite(pM, pm, mode, alpha, s.c), s), sharpen(pm, s)
                accepted = sum(min(a, b) for a, b in zip(Q, q, strict=True))
                if bit:
                    mass *= min(Q[token], q[token])
                elif accepted < 1:
                    residual = [max(0.0, a - b) for a, b in zip(Q, q, strict=True)]
                    mass *= (1 - accepted) * residual[token] / max(sum(residual), 1e-300)
                else:
                    mass = 0.0
                if mass == 0.0:
                    break
                state.settle(bit)
            law[tokens] += mass
    return dict(law)


def drawn(s: Settings, block_size: int) -> Counter[tuple[int, ...]]:
    """Answers of many requests with different seeds, decoded together."""
    engine = Engine(toy_pair(), EngineConfig(max_batch=256, max_queue=RUNS))
    answers: dict[str, list[int]] = {str(i): [] for i in range(RUNS)}
    for i in range(RUNS):
        case = Case("x", Settings(**{**vars(s), "seed": i}), block_size=block_size, max_tokens=N)
        engine.submit(str(i), case.request(), 0.0)
    while engine.busy:
        for name, event in engine.step(0.0):
            if isinstance(event, Token):
                answers[name].append(event.token_id)
    return Counter(tuple(a) for a in answers.values())


def p_value(counts: Counter[tuple[int, ...]], law: dict[tuple[int, ...], float]) -> float:
    """Chi-square against the exact law; cells that expect fewer than five are pooled."""
    assert sum(law.values()) == pytest.approx(1.0)
    cells = [(counts[k], RUNS * p) for k, p in law.items() if RUNS * p >= 5]
    rest = (RUNS - sum(o for o, _ in cells), RUNS - sum(e for _, e in cells))
    if rest[1] > 1e-6:
        cells.append(rest)
    statistic = sum((o - e) ** 2 / e for o, e in cells)
    return float(chi2.sf(statistic, len(cells) - 1))


@pytest.mark.parametrize("block_size", [1, 4])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("monitor", ["sequential", "paper"])
def test_joint_distribution_of_three_tokens(monitor: str, temperature: float, block_size: int) -> None:
    s = settings(monitor, temperature)
    law = exact(monitor, s)
    assert p_value(drawn(s, block_size), law) > 1e-3


def _no_residual(choice: verify.Choice, proposal: int, u: float, v: float) -> tuple[verify.Draw, bool]:
    at = choice.ids.index(proposal) if proposal in choice.ids else -1
    if at >= 0 and u * choice.q[at] < choice.probs[at]:
        return choice.draw(at), True
    return choice.draw(verify.draw_index(choice.probs, v)), False


def _accept_by_target(choice: verify.Choice, proposal: int, u: float, v: float) -> tuple[verify.Draw, bool]:
    at = choice.ids.index(proposal) if proposal in choice.ids else -1
    if at >= 0 and u * choice.q[at] < choice.p_target[at]:
        return choice.draw(at), True
    residual = [max(0.0, a - b) for a, b in zip(choice.probs, choice.q, strict=True)]
    return choice.draw(verify.draw_index(residual if any(residual) else choice.probs, v)), False


@pytest.mark.parametrize("mutant", [_no_residual, _accept_by_target])
def test_mutants_fail(mutant: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_sample_sparse", mutant)
    s = settings("sequential", 1.0)
    assert p_value(drawn(s, 4), exact("sequential", s)) < 1e-6


def test_the_case_is_worth_testing() -> None:
    """Both modes happen, and proposals are both accepted and not."""
    engine = Engine(toy_pair(), EngineConfig(max_batch=64, max_queue=500))
    for i in range(300):
        case = Case("x", Settings(**{**vars(settings("sequential", 1.0)), "seed": i}), max_tokens=N)
        engine.submit(str(i), case.request(), 0.0)
    events = []
    while engine.busy:
        events += [e for _, e in engine.step(0.0) if isinstance(e, Token)]
    safety = sum(e.mode == "safety" for e in events) / len(events)
    accepted = sum(e.accepted for e in events) / len(events)
    assert 0.1 < safety < 0.9
    assert 0.2 < accepted < 0.9
