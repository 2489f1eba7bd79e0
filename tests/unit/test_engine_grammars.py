"""Answers in a given form: how they end, what else still works, and what the monitor sees of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from langchain_ssd.config import EvidenceWeights, RefusalPolicy, SequentialConfig, SSDConfig
from langchain_ssd.decoding import verify
from langchain_ssd.decoding.evidence import restrict
from langchain_ssd.engine import prompts, requests, speculation
from langchain_ssd.engine.block import MAX_FORCED
from langchain_ssd.errors import InvalidRequest
from langchain_ssd.events import BinScored, Event, Refused, Token

from .engine_helpers import (
    SHOWN,
    answer,
    break_model,
    drain,
    ended,
    failed,
    in_row,
    raises,
    request,
    token_ids,
)
from .grammar_helpers import PAIR, bias, engine, formed, ids, shown

POINT = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "maxLength": 4},
        "x": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["label", "x"],
    "additionalProperties": False,
}
TEXT = "This one text is all that may be said."


def tokens(events: list[Event]) -> list[Token]:
    return [e for e in events if isinstance(e, Token)]


# ── how an answer ends ───────────────────────────────────────────────────────────────────────────────


def test_a_complete_answer_ends_without_waiting_for_an_end_token() -> None:
    events = answer(engine(), formed("json_schema", POINT, max_tokens=60))
    end = ended(events)
    assert end.finish_reason == "stop"
    assert json.loads(shown(events)).keys() == {"label", "x"}
    assert end.completion_tokens == len(token_ids(events))
    assert end.summary.declined is False


def test_the_last_token_may_be_the_last_there_was_room_for() -> None:
    whole = token_ids(answer(engine(), formed("choice", [TEXT], max_tokens=100)))
    events = answer(engine(), formed("choice", [TEXT], max_tokens=len(whole)))
    assert (ended(events).finish_reason, shown(events)) == ("stop", TEXT)
    events = answer(engine(), formed("choice", [TEXT], max_tokens=len(whole) - 1))
    assert (ended(events).finish_reason, shown(events)) == ("length", TEXT[:-1])


def test_an_end_token_ends_where_more_was_legal() -> None:
    events = answer(engine(), formed("regex", "[0-9]{2,}", max_tokens=60, logit_bias=bias(END=50.0)))
    assert ended(events).finish_reason == "stop"
    assert len(shown(events)) == 2
    assert ended(events).completion_tokens == 3


def test_nothing_at_all_can_be_the_form() -> None:
    events = answer(engine(), formed("choice", [""], max_tokens=5))
    assert (ended(events).finish_reason, shown(events)) == ("stop", "")


def test_a_stop_text_ends_any_answer() -> None:
    events = answer(engine(), formed("choice", [TEXT], max_tokens=100, stop=("all that",)))
    assert (ended(events).finish_reason, shown(events)) == ("stop", "This one text is ")


@pytest.fixture
def unwilling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random models never begin to refuse by themselves."""
    monkeypatch.setattr(prompts, "wants_to_refuse", lambda *_: True)


@pytest.mark.usefixtures("unwilling")
def test_a_refusal_in_words_is_an_ordinary_end() -> None:
    asked = formed("json_schema", POINT, may_refuse=True, max_tokens=300, logit_bias=bias(I=30.0, END=60.0))
    events = answer(engine(), asked)
    end = ended(events)
    assert (end.finish_reason, end.summary.declined, end.summary.refusal) == ("stop", True, None)
    assert shown(events).startswith("I")


@pytest.mark.usefixtures("unwilling")
def test_a_refusal_that_is_cut_off_is_still_one() -> None:
    asked = formed("json_schema", POINT, may_refuse=True, max_tokens=15, logit_bias=bias(I=100.0, END=-100.0))
    end = ended(answer(engine(), asked))
    assert (end.finish_reason, end.summary.declined) == ("length", True)


# ── beside everything else ───────────────────────────────────────────────────────────────────────────


def test_forms_and_free_text_in_one_batch_are_as_alone() -> None:
    asked = {
        "object": formed("json_schema", POINT, max_tokens=60, temperature=1.0, seed=3),
        "free": request("free", max_tokens=30, temperature=0.8, seed=4),
        "choice": formed("choice", [TEXT, TEXT + "!"], max_tokens=60),
        "greedy": request("greedy", max_tokens=30, repetition_penalty=1.3),
        "refusable": formed("regex", "[a-z ]+", may_refuse=True, max_tokens=40, temperature=1.0, seed=5),
    }
    alone = {name: answer(engine(), one) for name, one in asked.items()}
    for max_batch in (2, 5):
        together = engine(max_batch=max_batch)
        for name, one in asked.items():
            together.submit(name, one, 0.0)
        events = drain(together)
        for name in asked:
            assert token_ids(events[name]) == token_ids(alone[name]), name
            assert ended(events[name]).finish_reason == ended(alone[name]).finish_reason


@pytest.mark.parametrize("hold_back", ["verdict", "response", 3])
def test_text_is_held_back_as_ever(hold_back: Any) -> None:
    shown_at_once = answer(engine(), formed("json_schema", POINT, max_tokens=60))
    held = answer(
        engine(), formed("json_schema", POINT, max_tokens=60, safety=SSDConfig(hold_back=hold_back))
    )
    assert shown(held) == shown(shown_at_once)


def test_penalties_and_bias_choose_among_what_is_legal() -> None:
    asked = formed("regex", "[abc]{12}", max_tokens=20, logit_bias=bias(b=60.0, z=100.0))
    assert shown(answer(engine(), asked)) == "b" * 12
    plain, spread = (
        formed("regex", "[abc]{12}", max_tokens=20, frequency_penalty=penalty) for penalty in (0.0, 2.0)
    )
    most = [max(shown(answer(engine(), one)).count(x) for x in "abc") for one in (plain, spread)]
    assert most[1] < most[0]


def test_top_k_and_top_p_cut_what_is_legal() -> None:
    asked = formed("regex", "[a-z]{9}", max_tokens=20, temperature=5.0, seed=1, top_k=1)
    greedy = formed("regex", "[a-z]{9}", max_tokens=20)
    assert shown(answer(engine(), asked)) == shown(answer(engine(), greedy))


def test_a_prefill_begins_the_form() -> None:
    events = answer(engine(), formed("json_schema", POINT, prefill='{"label": "a', max_tokens=60))
    assert json.loads('{"label": "a' + shown(events))["label"].startswith("a")
    with pytest.raises(InvalidRequest, match="does not begin an answer of this form"):
        engine().submit("x", formed("json_schema", POINT, prefill="Sure: {"), 0.0)


@torch.inference_mode()
def test_shadow_mode_is_the_targets_own_choice_among_what_is_legal() -> None:
    asked = formed("regex", "[a-z]{20}", max_tokens=30, safety=SSDConfig(enforce=False, hold_back="none"))
    prompt, letters, said = (
        PAIR.target.renderer.render(asked.messages),
        sorted(ids("abcdefghijklmnopqrstuvwxyz")),
        [],
    )
    for _ in range(20):
        row = PAIR.target.model.model(input_ids=torch.tensor([prompt + said]), use_cache=False).logits[0, -1]
        said.append(letters[int(row[letters].argmax())])
    assert token_ids(answer(engine(), asked)) == said


@pytest.mark.parametrize("side", ["target", "draft"])
def test_what_breaks_a_model_breaks_only_its_own_requests(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = engine()
    break_model(monkeypatch, getattr(PAIR, side).model, 3, in_row(0, float("nan")))
    worker.submit("victim", formed("choice", [TEXT, TEXT + "!"], max_tokens=60), 0.0)
    worker.submit("other", formed("json_schema", POINT, max_tokens=60), 0.0)
    events = drain(worker)
    assert failed(events["victim"]).code == "non_finite_logits"
    assert json.loads(shown(events["other"]))
    break_model(monkeypatch, getattr(PAIR, side).model, 2, raises(RuntimeError("secret")))
    assert failed(answer(engine(), formed("choice", [TEXT], max_tokens=60))).code == "generation_failed"
    assert PAIR.target.model.lengths == PAIR.draft.model.lengths == []


# ── forced tokens ────────────────────────────────────────────────────────────────────────────────────


def test_forced_tokens_take_no_pass_of_their_own() -> None:
    text = TEXT * 4
    end = ended(answer(engine(), formed("choice", [text], max_tokens=400)))
    blocks = -(-len(text) // (MAX_FORCED + 1))
    assert end.summary.emitted == len(text)
    assert end.summary.target_passes <= blocks + 1
    assert end.summary.draft_passes <= 3 * (blocks + 1)
    assert (end.summary.scored, end.summary.drafted, end.summary.accepted) == (0, 0, 0)
    assert (end.summary.match_ratio, end.summary.acceptance_rate) == (1.0, 1.0)


def test_both_models_have_read_what_was_forced() -> None:
    """Tokens after a forced run are those of a run that went one by one, and the forced ones have rows."""
    asked = formed("regex", TEXT.replace(".", "[.]") + "[a-z]{8}", max_tokens=60)
    one_by_one = replace(asked, safety=SHOWN.model_copy(update={"block_size": 1}))
    wide = replace(asked, safety=SHOWN.model_copy(update={"block_size": 8}))
    first, second = answer(engine(), one_by_one), answer(engine(), wide)
    assert token_ids(first) == token_ids(second)
    for a, b in zip(tokens(first), tokens(second), strict=True):
        assert (a.kl, a.p_target) == pytest.approx((b.kl, b.p_target))
    assert [t.scored for t in tokens(first)] == [False] * len(TEXT) + [True] * 8
    assert len({t.kl for t in tokens(first)[: len(TEXT)]}) > len(TEXT) / 2
    assert all(t.p_composite == t.p_target == t.p_draft == 1.0 for t in tokens(first)[: len(TEXT)])


# ── the monitor ──────────────────────────────────────────────────────────────────────────────────────

ALARM = SequentialConfig(
    h_safety=1.0, h_release=0.5, h_refuse=3.0, evidence=EvidenceWeights(bias=0.4, disagreement=0.0, kl=0.0)
)
CALM = SequentialConfig(
    h_safety=1.0, h_release=0.5, h_refuse=3.0, evidence=EvidenceWeights(bias=-0.4, disagreement=0.0, kl=0.0)
)


def sequential(config: SequentialConfig) -> SSDConfig:
    return SSDConfig(monitor="sequential", hold_back="none", sequential=config)


def test_a_forced_run_never_trips_the_sequential_monitor() -> None:
    """Every scored token would raise the statistic by 0.4, and 38 of them are forced."""
    events = answer(engine(), formed("choice", [TEXT], max_tokens=60, safety=sequential(ALARM)))
    assert {t.statistic for t in tokens(events)} == {0.0}
    assert {t.mode for t in tokens(events)} == {"utility"}
    assert ended(events).summary.max_statistic == 0.0


def test_nor_does_it_calm_an_alarmed_one() -> None:
    """Two free letters raise the statistic; a benign run of forced ones must not lower it."""
    pattern = "[a-z]{2}" + "x" * 30 + "[a-z]{8}"
    config = ALARM.model_copy(update={"h_refuse": 1e6})
    events = tokens(answer(engine(), formed("regex", pattern, max_tokens=60, safety=sequential(config))))
    assert [t.statistic for t in events[:2]] == pytest.approx([0.4, 0.8])
    assert [t.statistic for t in events[2:32]] == pytest.approx([0.8] * 30)
    assert [t.statistic for t in events[32:]] == pytest.approx([0.8 + 0.4 * n for n in range(1, 9)])


def test_the_sequential_monitor_refuses_inside_a_form() -> None:
    events = answer(engine(), formed("regex", "x{20}[a-z]{30}", max_tokens=60, safety=sequential(ALARM)))
    refused = next(e for e in events if isinstance(e, Refused))
    assert refused.reason == "evidence"
    assert refused.position == 20 + 7  # 3.0 at 0.4 a scored token
    assert refused.text
    assert ended(events).finish_reason == "refusal"


def test_bins_of_the_paper_monitor_count_forced_tokens_but_do_not_score_them() -> None:
    events = answer(engine(), formed("choice", [TEXT], max_tokens=60))
    bins = [e for e in events if isinstance(e, BinScored)]
    assert len(bins) == len(TEXT) // 7
    assert {(b.match_ratio, b.acceptance, b.mode) for b in bins} == {(1.0, 1.0, "utility")}


def test_forced_tokens_are_no_agreement_in_a_bin() -> None:
    """One free letter in a bin of seven: its own agreement is the whole match ratio."""
    events = answer(engine(), formed("regex", "(xxxxxx[a-z]){6}", max_tokens=60))
    free = [t.agreement for t in tokens(events)][6::7]
    assert [b.match_ratio for b in events if isinstance(b, BinScored)] == [float(a) for a in free]
    assert ended(events).summary.match_ratio == pytest.approx(sum(free) / 6)


def trial(monkeypatch: pytest.MonkeyPatch | None = None) -> list[tuple[bool, float]]:
    """What the monitor is shown at free letters of a form that neither model would have chosen."""
    seen: list[tuple[bool, float]] = []
    make = requests.make_monitor

    def spied(safety: SSDConfig, refusal: RefusalPolicy) -> Any:
        monitor = make(safety, refusal)

        class Spy:
            statistic, cleared = 0.0, 0

            def observe(self, evidence: Any) -> Any:
                if evidence.scored:
                    seen.append((evidence.agreement, evidence.kl))
                return monitor.observe(evidence)

            settle = monitor.settle

        return Spy()

    patch = monkeypatch or pytest.MonkeyPatch()
    patch.setattr(requests, "make_monitor", spied)
    answer(engine(), formed("regex", "[ab]{16}", max_tokens=20))
    patch.undo()
    return seen


def test_evidence_is_of_what_the_models_would_have_said() -> None:
    """The rows of a run that was given the same tokens as free text, with nothing masked."""
    asked = formed("regex", "[ab]{16}", max_tokens=20)
    said = shown(answer(engine(), asked))
    free = request(prefill=said, max_tokens=1)
    seen: list[float] = []
    observe = requests.Sequence.observe_prefill

    def spied(self: Any, rows: Any) -> Any:
        rows = list(rows)
        seen.extend(e.kl for e in rows)
        return observe(self, rows)

    patch = pytest.MonkeyPatch()
    patch.setattr(requests.Sequence, "observe_prefill", spied)
    answer(engine(), free)
    patch.undo()
    assert [kl for _, kl in trial()] == pytest.approx(seen)


def test_a_mask_before_the_evidence_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: both models seem to agree, since all they differed in was illegal."""
    honest = trial()

    def masked_first(target: Any, draft: Any, q: Any, *rest: Any) -> Any:
        legal = rest[2]
        if legal is not None:
            target, draft = restrict(target, legal), restrict(draft, legal)
        return verify.score(target, draft, q, *rest)

    monkeypatch.setattr(speculation, "score", masked_first)
    hidden = trial()
    assert len(hidden) == len(honest) == 16
    assert sum(kl for _, kl in hidden) < 0.5 * sum(kl for _, kl in honest)
    with pytest.raises(AssertionError):
        assert [kl for _, kl in hidden] == pytest.approx([kl for _, kl in honest])
