"""Several drafts that were trained from one another, averaged into one.

A "model soup": Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
accuracy without increasing inference time", ICML 2022. Of adapters the factors are averaged, not their
products: ``mean(up) @ mean(down)`` is near the mean of ``up @ down`` only for adapters that lie close
together, as those do that were trained further from one another (``--set adapter=FOLDER``). Adapters that
started apart have nothing in common factor by factor; their mean is no draft.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..draft_folder import CARD, DraftCard, read_card
from ..engine.delta import WEIGHTS
from ..engine.packing import GROUP, Encoding, pack, unpack
from ..errors import ConfigError, ModelNotFound
from .finish import Report, tokens_before
from .store import move_into_place

_CONFIG = "config.json"
_RANK = ".rank"
_SAME = {
    "base": "base model",
    "base_fingerprint": "base model",
    "layers": "choice of layers",
    "chat_template": "chat template",
}
"""What the cards must agree on, and what an error calls it."""


@dataclass(frozen=True)
class _Draft:
    """A draft's folder as it was read, and what errors call it."""

    title: str
    card: DraftCard
    parts: dict[str, Tensor]

    @property
    def names(self) -> list[str]:
        """The packed tensors, without the endings of their encodings."""
        return sorted({part.rsplit(".", 1)[0] for part in self.parts if not part.endswith(_RANK)})

    @property
    def ranks(self) -> dict[str, list[int]]:
        """The ranks of adapters by the weight's name; empty for other differences."""
        return {name: part.tolist() for name, part in self.parts.items() if name.endswith(_RANK)}


def average(folders: Sequence[Path], out: Path, report: Report) -> int:
    """Write the mean of drafts as a new draft; returns the bytes of its weights.

    Args:
        folders: drafts of one base that ``train-draft`` wrote as differences; each counts the same.
        out: the new draft's folder; it must be empty or not be there.
        report: told about every stage.

    Raises:
        ConfigError: a folder cannot be read, the drafts are too unlike, or ``out`` cannot be written.
    """
    _check_empty(out)
    if len(folders) < 2:
        raise ConfigError("there is nothing to average; give the folders of two drafts or more")
    report("reading the drafts", 0.0)
    drafts = [_read(folder, f"draft {n} of {len(folders)}") for n, folder in enumerate(folders, start=1)]
    for other in drafts[1:]:
        _check_alike(drafts[0], other)
    names = drafts[0].names
    mean = {name: part for name, part in drafts[0].parts.items() if name.endswith(_RANK)}
    for done, name in enumerate(names):
        report("averaging", done / len(names))
        mean |= _mean(name, drafts)
    return _write(mean, _card(drafts, max(tokens_before(str(f)) for f in folders)), folders[0], out)


def _check_empty(out: Path) -> None:
    try:
        empty = not out.exists() or not any(out.iterdir())
    except OSError:
        empty = False
    if not empty:
        raise ConfigError("the folder given with --out is there already, and not empty; name another one")


def _read(folder: Path, title: str) -> _Draft:
    card = read_card(folder)
    if card is None:
        raise ConfigError(
            f"{title} has no {CARD}; give folders that train-draft wrote, and not with --storage whole"
        )
    if not (folder / _CONFIG).is_file():
        raise ModelNotFound(f"{title} has no {_CONFIG}; train or fetch it again")
    try:
        draft = _Draft(title, card, load_file(folder / WEIGHTS))
    except (OSError, SafetensorError):
        raise ModelNotFound(f"the weights of {title} cannot be read; train or fetch it again") from None
    if not draft.names:
        raise ModelNotFound(f"{title} holds no weights; train or fetch it again")
    return draft


def _check_alike(first: _Draft, other: _Draft) -> None:
    unlike = [
        word for field, word in _SAME.items() if getattr(first.card, field) != getattr(other.card, field)
    ]
    if first.names != other.names:
        unlike.append("set of changed weights")
    if first.ranks != other.ranks:
        unlike.append("rank")
    if unlike:
        raise _apart(f"{other.title} has another {unlike[0]} than the first")


def _apart(problem: str) -> ConfigError:
    return ConfigError(f"{problem}; average drafts that were trained further from one another")


def _mean(name: str, drafts: Sequence[_Draft]) -> dict[str, Tensor]:
    """The mean of one tensor, packed as the first draft packs it."""
    shape = _shape(name, drafts)
    values = torch.stack([_values(name, draft, shape) for draft in drafts])
    return pack(name, values.mean(dim=0), _encoding(name, drafts[0]))


def _shape(name: str, drafts: Sequence[_Draft]) -> torch.Size:
    """The shape if a draft tells it; groups tell only how many numbers there are, padding included."""
    for draft in drafts:
        if f"{name}.f16" in draft.parts:
            return draft.parts[f"{name}.f16"].shape
    scale = drafts[0].parts.get(f"{name}.scale")
    return torch.Size((scale.numel() * GROUP if scale is not None else 0,))


def _values(name: str, draft: _Draft, shape: torch.Size) -> Tensor:
    wrong = _apart(f"{draft.title} has weights of another shape than the rest")
    stored = draft.parts.get(f"{name}.f16")
    if stored is not None and stored.shape != shape:  # it would fit by its number of values
        raise wrong
    try:
        return unpack(name, draft.parts, shape)
    except (KeyError, ValueError, RuntimeError):
        raise wrong from None


def _encoding(name: str, draft: _Draft) -> Encoding:
    """Of one tensor, as vectors are stored otherwise than the card says of matrices."""
    if f"{name}.f16" in draft.parts:
        return "float16"
    return "int8" if f"{name}.q8" in draft.parts else "int4"


def _card(drafts: Sequence[_Draft], before: int) -> DraftCard:
    """The first draft's card with how all were made, and the tokens of the longest line of runs behind it."""
    parts = [{"weight": 1 / len(drafts), "made": draft.card.made} for draft in drafts]
    made = {"averaged": parts, "trained": {"tokens": 0, "before": before}}
    return drafts[0].card.model_copy(update={"made": made})


def _readme(card: DraftCard) -> str:
    """The card for people."""
    kept = "all" if card.layers is None else f"{len(card.layers)} of the base's ({list(card.layers)})"
    return (
        "# A safety draft for Speculative Safety-Aware Decoding\n\n"
        "Made by `langchain-ssd average-drafts`. Use it as `ChatSSD(target=..., draft=THIS_FOLDER)`, after "
        "`langchain-ssd calibrate`. It is no assistant of its own.\n\n"
        f"- layers: {kept}; stored as {card.encoding}\n"
        f"- the mean of {len(card.made['averaged'])} drafts, with the same weight each\n"
        f"- trained on {card.made['trained']['before']:,} tokens in the longest line of runs behind it\n\n"
        "The mean itself has not been measured: the figures in `draft.json` are those of its parts.\n"
    )


def _write(mean: dict[str, Tensor], card: DraftCard, first: Path, out: Path) -> int:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="partial-", dir=out.parent) as staging:
            built = Path(staging) / "draft"
            built.mkdir()
            save_file({name: part.contiguous() for name, part in mean.items()}, built / WEIGHTS)
            (built / WEIGHTS).chmod(0o644)  # written for the owner only, which breaks folders that are shared
            shutil.copyfile(first / _CONFIG, built / _CONFIG)
            text = card.model_dump_json(indent=2, exclude_none=True) + "\n"
            (built / CARD).write_text(text, encoding="utf-8")
            (built / "README.md").write_text(_readme(card), encoding="utf-8")
            return (move_into_place(built, out, Path(staging)) / WEIGHTS).stat().st_size
    except (OSError, SafetensorError):
        raise ConfigError("--out cannot be written; choose another folder") from None
