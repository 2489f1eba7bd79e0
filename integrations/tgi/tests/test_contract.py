"""The contract: every test of ``ChatSSD`` holds through a server, and so do LangChain's standard tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
QUICK = ["tests/unit/test_chat_model.py", "tests/unit/test_chat_refusals.py"]
SLOW = ["tests/unit/test_chat_settings.py", "tests/unit/test_chat_surfaces.py", "tests/contract"]
# 20 ms are over before its request has arrived, so there is nothing to cancel; test_remote has it with more.
EXCEPT = "not test_a_timeout_around_a_call_cancels"


def run(pages: list[str], folder: Path) -> None:
    (folder / "tests_tgi").symlink_to(Path(__file__).parent)  # both packages of tests are called tests
    paths = os.pathsep.join([str(ROOT), str(ROOT / "integrations" / "tgi"), str(folder)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests_tgi.through_a_server", "-k", EXCEPT, *pages],
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


def test_what_answers_and_refusals_carry_is_the_same_through_a_server(tmp_path: Path) -> None:
    run(QUICK, tmp_path)


@pytest.mark.slow
def test_settings_surfaces_and_the_standard_tests_too(tmp_path: Path) -> None:
    run(SLOW, tmp_path)
