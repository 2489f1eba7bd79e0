"""Against a plain re-statement of the published algorithm, without caches and then with them.

The published code keeps no key-value cache: each block costs three full passes of the draft and one of
the target over everything so far. ``Plain`` says that again, as plainly as it was published (greedy,
blocks of three, no bonus token), for this benchmark only. ``cached=True`` gives the same loop the caches
of transformers, which tells how much of the gain is caches.
"""

from __future__ import annotations

import time

import torch
from transformers import DynamicCache

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import EngineConfig, RefusalPolicy, Sampling
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.pair import Pair

from .common import PROMPTS, show
from .pair import default_pair, plain_pair

TOKENS, BLOCK, COMMON, BIN = 256, 3, 10, 7


class Model:
    """One model, with or without a cache."""

    def __init__(self, network: torch.nn.Module, prompt: list[int], cached: bool) -> None:
        self.network, self.ids = network, list(prompt)
        self.cache = DynamicCache(config=network.config) if cached else None  # type: ignore[arg-type]
        self.known = 0

    def rows(self, extra: list[int], wanted: int) -> torch.Tensor:
        """Probabilities ``(wanted, V)`` after the last prefixes of everything so far and ``extra``."""
        ids = self.ids + extra
        new = ids if self.cache is None else ids[self.known :]
        out = self.network(
            input_ids=torch.tensor([new]),
            past_key_values=self.cache,
            use_cache=self.cache is not None,
            logits_to_keep=wanted,
        )
        self.known = len(ids)
        return out.logits[0, -wanted:].float().softmax(-1)

    def keep(self, length: int) -> None:
        """Drop cached positions from ``length`` on."""
        if self.cache is not None and self.known > length:
            self.cache.crop(length - self.known)
            self.known = length


def intersection(p_M: torch.Tensor, p_m: torch.Tensor, alpha: float) -> int:
    """Emitted token in utility mode: full sorts and a growing k, as published."""
    order_M, order_m = p_M.argsort(descending=True).tolist(), p_m.argsort(descending=True).tolist()
    k = COMMON
    while len(shared := set(order_M[:k]) & set(order_m[:k])) < COMMON:
        k += 1
    if order_M[0] not in shared:
        return int(order_M[0])
    ids = torch.tensor(sorted(shared))
    return int(ids[(p_M[ids] + alpha * (p_m[ids] - p_M[ids])).argmax()])


def union(p_M: torch.Tensor, p_m: torch.Tensor, alpha: float) -> int:
    """Emitted token in safety mode."""
    ids = torch.cat([p_M.topk(COMMON).indices, p_m.topk(COMMON).indices]).unique()
    return int(ids[(p_M[ids] + alpha * (p_m[ids] - p_M[ids])).argmax()])


@torch.inference_mode()
def plain(pair: Pair, text: str, cached: bool) -> int:
    """Decode ``TOKENS`` tokens; returns how many there are."""
    messages = (ChatMessage("user", text),)
    target = Model(pair.target.model.model, pair.target.renderer.render(messages), cached)
    draft = Model(pair.draft.model.model, pair.draft.renderer.render(messages), cached)
    mode, theta, bits, emitted = "utility", 0.6, [], 0
    while emitted < TOKENS:
        proposals: list[int] = []
        drafted = []
        for _ in range(BLOCK):
            drafted.append(draft.rows(proposals, 1)[0])
            proposals.append(int(drafted[-1].argmax()))
        verified = target.rows(proposals[:-1], BLOCK)  # the last draft is not scored: no bonus token
        for p_M, p_m, proposal in zip(verified, drafted, proposals, strict=True):
            token = intersection(p_M, p_m, 0.3) if mode == "utility" else union(p_M, p_m, 0.8)
            bits.append(token == proposal)
            for model in (target, draft):
                model.ids.append(token)
            emitted += 1
            if len(bits) == BIN:
                verdict = "safety" if sum(bits) / BIN < theta else "utility"
                theta = max(theta - 0.1, 0.0) if verdict == mode else 0.6
                mode, bits = verdict, []
            if token != proposal or emitted == TOKENS:
                break
        for model in (target, draft):
            model.keep(len(model.ids) - 1)
    return emitted


def ours(pair: Pair, text: str) -> int:
    """The engine on the same work; end tokens are banned so that the length is the same."""
    engine = Engine(pair, EngineConfig())
    never = dict.fromkeys(pair.end_ids, -100.0)
    sampling = Sampling(max_tokens=TOKENS, logit_bias=never)
    request = ChatRequest(
        (ChatMessage("user", text),), sampling=sampling, refusal=RefusalPolicy(enabled=False)
    )
    engine.submit("x", request, 0.0)
    events = []
    while engine.busy:
        events += [event for _, event in engine.step(0.0)]
    return int(events[-1].summary.emitted)  # type: ignore[attr-defined]


def main() -> None:
    """Three ways, in turn, over the same prompts."""
    pair = default_pair()
    plain_pair()
    totals = {"published, no caches": 0.0, "published, with caches": 0.0, "this package": 0.0}
    counts = dict.fromkeys(totals, 0)
    for text in PROMPTS[:2]:
        for name, work in (
            ("published, no caches", lambda t: plain(plain_pair(), t, cached=False)),
            ("published, with caches", lambda t: plain(plain_pair(), t, cached=True)),
            ("this package", lambda t: ours(pair, t)),
        ):
            began = time.perf_counter()
            counts[name] += work(text)
            totals[name] += time.perf_counter() - began
    speed = {name: counts[name] / totals[name] for name in totals}
    slow = speed["published, no caches"]
    rows = [
        {"way": n, "tokens": counts[n], "tokens/s": v, "times the published": v / slow}
        for n, v in speed.items()
    ]
    caches = speed["published, with caches"] / slow
    rest = speed["this package"] / speed["published, with caches"]
    note = (
        f"greedy, {TOKENS} tokens, bf16; of the gain, caches alone are {caches:.2f}x and the rest {rest:.2f}x"
    )
    show("published", "The published algorithm, said plainly, and this package (at least 4)", rows, note)
