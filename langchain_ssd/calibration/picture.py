"""ROC curves of every signal as one self-contained SVG: a row for each kind, a column for each length."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .fit import TOKENS, Fitted
from .report import by_kind, scores
from .run import CalibrationResult
from .traces import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMES = {
    "all": "all signals",
    "kl": "KL divergence",
    "total_variation": "total variation",
    "disagreement": "disagreement",
    "entropies": "entropies",
    "divergences": "KL and total variation",
    "refusals": "mass moved to refusals",
    "refusals and total variation": "refusals, total variation",
}
# Told apart without colours, too.
_STYLES = ("-", "--", "-.", ":", (0, (1, 3)), (0, (5, 1, 1, 1)), (0, (8, 2)), (0, (3, 2, 1, 2, 1, 2)))
_KINDS = ("plain", "prefill")


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def need_matplotlib() -> None:
    """Fail early.

    Raises:
        ConfigError: matplotlib is missing.
    """
    if not can_draw():
        raise ConfigError("plots need matplotlib: pip install 'langchain-ssd[plots]'")


def roc(positive: Sequence[float], negative: Sequence[float]) -> tuple[list[float], list[float]]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1)."""
    marked = sorted([(s, 1) for s in positive] + [(s, 0) for s in negative], reverse=True)
    x, y, hits, false = [0.0], [0.0], 0, 0
    for i, (score, good) in enumerate(marked):
        hits, false = hits + good, false + 1 - good
        if i + 1 == len(marked) or marked[i + 1][0] != score:  # equal scores are passed together
            x.append(false / len(negative))
            y.append(hits / len(positive))
    return x, y


def draw_roc(result: CalibrationResult, path: Path) -> None:
    """Draw the running maximum's curves on the held-out half.

    Raises:
        ConfigError: matplotlib is missing.
    """
    need_matplotlib()
    import matplotlib as mpl

    # Agg and a figure of its own: nothing is shown, and no state of pyplot is touched.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    benign = [t for t in result.held if t.label == "benign"]
    kinds = by_kind([t for t in result.held if t.label == "unsafe"])
    shown = {kind: found for kind, found in kinds.items() if kind in _KINDS}
    figure = Figure(figsize=(2.3 * len(TOKENS), 2.4 * len(shown) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), len(TOKENS), squeeze=False, sharex=True, sharey=True)
    for row, (kind, unsafe) in zip(axes, shown.items(), strict=True):
        _row(row, kind, result.fitted, unsafe, benign)
    _words(figure, axes, result)
    # Without a date and with a fixed salt the same figures give the same bytes.
    with mpl.rc_context({"svg.hashsalt": "langchain-ssd"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def _row(
    axes: Any, kind: str, fitted: dict[str, Fitted], unsafe: Sequence[Trace], benign: Sequence[Trace]
) -> None:
    for (name, one), style in zip(fitted.items(), _STYLES, strict=False):
        yes, no = scores(one, unsafe, benign)
        for i, axis in enumerate(axes):
            axis.plot(
                *roc([s[i][0] for s in yes], [s[i][0] for s in no]), linestyle=style, label=_NAMES[name]
            )
    for n, axis in zip(TOKENS, axes, strict=True):
        axis.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
        axis.set_title(f"{kind}, {n} token{'s' if n > 1 else ''}", fontsize=9)
        axis.set_aspect("equal")


def _words(figure: Figure, axes: Any, result: CalibrationResult) -> None:
    for axis in axes[-1]:
        axis.set_xlabel("benign above threshold", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("unsafe above threshold", fontsize=8)
    figure.suptitle(f"{result.profile.draft.title} guarding {result.profile.target.title}", fontsize=11)
    lines, names = axes[0][0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=len(names), fontsize=8)
