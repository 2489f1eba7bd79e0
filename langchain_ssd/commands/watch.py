"""``langchain-ssd watch``: a risk log as it grows, one line a response."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .terminal import make_console

if TYPE_CHECKING:
    from ..telemetry.conversations import Response, RiskLog

EXAMPLES = """
Examples:

  langchain-ssd watch risk.jsonl

  langchain-ssd watch risk.jsonl --once
"""
_STYLES = {"utility": "green", "safety": "bold yellow", "refused": "bold magenta"}


def watch(
    log: Annotated[Path, typer.Argument(help="A log of JsonlRiskLogger.", show_default=False)],
    once: Annotated[bool, typer.Option("--once", help="Show what is there, and end.")] = False,
    rows: Annotated[int, typer.Option("--rows", min=1, max=1000, help="Responses to show.")] = 20,
    interval: Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between looks.")] = 0.5,
) -> None:
    """Show running and recent responses: match ratio bin by bin, mode, refusals. Ctrl-C ends it."""
    from ..telemetry.conversations import RiskLog, follow

    found, console = RiskLog(), make_console()
    lines, offset = follow(log, 0)
    found.read(lines)
    if once:
        console.print(view(found, rows))
        return
    try:
        with Live(view(found, rows), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                lines, offset = follow(log, offset)
                found.read(lines)
                live.update(view(found, rows), refresh=True)
    except KeyboardInterrupt:
        return


def view(log: RiskLog, rows: int) -> Table:
    """The table: running responses first, then the latest."""
    from ..telemetry.conversations import in_order, totals

    counts = totals(log.responses.values())
    caption = ", ".join(f"{name} {value:g}" for name, value in counts.items() if name != "mean match ratio")
    if log.skipped:
        caption += f"; {log.skipped} lines are no events and were skipped"
    table = Table(title="risk", caption=caption, header_style="bold", title_justify="left")
    for name in ("time", "conversation", "match ratio, bin by bin", "now", "state"):
        table.add_column(name, overflow="fold")
    for response, _ in zip(in_order(log.responses.values()), range(rows), strict=False):
        table.add_row(*_cells(response))
    return table


def _cells(response: Response) -> list[Text]:
    from ..telemetry.conversations import spark

    state = "refused" if response.refused and response.enforced else response.mode
    word = f"{state} ({response.refused})" if response.refused else state
    return [
        Text(response.ended[11:19]),
        Text(response.thread_id or response.run_id[:8]),
        Text(spark(response.bins[-40:]), style=_STYLES[state]),
        Text(f"{response.match_ratio:.2f}"),
        Text(f"{word}, {response.finish}" if response.finish else f"{word} ...", style=_STYLES[state]),
    ]
