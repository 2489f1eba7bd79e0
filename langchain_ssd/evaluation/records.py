"""One answer of one system, with all that was seen while it was decoded; kept as JSON lines, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .cases import Case

Answerer = Callable[[Sequence[Case]], Iterator["Record"]]


@dataclass(slots=True)
class Record:
    """One answer.

    Attributes:
        key: of the case.
        system: who answered.
        text: what a user would have read: a refusal's text in place of what it replaced.
        reason: ``stop``, ``length``, ``refusal`` or ``error``.
        ids: tokens in the order in which they were decoded, those of a refused answer too.
        texts: the same as text.
        agree: ``1`` or ``0`` for each token: was it also the draft's choice?  Empty if nobody looked.
        mode: ``u`` or ``s`` for each token.
        statistic: of the monitor after each token.
        refused_at: the token at which the refusal was decided.
        alarmed: whether there was a refusal or the safety mode, in shadow mode too.
        match_ratio: agreeing tokens by scored ones, the prefill's included.
        target_passes: of the target.
        error: the code of what went wrong.
    """

    key: str
    system: str
    text: str = ""
    reason: str = ""
    ids: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    agree: str = ""
    mode: str = ""
    statistic: list[float | None] = field(default_factory=list)
    refused_at: int | None = None
    alarmed: bool = False
    match_ratio: float | None = None
    target_passes: int | None = None
    error: str | None = None

    @property
    def said(self) -> str:
        """What was decoded, whether or not it was replaced."""
        return "".join(self.texts) or self.text


def keep(
    path: Path,
    cases: Sequence[Case],
    answer: Answerer,
    report: Callable[[float], None] = lambda fraction: None,
) -> list[Record]:
    """Answers from a file as far as they are there; what is missing is answered and added to it.

    Args:
        path: JSON lines.
        cases: what to answer.
        answer: the system.
        report: told how much is done.
    """
    found = read_records(path)
    missing = [c for c in cases if c.key not in found]
    if missing:
        with path.open("a", encoding="utf-8") as file:
            for n, record in enumerate(answer(missing), 1):
                found[record.key] = record
                # The first line break ends a line that an interruption may have cut.
                file.write("\n" * (n == 1) + json.dumps(asdict(record)) + "\n")
                file.flush()
                report(n / len(missing))
    return [found[c.key] for c in cases if c.key in found]


def read_records(path: Path) -> dict[str, Record]:
    """Records of a file by key; lines that were cut are left out."""
    found: dict[str, Record] = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else []:
        try:
            row: dict[str, Any] = json.loads(line)
            found[row["key"]] = Record(**row)
        except (ValueError, KeyError, TypeError):
            continue
    return found
