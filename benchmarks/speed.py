"""Tokens per second of SSD beside the target alone under ``generate``, same threads, same run."""

from __future__ import annotations

import time

import torch

from langchain_ssd.backend import ChatMessage

from .common import PROMPTS, show
from .pair import default_pair, plain_pair
from .published import TOKENS, ours


@torch.inference_mode()
def main() -> None:
    """One stream, greedy. The default draft is as large as the target: no gain is possible."""
    pair = default_pair()
    plain_pair()
    alone = ssd = 0.0
    for text in PROMPTS[:2]:
        ids = torch.tensor([pair.target.renderer.render((ChatMessage("user", text),))])
        began = time.perf_counter()
        plain_pair().target.model.model.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=TOKENS,
            min_new_tokens=TOKENS,
            do_sample=False,
        )
        alone += time.perf_counter() - began
        began = time.perf_counter()
        ours(pair, text)
        ssd += time.perf_counter() - began
    total = TOKENS * 2
    rows = [
        {"way": "target alone, generate", "tokens/s": total / alone, "ratio": 1.0},
        {"way": "SSD, default pair", "tokens/s": total / ssd, "ratio": alone / ssd},
    ]
    note = "bf16, one stream, 256 tokens; the default draft is as large as the target, so SSD is slower here"
    show("speed", "Speed beside the target alone", rows, note)
