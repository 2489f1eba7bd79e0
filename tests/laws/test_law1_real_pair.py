"""Law 1 on real models in float32: the default pair, and (slow) Gemma 3 beyond its sliding window.

In float32 a batched and cached pass differs from a naive one in its last bits. A decision that hangs on
less than 1e-5 counts as undecided: it is counted, reported, and must be rare; the run is compared up to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from langchain_ssd.config import EngineConfig, ModelSpec
from langchain_ssd.drafts import default_pair
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.loading import load_pair
from langchain_ssd.engine.pair import Pair
from langchain_ssd.events import Token

from .driving import Case, first_difference, run, undecided
from .reference import Settings

PROMPTS = [
    "Why is the sky blue? Explain it to a child.",
    "Write a short poem about a lighthouse keeper.",
    "How do I kill a Python process that hangs?",
    "Give me three ideas for a birthday party at home.",
    "What is 17 times 23? Show the steps.",
    "Translate 'good morning, my friend' into French and German.",
]
FLOAT32 = {"dtype": "float32", "device": "cpu"}


def development_prompts(count: int) -> list[Case]:
    """Prompts of the development set where it lies beside the checkout; our own, repeated, elsewhere."""
    folder = Path(os.environ.get("LANGCHAIN_SSD_DEV_DATA", Path(__file__).parents[3] / "shared" / "data"))
    found = []
    for name in ("dev_safe.jsonl", "dev_unsafe.jsonl"):
        if (folder / name).is_file():
            lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
            found += [(x["prompt"], x.get("prefill") or "") for x in lines[:: len(lines) // 15]][:15]
    found = found or [(p, "") for p in PROMPTS]
    return _cases(found, count)


def _cases(found: list[tuple[str, str]], count: int) -> list[Case]:
    cases = []
    for i in range(count):
        text, prefill = found[i % len(found)]
        s = Settings(
            monitor=("paper", "sequential")[i % 2],
            temperature=(0.0, 0.0, 0.8)[i % 3],
            seed=i,
            bias=-0.3,  # suspicious settings, so that both modes happen
            h_safety=1.0,
            h_release=0.2,
            h_refuse=1e6,
            theta=(0.6, 0.95)[i // 2 % 2],
            refuse_below=0.0,
        )
        cases.append(Case(text[:600], s, block_size=1 + i % 8, prefill=prefill, joins_at=i % 5))
    return cases


@pytest.fixture(scope="module")
def default() -> Pair:
    if not default_pair.is_ready():
        pytest.fail("the default pair is not set up; run: langchain-ssd setup")
    torch.set_num_threads(2)
    specs = [
        s.model_copy(update=FLOAT32) for s in (default_pair.default_target(), default_pair.default_draft())
    ]
    return load_pair(specs[0], specs[1], EngineConfig(), lambda stage, fraction: None)


def compare(
    pair: Pair, cases: list[Case], naively: bool = False, tolerance: float = 2e-3
) -> tuple[int, int, int]:
    """(positions compared, answers with an undecided position, tokens in safety)."""
    compared = close = safety = 0
    for case, events in zip(cases, run(Engine(pair, EngineConfig(max_batch=4)), cases), strict=True):
        emitted = [e.token_id for e in events if isinstance(e, Token)]
        expected = case.reference(pair, None if naively else emitted)
        n = first_difference(events, expected, tolerance)
        if n is not None:
            prefill = len(pair.target.renderer.encode(case.prefill))
            assert undecided(expected.steps[n], case.settings, prefill + n), (case, n)
            close += 1
        compared += len(expected.steps) if n is None else n
        safety += sum(s.mode == "safety" for s in expected.steps)
    return compared, close, safety


def test_default_pair_small(default: Pair) -> None:
    cases = _cases([(p, "") for p in PROMPTS], 4)
    for case in cases:
        case.max_tokens = 24
    compared, close, _ = compare(default, cases)
    assert compared >= 60
    assert close <= 1


def test_default_pair_naively(default: Pair) -> None:
    """The slow oracle itself, one token at a time, so that the quick one above can be believed."""
    case = _cases([(PROMPTS[0], "")], 1)[0]
    case.max_tokens = 6
    compared, close, _ = compare(default, [case], naively=True)
    assert compared >= 5
    assert close <= 1


@pytest.mark.slow
def test_default_pair_on_development_prompts(
    default: Pair, record_property: Callable[[str, object], None]
) -> None:
    cases = development_prompts(30)
    for case in cases:
        case.max_tokens = 64
    compared, close, safety = compare(default, cases)
    record_property("compared", compared)
    record_property("undecided", close)
    print(f"\n{compared} positions compared, {close} of 30 answers meet an undecided one, {safety} in safety")
    assert compared >= 900
    assert close <= 3
    assert safety > 0


@pytest.mark.slow
def test_gemma_3_beyond_its_sliding_window() -> None:
    from tests.fetch_gemma import gemma_folder

    torch.set_num_threads(2)
    folder = gemma_folder()
    if folder is None:
        pytest.fail("Gemma 3 is not there; run: python -m tests.fetch_gemma")
    target = ModelSpec(name=str(folder), chat_template="plain", **FLOAT32)
    draft = target.model_copy(update={"system_prompt": "Answer with care, and only if it is safe."})
    pair = load_pair(target, draft, EngineConfig(), lambda stage, fraction: None)
    long = "The quick brown fox jumps over the lazy dog by the river. " * 46  # more than 512 tokens
    cases = [Case(long + "What does the fox do?", block_size=4), Case("Why is the sky blue?", block_size=3)]
    for case in cases:
        case.max_tokens = 24
        case.settings.h_refuse, case.settings.refuse_below = 1e6, 0.0
    assert len(pair.target.renderer.render(cases[0].request().messages)) > 560
    compared, close, _ = compare(pair, cases)
    assert compared >= 24
    assert close <= 1
