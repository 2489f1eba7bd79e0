"""The composite of 64 pairs of rows of 50,000 entries, against one forward pass of the default target."""

from __future__ import annotations

import torch

from langchain_ssd.decoding.composite import sample_spaces, weigh

from .common import median_seconds, show
from .pair import default_pair, one_token_forward

PAIRS, VOCAB = 64, 50_000


@torch.inference_mode()
def main() -> None:
    """Time it for draft rows near to and far from the target's."""
    forward = one_token_forward(default_pair())
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(PAIRS, VOCAB, generator=generator) * 3
    rows = []
    for name, noise in (("near", 0.3), ("usual", 1.0), ("unrelated", None)):
        drawn = torch.randn(PAIRS, VOCAB, generator=generator)
        other = 3 * drawn if noise is None else logits + noise * drawn
        p_target, p_draft = logits.softmax(-1), other.softmax(-1)

        def work(p_target: torch.Tensor = p_target, p_draft: torch.Tensor = p_draft) -> None:
            spaces = sample_spaces(p_target, p_draft, 10)
            weigh(spaces.utility, 0.3)
            weigh(spaces.safety, 0.8)

        seconds = median_seconds(work, runs=40)
        rows.append(
            {"draft rows": name, "both schemes, ms": seconds * 1e3, "of one forward": seconds / forward}
        )
    note = f"one forward of one token (bf16, 200 cached): {forward * 1e3:.1f} ms; must stay below 1"
    show("composite", f"Composite of {PAIRS} pairs of rows of {VOCAB:,} entries", rows, note)
