"""The model seam: ``extend`` scores new tokens, ``rewind`` and ``keep`` take them back.

Batch first: rows are sequences of different lengths side by side. Tree ready: ``extend`` takes the
parents of the new tokens, ``keep`` the path that was accepted. Nothing above this page knows about
attention masks, and nothing below it about requests.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, UnsupportedModel
from .cache import SlotCache

Parents = Sequence[int]  # index of each new token's parent among the new tokens, -1 for the prefix


class CachedModel:
    """A causal LM of transformers with one cache row per sequence.

    Args:
        model: the network, in evaluation mode.
        vocab_size: logits beyond this are padding of the matrix and are cut off.
        max_positions: the model's context.
    """

    def __init__(self, model: nn.Module, vocab_size: int, max_positions: int) -> None:
        self.model = model
        self.vocab_size = vocab_size
        self.max_positions = max_positions
        config = model.config.get_text_config(decoder=True)  # type: ignore[operator, union-attr]
        self._window, self._by_type = _mask_plan(config)
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._cache_name = cache_argument(model.forward) or "past_key_values"
        self.cache = SlotCache(config.num_hidden_layers)
        self.lengths: list[int] = []
        self._bases: list[int] = []  # lengths before the last extend
        first = next(model.parameters())
        self.device, self.dtype = first.device, first.dtype
        self._zero = torch.zeros((), dtype=self.dtype, device=self.device)
        self._low = torch.full((), torch.finfo(self.dtype).min, dtype=self.dtype, device=self.device)
        self.passes = 0

    @torch.inference_mode()
    def join(self) -> int:
        """Open a row for a new sequence; rows are always 0 to n - 1."""
        self.lengths.append(0)
        self._bases.append(0)
        return len(self.lengths) - 1

    @torch.inference_mode()
    def leave(self, row: int) -> None:
        """Close a row; the last row takes its place, so that rows stay without gaps."""
        last = len(self.lengths) - 1
        if row != last:
            self.cache.move_row(last, row)
        self.cache.clear_row(last)
        for values in (self.lengths, self._bases):
            values[row] = values[last]
            values.pop()
        if not self.lengths:
            self.cache.drop()  # one long conversation must not widen the caches for ever

    def rewind(self, row: int, length: int) -> None:
        """Forget everything from ``length`` on."""
        if not 0 <= length <= self.lengths[row]:
            raise ValueError("a row can only be rewound to a length it has had")
        self.lengths[row] = length

    @torch.inference_mode()
    def keep(self, row: int, path: Sequence[int]) -> None:
        """Keep only these of the last extend's tokens, in order: the accepted path through a tree."""
        base = self._bases[row]
        if list(path) != list(range(len(path))):
            self.cache.pick_columns(row, base, [base + i for i in path])
        self.lengths[row] = base + len(path)

    @torch.inference_mode()
    def extend(
        self,
        tokens: Sequence[Sequence[int]],
        first_row: int = 0,
        parents: Sequence[Parents] | None = None,
        rows_wanted: bool = True,
    ) -> Tensor:
        """Run new tokens through the model, in one forward pass.

        Args:
            tokens: for each of the rows ``first_row, first_row + 1, …`` its new tokens; may be empty.
            first_row: where the rows begin.
            parents: for token trees; a chain if omitted.
            rows_wanted: false when the logits do not matter (prompt prefill).

        Returns:
            logits ``(sum of lengths, V)``, row after row; empty if they were not wanted.
        """
        width = max(len(t) for t in tokens)
        ids, depths, mask = self._lay_out(tokens, first_row, parents, width)
        out = self._forward(ids, depths, mask, rows_wanted)
        self.passes += 1
        for i, new in enumerate(tokens):
            row = first_row + i
            self._bases[row] = self.lengths[row]
            self.lengths[row] += len(new)
        if not rows_wanted:
            return out[:0, 0]
        if all(len(t) == width for t in tokens):
            return out.flatten(0, 1)
        valid = torch.tensor([[j < len(t) for j in range(width)] for t in tokens], device=out.device)
        return out[valid]

    def _forward(self, ids: Tensor, positions: Tensor, mask: Any, rows_wanted: bool) -> Tensor:
        extra = {} if rows_wanted or not self._keeps_logits else {"logits_to_keep": 1}
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            **{self._cache_name: self.cache},
            **extra,
        )
        logits: Tensor = out.logits
        return logits[..., : self.vocab_size]  # (B, W, V)

    def _lay_out(
        self, tokens: Sequence[Sequence[int]], first_row: int, parents: Sequence[Parents] | None, width: int
    ) -> tuple[Tensor, Tensor, Any]:
        """Ids, positions and mask of one forward; rows are padded to ``width`` on the right.

        Padding is written behind a row's end, where nothing looks and the next tokens overwrite it.
        """
        B = len(tokens)
        bases = self.lengths[first_row : first_row + B]
        at = self.cache.placement
        self.cache.reserve(len(self.lengths), max(bases) + width)
        at.first_row, at.rows, at.width = first_row, B, max(bases) + width
        at.uniform = bases[0] if len(set(bases)) == 1 else None
        start = torch.tensor(bases, device=self.device).unsqueeze(1)  # (B, 1)
        at.lanes = torch.arange(B, device=self.device).unsqueeze(1)
        at.columns = start + torch.arange(width, device=self.device)  # (B, W)
        ids = torch.tensor([[*t, *([0] * (width - len(t)))] for t in tokens], device=self.device)
        if parents is None:
            depths, seen = at.columns, self._chain_mask(at.columns, at.width)
        else:
            depths, seen = self._tree_mask(start, parents, width, at.width)
        return ids, depths.clamp_max(self.max_positions - 1), self._attention_masks(seen, depths, start)

    def _chain_mask(self, columns: Tensor, width: int) -> Tensor:
        """``(B, W, L)``: a token sees every column up to its own."""
        return torch.arange(width, device=self.device) <= columns.unsqueeze(-1)

    def _tree_mask(
        self, start: Tensor, parents: Sequence[Parents], width: int, columns: int
    ) -> tuple[Tensor, Tensor]:
        """Depths ``(B, W)`` and mask ``(B, W, L)``: a token sees the prefix, its ancestors and itself."""
        B = len(parents)
        depths = torch.zeros(B, width, dtype=torch.long)
        seen = torch.arange(columns).expand(B, width, columns) < start.cpu().unsqueeze(-1)
        seen = seen.clone()
        for b, tree in enumerate(parents):
            base = int(start[b])
            for i in range(width):
                parent = tree[i] if i < len(tree) else -1
                depths[b, i] = base if parent < 0 else depths[b, parent] + 1
                if parent >= 0:
                    seen[b, i] = seen[b, parent]
                seen[b, i, base + i] = True
        return depths.to(self.device), seen.to(self.device)

    def _attention_masks(self, seen: Tensor, depths: Tensor, start: Tensor) -> Any:
        """Additive masks ``(B, 1, W, L)``, one per attention type where the model has several."""
        full = self._additive(seen)
        if self._window is None:
            return {"full_attention": full} if self._by_type else full
        column = torch.arange(seen.shape[-1], device=self.device).expand(len(depths), -1)  # (B, L)
        # A column of the prefix has its own index as position; a new token has its depth.
        new = (column - start).clamp(0, depths.shape[1] - 1)
        position = torch.where(column < start, column, depths.gather(1, new))
        near = depths.unsqueeze(-1) - position.unsqueeze(1) < self._window
        sliding = self._additive(seen & near)
        return {"full_attention": full, "sliding_attention": sliding} if self._by_type else sliding

    def _additive(self, seen: Tensor) -> Tensor:
        return torch.where(seen, self._zero, self._low).unsqueeze(1)


def cache_argument(forward: Callable[..., Any]) -> str | None:
    """What a model's forward calls its cache: transformers 5.24 renamed it; ``None`` if it takes none."""
    parameters = inspect.signature(forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in parameters), None)


def _mask_plan(config: Any) -> tuple[int | None, bool]:
    """The sliding window, if any, and whether the model wants one mask per attention type."""
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds - {"full_attention", "sliding_attention"}:
        raise UnsupportedModel(
            "this model mixes attention types that cannot be rewound; choose another model"
        )
    window = getattr(config, "sliding_window", None)
    if kinds:
        return (window if "sliding_attention" in kinds else None), True
    return (window if getattr(config, "use_sliding_window", True) else None), False


@torch.inference_mode()
def check_rewind(model: CachedModel) -> None:
    """Prove on a few tokens that batching, rewinding and padding leave the logits unchanged.

    Two rows of different lengths are extended, rewound and extended again, and compared with one pass
    without a cache. This catches every architecture whose positions or masks are not what we pass in.

    Raises:
        UnsupportedModel: they differ.
    """
    tokens = [(7 * i + 3) % model.vocab_size for i in range(min(10, model.max_positions))]
    half = len(tokens) // 2
    refusal = UnsupportedModel("this model's cache does not rewind or batch exactly; choose another model")
    try:
        ids = torch.tensor([tokens], device=model.device)
        plain = model.model(input_ids=ids, use_cache=False).logits[0, :, : model.vocab_size].float()
        model.join(), model.join()
        model.extend([tokens[:half], tokens[:1]], rows_wanted=False)
        model.extend([tokens[:2], tokens[:3]], rows_wanted=False)
        model.rewind(0, half)
        model.rewind(1, 1)
        cached = model.extend([tokens[half:], tokens[1:half]]).float()  # rows of row 0, then of row 1
        model.leave(0), model.leave(0)
    except torch.OutOfMemoryError:
        raise ConfigError(
            "there is no memory left for caches; quantise a model or take a smaller one"
        ) from None
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise refusal from error
    expected = torch.cat([plain[half:], plain[1:half]])
    # Distances are relative to how much the logits vary; half precision differs in its last bits only.
    spread = expected.std().clamp_min(1e-6)
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.25
    if not bool(((cached - expected).abs().amax() / spread) < tolerance):
        raise refusal
