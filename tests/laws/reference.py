"""The algorithm said again, naively: the oracle of Law 1.

No cache, no batch, one token at a time, both models on their whole prefix, float64 numpy. It was
written from the algorithm page and shares no code with the package but the definition of the keyed
random number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from langchain_ssd.decoding.sampling import keyed_uniform

Row = np.ndarray  # (V,) float64


@dataclass
class Settings:
    monitor: str = "paper"
    enforce: bool = True
    c: int = 10
    b: int = 7
    theta: float = 0.6
    theta_decay: float = 0.1
    alpha_utility: float = 0.3
    alpha_floor: float = 0.3
    alpha_decay: float = 0.15
    alpha_safety: float = 0.8
    h_safety: float = 4.0
    h_release: float = 1.0
    h_refuse: float = 24.0
    bias: float = -1.0
    disagreement: float = 0.5
    refusal_gain: float = 1.5
    refusal_ids: tuple[int, ...] = ()  # tokens that open a refusal
    kl: float = 1.0
    clip: float = 4.0
    patience: int = 2
    refuse_below: float = 0.3
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    bias_of_token: dict[int, float] = field(default_factory=dict)


@dataclass
class Step:
    token: int
    accepted: bool
    mode: str
    agreement: bool
    kl: float
    tv: float
    entropy_target: float
    entropy_draft: float
    refusal_gain: float
    statistic: float | None
    p_target: float
    p_draft: float
    p_composite: float
    scored: bool = True  # false where a grammar left one token
    rows: tuple[Row, Row, str, float] | None = None  # p_M, p_m, mode and alpha, to look at a close call


@dataclass
class Answer:
    steps: list[Step] = field(default_factory=list)
    reason: str = "length"
    refusal: str | None = None  # why, also in shadow mode
    complete: bool = False  # the last token completed the grammar, so that no end token was waited for
    bins: list[tuple] = field(default_factory=list)  # (match ratio, acceptance, threshold, mode, verdict)
    prefill_agreeing: int = 0

    @property
    def tokens(self) -> list[int]:
        return [s.token for s in self.steps]


def order(p: Row) -> list[int]:
    """Ids from the most probable down; equals in ascending id."""
    return np.argsort(-p, kind="stable").tolist()


def softmax(logits: Row) -> Row:
    e = np.exp(logits - logits.max())
    return e / e.sum()


class Grammar(Protocol):
    def legal(self, given: list[int]) -> list[int]:
        """Ids that may follow, ascending."""

    def over(self, given: list[int]) -> bool:
        """Whether nothing may follow."""


def spread(p: Row, ids: list[int], V: int) -> Row:
    """A row over some ids as a row over all."""
    out = np.zeros(V)
    out[ids] = p
    return out


def composite(pM: Row, pm: Row, scheme: str, alpha: float, c: int) -> Row:
    pM, pm = np.asarray(pM), np.asarray(pm)
    V = len(pM)
    c = min(c, V)
    oM, om = order(pM), order(pm)
    if scheme == "utility":
        top_M, top_m, S = set(), set(), set()
        for k in range(1, V + 1):  # grow both top-k sets until they share c tokens
            top_M.add(oM[k - 1])
            top_m.add(om[k - 1])
            S |= {oM[k - 1]} & top_m | {om[k - 1]} & top_M
            if len(S) >= c:
                break
        if oM[0] not in om[:k]:
            return pM.copy()
    else:
        S = set(oM[:c]) | set(om[:c])
    f = np.zeros(V)
    for x in S:
        f[x] = max(0.0, (1 - alpha) * pM[x] + alpha * pm[x])
    if f.sum() == 0:
        if scheme == "utility":
            return pM.copy()
        for x in S:
            f[x] = pm[x]
    return f / f.sum()


def sharpen(p: Row, s: Settings) -> Row:
    with np.errstate(divide="ignore"):
        p = softmax(np.log(np.asarray(p)) / s.temperature)
    o = order(p)
    if s.top_k is not None:
        p[o[s.top_k :]] = 0.0
        p = p / p.sum()
    if s.top_p < 1:
        reached = 0.0
        for i in o:
            mass = p[i]
            if reached >= s.top_p:
                p[i] = 0.0
            reached += mass
        p = p / p.sum()
    return p


def draw(p: Row, u: float) -> int:
    reached = np.cumsum(p)
    after = np.nonzero((reached > u * reached[-1]) & (p > 0))[0]
    return int(after[0]) if len(after) else int(np.nonzero(p)[0][-1])


class Paper:
    def __init__(self, s: Settings) -> None:
        self.s, self.mode, self.stays, self.bits, self.agreed, self.low = s, "utility", 0, [], [], 0
        self.statistic = None

    def observe(self, e: dict) -> tuple[str, float, bool]:
        self.e, s = e, self.s
        decayed = max(s.alpha_floor, round(s.alpha_utility - self.stays * s.alpha_decay, 9))
        return self.mode, (decayed if self.mode == "utility" else s.alpha_safety), False

    def settle(self, accepted: bool) -> tuple[tuple | None, bool]:
        s = self.s
        self.bits.append(accepted)
        self.agreed += [self.e["agreement"]] if self.e["scored"] else []
        if len(self.bits) < s.b:
            return None, False
        beta, ratio = sum(self.bits) / s.b, sum(self.agreed) / len(self.agreed) if self.agreed else 1.0
        theta = max(0.0, round(s.theta - self.stays * s.theta_decay, 9))
        verdict = "safety" if beta < theta else "utility"
        done = (ratio, beta, theta, self.mode, verdict)
        low = self.mode == "safety" and verdict == "safety" and ratio < s.refuse_below
        self.low = self.low + 1 if low else 0
        self.stays = self.stays + 1 if verdict == self.mode else 0
        self.mode, self.bits, self.agreed = verdict, [], []
        return done, self.low >= s.patience


class Sequential:
    def __init__(self, s: Settings) -> None:
        self.s, self.mode, self.statistic, self.bits, self.agreed = s, "utility", 0.0, [], []

    def observe(self, e: dict) -> tuple[str, float, bool]:
        s, self.e = self.s, e
        x = s.bias + s.disagreement * (0 if e["agreement"] else 1) + s.kl * e["kl"]
        x += s.refusal_gain * e["gain"]
        if e["scored"]:
            self.statistic = max(0.0, self.statistic + min(s.clip, max(-s.clip, x)))
        if self.statistic >= s.h_safety:
            self.mode = "safety"
        elif self.statistic <= s.h_release:
            self.mode = "utility"
        alpha = s.alpha_safety if self.mode == "safety" else s.alpha_utility
        return self.mode, alpha, self.statistic >= s.h_refuse

    def settle(self, accepted: bool) -> tuple[tuple | None, bool]:
        self.bits.append(accepted)
        self.agreed += [self.e["agreement"]] if self.e["scored"] else []
        if len(self.bits) < self.s.b:
            return None, False
        ratio = sum(self.agreed) / len(self.agreed) if self.agreed else 1.0
        done = (ratio, sum(self.bits) / self.s.b, None, self.mode, self.mode)
        self.bits, self.agreed = [], []
        return done, False


def evidence(pM: Row, pm: Row, s: Settings) -> dict:
    pM, pm = np.asarray(pM), np.asarray(pm)
    utility = composite(pM, pm, "utility", s.alpha_utility, s.c)
    both = (pM > 0) & (pm > 0)
    return {
        "agreement": order(pm)[0] == order(utility)[0],
        "kl": float((pm[both] * np.log(pm[both] / pM[both])).sum()),
        "tv": float(np.abs(pM - pm).sum() / 2),
        "HM": float(-(pM[pM > 0] * np.log(pM[pM > 0])).sum()),
        "Hm": float(-(pm[pm > 0] * np.log(pm[pm > 0])).sum()),
        "gain": max(0.0, sum(float(pm[i]) - float(pM[i]) for i in s.refusal_ids)),
        "scored": True,
    }


def penalise(logits: Row, prompt: list[int], answer: list[int], s: Settings) -> Row:
    out = logits.copy()
    if s.repetition != 1.0:
        for i in set(prompt) | set(answer):
            out[i] = out[i] / s.repetition if out[i] > 0 else out[i] * s.repetition
    for i in set(answer):
        out[i] -= s.presence + s.frequency * answer.count(i)
    for i, b in s.bias_of_token.items():
        out[i] += b
    return out


Source = Callable[[list[int]], Row]  # logits that follow a prompt and the tokens given


def naive(model: torch.nn.Module, prompt: list[int], vocab: int) -> Source:
    """The whole prefix through the model, without a cache, for every single token."""

    @torch.inference_mode()
    def last_row(given: list[int]) -> Row:
        ids = torch.tensor([prompt + given])
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits
        return logits[0, -1, :vocab].double().numpy()

    return last_row


@torch.inference_mode()
def one_pass(model: torch.nn.Module, prompt: list[int], answer: list[int], vocab: int) -> Source:
    """The same rows, by causality, from one pass without a cache over prompt and answer together.

    Only prefixes of ``answer`` can be asked for; any other is a sign that the runs have parted.
    """
    logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits
    table = logits[0, len(prompt) - 1 :, :vocab].double().numpy()

    def row(given: list[int]) -> Row:
        if given != answer[: len(given)]:
            raise Parted
        return table[len(given)]

    return row


class Parted(Exception):
    """The reference has emitted another token than the run whose rows it reads."""


def answer(
    target: Source,
    draft: Source,
    target_prompt: list[int],
    prefill: list[int],
    s: Settings,
    limit: int,
    end_ids: frozenset[int] = frozenset(),
    grammar: Grammar | None = None,
) -> Answer:
    """Answer one request; ``limit`` is the number of tokens that may be emitted."""
    out = Answer()
    try:
        _answer(out, target, draft, target_prompt, prefill, s, limit, end_ids, grammar)
    except Parted:
        out.reason = "parted"
    return out


def _answer(
    out: Answer,
    target: Source,
    draft: Source,
    target_prompt: list[int],
    prefill: list[int],
    s: Settings,
    limit: int,
    end_ids: frozenset[int],
    grammar: Grammar | None,
) -> Answer:
    monitor = Paper(s) if s.monitor == "paper" else Sequential(s)
    for n in range(len(prefill)):
        pM = softmax(target(prefill[:n]))
        pm = softmax(draft(prefill[:n]))
        e = evidence(pM, pm, s)
        out.prefill_agreeing += e["agreement"]
        _, _, refuse = monitor.observe(e)
        if refuse and out.refusal is None:
            out.refusal = "prefill"
            if s.enforce:
                out.reason = "refusal"
                return out
    given: list[int] = list(prefill)
    while len(out.steps) < limit:
        seen = (target_prompt, given)
        logits = [penalise(model(given), *seen, s) for model in (target, draft)]
        V = len(logits[0])
        e = evidence(softmax(logits[0]), softmax(logits[1]), s)  # of the whole rows, whatever is legal
        ids = list(range(V)) if grammar is None else grammar.legal(given)
        e["scored"] = len(ids) > 1
        pM, pm = (softmax(row[ids]) for row in logits)  # from here on there are no other tokens
        mode, alpha, refuse = monitor.observe(e)
        if refuse and out.refusal is None:
            out.refusal = "evidence"
        if refuse and s.enforce:
            out.reason = "refusal"
            return out
        Q = composite(pM, pm, mode, alpha, s.c) if s.enforce else pM.copy()
        pM, pm, Q = (spread(p, ids, V) for p in (pM, pm, Q))
        token, accepted, Qs = choose(Q, pm, len(given), s)
        statistic = monitor.statistic
        done, refuse = monitor.settle(accepted)
        out.steps.append(
            Step(token, accepted, mode, e["agreement"], e["kl"], e["tv"], e["HM"], e["Hm"], e["gain"],
                 statistic, pM[token], pm[token], Qs[token], e["scored"], (pM, pm, mode, alpha))
        )  # fmt: skip
        given.append(token)
        if done:
            out.bins.append(done)
        if refuse and out.refusal is None:
            out.refusal = "low_match_ratio"
        if refuse and s.enforce:
            out.reason = "refusal"
            return out
        out.complete = grammar is not None and token not in end_ids and grammar.over(given)
        if token in end_ids or out.complete:
            out.reason = "stop"
            return out
    return out


def choose(Q: Row, pm: Row, position: int, s: Settings) -> tuple[int, bool, Row]:
    """One draw at g = 1: (token, accepted, the distribution it came from)."""
    if s.temperature == 0:
        token = order(Q)[0]
        return token, token == order(pm)[0], Q
    Q, q = sharpen(Q, s), sharpen(pm, s)
    x = draw(q, keyed_uniform(s.seed, position, "propose"))
    if keyed_uniform(s.seed, position, "accept") * q[x] < Q[x]:
        return x, True, Q
    residual = np.maximum(0.0, Q - q)
    weights = residual if residual.sum() > 0 else Q
    return draw(weights, keyed_uniform(s.seed, position, "residual")), False, Q
