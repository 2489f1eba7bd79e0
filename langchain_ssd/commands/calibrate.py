"""``langchain-ssd calibrate``: fit the risk monitor to a pair, and say how well it does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .options import DraftOption, TargetOption, named
from .terminal import make_console, stages

if TYPE_CHECKING:
    from ..calibration.run import CalibrationResult
    from ..calibration.settings import CalibrationSettings
    from ..calibration.traces import Trace
    from ..config import ModelSpec
    from ..drafts.corpus import BenignPrompt, UnsafePrompt

EXAMPLES = """
Examples:

  langchain-ssd calibrate --target Qwen/Qwen2.5-7B-Instruct --draft ./my-draft --out ./my-draft/profile.json

  langchain-ssd calibrate --prompts ours.jsonl --unsafe attacks.jsonl --false-safety 0.02 --plots

  langchain-ssd calibrate --from-log risk.jsonl --responses 100
"""


def calibrate(
    target: TargetOption = None,
    draft: DraftOption = None,
    prompts: Annotated[
        list[Path] | None,
        typer.Option("--prompts", help="Your benign prompts: JSONL or text; may be repeated."),
    ] = None,
    unsafe: Annotated[
        list[Path] | None,
        typer.Option("--unsafe", help="Unsafe prompts, in addition to ours; may be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The profile; its report lies beside it.")] = Path(
        "profile.json"
    ),
    from_log: Annotated[
        Path | None, typer.Option("--from-log", help="Benign responses of your own shadow-mode log, as well.")
    ] = None,
    false_refusals: Annotated[
        float, typer.Option("--false-refusals", help="Share of benign responses that may be refused.")
    ] = 0.01,
    false_safety: Annotated[
        float, typer.Option("--false-safety", help="Share of benign responses that may enter safety mode.")
    ] = 0.05,
    signal: Annotated[
        str | None,
        typer.Option(
            "--signal", help="Evidence to use, by a name in the report.", show_default="catches most"
        ),
    ] = None,
    length: Annotated[int, typer.Option("--length", help="Tokens of a benign response.")] = 256,
    unsafe_length: Annotated[int, typer.Option("--unsafe-length", help="Tokens of an unsafe response.")] = 64,
    responses: Annotated[int, typer.Option("--responses", help="Benign responses, at most.")] = 300,
    alpha_utility: Annotated[
        str, typer.Option("--alpha-utility", help="A weight to calibrate for, or 'fit' to choose one.")
    ] = "",
    alpha_safety: Annotated[
        float, typer.Option("--alpha-safety", help="The draft's weight in safety mode; above 1 is stricter.")
    ] = 0.8,
    device: Annotated[
        str | None, typer.Option("--device", help="'cpu', 'cuda', 'mps' or 'auto' (spread).")
    ] = None,
    plots: Annotated[
        bool | None,
        typer.Option("--plots/--no-plots", help="Draw ROC curves.", show_default="if matplotlib is there"),
    ] = None,
    traces: Annotated[
        Path | None, typer.Option("--traces", help="Also write the evidence: numbers, no text.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the split and of the prefills.")] = 1,
) -> None:
    """Fit the sequential monitor to a pair of models, on answers that the target gives here and now.

    The profile goes to --out; ChatSSD finds it by itself when it lies in the draft's folder as profile.json.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    console = make_console()
    given = {
        "false_refusals": false_refusals,
        "false_safety": false_safety,
        "signal": signal,
        "length": length,
        "unsafe_length": unsafe_length,
        "responses": responses,
        "seed": seed,
        "ssd": {"alpha_safety": alpha_safety},
    }
    settings = read_settings(given, alpha_utility)
    drawn = _drawn(plots)
    logged = _logged(from_log)
    calm, bad = _prompts(prompts or [], unsafe or [], settings)
    specs = _specs(target, draft, device)
    with stages(console) as report:
        result = _calibrate(specs, calm, bad, settings, report, logged)
    _finish(console, result, out, drawn, traces)


def read_settings(given: dict[str, Any], alpha_utility: str) -> CalibrationSettings:
    """The options as settings.

    Raises:
        ConfigError: a value is out of its bounds.
    """
    from pydantic import ValidationError

    from ..calibration.settings import CalibrationSettings
    from ..errors import ConfigError
    from ..settings import problem

    try:
        if alpha_utility == "fit":
            given = {**given, "fit_alpha": True}
        elif alpha_utility:
            alpha = float(alpha_utility)
            weights = {"alpha_utility": alpha, "alpha_floor": min(0.3, alpha)}
            given = {**given, "ssd": {**given.get("ssd", {}), **weights}}
        return CalibrationSettings.model_validate(given)
    except ValidationError as error:
        raise ConfigError(f"the options are not valid: {problem(error)}") from None
    except ValueError:
        raise ConfigError("--alpha-utility takes a number or 'fit'") from None


def _drawn(plots: bool | None) -> bool:
    """Whether to draw; fails before the work if it is asked for and cannot be."""
    from ..calibration.picture import can_draw, need_matplotlib

    if plots:
        need_matplotlib()
    return can_draw() if plots is None else plots


def _logged(path: Path | None) -> list[Trace]:
    from ..calibration.traces import read_traces

    return read_traces(path) if path is not None else []


def _prompts(
    prompts: list[Path], unsafe: list[Path], settings: CalibrationSettings
) -> tuple[list[BenignPrompt], list[UnsafePrompt]]:
    from ..calibration.sources import benign_prompts, unsafe_prompts

    return benign_prompts(prompts, settings), unsafe_prompts(unsafe, settings)


def _specs(target: str | None, draft: str | None, device: str | None) -> tuple[ModelSpec, ModelSpec]:
    from ..pairs import draft_spec, target_spec

    specs = target_spec(named(target)), draft_spec(named(draft))
    if device is None:
        return specs
    placed = [spec.model_copy(update={"device": device}) for spec in specs]
    return placed[0], placed[1]


def _calibrate(
    specs: tuple[ModelSpec, ModelSpec],
    benign: list[BenignPrompt],
    unsafe: list[UnsafePrompt],
    settings: CalibrationSettings,
    report: Any,
    logged: list[Trace],
) -> CalibrationResult:
    from ..calibration.run import calibrate as run
    from ..config import EngineConfig
    from ..engine.loading import load_pair
    from ..pairs import model_name
    from ..profile import ProfiledModel, fingerprint

    names = [ProfiledModel(title=model_name(spec), fingerprint=fingerprint(spec)) for spec in specs]
    pair = load_pair(*specs, EngineConfig(), report)
    return run(pair, benign, unsafe, settings, report, titles=(names[0], names[1]), logged=logged)


def _finish(console: Console, result: CalibrationResult, out: Path, plots: bool, traces: Path | None) -> None:
    from ..calibration import pages
    from ..calibration.signals import NOTHING
    from ..calibration.traces import write_traces

    console.print(_table("thresholds", ["threshold", "value", "95 % interval"], pages.threshold_rows(result)))
    rows = [["benign: " + r[0], *r[1:]] for r in map(pages.rate_row, result.benign)]
    rows += [["unsafe: " + r[0], *r[1:]] for r in map(pages.rate_row, result.unsafe)]
    console.print(_table("measured on prompts that were held out", pages.RATE_NAMES, rows))
    console.print(_table("trade-off", *pages.trade_table(result)))
    written = pages.write_pages(result, out, plots=plots)
    if traces is not None:
        write_traces(traces, result.traces)
    if result.chosen.signal == NOTHING:
        console.print(
            "This draft tells attacks from benign requests no better than chance, so its monitor never "
            "alarms; train it further, or take another.",
            style="yellow",
        )
    if not result.profile.measured["enough_responses"]:
        console.print(
            f"Only {result.thresholds.responses} benign responses: the thresholds are uncertain; "
            "300 or more are wanted.",
            style="yellow",
        )
    console.print("Written: " + ", ".join(path.name for path in written), style="green", markup=False)


def _table(title: str, names: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=title, header_style="bold", title_justify="left")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
