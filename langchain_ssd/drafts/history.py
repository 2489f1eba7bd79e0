"""The history of a training run, and the page with its curves: one HTML file that needs nothing else."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NAME = "history.jsonl"
_W, _H, _LEFT, _BOTTOM = 640, 200, 52, 24
_COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed")
_CHARTS = (
    ("Loss, nats per token", "steps", ("benign_loss", "refusal_loss")),
    ("Agreement with the target", "steps", ("agreement",)),
    ("Held out: agreement", "probes", ("agreement",)),
    (
        "Held out: share refused",
        "probes",
        ("refused_unsafe", "refused_deep", "refused_benign", "refused_plain"),
    ),
)
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:720px;margin:2rem auto;padding:0 1rem}
body{color:#111;background:#fff}svg{width:100%;height:auto}.axis{stroke:#999}
text{font-size:12px;fill:currentColor}table{border-collapse:collapse}
td{padding:.15rem .8rem .15rem 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{color:#eee;background:#111}}
"""


def read_history(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Steps and probes of a run, in order; steps that an interruption made run twice are listed once."""
    steps: dict[int, dict[str, Any]] = {}
    probes: list[dict[str, Any]] = []
    path = folder / NAME
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:  # half a line, where the run was cut off
            continue
        if "step" in row:
            steps[row["step"]["step"]] = row["step"]
        else:
            probes.append(row["probe"])
    return {"steps": [steps[n] for n in sorted(steps)], "probes": probes}


def write_page(path: Path, facts: dict[str, Any], history: dict[str, list[dict[str, Any]]]) -> None:
    """Write the page."""
    charts = "".join(_chart(title, history[kind], names) for title, kind, names in _CHARTS if history[kind])
    flat = {**facts["trained"], **facts["data"], **facts["measured"]["probe"]}
    rows = "".join(
        f"<tr><td>{html.escape(str(k))}</td><td>{html.escape(_plain(v))}</td></tr>" for k, v in flat.items()
    )
    path.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Training of a safety draft</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style><h1>Training of a safety draft</h1>{charts}<table>{rows}</table></html>\n",
        encoding="utf-8",
    )


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _chart(title: str, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """One chart over trained tokens."""
    lines = [[(r["tokens"], _smooth(rows, i, name)) for i, r in enumerate(rows)] for name in names]
    right = max(x for line in lines for x, _ in line) or 1
    top = max(max(y for line in lines for _, y in line), 1e-9)
    paths = "".join(_path(line, right, top, _COLOURS[n % len(_COLOURS)]) for n, line in enumerate(lines))
    legend = " &nbsp; ".join(
        f'<span style="color:{_COLOURS[n % len(_COLOURS)]}">{html.escape(name.replace("_", " "))}</span>'
        for n, name in enumerate(names)
    )
    return (
        f'<h2>{html.escape(title)}</h2><p>{legend}</p><svg viewBox="0 0 {_W} {_H}" role="img" '
        f'aria-label="{html.escape(title)}">'
        f'<path class="axis" fill="none" d="M{_LEFT} 8V{_H - _BOTTOM}H{_W - 8}"/>'
        f'<text x="4" y="16">{top:.3g}</text><text x="4" y="{_H - _BOTTOM}">0</text>'
        f'<text x="{_W - 8}" y="{_H - 6}" text-anchor="end">{right / 1e6:.2f} M tokens</text>{paths}</svg>'
    )


def _smooth(rows: Sequence[dict[str, Any]], at: int, name: str) -> float:
    """Mean over a few neighbours where there are many points."""
    reach = len(rows) // 50
    near = rows[max(0, at - reach) : at + reach + 1]
    return float(sum(r[name] for r in near) / len(near))


def _path(line: Sequence[tuple[float, float]], right: float, top: float, colour: str) -> str:
    width, height = _W - 8 - _LEFT, _H - _BOTTOM - 8
    points = " ".join(f"{_LEFT + width * x / right:.1f},{8 + height * (1 - y / top):.1f}" for x, y in line)
    return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>'
