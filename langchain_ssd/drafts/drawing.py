"""Which examples make up a training step: a function of the recipe, the step's number and the tokens so far.

So a run can be foretold, and the target is asked only for rows that will be looked at.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .examples import Example
from .recipe import DraftRecipe

if TYPE_CHECKING:
    from .training import Material


def draw_step(material: Material, recipe: DraftRecipe, step: int, tokens: int) -> list[Example]:
    """Examples of one step: refusals up to their share, benign text for the rest.

    Args:
        material: what can be drawn.
        recipe: shares, sizes and the seed.
        step: the step's number.
        tokens: tokens of all steps before it.
    """
    rng = random.Random(f"{recipe.seed}/{step}")
    recovering = tokens < recipe.recover * recipe.tokens
    share = 0.0 if recovering or not material.unsafe else recipe.refusal_share
    examples: list[Example] = []
    while sum(len(e.ids) for e in examples) < share * recipe.step_tokens:
        examples.append(material.maker.draw(material.unsafe, rng))
    examples.append(_calm(material, recipe, rng))  # there is always one, however long the refusals were
    while sum(len(e.ids) for e in examples) < recipe.step_tokens:
        examples.append(_calm(material, recipe, rng))
    return examples


def foretell(material: Material, recipe: DraftRecipe) -> Iterator[Example]:
    """All benign examples of a run, each once."""
    step = tokens = 0
    seen: set[int] = set()
    while tokens < recipe.tokens:
        examples = draw_step(material, recipe, step, tokens)
        for e in examples:
            if not e.refusal and id(e) not in seen:  # the same objects come again and again
                seen.add(id(e))
                yield e
        step, tokens = step + 1, tokens + sum(len(e.ids) for e in examples)


def _calm(material: Material, recipe: DraftRecipe, rng: random.Random) -> Example:
    """A benign example; special ones come more often than their number."""
    special = material.special if rng.random() < recipe.special_share else ()
    return rng.choice(special or material.benign)
