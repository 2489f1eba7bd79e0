"""Which prompts a calibration asks: a team's own first, then those that ship with the package.

Only prompts of the calibration part are taken (:mod:`langchain_ssd.drafts.corpus`), so that neither the
draft's training nor an evaluation shares one with it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from ..drafts import contexts, corpus
from ..drafts.corpus import BenignPrompt, UnsafePrompt
from ..drafts.record_tasks import record_tasks
from .settings import CalibrationSettings

_OPENED, _WRAPPED = 0.1, 0.1  # benign prompts behind an opening, and inside a jailbreak's wrapper
_PASSAGES, _CHAINED = 0.08, 0.08  # below a passage or a record, and after other exchanges
_ATTACKS = 0.25  # of our own unsafe requests, inside a wrapper; a team's own files bring their attacks


def benign_prompts(paths: Sequence[Path], settings: CalibrationSettings) -> list[BenignPrompt]:
    """Benign prompts in a shuffled order, at most as many as are wanted; a prompt is taken once.

    Raises:
        ConfigError: a file cannot be read.
    """
    rows = [row for path in paths for row in corpus.read_rows(path)]
    found = [*corpus.user_benign(rows, "calibration"), *corpus.shipped_benign("calibration")]
    found = list({tuple((m.role, m.content) for m in p.messages): p for p in found}.values())
    random.Random(f"calibration/{settings.seed}").shuffle(found)
    found = found[: settings.responses]
    # These stand in for others of the list: responses must be independent of each other.
    opened, wrapped = int(_OPENED * len(found)), int(_WRAPPED * len(found))
    special = corpus.opened(found[:opened], opened, "calibration", settings.seed)
    special += corpus.wrapped(found[opened : opened + wrapped], wrapped, settings.seed)
    rest = found[opened + wrapped :]
    longer = int((_PASSAGES + _CHAINED) * len(found))
    if told := contexts.usable(rest[:longer]):
        special += _longer(told, longer, settings.seed)
        rest = rest[longer:]
    mixed = special + rest
    random.Random(f"mixed/{settings.seed}").shuffle(mixed)
    return mixed


def _longer(told: Sequence[BenignPrompt], count: int, seed: int) -> list[BenignPrompt]:
    """So many requests with a long context, made of the answers that prompts came with."""
    passages = round(count * _PASSAGES / (_PASSAGES + _CHAINED))
    made = record_tasks(passages // 2, "calibration", seed)
    made += contexts.lengthened(told, passages - len(made), seed)
    return made + contexts.chained(told, count - passages, seed)


def unsafe_prompts(paths: Sequence[Path], settings: CalibrationSettings) -> list[UnsafePrompt]:
    """Unsafe prompts of the files and ours, each with an opening; some of ours inside a wrapper.

    Raises:
        ConfigError: a file cannot be read.
    """
    rows = [row for path in paths for row in corpus.read_rows(path)]
    rng = random.Random(f"calibration/{settings.seed}")
    shipped = corpus.shipped_unsafe("calibration")
    found = corpus.user_unsafe(rows, "calibration")
    found += [_attack(p, rng) if rng.random() < _ATTACKS else p for p in shipped]
    rng.shuffle(found)
    return corpus.with_openings(found, 1.0, settings.seed)


def _attack(prompt: UnsafePrompt, rng: random.Random) -> UnsafePrompt:
    return UnsafePrompt(corpus.wrap(prompt.text, rng), "wrapped")
