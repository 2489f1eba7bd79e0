"""What ``draft.json`` says: that a folder holds a draft as differences to another model, and to which.

Read by the parent process, which imports neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from .config import ModelSpec, Settings
from .errors import ConfigError

CARD = "draft.json"
_GREATEST = 1_000_000  # bytes


class DraftCard(Settings):
    """A trained draft: how to put it together, and how it was made."""

    format: Literal[1] = 1
    base: ModelSpec | Literal["default"] = Field(description="The model that the differences are added to.")
    base_fingerprint: str | None = Field(None, max_length=64, description="Of the base's files, if local.")
    layers: tuple[int, ...] | None = Field(None, description="The base's layers that the draft keeps; all.")
    encoding: Literal["int4", "int8", "float16"] = Field("int8", description="How differences are stored.")
    chat_template: str | None = Field(None, description="Used where the user gives none.")
    made: dict[str, Any] = Field(default_factory=dict, description="Recipe, data, seeds, measured quality.")


def read_card(folder: Path) -> DraftCard | None:
    """The card of a draft's folder; ``None`` if it is not such a folder.

    Raises:
        ConfigError: there is a card, and it cannot be understood.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8") if path.stat().st_size <= _GREATEST else ""
        return DraftCard.model_validate_json(text)
    except (OSError, UnicodeDecodeError, ValidationError):
        raise ConfigError(f"{CARD} of this draft cannot be read; train or fetch the draft again") from None


def with_base(spec: ModelSpec, default_base: ModelSpec | None) -> ModelSpec:
    """A draft's spec with the base its folder names; other models come back as they are.

    Args:
        spec: as the user gave it; a base or template of the user's own wins.
        default_base: what ``"default"`` stands for; ``None`` if it is not set up.

    Raises:
        ConfigError: the card cannot be read.
    """
    card = read_card(Path(spec.name))
    if card is None:
        return spec
    base = spec.base or (default_base if card.base == "default" else card.base)
    return spec.model_copy(update={"base": base, "chat_template": spec.chat_template or card.chat_template})
