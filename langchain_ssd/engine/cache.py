"""Keys and values of many sequences side by side, each with its own length.

The caches of transformers cut all rows of a batch alike. Here every sequence owns a row, writes at its
own columns, and is rewound by forgetting how long it was: nothing is moved or recomputed. What a query
may see is decided by a mask built from positions, so sliding windows need no cache of their own and a
row can be rewound past a window's edge. The price: sliding layers keep their whole context.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

_ROUND = 128  # columns are allocated in multiples of this


class Placement:
    """Where the running forward writes and how far it reads; shared by all layers of one model."""

    def __init__(self) -> None:
        self.first_row = 0
        self.rows = 0
        self.columns = torch.empty(0, dtype=torch.long)  # (B, W) columns the new tokens go to
        self.lanes = torch.empty(0, dtype=torch.long)  # (B, 1) rows, counted from the first
        self.uniform: int | None = None  # the first column, when all rows write at the same ones
        self.width = 0  # columns that are read
        self.capacity = (0, 0)  # rows and columns every layer must hold


class SlotLayer(CacheLayerMixin):
    """One layer's storage: ``(rows, heads, columns, head_dim)``, allocated at the first write."""

    is_sliding = False
    is_croppable = True

    def __init__(self, placement: Placement) -> None:
        super().__init__()
        self.placement = placement

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take shapes, dtype and device from the first states; zeros, so that no stale NaN is ever read."""
        rows, columns = self.placement.capacity
        for name, states in (("keys", key_states), ("values", value_states)):
            heads, dim = states.shape[1], states.shape[3]
            setattr(self, name, states.new_zeros(rows, heads, columns, dim))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write the new states ``(B, H, W, D)`` and return everything the queries may look at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self._write(self.keys, key_states), self._write(self.values, value_states)

    def _write(self, store: Tensor | None, states: Tensor) -> Tensor:
        at = self.placement
        if store is None:
            raise RuntimeError("the layer has no storage")
        view = store[at.first_row : at.first_row + at.rows]  # (B, H, C, D)
        if at.uniform is not None:
            view[:, :, at.uniform : at.uniform + states.shape[2]] = states
        else:
            lanes, columns = at.lanes.to(store.device), at.columns.to(store.device)
            view[lanes, :, columns] = states.transpose(1, 2)  # (B, W) pairs of row and column
        return view[:, :, : at.width]

    def grow(self, rows: int, columns: int) -> None:
        """Make room, keeping what is stored."""
        for name in ("keys", "values"):
            old = getattr(self, name)
            if old is not None and (old.shape[0] < rows or old.shape[2] < columns):
                rows, columns = max(rows, old.shape[0]), max(columns, old.shape[2])
                new = old.new_zeros(rows, old.shape[1], columns, old.shape[3])
                new[: old.shape[0], :, : old.shape[2]] = old
                setattr(self, name, new)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Only asked for by code that builds its own mask; ours is passed in."""
        return self.placement.width, 0

    def get_seq_length(self) -> int:
        """No common length exists; positions are always passed explicitly."""
        return 0

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1


class SlotCache(Cache):
    """The layers of one model, and the verbs that act on whole rows."""

    def __init__(self, layers: int) -> None:
        self.placement = Placement()
        super().__init__(layers=[SlotLayer(self.placement) for _ in range(layers)])

    def _stores(self) -> list[Tensor]:
        return [t for layer in self.layers for t in (layer.keys, layer.values) if t is not None]

    def reserve(self, rows: int, columns: int) -> None:
        """Hold at least so many rows and columns; grows by doubling."""
        have_rows, have_columns = self.placement.capacity
        if rows <= have_rows and columns <= have_columns:
            return
        if rows > have_rows:
            have_rows = max(rows, 2 * have_rows)
        if columns > have_columns:
            have_columns = -(-max(columns, have_columns * 3 // 2) // _ROUND) * _ROUND
        for layer in self.layers:  # memory may run out in between: what has grown stays, and is not lost
            layer.grow(have_rows, have_columns)
        self.placement.capacity = (have_rows, have_columns)

    def drop(self) -> None:
        """Give all memory back; the next write allocates anew."""
        self.placement.capacity = (0, 0)
        for layer in self.layers:
            layer.keys = layer.values = None
            layer.is_initialized = False

    def move_row(self, source: int, target: int) -> None:
        """Copy one row over another; a row that was never written has no storage yet."""
        for store in self._stores():
            store[target] = store[source] if source < len(store) else 0

    def clear_row(self, row: int) -> None:
        """Forget a row's content: the next request must find nothing of this one."""
        for store in self._stores():
            store[row : row + 1] = 0

    def pick_columns(self, row: int, start: int, picked: list[int]) -> None:
        """Compact a row: the columns ``picked`` become ``start, start + 1, …`` (a path through a tree)."""
        for store in self._stores():
            index = torch.tensor(picked, device=store.device)
            store[row, :, start : start + len(picked)] = store[row].index_select(1, index)

    @property
    def nbytes(self) -> int:
        """Bytes held by all layers."""
        return sum(store.nbytes for store in self._stores())
