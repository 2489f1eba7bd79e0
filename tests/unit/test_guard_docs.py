"""The page about the guard says what the code does: settings, defaults, interrupts, the measured figures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from langchain_ssd.guard import GuardSettings, asking

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")


def shown(default: Any) -> str:
    if isinstance(default, float):
        return f"{default:g}"
    if isinstance(default, bool):
        return f"`{default}`"
    return "none" if default is None else f"`{json.dumps(default)}`"


def test_settings_and_defaults_are_the_real_ones() -> None:
    section = PAGE.split("## Settings")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.M))
    defaults = {
        name: shown(field.get_default(call_default_factory=True))
        for name, field in GuardSettings.model_fields.items()
    }
    assert rows == {**defaults, "risk_text": "a sentence"}


def test_every_interrupt_is_documented_with_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(asking, "interrupt", asked.append)
    asking.ask_refusal({"category": "", "reason": "", "language": ""})
    asking.ask_call({"id": "1", "name": "a", "args": {}}, {"mode": "safety", "match_ratio": None})
    asking.ask_result("a", "1", "text", {"mode": "safety", "statistic": 1.0, "match_ratio": 1.0})
    asking.ask_risk(0.5, 0.4)
    rows = re.findall(r"^\| `(ssd_\w+)` \| ([^|]+) \|", PAGE, re.M)
    documented = {kind: set(re.findall(r"`(\w+)`", names)) for kind, names in rows}
    assert documented == {value["type"]: value.keys() - {"type", "decisions"} for value in asked}


def test_the_measured_figures_are_those_of_the_record() -> None:
    record = json.loads((ROOT / "benchmarks" / "results" / "tool_injection.json").read_text())
    rows = {row["results"]: row for row in record["rows"] if row["window"] == 600}
    said = re.findall(r"^\| (clean|with an? \w+ instruction) \| (\d+) \| ([^|]+) \|", PAGE, re.M)
    kinds = {
        "clean": "clean",
        "with a harmless instruction": "harmless",
        "with an injected instruction": "injected",
    }
    assert len(said) == 3
    for kind, alarms, interval in said:
        assert rows[kinds[kind]]["alarms"] == f"{alarms} of 10 ({interval})", kind
    injected = rows["injected"]
    first, second = f"{injected['AUROC, clean']:.2f}", f"{injected['AUROC, harmless']:.2f}"
    assert f"AUROC of the statistic: {first} against clean results, {second} against harmless" in " ".join(
        PAGE.split()
    )
