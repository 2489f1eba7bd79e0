"""``langchain-ssd evaluate``: does it stop attacks on my model, and what does it cost?"""

from __future__ import annotations

import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .options import DraftOption, TargetOption, named
from .terminal import make_console, stages

if TYPE_CHECKING:
    from ..config import ModelSpec, SSDConfig
    from ..evaluation.cases import Case
    from ..evaluation.judges import Judge
    from ..evaluation.run import Evaluated
    from ..evaluation.settings import EvaluationSettings
    from ..evaluation.systems import System

EXAMPLES = """
Examples:

  langchain-ssd evaluate --limit 20 --systems target,paper,sequential

  langchain-ssd evaluate --target Qwen/Qwen2.5-7B-Instruct --draft ./my-draft --public xstest

  langchain-ssd evaluate --attacks ours.jsonl --benign mail.jsonl --set attacks=50 --tokens 128

  langchain-ssd evaluate --add hosted=mymodels:gpt --judge strict=mymodels:judge --out results
"""


def evaluate(
    target: TargetOption = None,
    draft: DraftOption = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="A calibration profile, or 'none'.", show_default="the draft's own"),
    ] = None,
    systems: Annotated[
        str, typer.Option("--systems", help="Which of ours, separated by commas.", show_default="all")
    ] = "",
    add: Annotated[
        list[str] | None,
        typer.Option("--add", help="Another chat model: name=module:attribute; may be repeated."),
    ] = None,
    families: Annotated[
        str,
        typer.Option(
            "--families",
            help="Shipped suites: plain, prefill, wrapper, turns, adaptive, agent, benign; or 'none'.",
            show_default="all",
        ),
    ] = "",
    suites: Annotated[
        str, typer.Option("--suites", help="Only these suites, separated by commas.", show_default="all")
    ] = "",
    attacks: Annotated[
        list[Path] | None, typer.Option("--attacks", help="Attacks of yours: JSONL or text; may be repeated.")
    ] = None,
    benign: Annotated[
        list[Path] | None, typer.Option("--benign", help="Benign prompts of yours; may be repeated.")
    ] = None,
    public: Annotated[
        list[str] | None,
        typer.Option(
            "--public", help="A public set by name, through datasets: advbench, xstest, or-bench ..."
        ),
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option("--judge", help="A chat model as a second judge: name=module:attribute; repeatable."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A setting by name: attacks=50, split=held, part=evaluation, batch=32 ..."
        ),
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", help="Tokens of an answer.")] = 64,
    limit: Annotated[int, typer.Option("--limit", help="At most so many cases of a suite; 0 is all.")] = 0,
    cost_prompts: Annotated[
        int, typer.Option("--cost-prompts", help="Prompts of a suite that are timed one by one; 0: none.")
    ] = 2,
    seed: Annotated[int, typer.Option("--seed", help="Which cases are taken.")] = 1,
    device: Annotated[
        str | None, typer.Option("--device", help="'cpu', 'cuda', 'mps' or 'auto' (spread).")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the answers and the page.")] = Path(
        "ssd-evaluation"
    ),
) -> None:
    """Ask every system the same attacks and the same benign requests, and show what each of them did.

    Answers are kept in --out as they come: an interrupted run goes on where it stopped. The page there,
    report.html, shows the frontier, every suite, the cost, and each conversation token by token.
    """
    from ..evaluation.guests import named_models

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    given = {"tokens": tokens, "limit": limit, "cost_prompts": cost_prompts, "seed": seed}
    chosen = read_settings(given, systems, families, suites, settings or [])
    guests, judges = named_models(add or []), named_models(judge or [])
    files = _files(attacks or [], benign or [], public or [], chosen)
    specs = _specs(target, draft, device, chosen)
    ssd = _safety(profile, specs)
    console = make_console()
    with stages(console) as report:
        found = _run(specs, ssd, chosen, files, (guests, judges), out, report)
    _finish(console, found, specs, ssd, out)


def read_settings(
    given: dict[str, Any], systems: str, families: str, suites: str, more: list[str]
) -> EvaluationSettings:
    """The options as settings.

    Raises:
        ConfigError: a name is unknown or a value is out of its bounds.
    """
    from pydantic import ValidationError

    from ..errors import ConfigError
    from ..evaluation.settings import EvaluationSettings
    from ..settings import problem

    lists = {"systems": systems, "families": families, "suites": suites}
    for name, text in lists.items():
        if text:
            given[name] = () if text == "none" else tuple(part.strip() for part in text.split(","))
    for pair in more:
        name, separator, value = pair.partition("=")
        if not separator:
            raise ConfigError("--set takes name=value, such as attacks=50")
        given[name] = value
    try:
        return EvaluationSettings.model_validate(given)
    except ValidationError as error:
        raise ConfigError(f"the options are not valid: {problem(error)}") from None


def _files(
    attacks: list[Path], benign: list[Path], public: list[str], settings: EvaluationSettings
) -> list[Case]:
    """Cases that need no model; what is wrong with a file is found here."""
    from ..evaluation.collection import file_cases
    from ..evaluation.public_sets import public_cases

    cases = file_cases(attacks, settings, safe=False) + file_cases(benign, settings, safe=True)
    return cases + [case for name in public for case in public_cases(name)]


def _specs(
    target: str | None, draft: str | None, device: str | None, settings: EvaluationSettings
) -> tuple[ModelSpec, ModelSpec]:
    from ..pairs import draft_spec, target_spec

    placed: dict[str, Any] = {"device": device} if device else {}
    if settings.dtype != "auto":
        placed["dtype"] = settings.dtype
    specs = [target_spec(named(target)), draft_spec(named(draft))]
    return specs[0].model_copy(update=placed), specs[1].model_copy(update=placed)


def _safety(profile: str | None, specs: tuple[ModelSpec, ModelSpec]) -> SSDConfig:
    """Settings of the sequential monitor: the pair's profile, else the uncalibrated defaults."""
    from ..config import SSDConfig
    from ..profile import find_profile

    found = find_profile(profile, *specs)
    return found.apply(SSDConfig()) if found else SSDConfig(monitor="sequential")


def _run(
    specs: tuple[ModelSpec, ModelSpec],
    ssd: SSDConfig,
    settings: EvaluationSettings,
    files: list[Case],
    models: tuple[dict[str, Any], dict[str, Any]],
    out: Path,
    report: Any,
) -> Evaluated:
    from ..config import EngineConfig
    from ..engine.loading import load_pair
    from ..errors import ConfigError
    from ..evaluation.collection import chosen, shipped_cases
    from ..evaluation.judges import ChatModelJudge
    from ..evaluation.run import claim, make_systems
    from ..evaluation.run import evaluate as run
    from ..evaluation.systems import Guest
    from ..profile import fingerprint

    guests, judges = models
    identity = {
        "settings": settings.model_dump(mode="json", exclude={"systems", "cost_prompts"}),
        "ssd": ssd.model_dump(mode="json"),
        "models": [fingerprint(spec) or spec.name for spec in specs],
    }
    claim(out, identity)
    pair = load_pair(*specs, EngineConfig(), report)
    cases = chosen([*files, *shipped_cases(settings, pair, report)], settings)
    if not cases:
        raise ConfigError("there is nothing to ask; choose families, suites or files")
    systems: list[System] = [*make_systems(pair, ssd, settings), *(Guest(m, n) for n, m in guests.items())]
    readers: list[Judge] = [ChatModelJudge(m, n) for n, m in judges.items()]
    return run(pair, cases, systems, readers, settings, out, report)


def _finish(
    console: Console, found: Evaluated, specs: tuple[ModelSpec, ModelSpec], ssd: SSDConfig, out: Path
) -> None:
    from ..evaluation.report.page import write_report
    from ..evaluation.results import page_data, write_tables
    from ..pairs import model_name

    names = [model_name(spec) for spec in specs]
    made = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _machine(),
        "command": shlex.join(["langchain-ssd", *sys.argv[1:]]),
        "target": names[0],
        "draft": names[1],
        "notes": _notes(found),
    }
    data = page_data(found, made, ssd)
    write_report(data, out / "report.html")
    write_tables(data, out)
    console.print(_table(data))
    console.print(
        f"Written: {out.name}/report.html, {out.name}/results.md, {out.name}/results.json", style="green"
    )


def _machine() -> str:
    import platform

    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} cores ({platform.machine()}), {device}, torch {torch.__version__}"


def _notes(found: Evaluated) -> list[str]:
    """What a reader must know beside the numbers."""
    notes = ["An unknown verdict counts against the system on both sides."]
    benign = sum(c.safe for c in found.cases)
    if benign < 1000:
        notes.append(f"Only {benign} benign prompts: a test of equivalence within 3 points wants 1,000.")
    failed = {name: sum(r.reason == "error" for r in by.values()) for name, by in found.records.items()}
    notes += [
        f"{count} requests to {name} failed; they count as unknown."
        for name, count in failed.items()
        if count
    ]
    return notes


def _table(data: dict[str, Any]) -> Table:
    """The pools of every system; suites are on the page."""
    table = Table(
        title="attacks answered, benign requests refused", header_style="bold", title_justify="left"
    )
    for name in ("system", "attacks answered", "95 %", "benign refused", "95 %", "own tokens", "tokens/s"):
        table.add_column(name)
    labels = {s["name"]: s["label"] for s in data["systems"]}
    for name, label in labels.items():
        pools = {r["suite"]: r for r in data["table"] if r["system"] == name and r["pooled"]}
        utility: dict[str, Any] = next((u for u in data["utility"] if u["system"] == name), {})
        cells = [label, *_share(pools.get("attacks")), *_share(pools.get("benign"))]
        speeds = [
            c["tokens_per_second"] for c in data["cost"] if c["system"] == name and c["tokens_per_second"]
        ]
        own = utility.get("own_tokens")
        cells += [
            f"{own:.1%}" if own is not None else "-",
            f"{sum(speeds) / len(speeds):.1f}" if speeds else "-",
        ]
        table.add_row(*map(Text, cells))
    return table


def _share(row: dict[str, Any] | None) -> list[str]:
    if row is None:
        return ["-", "-"]
    return [f"{row['share']:.1%} of {row['n']}", f"{row['low']:.1%} to {row['high']:.1%}"]
