"""``langchain-ssd report``: a risk log as one page to read and to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .terminal import make_console

EXAMPLES = """
Examples:

  langchain-ssd report risk.jsonl --out risk.html
"""


def report(
    logs: Annotated[
        list[Path], typer.Argument(help="Logs of JsonlRiskLogger, rotated ones too.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("risk.html"),
    rows: Annotated[int, typer.Option("--rows", min=1, max=100_000, help="Responses on the page.")] = 200,
) -> None:
    """Totals, the riskiest responses first, and each response bin by bin. The page holds numbers, no text."""
    from ..telemetry.conversations import RiskLog, follow
    from ..telemetry.page import write_page

    found = RiskLog()
    for path in logs:
        lines, _ = follow(path, 0)
        found.read(lines)
    write_page(found, out, rows)
    make_console().print(f"Written: {out.name}", style="green", markup=False)
