"""The target's distributions along its own answers, stored once: the largest logits and the row's total.

A draft is distilled for many passes over the same answers, and a pass of the target costs more than a pass
of a small draft; so the target is asked once. A row is kept as its ``K`` largest logits and its log-sum-exp,
from which their exact probabilities and the mass of everything else follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2s
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .batching import pack_batches, pad
from .forward import rows_at

TOP = 32
_SHARD = 256  # sequences in a file: what an interruption can lose at most


class TopRows(NamedTuple):
    """``N`` rows of a teacher.

    Attributes:
        ids: ``(N, K)`` int32 token ids, largest first.
        log_probs: ``(N, K)`` their log-probabilities, float16 or float32.
    """

    ids: Tensor
    log_probs: Tensor


@torch.inference_mode()
def top_rows(model: Any, sequences: Sequence[Sequence[int]], starts: Sequence[int], k: int) -> list[TopRows]:
    """One pass over a batch of sequences.

    Args:
        model: a causal LM of transformers.
        sequences: token ids.
        starts: for each sequence, the index of its first token that matters; the rows that *predict* the
            tokens from there on are returned.
        k: entries kept per row.
    """
    batch = pad(sequences)
    spans = [(s - 1, n - 1) for s, n in zip(starts, batch.lengths, strict=True)]
    rows = rows_at(model, batch.ids.to(model.device), spans).float()  # (N, V)
    top = rows.topk(k, dim=-1)
    log_probs = (top.values - rows.logsumexp(dim=-1, keepdim=True)).half().cpu()
    counts = [end - start for start, end in spans]
    parts = zip(torch.split(top.indices.int().cpu(), counts), torch.split(log_probs, counts), strict=True)
    return [TopRows(*part) for part in parts]


def sequence_key(ids: Sequence[int], start: int) -> str:
    """What a sequence is called in a store: the same tokens are never asked for twice."""
    return blake2s(repr((start, list(ids))).encode(), digest_size=12).hexdigest()


class TeacherStore:
    """A folder of shards; sequences are known by a key and written once.

    Args:
        folder: created if missing. Shards of an earlier run are found again.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._where: dict[str, Path] = {}
        for shard in sorted(folder.glob("teacher-*.safetensors")):
            with safe_open(shard, "pt") as file:
                self._where |= {name[:-4]: shard for name in file.keys() if name.endswith(".ids")}  # noqa: SIM118

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def __len__(self) -> int:
        return len(self._where)

    def load(self) -> dict[str, TopRows]:
        """Everything stored, in memory: about 130 bytes a position."""
        found: dict[str, TopRows] = {}
        for shard in sorted(set(self._where.values())):
            with safe_open(shard, "pt") as file:
                for key in [k for k, at in self._where.items() if at == shard]:
                    found[key] = TopRows(file.get_tensor(key + ".ids"), file.get_tensor(key + ".log"))
        return found

    def write(self, rows: dict[str, TopRows]) -> None:
        """Add a shard; it is there whole or not at all."""
        tensors = {k + ".ids": r.ids.contiguous() for k, r in rows.items()}
        tensors |= {k + ".log": r.log_probs.contiguous() for k, r in rows.items()}
        numbers = [int(p.stem.rpartition("-")[2]) for p in self._folder.glob("teacher-*.safetensors")]
        shard = self._folder / f"teacher-{max(numbers, default=-1) + 1:05d}.safetensors"
        partial = shard.with_suffix(".tmp")
        save_file(tensors, partial)
        partial.replace(shard)
        self._where |= dict.fromkeys(rows, shard)


def store_top_rows(
    model: Any,
    wanted: Sequence[tuple[Sequence[int], int]],
    store: TeacherStore,
    *,
    budget: int = 2048,
    k: int = TOP,
    progress: Callable[[int], None] = lambda tokens: None,
) -> None:
    """Ask the teacher about every sequence that the store does not know yet.

    Args:
        model: the teacher.
        wanted: token ids, and the index of the first token that matters.
        store: where the rows go, in order, so that an interrupted run keeps what it had.
        budget: positions of one pass.
        k: entries kept per row.
        progress: called with the tokens of each pass.
    """
    keyed = {
        key: (key, ids, start) for ids, start in wanted if (key := sequence_key(ids, start)) not in store
    }
    missing = list(keyed.values())
    for shard in _shards(missing):
        rows: dict[str, TopRows] = {}
        for batch in pack_batches([len(ids) for _, ids, _ in shard], budget):
            items = [shard[i] for i in batch]
            found = top_rows(model, [ids for _, ids, _ in items], [start for *_, start in items], k)
            rows |= {key: row for (key, *_), row in zip(items, found, strict=True)}
            progress(sum(len(ids) for _, ids, _ in items))
        store.write(rows)


def _shards(
    items: Sequence[tuple[str, Sequence[int], int]],
) -> Iterator[Sequence[tuple[str, Sequence[int], int]]]:
    for at in range(0, len(items), _SHARD):
        yield items[at : at + _SHARD]
