"""Collecting by teacher forcing shows the monitor's numbers exactly as the engine does in shadow mode."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.calibration import collect as page
from langchain_ssd.calibration.collect import AlphaCounts, Answer, Request, answer, collect
from langchain_ssd.calibration.fit import maximum
from langchain_ssd.calibration.prompts import begin_inside, benign_requests, deepen, unsafe_requests
from langchain_ssd.calibration.traces import Trace
from langchain_ssd.config import EngineConfig, Sampling, SSDConfig
from langchain_ssd.decoding.composite import composite
from langchain_ssd.decoding.monitor import Evidence
from langchain_ssd.decoding.sampling import SamplingRule
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.pair import Pair
from langchain_ssd.engine.safety_settings import make_settings
from langchain_ssd.errors import NonFiniteLogits
from langchain_ssd.events import Event, Finished, Token
from langchain_ssd.testing.tiny_pair import tiny_pair

from .calibration_helpers import benign_prompts, unsafe_prompts
from .engine_helpers import drain

SHADOW = SSDConfig(monitor="sequential", enforce=False, hold_back="none", alpha_utility=0.4)
ROWS = make_settings(SHADOW, SamplingRule())
LIMIT = 20


def shadow(pair: Pair, text: str, prefill: str) -> list[Event]:
    """What the engine reports."""
    engine = Engine(pair, EngineConfig())
    asked = ChatRequest(
        (ChatMessage("user", text),), prefill=prefill, sampling=Sampling(max_tokens=LIMIT), safety=SHADOW
    )
    engine.submit("one", asked, 0.0)
    return drain(engine)["one"]


def teacher_forced(pair: Pair, texts: list[str], prefill: str) -> tuple[list[Answer], list[Trace]]:
    prompts = [SimpleNamespace(messages=(ChatMessage("user", t),), kind="k", opening=prefill) for t in texts]
    requests = benign_requests(pair, prompts)
    said = answer(pair, requests, [LIMIT] * len(texts), 2, lambda *_: None, "asking")
    return said, collect(pair, requests, said, ROWS, budget=150)


def same(e: Evidence, t: Token, prefill: int) -> bool:
    numbers = [
        (e.kl, t.kl),
        (e.total_variation, t.total_variation),
        (e.entropy_target, t.entropy_target),
        (e.entropy_draft, t.entropy_draft),
        (e.refusal_gain, t.refusal_gain),
    ]
    near = all(a == pytest.approx(b, abs=1e-9) for a, b in numbers)
    return near and e.agreement == t.agreement and e.position == prefill + t.index


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("prefill", ["", "Sure, here"])
def test_evidence_is_what_the_engine_reports_in_shadow_mode(
    family: str, prefill: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "ROWS_AT_ONCE", 7)
    pair = tiny_pair(family, end_ids=frozenset({256, *range(60, 66)}))
    texts = ["hello", "a rather longer question about nothing", "why?", "tell me", "what?"]
    said, traces = teacher_forced(pair, texts, prefill)
    for text, answered, trace in zip(texts, said, traces, strict=True):
        events = shadow(pair, text, prefill)
        tokens = [e for e in events if isinstance(e, Token)]
        assert tuple(t.token_id for t in tokens) == answered.ids
        assert len(trace.rows) == trace.prefill + len(tokens) + answered.finished
        fresh = trace.rows[trace.prefill :]
        assert all(same(e, t, trace.prefill) for e, t in zip(fresh, tokens, strict=False))
        (end,) = [e for e in events if isinstance(e, Finished)]
        # The statistic covers the prefill's rows and the one that predicts the end token.
        top = maximum(SHADOW.sequential.evidence, trace)
        assert top == pytest.approx(end.summary.max_statistic, abs=1e-8)
    if family == "llama":
        assert {a.finished for a in said} == {True, False}


def test_models_that_change_their_logits_are_read_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = tiny_pair()
    _, plain = teacher_forced(pair, ["hello", "another one"], "Yes")
    monkeypatch.setattr(page, "has_plain_head", lambda model: False)
    _, other = teacher_forced(pair, ["hello", "another one"], "Yes")
    for one, two in zip(plain, other, strict=True):
        for e, f in zip(one.rows, two.rows, strict=True):
            assert e.kl == pytest.approx(f.kl, abs=1e-9)


def test_alpha_counts_are_those_of_the_dense_composite() -> None:
    pair = tiny_pair(divergence=0.05)
    requests = benign_requests(pair, benign_prompts(3))
    said = answer(pair, requests, [9] * 3, 3, lambda *_: None, "asking")
    counts, expected, tokens = AlphaCounts(), dict.fromkeys(page.ALPHAS, 0), 0
    collect(pair, requests, said, ROWS, counts=counts)
    for r, a in zip(requests, said, strict=True):
        whole = [(pair.target, r.target), (pair.draft, r.draft)]
        n = len(r.prefill) + len(a.ids) + a.finished
        p, q = (
            side.model.model(input_ids=torch.tensor([[*prompt, *r.prefill, *a.ids]])).logits[
                0, len(prompt) - 1 :
            ][:n]
            for side, prompt in whole
        )
        tokens += n
        for alpha in page.ALPHAS:
            mixed = composite(p.softmax(-1), q.softmax(-1), "utility", alpha, ROWS.common)
            expected[alpha] += int((mixed.argmax(-1) == p.argmax(-1)).sum())
    assert (counts.tokens, counts.kept) == (tokens, expected)
    assert counts.shares()[0.1] >= counts.shares()[0.5]


def test_rows_without_finite_probabilities_are_a_typed_error() -> None:
    pair = tiny_pair()
    pair.draft.model.model.lm_head.weight[5] = torch.nan
    with pytest.raises(NonFiniteLogits, match="tiny-draft"):
        teacher_forced(pair, ["hello"], "")


# Requests and prefills


def test_every_benign_prompt_makes_one_response_and_some_begin_inside() -> None:
    pair = tiny_pair()
    requests = benign_requests(pair, benign_prompts(40))
    said = [Answer(tuple(range(30)), True)] * len(requests)
    cut, rest = begin_inside(requests, said, 0.5, seed=1)
    assert [r.group for r in cut] == [str(n) for n in range(40)]
    inside = [(r, a) for r, a in zip(cut, rest, strict=True) if r.kind == "prefill"]
    assert 8 < len(inside) < 30
    for r, a in inside:
        assert r.prefill + a.ids == tuple(range(30))
        assert a.ids
    assert {r.kind for r in cut} == {"user", "opened", "prefill"}
    assert begin_inside(requests, said, 0.5, seed=1) == (cut, rest)
    assert begin_inside(requests, said, 0.0, seed=1) == (requests, said)


def test_harmful_answers_are_cut_at_every_depth_in_turn() -> None:
    pair = tiny_pair()
    requests = unsafe_requests(pair, unsafe_prompts(10))
    assert [r.kind for r in requests[:3]] == ["contrast", "contrast", "prefill"]
    assert requests[1].group == requests[2].group
    said = [Answer(tuple(range(60)), True)] * len(requests)
    cut, rest = deepen(requests, said, 12)
    assert [len(r.prefill) for r in cut if r.kind == "prefill"] == [5, 10, 20, 40, 5]
    assert {len(a.ids) for a in rest} == {12}
    assert not any(a.finished for a in rest)
    whole = requests[2].prefill + said[2].ids
    assert cut[2].prefill + rest[2].ids == whole[:17]


def test_short_harmful_answers_keep_their_end() -> None:
    request = Request((1,), (1,), "unsafe", "prefill", "0", (7, 8))
    (cut,), (rest,) = deepen([request], [Answer((9,), True)], 12)
    assert (cut.prefill, rest) == ((7, 8, 9), Answer((), True))


def test_prompts_that_do_not_fit_are_left_out() -> None:
    pair = tiny_pair(context=100)
    prompts = benign_prompts(2)
    prompts[1].messages = (ChatMessage("user", "x" * 200),)
    assert [r.group for r in benign_requests(pair, prompts)] == ["0"]


def test_answers_stay_inside_both_contexts() -> None:
    pair = tiny_pair(context=120, draft_context=90)
    requests = benign_requests(pair, benign_prompts(3))
    said = answer(pair, requests, [500] * 3, 2, lambda *_: None, "asking")
    assert [len(a.ids) for a in said] == [r.room(pair) for r in requests]
    assert len(collect(pair, requests, said, ROWS)) == 3
