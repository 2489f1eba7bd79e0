"""From an evaluation to what its page and its tables show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import SSDConfig
from .cases import Case
from .judges import Verdict
from .records import Record
from .refusals import judge
from .run import Evaluated
from .summary import frontier, judges_agreement, paired, table
from .text_measures import own_tokens_test, utility_row


def page_data(found: Evaluated, made: Mapping[str, Any], ssd: SSDConfig) -> dict[str, Any]:
    """Everything on the page.

    Args:
        found: the evaluation.
        made: how: date, machine, command, target, draft, notes.
        ssd: whose thresholds are drawn under the sequential monitor's answers.
    """
    judged = found.judged()
    rows = table(judged, found.cases)
    names = [s.name for s in found.systems]
    base = "target" if "target" in names else names[0]
    tests = paired(judged, found.cases, base)
    if "paper" in names and "sequential" in names:
        both = [one for one in judged if one.system in ("paper", "sequential")]
        tests += paired(both, found.cases, "paper")
    tests += _own_tests(found, base)
    return {
        "title": f"Does it hold? {made['draft']} beside {made['target']}",
        "made": {
            **made,
            "seed": found.settings.seed,
            "tokens": found.settings.tokens,
            "prompts": len(found.cases),
        },
        "systems": [{"name": s.name, "label": s.label, "note": s.note} for s in found.systems],
        "suites": _suites(found.cases),
        "table": rows,
        "frontier": frontier(rows),
        "paired": tests,
        "utility": _utility(found),
        "cost": found.cost,
        "judges": judges_agreement(_by_judge(found)),
        "answers": [row for s in found.systems for row in _answers(found, s.name, ssd)],
    }


def _own_tests(found: Evaluated, base: str) -> list[dict[str, Any]]:
    benign = [c for c in found.cases if c.safe]
    others = [s.name for s in found.systems if s.name != base and found.readings[s.name]]
    tests = [own_tokens_test(n, base, benign, found.readings[n], found.readings[base]) for n in others]
    return [t for t in tests if t is not None]


def _suites(cases: Sequence[Case]) -> list[dict[str, Any]]:
    first = {c.suite: c for c in reversed(cases)}
    return [
        {
            "name": name,
            "label": name,
            "family": first[name].family,
            "safe": first[name].safe,
            "n": sum(c.suite == name for c in cases),
        }
        for name in dict.fromkeys(c.suite for c in cases)
    ]


def _utility(found: Evaluated) -> list[dict[str, Any]]:
    benign = [c for c in found.cases if c.safe]
    if not benign:
        return []
    return [utility_row(s.name, benign, found.records[s.name], found.readings[s.name]) for s in found.systems]


def _by_judge(found: Evaluated) -> dict[str, list[Verdict]]:
    """Every judge's verdicts in one order."""
    keys = [(s.name, key) for s in found.systems for key in found.records[s.name]]
    return {name: [by_system[s][key] for s, key in keys] for name, by_system in found.verdicts.items()}


def _answers(found: Evaluated, system: str, ssd: SSDConfig) -> list[dict[str, Any]]:
    by_key = {c.key: c for c in found.cases}
    verdicts = next(iter(found.verdicts.values()))[system]
    return [
        _answer(by_key[key], record, verdicts[key], ssd)
        for key, record in found.records[system].items()
        if key in by_key
    ]


def _answer(case: Case, record: Record, verdict: Verdict, ssd: SSDConfig) -> dict[str, Any]:
    watched = record.system in ("sequential", "shadow")
    return {
        "key": case.key,
        "suite": case.suite,
        "system": record.system,
        "safe": case.safe,
        "request": [{"role": m.role, "content": m.content} for m in case.messages],
        "prefill": case.prefill,
        "shown": record.text,
        "verdict": _kind(case, record, verdict),
        "refused": None if verdict == "unknown" else verdict == "refused",
        "reason": record.reason,
        "refused_at": record.refused_at,
        "match_ratio": record.match_ratio,
        "trace": _trace(record),
        "thresholds": {
            "safety": ssd.sequential.h_safety if watched else None,
            "refuse": ssd.sequential.h_refuse if watched else None,
        },
    }


def _kind(case: Case, record: Record, verdict: Verdict) -> str:
    """The detector's finer word, where it agrees with the verdict that counts."""
    if verdict == "unknown":
        return "unknown"
    if record.reason == "refusal":
        return "refusal"
    kind = judge(record.text, prefill=case.prefill)
    return (
        kind.kind
        if kind.refused is (verdict == "refused")
        else ("refusal" if verdict == "refused" else "compliance")
    )


def _trace(record: Record) -> dict[str, Any] | None:
    if not record.texts:
        return None
    n = len(record.texts)
    return {
        "texts": record.texts,
        "agree": record.agree or "?" * n,
        "mode": record.mode or "-" * n,
        "statistic": record.statistic or [None] * n,
    }


def write_tables(data: Mapping[str, Any], folder: Path) -> None:
    """``results.json`` (without the answers) and ``results.md``."""
    numbers = {name: value for name, value in data.items() if name != "answers"}
    (folder / "results.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(_markdown(data), encoding="utf-8")


def _markdown(data: Mapping[str, Any]) -> str:
    """One row for each suite, one column for each system."""
    names = [s["name"] for s in data["systems"]]
    cells = {(r["suite"], r["system"]): r for r in data["table"]}
    suites = list(dict.fromkeys((r["suite"], r["label"], r["measured"], r["n"]) for r in data["table"]))
    made = data["made"]
    asked = f"{made['prompts']} prompts, {made['tokens']} tokens, seed {made['seed']}"
    lines = [
        f"Target {made['target']}, draft {made['draft']}; {asked}; {made['machine']}; {made['date']}.\n",
        f"Command: `{made['command']}`\n",
        "| suite | measured | n | " + " | ".join(s["label"] for s in data["systems"]) + " |",
        "| --- | --- | --- | " + " | ".join("---" for _ in names) + " |",
    ]
    for suite, label, measured, n in suites:
        shares = [_cell(cells.get((suite, name))) for name in names]
        lines.append(f"| {label} | {measured} | {n} | " + " | ".join(shares) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in made["notes"])]) + "\n"


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "-"
    return f"{100 * row['share']:.1f} % ({100 * row['low']:.1f} to {100 * row['high']:.1f})"
