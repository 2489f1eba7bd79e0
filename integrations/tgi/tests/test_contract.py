"""The contract: every test of ``ChatSSD`` holds through a server, and so do LangChain's standard tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
QUICK = ["chat_model", "chat_refusals", "telemetry"]
SLOW = {
    "chat": ["chat_settings", "chat_surfaces"],
    "tools": ["bind_tools", "call_chunks", "structured_output", "tools_end_to_end"],
    "telemetry": ["no_leak", "opentelemetry", "prometheus", "risk_log", "telemetry_leaks", "webhook"],
    "guard": [
        *("guard_chain", "guard_fallbacks", "guard_reading", "guard_refusals", "guard_results"),
        *("guard_risk", "guard_tools"),
    ],
}
ELSEWHERE = {
    "calibration_traces": "reads files of traces",
    "chat_identity": "asks no backend",
    "cli": "commands over pairs of their own",
    "docs": "pages",
    "holding": "who closes a backend",
    "imports": "what is imported",
    "profile": "asks no backend",
    "scripted": "the scripted backend itself",
    "streaming": "what lies between any backend and ChatSSD, with a clock that a server cannot live with",
    "tokenize": "the scripted backend itself; test_remote has it through a server",
}
EXCEPT = [
    # 20 ms are over before its request has arrived, so there is nothing to cancel; test_remote has more.
    "test_a_timeout_around_a_call_cancels",
    # A backend that raises what is no error of ours: a server calls that GenerationFailed, whatever it was.
    "test_no_word_gets_out_of_any_handler",
    "test_errors_are_counted_by_code_and_leaving_is_told_apart",
    "test_an_error_is_named_by_its_code_and_nothing_else",
]
NOT_THESE = f"not ({' or '.join(EXCEPT)})"
ASKS = re.compile("ScriptedBackend|(chat|guard|telemetry)_helpers|engine_backend")


def run(pages: list[str], folder: Path) -> None:
    (folder / "tests_tgi").symlink_to(Path(__file__).parent)  # both packages of tests are called tests
    paths = os.pathsep.join([str(ROOT), str(ROOT / "integrations" / "tgi"), str(folder)])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "tests_tgi.through_a_server",
            "-k",
            NOT_THESE,
            *pages,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    over_http = re.search(r"requests over HTTP: (\d+)", done.stdout)
    assert over_http
    assert int(over_http[1]) > 30


def paths_of(pages: list[str]) -> list[str]:
    return [f"tests/unit/test_{page}.py" for page in pages]


def test_what_answers_and_refusals_carry_is_the_same_through_a_server(tmp_path: Path) -> None:
    run(paths_of(QUICK), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("about", SLOW)
def test_settings_telemetry_and_guards_too(about: str, tmp_path: Path) -> None:
    run(paths_of(SLOW[about]), tmp_path)


@pytest.mark.slow
def test_langchains_standard_tests_too(tmp_path: Path) -> None:
    run(["tests/contract"], tmp_path)


def test_no_page_of_tests_of_chatssd_is_forgotten() -> None:
    pages = (ROOT / "tests" / "unit").glob("test_*.py")
    asking = {page.stem.removeprefix("test_") for page in pages if ASKS.search(page.read_text("utf-8"))}
    slow = {page for pages_ in SLOW.values() for page in pages_}
    assert asking == {*QUICK, *slow, *ELSEWHERE}
