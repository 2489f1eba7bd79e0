"""``python -m benchmarks.safety``: what a pair stops, what it costs, on the development data.

The table of the safety-draft work: unsafe requests answered, benign ones refused, tokens that stay the
target's own, each with a 95 % interval, for the target alone and for SSD as a user gets it. Answers are kept
outside the repository: they are answers to third-party research data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from langchain_ssd.commands.options import named
from langchain_ssd.config import EngineConfig, RefusalPolicy, SSDConfig
from langchain_ssd.drafts.batching import pack_batches, pad
from langchain_ssd.drafts.default_pair import default_target
from langchain_ssd.drafts.forward import rows_at
from langchain_ssd.drafts.store import cache_folder
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.loading import load_pair
from langchain_ssd.engine.pair import Pair
from langchain_ssd.evaluation.answering import Result, answer_alone, answer_ssd, keep
from langchain_ssd.evaluation.refusals import judge
from langchain_ssd.evaluation.statistics import wilson
from langchain_ssd.evaluation.suites import ATTACKS, Case, benign_cases, research_cases
from langchain_ssd.evaluation.text_quality import is_collapsed, is_repetitive
from langchain_ssd.pairs import draft_spec
from langchain_ssd.profile import find_profile

from .common import show

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
COUNTS = {"synthetic": 100, "opened": 100, "turns": 50, "languages": 50}
BENIGN = ("mtbench", "gsm8k", *COUNTS)


def main() -> None:
    """Answer the cases with each system and print the table."""
    args = arguments()
    target = default_target().model_copy(update={"dtype": args.dtype})
    draft = draft_spec(named(args.draft)).model_copy(update={"dtype": args.dtype})
    pair = load_pair(target, draft, EngineConfig(threads=2), lambda stage, part: None)
    cases = all_cases(pair, args)
    folder = args.answers / args.split
    safety, refusal = settings(args)
    ssd = Engine(pair, EngineConfig(max_batch=args.batch, max_queue=100_000, threads=2))
    systems = {
        "target": partial(answer_alone, pair.target, ends=pair.end_ids, limit=args.tokens),
        "draft": partial(answer_alone, pair.draft, ends=pair.end_ids, limit=args.tokens),
        "ssd": partial(answer_ssd, ssd, limit=args.tokens, safety=safety, refusal=refusal),
    }
    results = {}
    for name in args.systems.split(","):
        label = name if name == "target" else f"{name}-{args.label}"
        report = partial(print_progress, label)
        results[name] = keep(folder / f"{label}.jsonl", cases, systems[name], report)
        print()
    rows = [row for name, found in results.items() for row in table(name, cases, found)]
    if "ssd" in results:
        rows += own_choice(pair, cases, results["ssd"])
    note = (
        f"{args.split} half, {args.tokens} tokens, {args.dtype}, draft {args.label}, monitor {safety.monitor}"
    )
    show(
        f"safety-{args.label}-{args.split}",
        "Safety and its price",
        rows,
        note,
        "python -m benchmarks.safety " + " ".join(sys.argv[1:]),
    )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.safety", description=__doc__)
    parser.add_argument("--draft", default="default", help="folder of the draft, or one that ships")
    parser.add_argument(
        "--profile", help="a calibration profile; default: the one in the draft's folder; 'none'"
    )
    parser.add_argument("--label", required=True, help="what the draft is called in the results")
    parser.add_argument("--split", choices=["tune", "held"], default="tune")
    parser.add_argument("--systems", default="target,draft,ssd")
    parser.add_argument("--suites", default="", help="only these, separated by commas")
    parser.add_argument("--limit", type=int, default=0, help="at most so many cases of each suite")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--answers", type=Path, default=cache_folder() / "answers")
    return parser.parse_args()


def settings(args: argparse.Namespace) -> tuple[SSDConfig, RefusalPolicy]:
    """What ``ChatSSD`` would use with this draft and profile."""
    profile = find_profile(args.profile, default_target(), draft_spec(named(args.draft)))
    return (profile.apply(SSDConfig()) if profile else SSDConfig()), RefusalPolicy()


def all_cases(pair: Pair, args: argparse.Namespace) -> list[Case]:
    """Attacks and benign requests of the chosen half, and our own benign ones."""
    renderer = pair.target.renderer

    def cut(text: str, tokens: int) -> str:
        return str(renderer.tokenizer.decode(renderer.encode(text)[:tokens]))

    cases = research_cases(args.data, args.split, cut)
    cases += benign_cases(args.data / "synthetic_benign.jsonl", COUNTS)
    wanted = set(args.suites.split(",")) if args.suites else {c.suite for c in cases}
    chosen = list({c.key: c for c in cases if c.suite in wanted}.values())
    if not args.limit:
        return chosen
    return [c for n, c in enumerate(chosen) if sum(d.suite == c.suite for d in chosen[:n]) < args.limit]


def print_progress(label: str, part: float) -> None:
    """One line that is overwritten."""
    print(f"\r{label}: {part:.0%}", end="", flush=True)


def refused(case: Case, result: Result) -> bool:
    """Whether the answer is a refusal, SSD's own or the models'."""
    return result.reason == "refusal" or judge(result.text, prefill=case.prefill).refused


def table(system: str, cases: Sequence[Case], results: Sequence[Result]) -> list[dict[str, Any]]:
    """One row for each group of suites: how many were answered (unsafe) or refused (safe)."""
    suites = {c.suite for c in cases}
    groups = {name: (name,) for name in sorted(suites)}
    groups["transferred attacks, pooled"] = tuple(s for s in ATTACKS if s in suites)
    groups["benign, pooled"] = tuple(s for s in BENIGN if s in suites)
    rows = []
    for name, members in groups.items():
        some = [(c, r) for c, r in zip(cases, results, strict=True) if c.suite in members]
        if some:
            rows.append(row(system, name, some))
    return rows


def row(system: str, name: str, some: Sequence[tuple[Case, Result]]) -> dict[str, Any]:
    """Counts of one group with their interval, and what the texts and the monitor looked like."""
    safe = some[0][0].safe
    bad = sum(refused(c, r) is safe for c, r in some)
    interval = wilson(bad, len(some))
    scored = sum(r.scored for _, r in some)
    return {
        "system": system,
        "suite": name,
        "measured": "refused" if safe else "answered",
        "n": len(some),
        "share": bad / len(some),
        "95 %": f"{interval.low:.3f} to {interval.high:.3f}",
        "template": sum(r.reason == "refusal" for _, r in some) / len(some),
        "safety tokens": sum(r.safety_tokens for _, r in some) / max(1, scored),
        "match ratio": sum(r.agreeing for _, r in some) / scored if scored else "",
        "repetitive": sum(is_repetitive(r.text) or is_collapsed(r.text) for _, r in some) / len(some),
    }


@torch.inference_mode()
def own_choice(pair: Pair, cases: Sequence[Case], results: Sequence[Result]) -> list[dict[str, Any]]:
    """Share of SSD's benign tokens that are the target's own greedy choice under the same prefix."""
    side = pair.target
    items = []
    for c, r in zip(cases, results, strict=True):
        if c.suite in BENIGN and r.tokens:
            prompt = side.renderer.render(c.messages) + side.renderer.encode(c.prefill)
            items.append((prompt + r.tokens, len(prompt)))
    equal = total = 0
    for batch in pack_batches([len(ids) for ids, _ in items], 1024):
        some = [items[i] for i in batch]
        spans = [(start - 1, len(ids) - 1) for ids, start in some]
        rows = rows_at(side.model.model, pad([ids for ids, _ in some]).ids, spans)
        emitted = torch.cat([torch.tensor(ids[start:]) for ids, start in some])
        equal += int((rows[:, : pair.vocab_size].argmax(dim=-1) == emitted).sum())
        total += len(emitted)
    if not total:
        return []
    interval = wilson(equal, total)
    return [
        {
            "system": "ssd",
            "suite": "benign, pooled",
            "measured": "tokens that are the target's own greedy choice",
            "n": total,
            "share": equal / total,
            "95 %": f"{interval.low:.3f} to {interval.high:.3f}",
        }
    ]


if __name__ == "__main__":
    main()
