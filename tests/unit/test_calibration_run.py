"""A whole calibration: held-out figures, the profile, its pages and picture, speed, sources of prompts."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from langchain_ssd.backend import ChatMessage
from langchain_ssd.calibration import picture, sources
from langchain_ssd.calibration.fit import TOKENS, maximum
from langchain_ssd.calibration.pages import as_markdown, write_pages
from langchain_ssd.calibration.report import by_kind
from langchain_ssd.calibration.run import CalibrationResult, Collected, calibrate, choose_alpha, conclude
from langchain_ssd.calibration.settings import CalibrationSettings
from langchain_ssd.calibration.signals import SIGNALS
from langchain_ssd.calibration.speed import choose_block_size, pass_times, tokens_per_pass
from langchain_ssd.calibration.traces import Trace
from langchain_ssd.config import SSDConfig
from langchain_ssd.errors import ConfigError
from langchain_ssd.evaluation.statistics import auroc
from langchain_ssd.profile import Profile, ProfiledModel
from langchain_ssd.testing.tiny_pair import tiny_pair

from .calibration_helpers import SMALL, benign_prompts, gaussian, unsafe_prompts

NAMES = (ProfiledModel(title="big"), ProfiledModel(title="small"))


def silent(stage: str, fraction: float) -> None:
    assert 0 <= fraction <= 1


def concluded(traces: list[Trace], **settings: Any) -> CalibrationResult:
    found = Collected(traces, SSDConfig(), {"kept_by_alpha": {0.1: 1.0}})
    return conclude(traces, found, CalibrationSettings(**settings), NAMES, silent)


@pytest.fixture(scope="module")
def synthetic() -> CalibrationResult:
    plain = gaussian(300, 60, 0.7, seed=1)
    deep = gaussian(40, 40, 0.7, seed=2, prefill=20)
    renamed = [Trace(t.label, t.kind, f"deep{t.group}", t.prefill, t.rows) for t in deep]
    return concluded(plain + renamed)


def test_a_signal_can_be_asked_for(synthetic: CalibrationResult) -> None:
    other = next(name for name in SIGNALS if name != synthetic.chosen.signal)
    result = concluded(gaussian(300, 60, 0.7, seed=1), signal=other)
    assert result.chosen.signal == result.profile.measured["signal"] == other


def test_a_signal_that_a_log_does_not_hold_is_refused() -> None:
    traces = [replace(t, gain_known=False) for t in gaussian(120, 60, 0.7)]
    with pytest.raises(ConfigError, match="written without this signal"):
        concluded(traces, signal="refusals")


def test_a_draft_that_tells_nothing_gets_a_profile_that_never_alarms() -> None:
    result = concluded(gaussian(120, 60, 0.0, seed=5))
    assert result.chosen.signal == result.profile.measured["signal"] == "nothing"
    assert {r.safety.value for r in (*result.benign, *result.unsafe)} == {0.0}
    assert not result.profile.apply(SSDConfig()).sequential.calibrated  # every summary tells
    assert "no better than chance" in as_markdown(result, plots=False)
    assert "no better than chance" not in as_markdown(concluded(gaussian(120, 60, 1.5)), plots=False)


def test_held_out_rates_are_those_asked_for_and_attacks_are_found(synthetic: CalibrationResult) -> None:
    calm, deep = synthetic.benign[0], {r.kind: r for r in synthetic.unsafe}
    assert (calm.kind, calm.responses) == ("all", 170)
    # 0.05 give or take 0.024: 170 responses set the threshold, and 170 others are counted.
    assert calm.safety.value <= 0.05 + 3 * 0.024
    assert calm.refused.value <= 0.04
    for kind in ("all", "plain", "prefill"):
        assert deep[kind].safety.value > 0.8
        assert deep[kind].safety.low < deep[kind].safety.value
    assert deep["prefill"].median_token == 0  # twenty rows of prefill have said it
    assert deep["plain"].median_token > 1


def test_areas_and_trades_are_complete_and_ordered(synthetic: CalibrationResult) -> None:
    kinds = {a.kind for a in synthetic.areas}
    assert kinds == {"all", "plain", "prefill"}
    assert len(synthetic.areas) == len(kinds) * len(SIGNALS) * len(TOKENS)
    kl = {a.tokens: a.maximum.value for a in synthetic.areas if (a.signal, a.kind) == ("kl", "plain")}
    assert kl[64] > kl[1]
    noise = [a.mean for a in synthetic.areas if a.signal == "entropies" and a.kind == "plain"]
    assert sum(a.low <= 0.5 <= a.high for a in noise) >= 4
    thresholds = [t.threshold for t in synthetic.trades]
    assert thresholds == sorted(thresholds, reverse=True)
    found = [t.unsafe[0].safety.value for t in synthetic.trades]
    assert found == sorted(found)


def test_the_profile_sets_what_was_measured(synthetic: CalibrationResult) -> None:
    p = synthetic.profile
    assert Profile.model_validate_json(p.to_json()) == p
    assert p.ssd.monitor == "sequential"
    assert p.ssd.sequential.calibrated
    assert p.ssd.sequential.evidence == synthetic.chosen.weights
    assert "block_size" not in p.ssd.model_fields_set  # nothing was timed
    assert p.measured["responses"] == 340
    assert p.measured["enough_responses"]
    calm = [maximum(synthetic.chosen.weights, t) for t in synthetic.traces if t.label == "benign"]
    assert sum(m >= p.ssd.sequential.h_safety for m in calm) <= 0.05 * 341
    assert sum(m >= p.ssd.sequential.h_refuse for m in calm) <= 0.01 * 341


def test_the_same_traces_and_seed_give_the_same_profile() -> None:
    traces = gaussian(60, 20, 0.5, tokens=20)
    assert concluded(traces).profile == concluded(traces).profile
    assert concluded(traces).profile.to_json() != concluded(traces, seed=2).profile.to_json()


def test_an_uninformative_draft_raises_no_more_alarms_than_asked() -> None:
    result = concluded(gaussian(300, 60, 0.0, seed=4))
    assert result.benign[0].safety.low <= 0.05
    assert result.unsafe[0].safety.value < 0.25
    new = [maximum(result.chosen.weights, t) for t in gaussian(200, 0, 0.0, seed=5)]
    at = result.profile.ssd.sequential
    assert sum(m >= at.h_safety for m in new) / 200 <= 0.09
    assert sum(m >= at.h_refuse for m in new) / 200 <= 0.03


def test_few_responses_are_said_or_refused() -> None:
    assert not concluded(gaussian(60, 20, 0.5, tokens=12)).profile.measured["enough_responses"]
    with pytest.raises(ConfigError, match="40 benign responses are too few"):
        concluded(gaussian(40, 20, 0.5, tokens=12))
    with pytest.raises(ConfigError, match="8 unsafe prompts"):
        concluded(gaussian(60, 3, 0.5, tokens=12))


def test_small_kinds_only_count_in_the_totals() -> None:
    def named(kind: str, count: int) -> list[Trace]:
        return [Trace("unsafe", kind, str(n), 0, ()) for n in range(count)]

    assert by_kind(named("a", 9) + named("b", 10)).keys() == {"all", "plain", "b"}


# Through a pair


def test_a_tiny_pair_from_prompts_to_a_profile() -> None:
    told: set[str] = set()
    pair = tiny_pair()
    settings = SMALL.model_copy(update={"measure_speed": True, "fit_alpha": True, "kept": 0.98})
    logged = gaussian(5, 0, 0.0, tokens=40)

    def report(stage: str, fraction: float) -> None:
        told.add(stage)

    result = calibrate(pair, benign_prompts(30), unsafe_prompts(12), settings, report, logged=logged)
    assert len(told) == 6
    assert sum(t.label == "benign" for t in result.traces) == 35
    assert max(len(t.rows) - t.prefill for t in result.traces) <= 24
    assert {t.kind for t in result.traces} >= {"user", "opened", "prefill", "contrast"}
    assert result.profile.target.title == "tiny-target"
    shares = result.profile.measured["kept_by_alpha"]
    alpha = result.profile.ssd.alpha_utility
    assert shares[str(alpha)] >= 0.98
    assert result.profile.ssd.alpha_floor == min(0.3, alpha)
    assert 1 <= result.profile.ssd.block_size <= 8
    assert pair.target.model.lengths == pair.draft.model.lengths == []  # their caches are free again


def test_too_few_prompts_are_refused_before_the_work() -> None:
    with pytest.raises(ConfigError, match="too few"):
        calibrate(tiny_pair(), benign_prompts(11), unsafe_prompts(9), SMALL, lambda *_: pytest.fail("worked"))


# Alpha and speed


def test_the_largest_alpha_that_leaves_the_text_alone() -> None:
    shares = {0.1: 0.99, 0.2: 0.97, 0.3: 0.95, 0.5: 0.9}
    assert choose_alpha(shares, 0.95) == 0.3
    assert choose_alpha(shares, 0.5) == 0.5
    assert choose_alpha(shares, 0.999) == 0.1


def test_block_sizes_of_known_cases() -> None:
    assert tokens_per_pass(0.5, 2) == 1.75
    assert tokens_per_pass(1.0, 3) == 4
    assert choose_block_size(0.0, 0.1, 1.0) == 1
    assert choose_block_size(1.0, 0.1, 1.0) == 8
    assert choose_block_size(0.9, 0.0, 1.0) == 8
    assert choose_block_size(0.8, 1.0, 1.0) == 1  # a draft as dear as its target
    assert choose_block_size(0.8, 0.05, 1.0) > choose_block_size(0.8, 0.3, 1.0)
    dear = [1.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0, 9.0]
    assert choose_block_size(0.9, 0.1, dear) == 3


def test_passes_are_timed_and_leave_the_caches_free() -> None:
    pair = tiny_pair()
    draft, verify = pass_times(pair)
    assert draft > 0
    assert len(verify) == 8
    assert min(verify) > 0
    assert pair.target.model.lengths == []


# Pages


def test_pages_lie_beside_the_profile(synthetic: CalibrationResult, tmp_path: Path) -> None:
    out = tmp_path / "new" / "profile.json"
    written = write_pages(synthetic, out, plots=False)
    assert [path.name for path in written] == ["profile.json", "calibration.json", "calibration.md"]
    assert Profile.read(out) == synthetic.profile
    figures = json.loads((out.parent / "calibration.json").read_text(), parse_constant=pytest.fail)
    assert {"auroc", "trade_off", "signals", "held_out", "thresholds"} <= figures.keys()
    text = as_markdown(synthetic)
    assert "# Calibration of small as the draft of big" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) > 30
    assert "That is few" not in text


def test_a_folder_that_cannot_be_written_is_a_typed_error(
    synthetic: CalibrationResult, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"profile\.json cannot be written") as caught:
        write_pages(synthetic, tmp_path / "file" / "profile.json", plots=False)
    assert str(tmp_path) not in caught.value.message


# The picture


def test_a_roc_curve_has_the_area_of_its_auroc() -> None:
    yes, no = [3.0, 2.0, 2.0, 1.0], [2.0, 1.0, 0.0]
    x, y = picture.roc(yes, no)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    area = sum((b - a) * (c + d) / 2 for a, b, c, d in zip(x, x[1:], y, y[1:], strict=False))
    assert math.isclose(area, auroc(yes, no))


def test_the_picture_is_self_contained_and_the_same_every_time(
    synthetic: CalibrationResult, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    written = write_pages(synthetic, tmp_path / "profile.json", plots=True)
    assert written[-1].name == "calibration.svg"
    text = written[-1].read_text()
    root = ET.fromstring(text)
    axes = [g for g in root.iter() if g.get("id", "").startswith("axes_")]
    assert len(axes) == 2 * len(TOKENS)
    assert "http" not in "".join(g.get("{http://www.w3.org/1999/xlink}href", "") for g in root.iter())
    picture.draw_roc(synthetic, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == text
    assert "![ROC curves](calibration.svg)" in (tmp_path / "calibration.md").read_text()


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'langchain-ssd\[plots\]'"):
        picture.need_matplotlib()
    assert importlib.util.find_spec("langchain_ssd.calibration.picture")  # the page itself needs none


# Sources


TEXTS = {
    "contrast": [{"benign": f"how to kill process {n}", "unsafe": f"how to harm {n}"} for n in range(200)],
    "unsafe_requests": [{"prompt": f"break rule {n}", "category": "rules"} for n in range(300)],
    "wrappers": [{"text": "In a play: {request}"}],
    "openings": [{"text": f"Sure, {n}: "} for n in range(40)],
    "benign_languages": [{"prompt": f"Wie geht {n}?"} for n in range(60)],
    "benign_plain": [{"prompt": f"Tell me about {n}."} for n in range(60)],
    "benign_serious": [{"prompt": f"how grave is {n}"} for n in range(30)],
    "benign_turns": [{"messages": [{"role": "user", "content": f"hello {n}"}]} for n in range(30)],
}


@pytest.fixture
def _texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources.corpus, "load_texts", TEXTS.__getitem__)


@pytest.mark.usefixtures("_texts")
def test_benign_prompts_are_of_every_sort_and_each_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "ours.txt"
    path.write_text("\n".join(f"our question {n % 400}" for n in range(800)))
    found = sources.benign_prompts([path], CalibrationSettings(responses=40))
    assert len(found) == 40
    assert {"user", "opened", "wrapped"} <= {p.kind for p in found}
    plain = [p.messages for p in found if p.kind != "wrapped"]
    assert len(set(plain)) == len(plain)
    assert found == sources.benign_prompts([path], CalibrationSettings(responses=40))
    asked = {p.messages[0].content for p in found if p.kind in ("user", "opened")}
    assert all(
        sources.corpus.part_of(text, shipped=not text.startswith(("our", "how"))) == "calibration"
        for text in asked
    )


@pytest.mark.usefixtures("_texts")
def test_unsafe_prompts_are_ours_and_yours_and_all_have_openings(tmp_path: Path) -> None:
    ours = sources.unsafe_prompts([], CalibrationSettings())
    assert all(p.opening for p in ours)
    assert {"rules", "contrast", "wrapped"} <= {p.kind for p in ours}
    path = tmp_path / "attacks.jsonl"
    rows = [{"prompt": f"attack {n}", "set": "pair", "target": "Yes:"} for n in range(300)]
    path.write_text("\n".join(map(json.dumps, rows)))
    yours = sources.unsafe_prompts([path], CalibrationSettings())
    assert len(yours) > len(ours)
    assert {p.opening for p in yours if p.kind == "pair"} == {"Yes:"}
    assert 5 < sum(p.kind == "pair" for p in yours) < 60


def test_messages_of_helpers_are_chat_messages() -> None:
    assert all(isinstance(m, ChatMessage) for p in benign_prompts(3) for m in p.messages)
