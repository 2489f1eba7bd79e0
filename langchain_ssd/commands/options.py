"""Options that several commands have, and what they mean."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..config import ModelSpec


class Monitor(StrEnum):
    """Which risk monitor decides the mode."""

    paper = "paper"
    sequential = "sequential"


TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target", help="Target model: hub name, local folder or GGUF file.", show_default="default pair"
    ),
]
DraftOption = Annotated[
    str | None,
    typer.Option(
        "--draft",
        help="Draft model: hub name, local folder or GGUF file; 'whole' and 'slim' come with the package.",
        show_default="default pair",
    ),
]
MonitorOption = Annotated[
    Monitor | None,
    typer.Option("--monitor", help="Risk monitor.", show_default="the pair's profile decides, else paper"),
]
TemperatureOption = Annotated[float, typer.Option("--temperature", min=0.0, max=100.0, help="0 is greedy.")]


def monitor_settings(monitor: Monitor | None) -> dict[str, str]:
    """The monitor as a setting, if one was chosen."""
    return {"monitor": monitor.value} if monitor else {}


def named(model: str | None) -> str | ModelSpec:
    """A model as typed on the command line, as ``ChatSSD`` takes it; a GGUF file becomes folder and name."""
    from ..config import ModelSpec
    from ..pairs import DEFAULT, SHIPPED

    if model is None or model in SHIPPED:
        return model or DEFAULT
    path = Path(model)
    if path.suffix == ".gguf" and path.is_file():
        return ModelSpec(name=str(path.parent), gguf_file=path.name)
    return ModelSpec(name=model)
