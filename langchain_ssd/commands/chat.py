"""``langchain-ssd chat``: a conversation in the terminal, every token coloured by its mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ..errors import InvalidRequest, RequestFailed
from .answers import follow, in_one_line, loaded, new_answer
from .options import DraftOption, MonitorOption, TargetOption, TemperatureOption, monitor_settings, named
from .setup import prepare
from .terminal import legend, make_console

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from ..chat_model import ChatSSD


def chat(
    target: TargetOption = None,
    draft: DraftOption = None,
    system: Annotated[str | None, typer.Option("--system", help="System message.")] = None,
    monitor: MonitorOption = None,
    temperature: TemperatureOption = 0.0,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Longest answer.")] = 512,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Shadow mode: watch and report, but change nothing.")
    ] = False,
) -> None:
    """Talk to a pair of models. Ctrl-C stops an answer, Ctrl-D leaves."""
    console = make_console()
    if target is None or draft is None:
        prepare(console)
    settings: dict[str, Any] = {"ssd": {**monitor_settings(monitor), "enforce": not shadow}}
    settings |= {"temperature": temperature, "max_tokens": max_tokens}
    with loaded(console, named(target), named(draft), **settings) as model:
        console.print(legend(console))
        console.print("Ctrl-C stops an answer, Ctrl-D leaves.", style="dim")
        _converse(model, console, system)


def _converse(model: ChatSSD, console: Console, system: str | None) -> None:
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

    messages: list[BaseMessage] = [SystemMessage(system)] if system else []
    while (question := _ask(console)) is not None:
        if not question.strip():
            continue
        said = _answer(model, console, [*messages, HumanMessage(question)])
        if said is not None:  # a turn that failed is not part of the conversation
            messages += [HumanMessage(question), AIMessage(said)]


def _ask(console: Console) -> str | None:
    """One line from the user; None when they leave."""
    while True:
        try:
            return console.input(Text("> ", style="bold"))
        except EOFError:
            console.print()
            return None
        except KeyboardInterrupt:
            console.print("(Ctrl-D leaves)", style="dim")


def _answer(model: ChatSSD, console: Console, messages: list[BaseMessage]) -> str | None:
    """Show one answer; returns its text, which may be part of one if the user stopped it."""
    answer = new_answer("answer", console)
    try:
        for piece in follow(answer, model, messages):
            console.print(piece, end="", soft_wrap=True)
    except KeyboardInterrupt:
        console.print("\n(stopped)", style="dim")
        return answer.words or None
    except (InvalidRequest, RequestFailed) as error:  # the next question may work
        console.print(f"\nerror ({error.code}): {error.message}", style="red", markup=False)
        return None
    console.print()
    console.print(in_one_line(answer), style="dim", markup=False)
    return answer.words
