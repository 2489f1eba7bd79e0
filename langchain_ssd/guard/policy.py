"""What a guarded model of a chain does with refusals, and with answers that are not SSD's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError, RequestRefused

OnRefusal = Literal["return", "replace", "raise"]


@dataclass(frozen=True, slots=True)
class ChainPolicy:
    """What :func:`langchain_ssd.guard.guard` was told.

    Raises:
        ConfigError: an unknown policy, or a replacement that the policy has no use for.
    """

    on_refusal: OnRefusal = "return"
    replacement: str | None = None
    require_ssd: bool = True

    def __post_init__(self) -> None:
        if self.on_refusal not in ("return", "replace", "raise"):
            raise ConfigError("on_refusal must be 'return', 'replace' or 'raise'")
        if (self.on_refusal == "replace") != bool(self.replacement):
            raise ConfigError("give a replacement with on_refusal='replace', and only then")


def refused(reason: str) -> RequestRefused:
    """The error for a refusal, with its reason and none of its words."""
    return RequestRefused(f"the request was refused ({reason or 'refusal'}); do not send it to another model")
