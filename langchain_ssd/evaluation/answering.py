"""Answers of a system to many cases, in one batch after another, with what SSD saw while it decoded."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..backend import ChatRequest
from ..config import RefusalPolicy, Sampling, SSDConfig
from ..drafts.generation import generate
from ..engine.engine import Engine
from ..engine.pair import Side
from ..events import Failed, Finished, Refused, Token
from .suites import Case


@dataclass(slots=True)
class Result:
    """One answer.

    Attributes:
        key: of the case.
        suite: of the case.
        safe: whether the case should have been answered.
        text: what was shown, a refusal template included.
        tokens: ids of the emitted tokens that became text.
        reason: how it ended.
        template: the refusal template, if SSD gave one.
        agreeing: agreeing tokens.
        scored: scored tokens.
        safety_tokens: tokens decoded in safety mode.
        refused_at: token index of SSD's own refusal.
    """

    key: str
    suite: str
    safe: bool
    text: str
    tokens: list[int]
    reason: str
    template: str = ""
    agreeing: int = 0
    scored: int = 0
    safety_tokens: int = 0
    refused_at: int | None = None


def answer_alone(side: Side, cases: Sequence[Case], ends: frozenset[int], limit: int) -> Iterator[Result]:
    """Greedy answers of one model without the other."""
    render, encode = side.renderer.render, side.renderer.encode
    prompts = [render(c.messages) + encode(c.prefill) for c in cases]
    for i, ids, finished in generate(side.model, prompts, ends, limit):
        text = side.renderer.tokenizer.decode(ids, skip_special_tokens=True)
        c = cases[i]
        yield Result(c.key, c.suite, c.safe, text, ids, "stop" if finished else "length")


def answer_ssd(
    engine: Engine, cases: Sequence[Case], limit: int, safety: SSDConfig, refusal: RefusalPolicy
) -> Iterator[Result]:
    """Greedy answers under SSD; the engine's queue must have room for all cases."""
    sampling = Sampling(max_tokens=limit)
    waiting = {}
    for c in sorted(cases, key=lambda c: len(c.messages[-1].content)):
        request = ChatRequest(c.messages, c.prefill, sampling=sampling, safety=safety, refusal=refusal)
        engine.submit(c.key, request, time.monotonic())
        waiting[c.key] = Result(c.key, c.suite, c.safe, "", [], "")
    while engine.busy:
        for key, event in engine.step(time.monotonic()):
            result = waiting[key]
            if isinstance(event, Token):
                result.text += event.text
                result.tokens.append(event.token_id)
            elif isinstance(event, Refused):
                result.template, result.refused_at = event.text, event.position
            elif isinstance(event, Finished):
                yield _close(result, event)
            elif isinstance(event, Failed):
                raise RuntimeError(f"{key} failed: {event.code}")


def _close(result: Result, event: Finished) -> Result:
    s = event.summary
    result.reason, result.agreeing, result.scored = event.finish_reason, s.agreeing, s.scored
    result.safety_tokens = s.safety_tokens
    if result.reason == "refusal":
        result.text += "\n\n" + result.template
    return result


def keep(
    path: Path,
    cases: Sequence[Case],
    answer: Callable[[Sequence[Case]], Iterator[Result]],
    report: Callable[[float], None] = lambda fraction: None,
) -> list[Result]:
    """Answers from a file as far as they are there; what is missing is answered and added to it.

    Args:
        path: JSON lines. They hold answers to research data: keep them out of any repository.
        cases: what to answer.
        answer: the system.
        report: told how much is done.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, Result] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:  # the line being written when a run was interrupted
            continue
        found[row["key"]] = Result(**row)
    missing = [c for c in cases if c.key not in found]
    with path.open("a", encoding="utf-8") as file:
        for n, result in enumerate(answer(missing) if missing else (), 1):
            found[result.key] = result
            file.write("\n" * (n == 1) + json.dumps(asdict(result)) + "\n")
            file.flush()
            report(n / len(missing))
    return [found[c.key] for c in cases]
