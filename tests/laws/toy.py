"""Order-2 Markov chains behind the model seam: distributions small enough to be enumerated."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from langchain_ssd.engine.pair import Pair, Side

V = 6


class ToyModel:
    """Logits depend on the last two tokens only; satisfies the part of the seam the engine uses."""

    def __init__(self, seed: int, base: torch.Tensor | None = None, noise: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        table = torch.randn(V, V, V, generator=generator, dtype=torch.float64) * noise
        self.table = table if base is None else base + table
        self.max_positions = 1000
        self.dtype = torch.float64
        self.lengths: list[int] = []
        self._held: list[list[int]] = []

    def join(self) -> None:
        self.lengths.append(0)
        self._held.append([])

    def leave(self, row: int) -> None:
        self.lengths[row], self._held[row] = self.lengths[-1], self._held[-1]
        self.lengths.pop(), self._held.pop()

    def rewind(self, row: int, length: int) -> None:
        self.lengths[row] = length
        del self._held[row][length:]

    def extend(self, tokens, first_row=0, rows_wanted=True) -> torch.Tensor:  # type: ignore[no-untyped-def]
        last = []
        for i, new in enumerate(tokens):
            held = self._held[first_row + i]
            for token in new:
                held.append(token)
                last.append([0, 0, *held][-2:])
            self.lengths[first_row + i] = len(held)
        index = torch.tensor(last, dtype=torch.long).reshape(-1, 2)
        return self.table[index[:, 0], index[:, 1]]

    def row(self, prefix: list[int]) -> list[float]:
        """Probabilities after a prefix."""
        a, b = [0, 0, *prefix][-2:]
        return self.table[a, b].softmax(-1).tolist()


def toy_pair(seed: int = 0, noise: float = 1.2) -> Pair:
    """A target and a draft that is a noisy copy of it."""
    target = ToyModel(seed)
    draft = ToyModel(seed + 1, target.table, noise)
    renderer = SimpleNamespace(
        tool_format=None,
        control_texts={},
        render=lambda messages, tools=None: [0, 0],
        encode=lambda text: [],
        thinks=False,
        opens_thinking=lambda prompt, prefill: False,
        tokenizer=SimpleNamespace(decode=lambda ids, **_: "x" * len(ids)),
    )
    return Pair(Side("t", target, renderer, frozenset()), Side("d", draft, renderer, frozenset()), V)  # type: ignore[arg-type]
