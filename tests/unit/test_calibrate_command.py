"""``langchain-ssd calibrate`` on a tiny pair from disk, through the real loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from langchain_ssd import ChatSSD
from langchain_ssd.calibration import picture, sources
from langchain_ssd.calibration.traces import read_traces, write_traces
from langchain_ssd.cli import app
from langchain_ssd.commands import calibrate
from langchain_ssd.config import ModelSpec
from langchain_ssd.errors import ConfigError
from langchain_ssd.profile import Profile

from .calibration_helpers import benign_prompts, gaussian, unsafe_prompts

runner = CliRunner()
WIDE = {"COLUMNS": "160"}


@pytest.fixture
def _prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "benign_prompts", lambda paths, settings: benign_prompts(50))
    monkeypatch.setattr(sources, "unsafe_prompts", lambda paths, settings: unsafe_prompts(10))


def arguments(saved: Any, out: Path, *more: str) -> list[str]:
    target, draft = saved
    pair = ["--target", target.name, "--draft", draft.name, "--device", "cpu", "--out", str(out)]
    return ["calibrate", *pair, "--length", "12", "--unsafe-length", "8", *more]


@pytest.mark.usefixtures("_prompts")
def test_a_tiny_pair_gets_a_profile_that_chat_takes(saved: Any, tmp_path: Path) -> None:
    log, out, evidence = tmp_path / "risk.jsonl", tmp_path / "profile.json", tmp_path / "traces.jsonl"
    write_traces(log, gaussian(3, 0, 0.0, tokens=9))
    more = ["--no-plots", "--from-log", str(log), "--traces", str(evidence), "--alpha-utility", "0.2"]
    shown = runner.invoke(app, arguments(saved, out, *more), env=WIDE)
    assert shown.exit_code == 0, shown.output
    for word in ("loading the target", "thresholds", "held out", "trade-off", "Only 53 benign", "Written:"):
        assert word in shown.output
    assert str(tmp_path) not in shown.output
    profile = Profile.read(out)
    assert profile.target.title == "target"
    assert profile.target.fingerprint
    assert profile.ssd.alpha_utility == profile.ssd.alpha_floor == 0.2
    assert profile.measured["asked"]["length"] == 12
    assert len(read_traces(evidence)) == profile.measured["responses"] + profile.measured["unsafe_responses"]
    model = ChatSSD(target=saved[0].name, draft=ModelSpec(name=saved[1].name), ssd_profile=out)
    assert model._settings().safety.sequential == profile.ssd.sequential
    with pytest.raises(ConfigError, match="another target"):
        ChatSSD(target=saved[1].name, draft=saved[1].name, ssd_profile=out)


@pytest.mark.usefixtures("_prompts")
@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--false-safety", "0.001"], "false_refusals must not be above"),
        (["--false-safety", "2"], "false_safety"),
        (["--alpha-utility", "much"], "takes a number or 'fit'"),
        (["--from-log", "gone.jsonl"], "gone.jsonl cannot be read"),
        (["--responses", "0"], "responses"),
    ],
    ids=str,
)
def test_bad_options_are_one_line_before_anything_is_loaded(
    more: list[str], words: str, saved: Any, tmp_path: Path
) -> None:
    shown = runner.invoke(app, arguments(saved, tmp_path / "p.json", *more))
    assert shown.exit_code == 2
    assert shown.output.startswith("error (config): ")
    assert len(shown.output.splitlines()) == 1
    assert words in shown.output


def test_plots_without_matplotlib_fail_before_the_work(
    monkeypatch: pytest.MonkeyPatch, saved: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(picture, "find_spec", lambda name: None)
    shown = runner.invoke(app, arguments(saved, tmp_path / "p.json", "--plots"))
    assert shown.exit_code == 2
    assert "pip install 'langchain-ssd[plots]'" in shown.output


def test_settings_of_the_options() -> None:
    fit = calibrate.read_settings({"length": 9}, "fit")
    assert (fit.length, fit.fit_alpha, fit.ssd.alpha_utility) == (9, True, 0.3)
    assert calibrate.read_settings({}, "0.5").ssd.alpha_floor == 0.3
    strict = calibrate.read_settings({"ssd": {"alpha_safety": 1.5}}, "0.2").ssd
    assert (strict.alpha_safety, strict.alpha_utility, strict.alpha_floor) == (1.5, 0.2, 0.2)
    assert calibrate.read_settings({"signal": "kl"}, "").signal == "kl"
    with pytest.raises(ConfigError, match="signal must be one of: all, kl"):
        calibrate.read_settings({"signal": "vibes"}, "")


def test_help_gives_examples() -> None:
    shown = runner.invoke(app, ["calibrate", "--help"], env=WIDE)
    assert shown.exit_code == 0
    for word in ("--from-log", "--false-safety", "Examples", "--from-log risk.jsonl"):
        assert word in shown.output
