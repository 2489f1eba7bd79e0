"""Every released token of a response: a square by mode and agreement, and the monitor's statistic beneath."""

from __future__ import annotations

import html
from itertools import accumulate
from typing import Any

from .conversations import Response

_SIZE, _GAP, _CURVE = 8, 1, 28  # pixels: of a square, between two, and the statistic's height
_PER_LINE = 96
_COLOURS = {"u1": "agreed", "u0": "differed", "s1": "agreed in safety mode", "s0": "differed in safety mode"}
LEGEND = "".join(f'<span class="key {name}">{said}</span> ' for name, said in _COLOURS.items())


def draw_tokens(response: Response) -> str:
    """HTML for the tokens of a response; empty if the log does not tell of them."""
    kinds = _kinds(response.trace)
    if not kinds:
        return ""
    said = sum(kind.startswith("s") for kind in kinds)
    label = f"{len(kinds)} tokens, {said} of them in safety mode"
    body = "".join(_line(response.trace, kinds, start) for start in range(0, len(kinds), _PER_LINE))
    return f'<div role="img" aria-label="{label}">{body}</div>' + _text(response, kinds)


def _kinds(trace: dict[str, Any]) -> list[str]:
    return [m + a for m, a in zip(str(trace.get("mode", "")), str(trace.get("agreement", "")), strict=False)]


def _line(trace: dict[str, Any], kinds: list[str], start: int) -> str:
    """One line of squares with the statistic as a curve below, on the scale of the whole response."""
    some = kinds[start : start + _PER_LINE]
    step = _SIZE + _GAP
    squares = "".join(
        f'<rect class="{kind}" x="{n * step}" y="0" width="{_SIZE}" height="{_SIZE}">'
        f"<title>token {start + n}: {_COLOURS.get(kind, kind)}</title></rect>"
        for n, kind in enumerate(some)
    )
    levels = [value or 0.0 for value in trace.get("statistic", [])]
    top = max([*levels, 1e-9])
    points = " ".join(
        f"{n * step + _SIZE / 2:.0f},{_SIZE + 4 + _CURVE * (1 - level / top):.1f}"
        for n, level in enumerate(levels[start : start + _PER_LINE])
    )
    curve = f'<polyline points="{points}"/>' if any(levels) else ""
    width, height = _PER_LINE * step, _SIZE + _CURVE + 6
    return f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">{squares}{curve}</svg>'


def _text(response: Response, kinds: list[str]) -> str:
    """The answer in the tokens' colours, if the log has its text; a refusal that replaced it is plain."""
    if response.answer is None:
        return ""
    ends = list(accumulate(int(n) for n in response.trace.get("characters", [])))
    if not ends or ends[-1] > len(response.answer) or (response.refused and response.enforced):
        return f"<p>{html.escape(response.answer)}</p>"
    pieces = [
        f'<span class="{kind}">{html.escape(response.answer[start:end])}</span>'
        for kind, start, end in zip(kinds, [0, *ends], ends, strict=False)
    ]
    return f"<p>{''.join(pieces)}{html.escape(response.answer[ends[-1] :])}</p>"
