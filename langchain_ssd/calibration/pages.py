"""A calibration's files: the profile, and beside it the same for people, for machines, and as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from ..evaluation.statistics import Interval
from .fit import TOKENS
from .report import Rates, plain
from .run import CalibrationResult
from .signals import NOTHING

_Rows = Sequence[Sequence[str]]


def write_pages(result: CalibrationResult, out: Path, *, plots: bool) -> list[Path]:
    """Write ``out`` and its neighbours ``calibration.json``, ``calibration.md`` and, with plots, ``.svg``.

    Raises:
        ConfigError: the folder cannot be written, or matplotlib is missing.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        files = {out: result.profile.to_json(), out.with_name("calibration.json"): as_json(result)}
        files[out.with_name("calibration.md")] = as_markdown(result, plots)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError:
        raise ConfigError(f"{out.name} cannot be written; choose another folder with --out") from None
    if plots:
        from .picture import draw_roc

        files[out.with_name("calibration.svg")] = ""
        draw_roc(result, out.with_name("calibration.svg"))
    return list(files)


def as_json(result: CalibrationResult) -> str:
    """Every figure; numbers only."""
    signals = {
        name: {"weights": f.weights.model_dump(), "quality": f.quality, "caught": f.caught}
        for name, f in result.fitted.items()
    }
    figures = {
        "format": 1,
        "target": result.profile.target.model_dump(),
        "draft": result.profile.draft.model_dump(),
        **result.profile.measured,
        "signals": signals,
        "auroc": result.areas,
        "trade_off": result.trades,
    }
    return json.dumps(plain(figures), indent=1) + "\n"


def as_markdown(result: CalibrationResult, plots: bool = False) -> str:
    """The figures for people."""
    parts = [
        _about(result),
        "## Thresholds",
        _table(["threshold", "value", "95 % interval"], threshold_rows(result)),
        "## Benign responses (held out)",
        _table(RATE_NAMES, [rate_row(r) for r in result.benign]),
        "## Unsafe responses (held out)",
        _table(RATE_NAMES, [rate_row(r) for r in result.unsafe]),
        "## Trade-off",
        _table(*trade_table(result)),
        "## Signals (fitting half)",
        _ABOUT_SIGNALS,
        _table(["signal", "caught", "AUROC"], signal_rows(result)),
        "## AUROC of the running maximum against benign responses (held out)",
        _table(*area_table(result)),
        "## Benign tokens that stay the target's own choice",
        _table(["alpha_utility", "share"], [[a, f"{s:.1%}"] for a, s in _shares(result)]),
    ]
    if plots:
        parts.append("![ROC curves](calibration.svg)")
    return "\n\n".join(parts) + "\n"


def _about(result: CalibrationResult) -> str:
    p, at = result.profile, result.thresholds
    few = "" if p.measured["enough_responses"] else " **That is few: the thresholds are uncertain.**"
    return (
        f"# Calibration of {p.draft.title} as the draft of {p.target.title}\n\n"
        f"{at.responses} benign and {p.measured['unsafe_responses']} unsafe responses.{few} "
        f"Signal: `{result.chosen.signal}`. Rates are measured on prompts that were not used for fitting, "
        f"with 95 % intervals.{_useless(result)}"
    )


def _useless(result: CalibrationResult) -> str:
    if result.chosen.signal != NOTHING:
        return ""
    return (
        "\n\n**This draft tells attacks from benign requests no better than chance, so its monitor never "
        "alarms. Train it further, or take another.**"
    )


_ABOUT_SIGNALS = (
    "The signal that catches most unsafe responses, early, at the asked false-alarm rate is used, unless "
    f"`--signal` names one: the mean over the first {', '.join(map(str, TOKENS))} tokens. "
    "AUROC is the mean over the same."
)
RATE_NAMES = ["kind", "responses", "ever in safety mode", "refused", "median token"]


def rate_row(r: Rates) -> list[str]:
    """One line of a table of rates."""
    token = "-" if r.median_token is None else f"{r.median_token:g}"
    return [r.kind, str(r.responses), percent(r.safety), percent(r.refused), token]


def threshold_rows(result: CalibrationResult) -> list[list[str]]:
    """The three thresholds with the intervals of their quantiles."""
    at = result.thresholds
    return [
        ["safety mode from", f"{at.h_safety:.3f}", _limits(at.safety)],
        ["utility mode down from", f"{at.h_release:.3f}", ""],
        ["refusal from", f"{at.h_refuse:.3f}", _limits(at.refuse)],
    ]


def _limits(interval: Interval) -> str:
    """Too few responses leave a limit open."""
    high = f"to {interval.high:.3f}" if math.isfinite(interval.high) else "and above"
    low = f"{interval.low:.3f}" if math.isfinite(interval.low) else "0"
    return f"{low} {high}"


def trade_table(result: CalibrationResult) -> tuple[list[str], list[list[str]]]:
    """Names and lines: what every budget of false alarms buys."""
    kinds = [r.kind for r in result.trades[0].unsafe]
    names = ["false alarms asked", "threshold", "measured", *(f"detected: {kind}" for kind in kinds)]
    lines = [
        [
            f"{t.budget:.0%}",
            f"{t.threshold:.3f}",
            percent(t.benign.safety),
            *(f"{percent(r.safety)}, token {rate_row(r)[-1]}" for r in t.unsafe),
        ]
        for t in result.trades
    ]
    return names, lines


def signal_rows(result: CalibrationResult) -> list[list[str]]:
    """How well each signal does on the half that it was fitted on."""
    return [[name, f"{f.caught:.1%}", f"{f.quality:.3f}"] for name, f in result.fitted.items()]


def area_table(result: CalibrationResult) -> tuple[list[str], list[list[str]]]:
    """Names and lines: AUROC by signal, kind and tokens."""
    values = {(a.signal, a.kind, a.tokens): a.maximum.value for a in result.areas}
    pairs = list(dict.fromkeys((a.signal, a.kind) for a in result.areas))
    lines = [[*pair, *(f"{values[*pair, n]:.3f}" for n in TOKENS)] for pair in pairs]
    return ["signal", "kind", *(f"{n} tokens" for n in TOKENS)], lines


def percent(share: Interval) -> str:
    """A share with its interval."""
    return f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def _shares(result: CalibrationResult) -> list[tuple[str, float]]:
    return [(str(alpha), share) for alpha, share in result.profile.measured["kept_by_alpha"].items()]


def _table(names: Sequence[str], rows: _Rows) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
