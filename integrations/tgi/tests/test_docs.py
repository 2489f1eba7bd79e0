"""The page of the docs names every route, every option and every status; examples compile."""

from __future__ import annotations

import re
from pathlib import Path

from langchain_ssd_tgi.server.app import ROUTES
from langchain_ssd_tgi.server.openapi import document

from .test_command import typer_command

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
README = (ROOT / "integrations" / "tgi" / "README.md").read_text(encoding="utf-8")
TERSE = {"--target", "--draft", "--help", "--telemetry", "--lock-safety", "--log-level", "--model-name"}


def test_every_route_is_documented() -> None:
    for _, path in ROUTES:
        assert path.startswith("/page.") or f"{path}`" in PAGE or f"{path} " in PAGE, path


def test_every_option_is_documented_and_no_other() -> None:
    options = {name for parameter in typer_command().params for name in parameter.opts}
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE))
    assert options - named <= TERSE
    assert {name.replace("--no-", "--") for name in named} <= options


def test_every_status_that_the_openapi_page_names_is_documented() -> None:
    statuses = {
        status
        for item in document()["paths"].values()
        for operation in item.values()
        for status in operation["responses"]
    }
    assert {status for status in statuses - {"200", "400"} if status not in PAGE} == set()


def test_examples_compile() -> None:
    for text in (PAGE, README):
        for block in re.findall(r"```python\n(.*?)```", text, re.S):
            compile(block, "page", "exec")
