"""The two default drafts: tokens per second of SSD as a user gets it beside its target alone, in one run.

``slim`` runs with the embedded target. ``whole`` is as large as that, so it runs with a target that is made
4 and 8 times as costly by layers whose output projections are zero: the same function, more work. Such a
target is synthetic; it stands for a bigger model of the family, which is not to be had here.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.calibration.speed import choose_block_size, pass_times
from langchain_ssd.config import EngineConfig, Sampling, SSDConfig
from langchain_ssd.drafts.corpus import read_rows, user_benign
from langchain_ssd.drafts.default_pair import DRAFTS, default_draft, default_target
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.loading import load_pair
from langchain_ssd.engine.models import CachedModel
from langchain_ssd.engine.pair import Pair
from langchain_ssd.engine.prepack import prepack
from langchain_ssd.events import Finished
from langchain_ssd.profile import find_profile

from .common import PROMPTS, show
from .safety import DATA

TOKENS, PROMPTS_READ, PROMPTS_OWN = 64, 4, 4
AIMS = {("slim", 1): 1.1, ("whole", 4): 1.6, ("whole", 8): 2.0}


def main(names: Sequence[str] = DRAFTS) -> None:
    """Drafts, each with its target alone, prompt by prompt in turn: both, or those that are named."""
    rows = []
    for name in names:
        profile = find_profile(None, default_target(), default_draft(name))
        safety = profile.apply(SSDConfig()) if profile else SSDConfig()
        for times in (1, 4, 8) if name == "whole" else (1,):
            plain = load_pair(default_target(), default_draft(name), EngineConfig(prepack=False), quiet)
            rows.append(beside_target(name, times, costlier(plain, times), safety))
            print(rows[-1], flush=True)
    how = f"bf16, one stream, greedy, up to {TOKENS} tokens, {len(texts())} benign prompts"
    note = f"{how}; block size by timed passes"
    some = "" if names == DRAFTS else "-".join(names)
    record, command = (
        (f"drafts-{some}", f"python -m benchmarks.drafts {' '.join(names)}") if some else ("drafts", "")
    )
    show(record, "The default drafts beside their target alone", rows, note, command)


def quiet(stage: str, part: float) -> None:
    """Loading the pair needs no telling here."""


def texts() -> Sequence[str]:
    """Benign prompts that nothing was trained on, and the benchmarks' own."""
    path = DATA / "synthetic_benign.jsonl"
    if not path.is_file():
        return PROMPTS
    return PROMPTS[:PROMPTS_OWN] + [
        p.messages[-1].content for p in user_benign(read_rows(path), "evaluation")[:PROMPTS_READ]
    ]


def costlier(pair: Pair, times: int) -> Pair:
    """The pair with ``times`` as many layers in its target, the new ones without any effect."""
    if times == 1:
        return pair
    network: Any = copy.deepcopy(pair.target.model.model)
    layers = network.get_decoder().layers
    network.get_decoder().layers = nn.ModuleList(idle(layers, times))
    for place, layer in enumerate(network.get_decoder().layers):
        layer.self_attn.layer_idx = place
    network.config.num_hidden_layers = len(network.get_decoder().layers)
    model = CachedModel(network, pair.vocab_size, pair.target.model.max_positions)
    return replace(pair, target=replace(pair.target, model=model))


def idle(layers: nn.ModuleList, times: int) -> Iterator[nn.Module]:
    """Every layer, each followed by copies that add nothing to the residual stream."""
    for layer in layers:
        yield layer
        for _ in range(times - 1):
            extra: Any = copy.deepcopy(layer)
            nn.init.zeros_(extra.self_attn.o_proj.weight)
            nn.init.zeros_(extra.mlp.down_proj.weight)
            yield extra


@torch.inference_mode()
def beside_target(name: str, times: int, pair: Pair, safety: SSDConfig) -> dict[str, Any]:
    """Tokens per second of both, over the same prompts in turn."""
    acceptance = 0.95 if name == "whole" else 0.65  # as calibration measured them, rounded down
    plain: Any = copy.deepcopy(pair.target.model.model)  # the peer, as transformers loads it
    for side in (pair.target, pair.draft):
        prepack(side.model.model)  # as load_pair does for every user
    draft, verify = pass_times(pair)
    safety = safety.model_copy(update={"block_size": choose_block_size(acceptance, draft, verify)})
    engine = Engine(pair, EngineConfig())
    packed: Any = pair.target.model.model
    found: dict[str, list[tuple[int, float]]] = {"alone": [], "packed": [], "ssd": []}
    agreeing = scored = 0
    ended: list[Finished] = []
    for text in texts():
        found["alone"].append(timed(lambda text=text: alone(pair, plain, text)))  # type: ignore[misc]
        found["packed"].append(timed(lambda text=text: alone(pair, packed, text)))  # type: ignore[misc]
        found["ssd"].append(timed(lambda text=text: ssd(engine, text, safety, ended)))  # type: ignore[misc]
        agreeing += ended[-1].summary.agreeing
        scored += ended[-1].summary.scored
    speed = {way: sum(n for n, _ in runs) / sum(s for _, s in runs) for way, runs in found.items()}
    return {
        "draft": name,
        "target's cost": f"x{times}",
        "block": safety.block_size,
        "match ratio": agreeing / max(1, scored),
        "alone, tokens/s": speed["alone"],
        "SSD, tokens/s": speed["ssd"],
        "ratio": speed["ssd"] / speed["alone"],
        "alone with our weights' order, tokens/s": speed["packed"],
        "ratio to that": speed["ssd"] / speed["packed"],
        "aim": AIMS.get((name, times), ""),
    }


def timed(work: Any) -> tuple[int, float]:
    """Tokens and seconds."""
    began = time.perf_counter()
    tokens = work()
    return tokens, time.perf_counter() - began


def alone(pair: Pair, network: Any, text: str) -> int:
    """A target under ``generate``, with caches."""
    ids = torch.tensor([pair.target.renderer.render((ChatMessage("user", text),))])
    out = network.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=TOKENS,
        do_sample=False,
        eos_token_id=sorted(pair.end_ids),
        pad_token_id=min(pair.end_ids),
    )
    return int(out.shape[1] - ids.shape[1])


def ssd(engine: Engine, text: str, safety: SSDConfig, events: list[Finished]) -> int:
    """The engine on the same prompt."""
    request = ChatRequest((ChatMessage("user", text),), sampling=Sampling(max_tokens=TOKENS), safety=safety)
    engine.submit("x", request, 0.0)
    while engine.busy:
        events += [event for _, event in engine.step(0.0) if isinstance(event, Finished)]
    return events[-1].summary.emitted


if __name__ == "__main__":
    main(sys.argv[1:] or DRAFTS)
