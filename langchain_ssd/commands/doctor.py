"""``langchain-ssd doctor``: will this pair work here, and if not, what to do about it. Loads no weights."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from .options import DraftOption, TargetOption, named
from .terminal import make_console

if TYPE_CHECKING:
    from .checks import Check

_LOOKS = {"ok": ("ok", "green"), "warn": ("note", "yellow"), "fail": ("FAIL", "bold red")}


def doctor(target: TargetOption = None, draft: DraftOption = None) -> None:
    """Check a pair of models: vocabularies, architectures, templates, weights, memory, devices, contexts.

    Exits with 1 if something would stop the pair from working. No weights are loaded.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # advice is printed below, not in a log
    from .checks import examine

    console = make_console()
    with console.status("looking at both models"):
        checks = examine(named(target), named(draft))
    console.print(_table(checks))
    failed = sum(check.status == "fail" for check in checks)
    if failed:
        console.print(
            f"{failed} check(s) failed: this pair will not work until they are mended.", style="red"
        )
        raise typer.Exit(1)
    console.print("This pair can work here.", style="green")


def _table(checks: list[Check]) -> Table:
    table = Table(show_lines=False, header_style="bold")
    for name in ("check", "", "found", "what to do"):
        table.add_column(name, overflow="fold")
    for check in checks:
        word, style = _LOOKS[check.status]
        table.add_row(Text(check.name), Text(word, style=style), Text(check.found), Text(check.advice))
    return table
