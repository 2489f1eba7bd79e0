"""What the commands show: progress by stages, and tokens coloured by the mode that chose them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

StageProgress = Callable[[str, float], None]

STYLES = {"utility": "green", "safety": "bold yellow", "refusal": "bold magenta", "given": "dim"}
MARKS = {"safety": ("[[", "]]"), "refusal": ("<<", ">>"), "given": ("{", "}")}


def make_console() -> Console:
    """The console of a command: one place to choose, so that tests can replace it."""
    return Console(highlight=False)


def has_colours(console: Console) -> bool:
    """Whether colours reach the reader; where they do not, marks replace them."""
    return console.color_system is not None and not console.no_color


@contextmanager
def stages(console: Console, *, overall: bool = False) -> Iterator[StageProgress]:
    """Show work that reports ``(stage, fraction)``: bars on a terminal, one line a stage elsewhere.

    Args:
        console: where to show it.
        overall: the fraction is of all the work, so that one bar shows it; else each stage has a bar.
    """
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        yield _one_bar(progress) if overall else _bars(progress)


def _lines(console: Console) -> StageProgress:
    seen: set[str] = set()

    def report(stage: str, fraction: float) -> None:
        if stage not in seen:
            seen.add(stage)
            console.print(f"{stage} ...", markup=False)

    return report


def _one_bar(progress: Progress) -> StageProgress:
    task = progress.add_task("starting", total=1.0)

    def report(stage: str, fraction: float) -> None:
        progress.update(task, description=stage, completed=fraction)

    return report


def _bars(progress: Progress) -> StageProgress:
    seen: dict[str, TaskID] = {}

    def report(stage: str, fraction: float) -> None:
        if stage not in seen:
            for task in seen.values():  # stages follow each other
                progress.update(task, total=1.0, completed=1.0)
            seen[stage] = progress.add_task(stage, total=None)
        # A stage that cannot say how far it is stays at 0 and gets a moving bar.
        progress.update(seen[stage], total=1.0 if fraction > 0 else None, completed=fraction)

    return report


class Painter:
    """Turns a stream of (text, kind) into styled text, or into marked runs where there are no colours.

    Kinds are the two modes, ``refusal`` for the fallback text, and ``given`` for a prefill.
    """

    def __init__(self, console: Console) -> None:
        self._colours = has_colours(console)
        self._open = ""
        self.text = Text()

    def add(self, text: str, kind: str) -> Text:
        """Append one piece and return just that piece, styled, for printing as it comes."""
        piece = Text()
        if not self._colours and kind != self._open:
            piece.append(self._closing() + MARKS.get(kind, ("", ""))[0])
            self._open = kind
        piece.append(text, style=STYLES.get(kind, "") if self._colours else "")
        self.text.append_text(piece)
        return piece

    def end(self) -> Text:
        """Close an open mark."""
        piece = Text(self._closing())
        self._open = ""
        self.text.append_text(piece)
        return piece

    def _closing(self) -> str:
        return MARKS.get(self._open, ("", ""))[1]


def legend(console: Console) -> Text:
    """What the colours, or the marks, mean."""
    words = {
        "utility": "utility mode",
        "safety": "safety mode",
        "refusal": "refusal text",
        "given": "given prefill",
    }
    line = Text("Every token by the mode that chose it: ")
    for kind, word in words.items():
        painter = Painter(console)
        painter.add(word, kind)
        painter.end()
        line.append_text(painter.text).append("  ")
    return line
