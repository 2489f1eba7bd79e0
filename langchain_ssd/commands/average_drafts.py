"""``langchain-ssd average-drafts``: one draft from several that were trained from one another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .terminal import make_console, stages

EXAMPLES = """
Examples:

  langchain-ssd average-drafts ./first ./second --out ./mean

  langchain-ssd average-drafts ./first ./second ./third --out ./mean
"""


def average_drafts(
    drafts: Annotated[
        list[Path], typer.Argument(help="Folders of two drafts or more, of one base.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new draft; empty, or not there yet.")],
) -> None:
    """Average the weights of drafts that were trained further from one another.

    The drafts must lie close together: train them with --set adapter=FOLDER, each from another one of them.
    """
    from ..drafts.average import average

    console = make_console()
    with stages(console) as report:
        size = average(drafts, out, report)
    console.print(f"The draft is ready: {size / 1e6:.1f} MB. Calibrate it next:", style="green")
    console.print(
        f"  langchain-ssd calibrate {_target(out)}--draft {out} --out {out / 'profile.json'}",
        markup=False,
        soft_wrap=True,
    )


def _target(out: Path) -> str:
    """The option that a draft of another base needs: its card does not know for which target it is."""
    from ..draft_folder import read_card

    card = read_card(out)
    return "" if card is not None and card.base == "default" else "--target TARGET "
