"""One answer as a command shows it: its text by mode as it arrives, and its numbers at the end.

Everything is read from the chunks that ``ChatSSD.stream`` gives any caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .terminal import Painter, stages

if TYPE_CHECKING:
    from langchain_core.messages import AIMessageChunk, BaseMessage

    from ..chat_model import ChatSSD
    from ..config import ModelSpec
    from ..worker.registry import SharedBackend


@dataclass
class Answer:
    """What is known of one answer so far."""

    title: str
    painter: Painter
    words: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    finish_reason: str = ""

    def add(self, chunk: AIMessageChunk) -> Text:
        """Take one chunk in; returns its text, styled."""
        metadata = chunk.response_metadata
        self.summary = metadata.get("ssd", self.summary)
        self.finish_reason = metadata.get("finish_reason", self.finish_reason)
        text = str(chunk.text)
        self.words += text
        return self.painter.add(text, _kind(metadata)) if text else Text()


def _kind(metadata: dict[str, Any]) -> str:
    """The mode that chose a chunk's token; text without a token is the refusal."""
    trace = metadata.get("ssd_trace")
    return str(trace[0]["mode"]) if trace else "refusal"


@contextmanager
def loaded(
    console: Console, target: str | ModelSpec, draft: str | ModelSpec, **settings: Any
) -> Iterator[ChatSSD]:
    """A chat model whose pair is loaded, with its progress shown; the worker ends with the block."""
    from ..chat_model import ChatSSD

    with closing(open_pair(target, draft)) as backend:
        with stages(console, overall=True) as report:
            backend.warm_up(report)
        yield ChatSSD(target=target, draft=draft, backend=backend, **settings)


def open_pair(target: str | ModelSpec, draft: str | ModelSpec) -> SharedBackend:
    """A hold on the pair's worker, which tells how far loading is."""
    from ..config import EngineConfig
    from ..pairs import draft_spec, target_spec
    from ..worker.registry import shared_backend

    return shared_backend(target_spec(target), draft_spec(draft), EngineConfig())


def follow(answer: Answer, model: ChatSSD, messages: Sequence[BaseMessage], **options: Any) -> Iterator[Text]:
    """Stream one answer, piece by piece; leaving early stops the work."""
    stream = model.stream(list(messages), **options)
    try:
        for chunk in stream:
            yield answer.add(chunk)
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()
    yield answer.painter.end()


def new_answer(title: str, console: Console) -> Answer:
    """An answer that has not begun."""
    return Answer(title, Painter(console))


def numbers(answers: Sequence[Answer]) -> Table:
    """The answers' numbers side by side."""
    table = Table(header_style="bold")
    table.add_column("")
    for answer in answers:
        table.add_column(answer.title, justify="right")
    columns = [_rows(answer) for answer in answers]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    return table


def _rows(answer: Answer) -> dict[str, str]:
    summary = answer.summary
    emitted, passes, seconds = summary["emitted"], summary["target_passes"], summary["seconds"]
    first = summary["time_to_first_token"]
    return {
        "tokens": str(emitted),
        "match ratio": f"{summary['match_ratio']:.2f}",
        "acceptance": f"{summary['acceptance_rate']:.2f}",
        "target passes": str(passes),
        "tokens per pass": f"{emitted / passes:.2f}" if passes else "-",
        "tokens per second": f"{emitted / seconds:.1f}" if seconds else "-",
        "time to first token": f"{first:.2f} s" if first is not None else "-",
        "mode changes": str(summary["mode_changes"]),
        "tokens in safety mode": str(summary["safety_tokens"]),
        "finish reason": answer.finish_reason,
    }


def in_one_line(answer: Answer) -> str:
    """The numbers that matter in a conversation."""
    rows = _rows(answer)
    wanted = (
        "tokens",
        "match ratio",
        "tokens per pass",
        "tokens per second",
        "mode changes",
        "finish reason",
    )
    return "  ".join(f"{name} {rows[name]}" for name in wanted)
