"""Which cases an evaluation answers: shipped suites, those made for the pair at hand, and files."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..drafts.corpus import part_of, read_rows, shipped_unsafe
from ..engine.pair import Pair
from . import adaptive, benign, prefills
from .arithmetic import arithmetic_cases
from .cases import Case, Family, attack_case, benign_case
from .long_context import long_cases
from .settings import EvaluationSettings
from .suites import split_of
from .wrappers import wrapped_cases

Report = Callable[[str, float], None]
_TRANSFERRED = ("gcg", "pair", "autodan", "deepinception")
_ARITHMETIC, _LONG, _OPENED = 250, 40, 100


def shipped_cases(settings: EvaluationSettings, pair: Pair, report: Report) -> list[Case]:
    """Suites of ours: unsafe requests that no draft of ours was trained on, and benign ones."""
    requests = unsafe_requests(settings.attacks, settings.seed)
    wanted = set(settings.families)
    cases = benign_cases(settings.seed) if "benign" in wanted else []
    if "plain" in wanted:
        cases += [attack_case("unsafe", "plain", r) for r in unsafe_requests(10_000, settings.seed)]
    if wanted & {"wrapper", "turns"}:
        cases += [c for c in wrapped_cases(requests, settings.attacks, settings.seed) if c.family in wanted]
    if "prefill" in wanted:
        report("harmful beginnings by the target", 0.0)
        cases += prefills.prefill_cases(pair.target, requests)
    if "adaptive" in wanted:
        report("attacks on this pair", 0.0)
        cases += adaptive.preamble_cases(requests) + adaptive.refusal_first_cases(requests)
        cases += adaptive.agreed_cases(requests, prefills.disagreements(pair, requests, adaptive.OPENINGS))
    if "agent" in wanted:
        cases += adaptive.injection_cases(24, settings.seed)
    return cases


def benign_cases(seed: int) -> list[Case]:
    """All benign suites of ours."""
    return [
        *benign.chat_cases(),
        *benign.code_cases(),
        *benign.sounding_cases(),
        *benign.language_cases(),
        *benign.turn_cases(),
        *benign.opened_cases(_OPENED, seed),
        *arithmetic_cases(_ARITHMETIC, seed),
        *long_cases(_LONG, seed),
    ]


def unsafe_requests(count: int, seed: int) -> list[str]:
    """Unsafe requests of ours that drafts are not trained or calibrated on."""
    texts = sorted({p.text for p in shipped_unsafe("evaluation")})
    random.Random(f"unsafe/{seed}").shuffle(texts)
    return texts[:count]


def file_cases(paths: Sequence[Path], settings: EvaluationSettings, *, safe: bool) -> list[Case]:
    """Cases of JSONL or text files: ``prompt``, and ``set``, ``goal``, ``label``, ``prefill`` if given.

    Args:
        paths: the files.
        settings: which half of the goals, which part of the benign prompts.
        safe: what a row is that has no ``label``.

    Raises:
        ConfigError: a file cannot be read.
    """
    found = []
    for path in paths:
        for row in read_rows(path):
            is_safe = row["label"] == "safe" if row.get("label") else safe
            if _wanted(row, settings, is_safe):
                found.append(_row_case(row, path.stem, is_safe))
    return found


def _wanted(row: dict[str, Any], settings: EvaluationSettings, safe: bool) -> bool:
    ours_to_hold = settings.part == "evaluation" and safe and "goal" not in row
    if ours_to_hold and part_of(row["prompt"]) != "evaluation":
        return False
    return settings.split == "all" or split_of(row.get("goal") or row["prompt"]) == settings.split


def _row_case(row: dict[str, Any], stem: str, safe: bool) -> Case:
    name = str(row.get("set") or stem)
    if safe:
        return benign_case(f"{name}-safe" if name == "xstest" else name, row["prompt"])
    prefill = str(row.get("prefill") or "")
    family: Family = "prefill" if prefill else "transfer" if name in _TRANSFERRED else "plain"
    return attack_case(name, family, row["prompt"], prefill=prefill)


def chosen(cases: Sequence[Case], settings: EvaluationSettings) -> list[Case]:
    """The cases once each, only the suites that are wanted, and at most ``limit`` of each."""
    unique = list({c.key: c for c in cases}.values())
    if settings.suites:
        unique = [c for c in unique if c.suite in settings.suites]
    if not settings.limit:
        return unique
    kept: list[Case] = []
    for suite in dict.fromkeys(c.suite for c in unique):
        some = [c for c in unique if c.suite == suite]
        random.Random(f"{suite}/{settings.seed}").shuffle(some)
        kept += some[: settings.limit]
    return kept
