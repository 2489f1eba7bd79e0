"""The target's own words, kept: answers to benign prompts and beginnings of harmful ones.

One JSON line an answer, known by the prompt's tokens, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..engine.models import CachedModel
from .generation import generate
from .teacher import sequence_key


class Answer(NamedTuple):
    """Token ids of an answer without its end token, and whether it came to its end."""

    ids: tuple[int, ...]
    finished: bool


class AnswerStore:
    """Answers in a file of JSON lines; a line that was cut off by an interruption is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Answer] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            try:
                row = json.loads(line)
                self._known[row["key"]] = Answer(tuple(row["ids"]), row["finished"])
            except (ValueError, KeyError):
                continue
        if lines:  # what follows must not be joined to half a line
            with path.open("a", encoding="utf-8") as file:
                file.write("\n" if path.read_bytes()[-1:] != b"\n" else "")

    def get(self, prompt: Sequence[int], limit: int) -> Answer | None:
        """The answer to a prompt at a length limit, if it is known."""
        return self._known.get(sequence_key(prompt, limit))

    def answer(
        self,
        model: CachedModel,
        prompts: Sequence[Sequence[int]],
        end_ids: frozenset[int],
        limit: int,
        *,
        batch: int = 48,
        progress: Callable[[int], None] = lambda answers: None,
    ) -> list[Answer]:
        """Greedy answers to all prompts, asking the model only for those that are not known.

        Args:
            model: whom to ask.
            prompts: token ids.
            end_ids: tokens that end an answer.
            limit: longest answer in tokens.
            batch: prompts that are answered together.
            progress: called with the number of new answers.
        """
        unknown = {sequence_key(p, limit): list(p) for p in prompts if self.get(p, limit) is None}
        keys, missing = list(unknown), list(unknown.values())
        with self._path.open("a", encoding="utf-8") as file:
            for i, ids, finished in generate(model, missing, end_ids, limit, batch=batch):
                self._known[keys[i]] = Answer(tuple(ids), finished)
                file.write(json.dumps({"key": keys[i], "ids": ids, "finished": finished}) + "\n")
                file.flush()
                progress(1)
        return [self._known[sequence_key(p, limit)] for p in prompts]
