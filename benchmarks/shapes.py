"""``python -m benchmarks.shapes``: which slim draft to train, by short runs on the same data.

For every shape: agreement with the target and KL on held-out answers after the same number of tokens, what a
pass of the draft costs, and the speed that both together promise. Where the hidden states are matched, the
draft's layers also learn to give what the target's give at the same depth.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from langchain_ssd.calibration.speed import choose_block_size, tokens_per_pass
from langchain_ssd.drafts.batching import pad
from langchain_ssd.drafts.default_pair import default_target
from langchain_ssd.drafts.examples import Example
from langchain_ssd.drafts.probe import agreement_along
from langchain_ssd.drafts.pruning import block_influence, layouts
from langchain_ssd.drafts.recipe import DraftRecipe
from langchain_ssd.drafts.run import Run, Sources
from langchain_ssd.drafts.starting import start
from langchain_ssd.drafts.store import cache_folder
from langchain_ssd.drafts.training import Counts, Material, Trainer
from langchain_ssd.engine.models import CachedModel

from .common import median_seconds, show

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SENSITIVE = ("malicious-uses", "information-hazard", "hateful")  # as the drafts themselves, to share a shelf
DEPTHS = (4, 6, 8, 12, 15)
DETAILED = 8  # layers at which layouts, methods and matching are compared


class MatchedTrainer(Trainer):
    """Also pulls every kept layer's output towards the target's at the same depth."""

    target: Any = None
    layers: tuple[int, ...] = ()

    def _backward(self, examples: list[Example], counts: Counts) -> None:
        super()._backward(examples, counts)
        ids = pad([e.ids for e in examples]).ids
        with torch.no_grad():
            wanted = self.target.get_decoder()(input_ids=ids, use_cache=False, output_hidden_states=True)
        with self._precision():
            decoder = self.model.get_decoder()
            found = decoder(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states
        pairs = [(found[n + 1], wanted.hidden_states[i + 1]) for n, i in enumerate(self.layers)]
        losses = [((a.float() - b.float()).pow(2).mean() / b.float().pow(2).mean()) for a, b in pairs]
        (torch.stack(losses).mean() * sum(len(e.ids) for e in examples) / self.recipe.step_tokens).backward()


def main() -> None:
    """Run every shape and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shapes", description=__doc__)
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--shelf", type=Path, default=cache_folder() / "shelf")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    args = parser.parse_args()
    recipe = DraftRecipe(
        method="full",
        tokens=args.tokens,
        refusal_share=0.0,
        own_texts=0.0,  # nothing but the file's prompts, whose answers are known
        wrapped_benign=0,
        opened_benign=0,
        learning_rate=args.learning_rate,
        layers=DETAILED,
    )
    sources = Sources((args.data / "synthetic_benign.jsonl",), (args.data / "train_unsafe.jsonl",), SENSITIVE)
    run = Run(default_target(), recipe, sources, args.shelf, args.shelf, lambda stage, part: None)
    material = run.collect()
    influence = block_influence(run.teacher.model, material.benign[:8])
    verify = passes(run.teacher.model, run, [1, 2, 3, 4, 5, 6, 7, 8])
    rows = [
        shape(run, material, verify, name, layers, method, matched)
        for name, layers, method, matched in shapes(len(influence), influence)
    ]
    note = f"{args.tokens:,} tokens each, nothing but distillation; a target's pass takes {verify[0]:.4f} s"
    show("shapes", "Shapes of a slim draft", rows, note, "python -m benchmarks.shapes")


def shapes(depth: int, influence: list[float]) -> list[tuple[str, tuple[int, ...], str, bool]]:
    """Every shape: its name, its layers, what of it is trained, whether hidden states are matched."""
    found = []
    for keep in DEPTHS:
        wanted = layouts(depth, keep, influence)
        # Of four layers the first two and the last two are all there are, under another name.
        usual = "first two, spread, last two" if keep > DEPTHS[0] else "first layers, then the last"
        names = list(wanted) if keep == DETAILED else [usual]
        found += [(name, wanted[name], "full", False) for name in names]
    chosen = layouts(depth, DETAILED, influence)["first two, spread, last two"]
    found.append(("first two, spread, last two", chosen, "lora", False))
    found.append(("first two, spread, last two", chosen, "full", True))
    return found


def shape(
    run: Run,
    material: Material,
    verify: list[float],
    name: str,
    layers: tuple[int, ...],
    method: str,
    matched: bool,
) -> dict[str, Any]:
    """Train one shape for the recipe's tokens and measure it."""
    recipe = run.recipe.model_copy(update={"method": method, "rank": 64 if method == "lora" else 16})
    draft = start(recipe, run.teacher.model, list(layers))
    trainer = (MatchedTrainer if matched else Trainer)(draft.train(), material, recipe)
    if isinstance(trainer, MatchedTrainer):
        trainer.target, trainer.layers = run.teacher.model, layers
    began = time.monotonic()
    for _ in trainer.run():
        pass
    seconds = time.monotonic() - began
    agreement, kl = agreement_along(draft.eval(), run.probe.benign, run.probe.rows)
    cost = passes(draft, run, [1])[0]
    g = choose_block_size(agreement, cost, verify)
    row = {
        "layers": len(layers),
        "layout": name,
        "trained": method,
        "hidden states": "matched" if matched else "",
        "agreement": agreement,
        "KL": kl,
        "pass, ms": cost * 1000,
        "best block": g,
        "promised speed": tokens_per_pass(agreement, g) / (g * cost + verify[g - 1]) * verify[0],
        "training tokens/s": trainer.progress.tokens / seconds,
    }
    print(row, flush=True)
    return row


def passes(network: Any, run: Run, widths: list[int]) -> list[float]:
    """Median seconds of a pass of so many tokens behind 64 others."""
    model = CachedModel(network.eval(), run.teacher.cached.vocab_size, run.teacher.cached.max_positions)
    row = model.join()
    model.extend([[5] * 64], first_row=row, rows_wanted=False)

    def once(n: int) -> None:
        model.extend([[7] * n], first_row=row)
        model.rewind(row, 64)

    return [median_seconds(lambda n=n: once(n), runs=9) for n in widths]  # type: ignore[misc]


if __name__ == "__main__":
    main()
