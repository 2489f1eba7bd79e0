"""Which layers a pruned draft keeps: a short measured search instead of a fixed guess.

A handful of layouts is trained for a few thousand tokens each, all on the same data, and the one that ends
closest to the target on held-out answers is kept. How a layout scores *before* any training says next to
nothing once most layers are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .batching import pad
from .examples import Example
from .probe import Probe, agreement_along
from .recipe import DraftRecipe
from .starting import start
from .training import Material, Trainer


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layout and how it did: agreement with the target and KL(target || draft) on held-out answers."""

    name: str
    layers: tuple[int, ...]
    agreement: float
    kl: float


def layouts(depth: int, keep: int, influence: Sequence[float]) -> dict[str, tuple[int, ...]]:
    """Ways to keep ``keep`` of ``depth`` layers; equal ones are listed once.

    Args:
        depth: layers of the target.
        keep: layers of the draft.
        influence: how much each layer changes its input, from :func:`block_influence`.
    """
    keep = min(keep, depth)
    spread = [round(i * (depth - 1) / max(1, keep - 1)) for i in range(keep)]
    last = min(2, keep // 2)
    by_influence = sorted(range(depth), key=lambda i: -influence[i])[:keep]
    found = {
        "evenly spread": spread,
        "first layers, then the last": [*range(keep - last), *range(depth - last, depth)],
        "first two, spread, last two": _ends(depth, keep),
        "most influential": sorted(by_influence),
        "first layers": list(range(keep)),
    }
    unique: dict[tuple[int, ...], str] = {}
    for name, layers in found.items():
        if len(set(layers)) == keep:
            unique.setdefault(tuple(sorted(layers)), name)
    return {name: layers for layers, name in unique.items()}


def _ends(depth: int, keep: int) -> list[int]:
    edge = min(2, keep // 2)
    inner = keep - 2 * edge
    middle = [edge + round((i + 1) * (depth - 2 * edge - 1) / (inner + 1)) for i in range(inner)]
    return [*range(edge), *middle, *range(depth - edge, depth)]


@torch.inference_mode()
def block_influence(model: Any, examples: Sequence[Example]) -> list[float]:
    """One minus the mean cosine between each layer's input and output (Men et al. 2024, "ShortGPT")."""
    batch = pad([e.ids for e in examples])
    real = torch.cat([torch.arange(batch.ids.shape[1]) < n for n in batch.lengths]).to(model.device)
    found: list[float] = []

    def note(layer: Any, inputs: Any, output: Any) -> None:
        before, after = (x.flatten(0, 1)[real].float() for x in (inputs[0], _first(output)))
        found.append(float(1 - torch.cosine_similarity(before, after, dim=-1).mean()))

    hooks = [layer.register_forward_hook(note) for layer in model.get_decoder().layers]
    try:
        model.get_decoder()(input_ids=batch.ids.to(model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


def search(
    recipe: DraftRecipe,
    target: Any,
    material: Material,
    probe: Probe,
    report: Callable[[str, float], None],
) -> list[Candidate]:
    """Train every layout for ``search_tokens`` and rank them; the best comes first.

    Args:
        recipe: ``layers`` says how many to keep.
        target: the target's network.
        material: only its benign part is used.
        probe: held-out answers.
        report: told about the progress.
    """
    influence = block_influence(target, material.benign[:8])
    wanted = layouts(len(influence), recipe.layers or len(influence), influence)
    short = recipe.model_copy(update={"tokens": max(1, recipe.search_tokens), "refusal_share": 0.0})
    found: list[Candidate] = []
    for n, (name, layers) in enumerate(wanted.items()):
        draft = start(short, target, list(layers))
        trainer = Trainer(draft.train(), material, short)
        for step in trainer.run():
            report("which layers", (n + min(1.0, step.tokens / short.tokens)) / len(wanted))
        found.append(Candidate(name, layers, *agreement_along(draft.eval(), probe.benign, probe.rows)))
    return sorted(found, key=lambda c: c.kl)
