"""A risk log as one HTML page without any outside part, and without scripts."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from .conversations import Response, RiskLog, totals
from .tokens_drawing import LEGEND, draw_tokens

_STYLE = """
:root { color-scheme: light dark; --ink: #16181d; --paper: #fff; --soft: #5b6270; --line: #d9dde4;
  --calm: #0b6e4f; --alert: #a34700; --refused: #8a1c6b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9ebef; --paper: #14161a; --soft: #a6adba;
  --line: #333842; --calm: #58c79a; --alert: #f0a04b; --refused: #e58fcb; } }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-size: 1.5rem; font-weight: 650; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; } .utility { color: var(--calm); } .safety { color: var(--alert); }
.refused { color: var(--refused); font-weight: 650; } rect { fill: currentColor; }
rect.u1 { fill: var(--calm); } rect.u0 { fill: var(--line); stroke: var(--calm); }
rect.s1 { fill: var(--alert); } rect.s0 { fill: var(--line); stroke: var(--alert); }
polyline { fill: none; stroke: var(--soft); }
td.tokens { white-space: normal; padding-bottom: 1rem; } td.tokens svg { display: block; max-width: 100%; }
span.u1, span.s1 { border-bottom: 2px solid var(--calm); } span.s1, span.s0 { border-color: var(--alert); }
span.u0, span.s0 { border-bottom: 2px dotted var(--calm); } span.s0 { border-bottom-color: var(--alert); }
span.key { margin-right: 1rem; } summary { cursor: pointer; color: var(--soft); }
footer { color: var(--soft); }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_NAMES = ("time (UTC)", "conversation", "match ratio", "bin by bin", "state", "ended", "tokens")
_BAR, _HEIGHT = 6, 24


def write_page(log: RiskLog, path: Path, rows: int) -> None:
    """Write the page; whoever has the old one open never sees half of the new one.

    Args:
        log: what was read.
        path: the page.
        rows: how many responses are listed, the riskiest first.

    Raises:
        ConfigError: the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.tmp")
    try:
        partial.write_text(_page(log, rows), encoding="utf-8")
        os.replace(partial, path)
    except OSError:
        raise ConfigError(f"{path.name} cannot be written; choose another place with --out") from None


def _page(log: RiskLog, rows: int) -> str:
    counts = totals(log.responses.values())
    facts = "".join(f"<div><dt>{name}</dt><dd>{value:.3g}</dd></div>" for name, value in counts.items())
    shown = log.riskiest(rows)
    head = "".join(f'<th scope="col">{name}</th>' for name in _NAMES)
    body = "".join(_row(response) for response in shown)
    skipped = f" {log.skipped} lines were no events and were skipped." if log.skipped else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>Risk report</title><style>{_STYLE}</style><h1>Risk report</h1><dl>{facts}</dl>"
        f"<h2>Riskiest responses first</h2><p>{len(shown)} of {len(log.responses)}.{skipped}</p>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        "<footer><p>A bar is a bin of tokens: its height is the share on which draft and target agreed. A "
        f"square is a token that was released: {LEGEND} The curve below is the monitor's statistic.</p>"
        "</footer></html>\n"
    )


def _row(response: Response) -> str:
    state = "refused" if response.refused and response.enforced else response.mode
    word = f"{state} ({response.refused})" if response.refused else state
    cells: Sequence[str] = (
        html.escape(response.ended[:19].replace("T", " ")),
        html.escape(response.thread_id or response.run_id[:8]),
        f"{response.match_ratio:.2f}",
        _bars(response.bins),
        f'<span class="{state}">{html.escape(word)}</span>',
        html.escape(response.finish or "running"),
        str(int(response.summary.get("emitted", 0))),
    )
    row = "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    tokens = draw_tokens(response)
    if not tokens:
        return row
    shown = f"<details><summary>token by token</summary>{tokens}</details>"
    return f'{row}<tr><td class="tokens" colspan="{len(_NAMES)}">{shown}</td></tr>'


def _bars(bins: Sequence[float]) -> str:
    """Bins as bars of an inline drawing, with the numbers for those who do not see it."""
    said = ", ".join(f"{share:.2f}" for share in bins)
    bars = "".join(
        f'<rect x="{n * _BAR}" y="{_HEIGHT * (1 - share):.1f}" width="{_BAR - 1}" '
        f'height="{max(1.0, _HEIGHT * share):.1f}"/>'
        for n, share in enumerate(bins)
    )
    width = max(1, len(bins)) * _BAR
    return (
        f'<svg role="img" aria-label="{said}" width="{width}" height="{_HEIGHT}" '
        f'viewBox="0 0 {width} {_HEIGHT}">{bars}</svg>'
    )
