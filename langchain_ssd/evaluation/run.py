"""One evaluation in a folder: cases → answers of every system → verdicts → tables and a page.

Answers lie in ``answers/SYSTEM.jsonl``, verdicts of chat-model judges in ``verdicts/JUDGE.SYSTEM.jsonl``;
what is there is not asked again.  ``run.json`` says what the folder is for: other settings want another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..config import EngineConfig, SSDConfig
from ..engine.engine import Engine
from ..engine.pair import Pair
from ..errors import ConfigError
from .cases import Case
from .cost import cost_rows
from .judges import DetectorJudge, Judge, Verdict
from .records import Record, keep
from .safe_decoding import SafeDecoding
from .settings import EvaluationSettings
from .summary import Judged
from .systems import REMINDER, Alone, System, Together, lossless
from .text_measures import Reading, read_by_target

Report = Callable[[str, float], None]


@dataclass(slots=True)
class Evaluated:
    """What an evaluation found.

    Attributes:
        settings: of the run.
        cases: that were answered.
        systems: that answered, in order.
        records: by system and key.
        verdicts: by judge, system and key; the first judge's are those of the tables.
        readings: the target's view of benign answers, by system and key.
        cost: rows of the timed answers.
    """

    settings: EvaluationSettings
    cases: list[Case]
    systems: list[System]
    records: dict[str, dict[str, Record]] = field(default_factory=dict)
    verdicts: dict[str, dict[str, dict[str, Verdict]]] = field(default_factory=dict)
    readings: dict[str, dict[str, Reading]] = field(default_factory=dict)
    cost: list[dict[str, Any]] = field(default_factory=list)

    def judged(self, judge: str | None = None) -> list[Judged]:
        """One judge's verdicts for every system; the first judge's by default."""
        name = judge or next(iter(self.verdicts))
        return [Judged(system, found) for system, found in self.verdicts[name].items()]


def make_systems(pair: Pair, ssd: SSDConfig, settings: EvaluationSettings) -> list[System]:
    """The systems of ours that are wanted, in order.

    Args:
        pair: both models.
        ssd: settings of the ``sequential`` system: those of the pair's profile, if there is one.
        settings: which systems, and how long their answers are.
    """
    limit, batch = settings.tokens, settings.batch
    paper = SSDConfig(monitor="paper", block_size=ssd.block_size)
    together = partial(Together, pair, limit=limit, batch=batch)
    made: dict[str, Callable[[], System]] = {
        "target": lambda: Alone(pair.target, "target", "target alone", limit, batch),
        "draft": lambda: Alone(pair.draft, "draft", "draft alone", limit, batch),
        "paper": lambda: together(paper, "paper", "SSD, paper monitor", "published settings"),
        "sequential": lambda: together(ssd, "sequential", "SSD, sequential monitor", "the pair's profile"),
        "shadow": lambda: together(lossless(ssd), "shadow", "shadow mode", "watches and changes nothing"),
        "speculative": lambda: together(
            lossless(paper),
            "speculative",
            "speculative decoding",
            "lossless: the target's text, nothing else",
        ),
        "safedecoding": lambda: SafeDecoding(pair, limit, batch),
        "reminder": lambda: Alone(pair.target, "reminder", "safety reminder", limit, batch, REMINDER),
    }
    return [made[name]() for name in settings.systems]


def claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Make the folder this run's own, or go on with it.

    Raises:
        ConfigError: it holds answers of another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.json"
    wanted = json.loads(json.dumps(identity))
    if path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            known = None
        if known != wanted:
            raise ConfigError("the folder of --out holds another evaluation; choose another, or remove it")
    path.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")


def evaluate(
    pair: Pair,
    cases: Sequence[Case],
    systems: Sequence[System],
    judges: Sequence[Judge],
    settings: EvaluationSettings,
    folder: Path,
    report: Report,
) -> Evaluated:
    """Answer, judge, read and time.

    Args:
        pair: both models.
        cases: what is asked.
        systems: who answers.
        judges: beside the detector, which always judges first.
        settings: of the run.
        folder: where answers are kept; see :func:`claim`.
        report: told about every stage.
    """
    found = Evaluated(settings, list(cases), list(systems))
    for system in systems:
        progress = partial(report, f"answers: {system.label}")
        records = keep(folder / "answers" / f"{system.name}.jsonl", cases, system.answer, progress)
        found.records[system.name] = {r.key: r for r in records}
    for judge in (DetectorJudge(), *judges):
        report(f"verdicts: {judge.name}", 0.0)
        found.verdicts[judge.name] = {
            system.name: judge_all(judge, cases, found.records[system.name], folder, system.name)
            for system in systems
        }
    benign = [c for c in cases if c.safe]
    report("benign answers read by the target", 0.0)
    for system in systems:
        answers = found.records[system.name]
        some = [answers[c.key] for c in benign if c.key in answers]
        found.readings[system.name] = read_by_target(pair.target, pair.vocab_size, benign, some)
    if settings.cost_prompts:
        found.cost = list(timed(pair, cases, systems, settings, report))
    return found


def judge_all(
    judge: Judge, cases: Sequence[Case], records: Mapping[str, Record], folder: Path, system: str
) -> dict[str, Verdict]:
    """Verdicts by key. The detector's cost nothing; those of other judges are kept in a file."""
    asked = [c for c in cases if c.key in records]
    if isinstance(judge, DetectorJudge):
        return {c.key: judge.read(c, records[c.key]) for c in asked}
    path = folder / "verdicts" / f"{judge.name}.{system}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = _read_verdicts(path)
    with path.open("a", encoding="utf-8") as file:
        for n, case in enumerate(c for c in asked if c.key not in known):
            known[case.key] = judge.read(case, records[case.key])
            file.write("\n" * (n == 0) + json.dumps({"key": case.key, "verdict": known[case.key]}) + "\n")
            file.flush()
    return known


def _read_verdicts(path: Path) -> dict[str, Verdict]:
    found: dict[str, Verdict] = {}
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row.get("verdict") in ("refused", "answered", "unknown"):
            found[row["key"]] = row["verdict"]
    return found


def timed(
    pair: Pair, cases: Sequence[Case], systems: Sequence[System], settings: EvaluationSettings, report: Report
) -> Iterator[dict[str, Any]]:
    """Rows of cost, one system after the other."""
    engine = Engine(pair, EngineConfig(max_batch=1))
    for system in systems:
        yield from cost_rows(
            system, cases, settings.cost_prompts, engine, partial(report, f"cost: {system.label}")
        )
    engine.close()
