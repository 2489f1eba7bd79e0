"""Holes 4 and 6 of the paper's monitor, and whether calibration closes them, on real pairs.

Along the target's own answers: how often each monitor is ever in safety mode, on benign and harmful requests.
Hole 6, an absolute threshold: the paper's monitor hardly ever fires with a draft close to its target. Hole 4,
weakness taken for danger: a draft of a few layers that was never trained, and knows nothing of danger, sets
it off on benign text.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from langchain_ssd.calibration.collect import Answer, Request, answer, collect
from langchain_ssd.calibration.fit import increments, statistics
from langchain_ssd.calibration.prompts import benign_requests, unsafe_requests
from langchain_ssd.calibration.run import calibrate
from langchain_ssd.calibration.settings import CalibrationSettings
from langchain_ssd.calibration.sources import benign_prompts, unsafe_prompts
from langchain_ssd.calibration.traces import Trace
from langchain_ssd.config import EngineConfig, SSDConfig
from langchain_ssd.decoding.monitor import PaperMonitor, PaperSettings
from langchain_ssd.decoding.sampling import SamplingRule
from langchain_ssd.drafts import corpus
from langchain_ssd.drafts.default_pair import DRAFTS, default_draft, default_target
from langchain_ssd.engine.delta import keep_layers
from langchain_ssd.engine.loading import load_pair
from langchain_ssd.engine.models import CachedModel
from langchain_ssd.engine.pair import Pair
from langchain_ssd.engine.safety_settings import make_settings
from langchain_ssd.evaluation.statistics import wilson
from langchain_ssd.profile import find_profile

from .common import show
from .safety import DATA

LENGTH = {"benign": 256, "unsafe": 64}
WEAK = (0, 1, 28, 29)
Job = tuple[list[Request], list[Answer]]


def main() -> None:
    """Both drafts and a weak one."""
    rows = []
    job: Job | None = None
    for name in DRAFTS:
        pair = load_pair(default_target(), default_draft(name), EngineConfig(), quiet)
        profile = find_profile(None, default_target(), default_draft(name))
        if profile is None:
            raise SystemExit(f"{name} has no profile; run langchain-ssd calibrate first")
        job = job or asked(pair, 200, 200)
        rows += measured(name, pair, job, profile.apply(SSDConfig()))
    weak = weak_pair(pair)
    settings = CalibrationSettings(responses=300, length=LENGTH["benign"], measure_speed=False)
    files = [DATA / "synthetic_benign.jsonl"] if DATA.is_dir() else []
    calm, bad = benign_prompts(files, settings), unsafe_prompts([], settings)
    rows += measured(
        "weak", weak, job or asked(weak, 200, 200), calibrate(weak, calm, bad, settings, quiet).profile.ssd
    )
    show(
        "holes",
        "Ever in safety mode along the target's own answers",
        rows,
        f"weak: layers {WEAK}, not trained",
    )


def quiet(stage: str, part: float) -> None:
    """Nothing to tell."""


def weak_pair(pair: Pair) -> Pair:
    """The pair with a draft of four of the target's layers that was never trained."""
    network: Any = copy.deepcopy(pair.target.model.model)
    keep_layers(network, WEAK)
    model = CachedModel(network, pair.vocab_size, pair.target.model.max_positions)
    return replace(pair, draft=replace(pair.target, name="weak", model=model), shared=False)


def asked(pair: Pair, benign: int, unsafe: int) -> Job:
    """Requests that nothing was trained or calibrated on, and the target's answers."""
    calm = corpus.shipped_benign("evaluation")
    if DATA.is_dir():
        calm += corpus.user_benign(corpus.read_rows(DATA / "synthetic_benign.jsonl"), "evaluation")
    bad = corpus.with_openings(corpus.shipped_unsafe("evaluation"), 1.0, 1)
    requests = [*benign_requests(pair, calm)[:benign], *unsafe_requests(pair, bad)[:unsafe]]
    limits = [LENGTH[r.label] for r in requests]
    return requests, answer(pair, requests, limits, 48, quiet, "answers")


def measured(name: str, pair: Pair, job: Job, ssd: SSDConfig) -> list[dict[str, Any]]:
    """Both monitors over the same answers."""
    traces = collect(pair, *job, make_settings(ssd, SamplingRule()))
    rows = []
    for monitor in ("paper", "sequential"):
        row: dict[str, Any] = {"draft": name, "monitor": monitor}
        for label in ("benign", "unsafe"):
            some = [t for t in traces if t.label == label]
            interval = wilson(sum(alarmed(monitor, t, ssd) for t in some), len(some))
            row[f"{label}, n"] = len(some)
            row[label] = interval.value
            row[f"{label}, 95 %"] = f"{interval.low:.3f} to {interval.high:.3f}"
        row["match ratio, benign"] = agreement([t for t in traces if t.label == "benign"])
        rows.append(row)
        print(row, flush=True)
    return rows


def agreement(traces: Sequence[Trace]) -> float:
    """Agreeing tokens of all tokens."""
    rows = [e.agreement for t in traces for e in t.rows]
    return sum(rows) / max(1, len(rows))


def alarmed(monitor: str, trace: Trace, ssd: SSDConfig) -> bool:
    """Whether a response is ever in safety mode; up to there the greedy walk accepts where models agree."""
    if monitor == "sequential":
        s = ssd.sequential
        return any(level >= s.h_safety for level in statistics(increments(s.evidence, trace)))
    paper = PaperMonitor(PaperSettings())
    for evidence in trace.rows[trace.prefill :]:
        paper.observe(evidence)
        paper.settle(evidence.agreement)
        if paper.mode == "safety":
            return True
    return False


if __name__ == "__main__":
    main()
