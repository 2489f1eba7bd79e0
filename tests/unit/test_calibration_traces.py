"""Traces are numbers in a file, and a team's own log is read into the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from langchain_ssd import ChatSSD
from langchain_ssd.calibration.traces import Trace, halves, read_traces, write_traces
from langchain_ssd.errors import ConfigError
from langchain_ssd.events import BinScored, Finished, Summary, Token
from langchain_ssd.telemetry import JsonlRiskLogger
from langchain_ssd.testing import ScriptedBackend

from .calibration_helpers import gaussian


def test_traces_come_back_as_they_were_and_hold_no_text(tmp_path: Path) -> None:
    traces = gaussian(2, 2, 0.5, tokens=5, prefill=2)
    path = tmp_path / "traces.jsonl"
    write_traces(path, traces)
    assert read_traces(path) == traces
    for line in path.read_text().splitlines():
        assert json.loads(line).keys() == {"label", "kind", "group", "prefill", "rows"}


def logged(response: str, index: int, **more: Any) -> dict[str, Any]:
    token = Token(
        index, 5, "secret", kl=0.5 + index, total_variation=0.25, entropy_target=1.0, entropy_draft=2.0
    )
    return {"response": response, **token.to_wire(), **more}


def log(path: Path, lines: list[Any]) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def test_a_shadow_log_is_read_response_by_response(tmp_path: Path) -> None:
    lines = [
        logged("a", 0),
        logged("b", 1, prefill=3),
        {"response": "a", **BinScored().to_wire()},
        logged("b", 0, prefill=3),
        "",
        logged("a", 1, label="benign"),
        logged("a", 3),  # one token was lost: the statistic cannot go on behind it
        {"response": "a", **Finished().to_wire()},
        {k: v for k, v in logged("c", 0, event="token", label="unsafe").items() if k != "kind"},
    ]
    a, b, c = read_traces(log(tmp_path / "risk.jsonl", lines))
    assert [(e.position, e.kl) for e in a.rows] == [(0, 0.5), (1, 1.5)]
    assert [e.position for e in b.rows] == [3, 4]
    assert (a.label, a.kind, a.group, a.prefill) == ("benign", "logged", "a", 0)
    assert (c.label, len(c.rows)) == ("unsafe", 1)
    assert a.rows[0].agreement is True
    assert (a.rows[0].total_variation, a.rows[0].entropy_target, a.rows[0].entropy_draft) == (0.25, 1.0, 2.0)


def test_lines_from_before_the_gain_of_refusals_are_read_and_marked(tmp_path: Path) -> None:
    new = [logged("a", 0, refusal_gain=0.4), logged("a", 1, refusal_gain=0.1)]
    old = [
        {k: v for k, v in line.items() if k != "refusal_gain"} for line in (logged("b", 0), logged("b", 1))
    ]
    a, b = read_traces(log(tmp_path / "risk.jsonl", [*new, *old]))
    assert (a.gain_known, [e.refusal_gain for e in a.rows]) == (True, [0.4, 0.1])
    assert (b.gain_known, [e.refusal_gain for e in b.rows]) == (False, [0.0, 0.0])
    write_traces(tmp_path / "traces.jsonl", [a, b])
    assert read_traces(tmp_path / "traces.jsonl") == [a, b]


GOOD = {"label": "benign", "group": "1", "rows": [[0, True, 0.1, 0.2, 0.3, 0.4]]}
BAD = [
    "secret",
    '"secret"',
    [1],
    {**GOOD, "label": "secret"},
    {**GOOD, "prefill": -1},
    {**GOOD, "rows": [[0, True, 0.1]]},
    {**GOOD, "rows": [[0, 1, 0.1, 0.2, 0.3, 0.4]]},
    {**GOOD, "rows": [[0, True, "secret", 0.2, 0.3, 0.4]]},
    {**GOOD, "rows": [[0, True, float("nan"), 0.2, 0.3, 0.4]]},
    {"kind": "token", "response": "a"},
]


@pytest.mark.parametrize("line", BAD, ids=str)
def test_a_bad_line_is_named_by_its_number_and_not_quoted(line: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 2 of risk\.jsonl") as caught:
        read_traces(log(tmp_path / "risk.jsonl", [GOOD, line]))
    assert "secret" not in caught.value.message
    assert str(tmp_path) not in caught.value.message


def test_a_token_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        read_traces(log(tmp_path / "risk.jsonl", [logged("a", 0), logged("a", 0)]))


@pytest.mark.parametrize("lines", [[], [logged("a", 1)], [{**GOOD, "prefill": 1}]])
def test_a_file_without_responses_is_a_typed_error(lines: list[Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no responses"):
        read_traces(log(tmp_path / "risk.jsonl", lines))


def test_a_missing_file_and_binary_are_typed_errors(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"\xff\xfe\x00")
    for name in ("gone", "x.bin"):
        with pytest.raises(ConfigError, match=name) as caught:
            read_traces(tmp_path / name)
        assert str(tmp_path) not in caught.value.message


def test_halves_keep_a_prompts_responses_together() -> None:
    traces = [t for n in range(3) for t in gaussian(11, 7, 0.5, seed=n, tokens=3)]
    one, two = halves(traces, seed=1)
    assert len(one) + len(two) == len(traces)
    groups = [{(t.label, t.group) for t in half} for half in (one, two)]
    assert not groups[0] & groups[1]
    for label, sizes in (("benign", (6, 5)), ("unsafe", (4, 3))):
        assert tuple(sum(name == label for name, _ in half) for half in groups) == sizes
    assert halves(traces, seed=1) == (one, two)
    assert halves(traces, seed=2) != (one, two)


def test_a_response_is_cut_behind_its_prefill() -> None:
    (one,) = gaussian(1, 0, 0.0, tokens=9, prefill=4)
    assert len(one.first(3).rows) == 7
    assert one.first(100) == Trace(one.label, one.kind, one.group, 4, one.rows)


def test_a_risk_log_is_read_as_it_is(tmp_path: Path) -> None:
    """The round trip: what the logger writes of a response, calibration reads as its evidence."""
    tokens = [
        Token(
            n, n, "x", agreement=n != 1, kl=n / 7, total_variation=0.1, entropy_target=2.5, entropy_draft=1.0
        )
        for n in range(3)
    ]
    tokens.append(Token(3, 3, "x", agreement=False, kl=99.0, scored=False))  # a grammar left no choice
    script = [*tokens, Finished("stop", 1, 4, summary=Summary(emitted=4, prefill_tokens=4))]
    path = tmp_path / "risk.jsonl"
    for logger in (JsonlRiskLogger(path), JsonlRiskLogger(path, trace=False)):
        ChatSSD(backend=ScriptedBackend(script)).invoke("hi", {"callbacks": [logger]})
    (found,) = read_traces(path)
    assert (found.label, found.kind, found.prefill) == ("benign", "logged", 0)
    assert [e.position for e in found.rows] == [4, 5, 6]
    assert [e.agreement for e in found.rows] == [True, False, True]
    assert [e.kl for e in found.rows] == [0.0, 0.1429, 0.2857]
    assert {(e.total_variation, e.entropy_target, e.entropy_draft) for e in found.rows} == {(0.1, 2.5, 1.0)}
