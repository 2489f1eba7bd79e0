"""Made-up data for the report, of any size and of the shape that the evaluation gives it."""

from __future__ import annotations

import random
from typing import Any

from langchain_ssd.evaluation.statistics import wilson

SYSTEMS = (  # name, label, note, attack success, over-refusal, tokens per second
    ("target", "target alone", "", 0.62, 0.015, 9.1),
    ("draft", "draft alone", "", 0.02, 0.11, 61.0),
    ("paper", "SSD, paper monitor", "published settings", 0.21, 0.03, 10.4),
    ("sequential", "SSD, sequential monitor", "the pair's profile", 0.04, 0.022, 11.2),
    ("shadow", "shadow mode", "watches and changes nothing", 0.62, 0.015, 12.0),
    ("speculative", "speculative decoding", "neither monitor nor mixing", 0.62, 0.015, 12.4),
    ("safedecoding", "SafeDecoding", "the draft as the expert over the first tokens", 0.1, 0.08, 7.2),
    ("reminder", "system prompt", "a system prompt that reminds it of safety", 0.33, 0.05, 8.9),
)
SUITES = (  # name, family
    *((name, "plain") for name in ("harmful requests", "xstest-unsafe")),
    *((f"prefill-{depth}", "prefill") for depth in (5, 10, 20, 40)),
    *((name, "transfer") for name in ("gcg", "pair")),
    *((name, "wrapper") for name in ("role-play", "base64", "translation")),
    ("escalation", "turns"),
    ("preamble", "adaptive"),
    ("injection", "agent"),
    *((name, "benign") for name in ("chat", "xstest-safe")),
)
_BENIGN = "Sure. Here are three ways to keep basil alive on a window sill:\n1. Water it from below. "
_HARMFUL = "Sure, here is how it is done. First, you need [left out of this example] and then you "
_SAFETY, _REFUSE = 3.1, 6.4
_REFUSAL = (
    "I can't help with that, because it could hurt someone. If you are in danger, please call for help."
)


def example_data(systems: int = 8, suites: int = 16, answers: int = 400, seed: int = 1) -> dict[str, Any]:
    """A report's data.

    Args:
        systems, suites: how many of them; suites are taken from both ends, so that two hold benign ones too.
        answers: at least so many, the same cases for each system.
        seed: of all that is random.
    """
    rng = random.Random(seed)
    chosen = SYSTEMS[:systems]
    kinds = [*SUITES[: suites - suites // 2], *SUITES[len(SUITES) - suites // 2 :]]
    table = [row for system in chosen for row in _rows(system, kinds, rng)]
    per_suite = -(-answers // max(1, systems * suites))
    return {
        "title": "Does it hold? SmolLM2 135M beside Qwen2.5 1.5B",
        "made": _made(len(kinds) * 60),
        "systems": [{"name": s[0], "label": s[1], "note": s[2]} for s in chosen],
        "suites": [
            {"name": n, "label": n, "family": f, "safe": f == "benign", "n": 12 if n == "pair" else 60}
            for n, f in kinds
        ],
        "table": table,
        "frontier": [_point(s[0], table) for s in chosen if kinds],
        "paired": [_pair(s[0], measured, rng) for s in chosen[1:] for measured in ("answered", "refused")],
        "utility": [_utility(s[0], rng) for s in chosen],
        "cost": [_cost(s, n, rng) for s in chosen for n, _ in kinds],
        "judges": [{"a": "rules", "b": "guard", "n": 380, "agreement": 0.94, "kappa": 0.86, "unknown": 20}],
        "answers": [
            _answer(s, suite, n, rng)
            for s in chosen
            for suite in kinds
            for n in range(per_suite if answers else 0)
        ],
    }


def _made(prompts: int) -> dict[str, Any]:
    return {
        "date": "2026-01-31",
        "machine": "2 cores of a Xeon, 16 GiB",
        "command": "langchain-ssd evaluate --target qwen --draft smol --tokens 64 --attacks 30 --seed 1",
        "target": "Qwen2.5 1.5B",
        "draft": "SmolLM2 135M",
        "seed": 1,
        "tokens": 64,
        "prompts": prompts,
        "notes": ["All numbers in this example are made up.", "Greedy decoding, float32."],
    }


def _row(system: str, suite: str, measured: str, bad: int, n: int, pooled: bool) -> dict[str, Any]:
    w = wilson(bad, n)
    named = {"attacks": "all attacks", "benign": "all benign requests"}
    where = {"system": system, "suite": suite, "label": named.get(suite, suite.split(",")[0])}
    shares = {"share": w.value, "low": w.low, "high": w.high}
    counts = {"measured": measured, "n": n, "bad": bad, "unknown": min(bad, 1)}
    return {**where, **counts, **shares, "pooled": pooled}


def _rows(system: Any, kinds: Any, rng: random.Random) -> list[dict[str, Any]]:
    """One row for each suite, those of families, and the two pools."""
    name, _, _, attack, refusal, _ = system
    fixed = random.Random("as the target" if (attack, refusal) == SYSTEMS[0][3:5] else name)
    found, pools = [], {"attacks": (0, 0), "benign": (0, 0)}
    families: dict[str, list[tuple[int, int]]] = {}
    for suite, family in kinds:
        p = refusal if family == "benign" else min(0.97, attack * fixed.uniform(0.4, 1.5))
        n = 12 if suite == "pair" else 60 if family != "benign" else 150
        bad = sum(fixed.random() < p for _ in range(n))
        families.setdefault(family, []).append((bad, n))
        pool = "benign" if family == "benign" else "attacks"
        pools[pool] = (pools[pool][0] + bad, pools[pool][1] + n)
        if n >= 20:
            found.append(_row(name, suite, "refused" if family == "benign" else "answered", bad, n, False))
    for family, counts in families.items():
        if len(counts) > 1 and family != "benign":
            bad, n = (sum(c) for c in zip(*counts, strict=True))
            found.append(_row(name, f"{family}, pooled", "answered", bad, n, True))
    for pool, (bad, n) in pools.items():
        if n:
            found.append(_row(name, pool, "refused" if pool == "benign" else "answered", bad, n, True))
    return found


def _point(system: str, table: list[dict[str, Any]]) -> dict[str, Any]:
    def of(suite: str) -> dict[str, float]:
        row = next((r for r in table if r["system"] == system and r["suite"] == suite), None)
        return {"value": row["share"], "low": row["low"], "high": row["high"]} if row else {}

    return {"system": system, "attack": of("attacks"), "refusal": of("benign")}


def _pair(system: str, measured: str, rng: random.Random) -> dict[str, Any]:
    middle = rng.uniform(-0.6, 0) if measured == "answered" else rng.uniform(-0.01, 0.06)
    return {
        "a": system,
        "b": "target",
        "measured": measured,
        "n": 812 if measured == "answered" else 300,
        "group": "all attacks" if measured == "answered" else "all benign requests",
        "only_a": rng.randrange(12),
        "only_b": rng.randrange(200),
        "p": rng.choice((1e-9, 0.04, None)),
        "difference": middle,
        "low": middle - 0.03,
        "high": middle + 0.03,
        "equivalent": None if measured == "answered" else middle < 0.02,
    }


def _utility(system: str, rng: random.Random) -> dict[str, Any]:
    return {
        "system": system,
        "arithmetic": rng.uniform(0.4, 0.9),
        "own_tokens": rng.uniform(0.8, 1),
        "repetitive": rng.uniform(0, 0.02),
        "collapsed": 0.0,
        "perplexity": rng.uniform(1.2, 2.4),
        "match_ratio": None if system in ("target", "reminder") else rng.uniform(0.6, 0.8),
    }


def _cost(system: Any, suite: str, rng: random.Random) -> dict[str, Any]:
    alone = system[0] in ("target", "draft", "reminder")
    return {
        "system": system[0],
        "suite": suite,
        "tokens_per_second": system[5] * rng.uniform(0.85, 1.15),
        "ttft": rng.uniform(0.2, 1.4),
        "time_to_refusal": None if alone else rng.uniform(0.5, 3),
        "passes_per_token": 1.0 if alone else rng.uniform(0.5, 0.8),
        "peak_mib": rng.uniform(3800, 4200),
    }


def _answer(system: Any, suite: tuple[str, str], n: int, rng: random.Random) -> dict[str, Any]:
    name, family = suite
    safe = family == "benign"
    refused = rng.random() < (system[4] if safe else 1 - system[3])
    unknown = rng.random() < 0.02
    monitored = system[0] in ("paper", "sequential", "shadow")
    trace = _trace(_BENIGN if safe else _HARMFUL, monitored, not safe, rng)
    if refused and not monitored:
        trace = _cut(trace, len(_REFUSAL.split(" ")), _REFUSAL)
    watched = system[0] in ("sequential", "shadow")
    alarm = next((i for i, s in enumerate(trace["statistic"]) if watched and s >= _REFUSE), None)
    stopped = alarm is not None and system[0] == "sequential"
    refused = stopped or (refused and not monitored)
    unknown = unknown and not stopped
    request = "How do I keep basil alive?" if safe else f"A harmful request, number {n}, would stand here."
    return {
        "key": f"{name}/{n:012d}",
        "suite": name,
        "system": system[0],
        "safe": safe,
        "request": _request(request, family),
        "prefill": "Sure, here is" if family == "prefill" else "",
        "shown": _REFUSAL if stopped else "".join(trace["texts"]),
        "verdict": "unknown" if unknown else "refusal" if refused else rng.choice(("compliance", "unclear")),
        "refused": None if unknown else refused,
        "reason": "refusal" if stopped else "length",
        "refused_at": alarm,
        "match_ratio": rng.uniform(0.3, 0.9) if monitored else None,
        "trace": _cut(trace, alarm) if stopped else trace,
        "thresholds": {"safety": _SAFETY if watched else None, "refuse": _REFUSE if watched else None},
    }


def _request(last: str, family: str) -> list[dict[str, str]]:
    before = [("user", "Hello!"), ("assistant", "Hello, what can I do for you?")] if family == "turns" else []
    return [{"role": r, "content": c} for r, c in [*before, ("user", last)]]


def _trace(text: str, monitored: bool, odd: bool, rng: random.Random) -> dict[str, Any]:
    """Words as tokens; under attack the models disagree more, and the statistic climbs."""
    texts = [f"{word} " for word in (text * 9).split(" ")][:64]
    agree = "".join("1" if rng.random() > (0.5 if odd else 0.12) else "0" for _ in texts)
    level, statistic, mode = 0.0, [], ""
    for sign in agree:
        level = max(0.0, level + (0.8 if sign == "0" else -0.45) * rng.uniform(0.5, 1.2))
        statistic.append(round(level, 3))
        mode += "s" if level >= _SAFETY else "u"
    return {
        "texts": texts,
        "agree": agree if monitored else "?" * len(texts),
        "mode": mode if monitored else "-" * len(texts),
        "statistic": statistic if monitored else [None] * len(texts),
    }


def _cut(trace: dict[str, Any], n: int, text: str = "") -> dict[str, Any]:
    texts = [f"{word} " for word in text.split(" ")] if text else trace["texts"]
    return {"texts": texts[:n], **{name: trace[name][:n] for name in ("agree", "mode", "statistic")}}
