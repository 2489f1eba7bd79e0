"""``langchain-ssd train-draft``: make a small, deeply aligned draft for a target."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .options import TargetOption, named
from .terminal import make_console, stages

if TYPE_CHECKING:
    from ..config import ModelSpec
    from ..drafts.probe import ProbeReport
    from ..drafts.recipe import DraftRecipe
    from ..drafts.run import Run
    from ..drafts.training import StepReport

EXAMPLES = """
Examples:

  langchain-ssd train-draft --target Qwen/Qwen2.5-7B-Instruct --init Qwen/Qwen2.5-0.5B-Instruct --out ./draft

  langchain-ssd train-draft --target Qwen/Qwen2.5-7B-Instruct --layers 6 --tokens 20000000 --out ./my-draft

  langchain-ssd train-draft --prompts ours.jsonl --unsafe harmful.jsonl --dry-run --out ./my-draft
"""


class Method(StrEnum):
    """What of the draft is trained."""

    lora = "lora"
    full = "full"


class Size(StrEnum):
    """How the result is stored."""

    int4 = "int4"
    int8 = "int8"
    float16 = "float16"
    whole = "whole"


def train_draft(
    out: Annotated[Path, typer.Option("--out", help="Folder of the draft; its work folder lies inside.")],
    target: TargetOption = None,
    init: Annotated[
        str | None, typer.Option("--init", help="A small model with the target's tokenizer to start from.")
    ] = None,
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, help="Keep so many of the target's layers.")
    ] = None,
    layer_ids: Annotated[
        str, typer.Option("--layer-ids", help="Which ones, as '0,1,14,29'; a search decides if omitted.")
    ] = "",
    method: Annotated[
        Method | None,
        typer.Option("--method", help="Adapters or all weights.", show_default="full if pruned"),
    ] = None,
    rank: Annotated[int, typer.Option("--rank", min=1, help="Rank of the adapters.")] = 16,
    prompts: Annotated[
        list[Path] | None, typer.Option("--prompts", help="Benign prompts: JSONL or text; may be repeated.")
    ] = None,
    unsafe: Annotated[
        list[Path] | None,
        typer.Option("--unsafe", help="Unsafe prompts, in addition to ours; may be repeated."),
    ] = None,
    sensitive: Annotated[
        str, typer.Option("--sensitive", help="Sets whose rows labelled 'sensitive' are refused too.")
    ] = "",
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens to train on.")] = 2_000_000,
    synthesise: Annotated[
        int, typer.Option("--synthesise", min=0, help="The target writes benign prompts up to this number.")
    ] = 2000,
    benign: Annotated[
        int, typer.Option("--benign", min=0, help="At most so many given prompts; 0 is all.")
    ] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting of the recipe, as name=value.")
    ] = None,
    storage: Annotated[
        Size, typer.Option("--storage", help="Differences to the base in few bits, or a whole model.")
    ] = Size.int8,
    shelf: Annotated[
        Path | None,
        typer.Option(
            "--shelf",
            help="Folder of the target's answers and rows: drafts of one target can share it.",
            show_default="inside --out",
        ),
    ] = None,
    chat_template: Annotated[
        str | None, typer.Option("--chat-template", help="For a base model: a Jinja template, or 'plain'.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained and what memory it takes.")
    ] = False,
) -> None:
    """Train a safety draft for a target; run the same command again to go on after an interruption.

    Benign prompts are written by the target itself unless you give some, answered by the target, and the
    draft is distilled on the target's distributions; refusals are taught at every depth of an answer.
    """
    from ..drafts.run import Run, Sources

    console = make_console()
    given: dict[str, Any] = {
        "init": init,
        "layers": layers,
        "layer_ids": tuple(int(i) for i in layer_ids.split(",") if i.strip()),
        "method": (method or (Method.full if layers or layer_ids else Method.lora)).value,
        "rank": rank,
        "tokens": tokens,
        "synthesise": synthesise,
        "benign": benign,
        "seed": seed,
    }
    recipe = read_recipe(given, set_ or [])
    spec = _target(target, chat_template)
    sources = Sources(
        tuple(prompts or ()), tuple(unsafe or ()), tuple(s for s in sensitive.split(",") if s.strip())
    )
    _check_sources(sources)
    console.print(_plan(recipe, spec))
    if dry_run:
        return
    with stages(console) as report:
        run = Run(spec, recipe, sources, _made(out / "work"), shelf or out / "work", report)
        run.prepare()
    _train(run, console)
    _finish(run, console, out, storage.value, target)


def _made(folder: Path) -> Path:
    """The folder, made now: a wrong --out should fail before hours of work.

    Raises:
        ConfigError: it cannot be made.
    """
    from ..errors import ConfigError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        raise ConfigError("--out cannot be written; choose another folder") from None
    return folder


def read_recipe(given: dict[str, Any], more: list[str]) -> DraftRecipe:
    """The recipe of the options, and of ``name=value`` for everything that has no option of its own.

    Raises:
        ConfigError: a name or value is not one of the recipe's.
    """
    from pydantic import ValidationError

    from ..drafts.recipe import DraftRecipe
    from ..errors import ConfigError
    from ..settings import problem

    for text in more:
        name, _, value = text.partition("=")
        try:
            given[name.strip()] = json.loads(value)
        except ValueError:
            given[name.strip()] = value
    try:
        return DraftRecipe.model_validate(given)
    except ValidationError as error:
        raise ConfigError(f"the recipe is not valid: {problem(error)}") from None


def _target(target: str | None, chat_template: str | None) -> ModelSpec:
    from ..pairs import target_spec

    spec = target_spec(named(target))
    return spec.model_copy(update={"chat_template": chat_template or spec.chat_template})


def _check_sources(sources: Any) -> None:
    """Read the prompt files before any weights are loaded."""
    from ..drafts.corpus import read_rows

    for path in (*sources.benign, *sources.unsafe):
        read_rows(path)


def _plan(recipe: DraftRecipe, spec: ModelSpec) -> Table:
    """Precision and memory, before anything is loaded."""
    from ..drafts.plan import estimate

    table = Table(title="what will be trained", show_header=False)
    for name, value in estimate(recipe, spec).items():
        table.add_row(name, value)
    return table


def _train(run: Run, console: Console) -> None:
    """Train under a progress bar; on a pipe a line for every probe."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("training", total=run.recipe.tokens, numbers="")
        refused = ""

        def on_step(step: StepReport) -> None:
            progress.update(bar, completed=step.tokens, numbers=_numbers(step) + refused)

        def on_probe(probe: ProbeReport) -> None:
            nonlocal refused
            refused = f", refused {probe.refused_unsafe:.0%} unsafe, {probe.refused_benign:.0%} benign"
            progress.console.print(f"{run.trainer.progress.tokens:,} tokens: {probe_line(probe)}")

        run.train(on_step, on_probe)


def _numbers(step: StepReport) -> str:
    rate = step.tokens / max(step.seconds, 1e-9)
    loss = f"loss {step.benign_loss:.3f} benign, {step.refusal_loss:.3f} refusal"
    return f"{step.tokens:,} tokens, {rate:,.0f}/s, {loss}, agreement {step.agreement:.2f}"


def probe_line(probe: ProbeReport) -> str:
    """A probe in one line."""
    return (
        f"agreement {probe.agreement:.3f}, KL {probe.kl:.3f}; refused: unsafe {probe.refused_unsafe:.0%}, "
        f"prefilled {probe.refused_deep:.0%}, benign that sounds unsafe {probe.refused_benign:.0%}, "
        f"ordinary {probe.refused_plain:.0%}"
    )


def _finish(run: Run, console: Console, out: Path, storage: Any, target: str | None) -> None:
    from ..drafts.finish import finish

    with stages(console) as report:
        size = finish(run, out, storage, _base_name(run.base_spec, target), report)
    console.print(f"The draft is ready: {size / 1e6:.1f} MB. Calibrate it next:", style="green")
    named_target = f"--target {target} " if target else ""
    console.print(
        f"  langchain-ssd calibrate {named_target}--draft {out} --out {out / 'profile.json'}", markup=False
    )


def _base_name(base: ModelSpec, target: str | None) -> Any:
    """What the draft's card calls its base: never a token; a folder by its whole path."""
    if target is None and base.chat_template is None and base.name == _target(None, None).name:
        return "default"
    name = str(Path(base.name).resolve()) if Path(base.name).is_dir() else base.name
    return base.model_copy(update={"name": name, "token": None, "base": None})
