"""Two loaded models that speak the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from ..tool_formats import DEFAULT, ToolFormat
from .models import CachedModel
from .refusal_tokens import refusal_ids
from .rendering import Renderer


@dataclass(frozen=True, slots=True)
class Side:
    """One model of the pair: its network with a cache, its rendering, its end tokens."""

    name: str
    model: CachedModel
    renderer: Renderer
    end_ids: frozenset[int]

    def info(self) -> dict[str, Any]:
        """A JSON-able description."""
        return {
            "name": self.name,
            "device": str(self.model.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "context": self.model.max_positions,
        }


@dataclass(frozen=True)
class Pair:
    """A target and its draft. ``shared``: both use the same weights, held once."""

    target: Side
    draft: Side
    vocab_size: int
    shared: bool = False

    @property
    def end_ids(self) -> frozenset[int]:
        """Any token that ends a turn for either model."""
        return self.target.end_ids | self.draft.end_ids

    @cached_property
    def refusal_ids(self) -> tuple[int, ...]:
        """Tokens that open a refusal: what the draft moves to them is evidence of an attack."""
        return refusal_ids(self.target.renderer, self.vocab_size)

    @property
    def tool_format(self) -> ToolFormat:
        """How both models are asked to write calls: the target's way."""
        return self.target.renderer.tool_format or DEFAULT

    def decode_calls(self, ids: Sequence[int]) -> str:
        """Like :meth:`decode`, but with the control tokens that mark calls to tools."""
        known = self.target.renderer.control_texts
        marks = {known[mark]: mark for mark in self.tool_format.markers if mark in known}
        parts: list[str] = []
        for marked, run in groupby(ids, marks.__contains__):
            same = list(run)
            parts += [marks[i] for i in same] if marked else [self.decode(same)]
        return "".join(parts)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, without control tokens."""
        tokenizer = self.target.renderer.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is not None:
            text: str = backend.decode(list(ids), skip_special_tokens=True)
            return text
        return str(tokenizer.decode(list(ids), skip_special_tokens=True))

    def info(self) -> dict[str, Any]:
        """A JSON-able description."""
        return {
            "target": self.target.info(),
            "draft": self.draft.info(),
            "vocab_size": self.vocab_size,
            "shared_weights": self.shared,
            "tool_format": self.tool_format.name,
        }
