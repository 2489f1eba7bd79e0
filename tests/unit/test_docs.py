"""README and docs say what the code does: links lead somewhere, examples run, tables match the settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from pydantic import BaseModel

from langchain_ssd import errors, refusal_text
from langchain_ssd.config import (
    EngineConfig,
    EvidenceWeights,
    ModelSpec,
    RefusalPolicy,
    SequentialConfig,
    SSDConfig,
)

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TUNING = (ROOT / "docs" / "tuning.md").read_text(encoding="utf-8")


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def table_of(section: str) -> dict[str, str]:
    """Names and defaults of the table under a heading of the tuning page."""
    text = TUNING.split(f"## `{section}`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]*) \|", text, re.M)
    return {name: default.strip() for names, default in rows for name in re.findall(r"`(\w+)`", names)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        goal = (page.parent / name).resolve() if name else page
        assert goal.exists(), link
        if anchor:
            assert anchor in anchors(goal), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_pages_compiles(page: Path) -> None:
    for block in blocks(page):
        compile(block, page.name, "exec")


def test_examples_without_a_pair_run_as_written() -> None:
    scripted = [block for page in PAGES for block in blocks(page) if "ScriptedBackend" in block]
    assert len(scripted) == 5
    for block in scripted:
        names: dict[str, Any] = {}
        exec(block, names)
        answer = names["model"].invoke("Hi")
        assert answer.text or answer.tool_calls


@pytest.mark.slow
def test_first_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    example = blocks(ROOT / "README.md")[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    exec(example, {})
    assert "sky" in capsys.readouterr().out.lower()


def test_every_error_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(\w+)` \| `(\w+)` \|(.*)\|$", page, re.M)
    # Rooms may have finer kinds of their own, which share the code of a documented one.
    kinds = [kind for kind in errors._tree(errors.SSDError) if kind.__module__ == errors.__name__]
    assert {(code, name) for code, name, _ in documented} == {(kind.code, kind.__name__) for kind in kinds}
    for code, _, text in documented:
        (kind,) = [kind for kind in kinds if kind.code == code]
        assert ("**retryable**" in text) is kind.retryable, code


@pytest.mark.parametrize("settings", [SSDConfig, RefusalPolicy, EngineConfig])
def test_settings_and_defaults_in_tuning_are_the_real_ones(settings: type[BaseModel]) -> None:
    documented = table_of(settings.__name__)
    assert documented.keys() == settings.model_fields.keys()
    for name, text in documented.items():
        default = settings.model_fields[name].default
        if isinstance(default, str):
            assert text == f'`"{default}"`', name
        elif isinstance(default, bool):
            assert text == f"`{default}`", name
        elif isinstance(default, int | float):
            assert text == f"{default:g}", name


def test_every_model_setting_is_in_tuning() -> None:
    section = TUNING.split("## `ModelSpec`")[1]
    assert {name for name in ModelSpec.model_fields if f"`{name}`" not in section} == set()


@pytest.mark.parametrize("settings", [SequentialConfig, EvidenceWeights])
def test_sequential_settings_and_numbers_are_in_tuning(settings: type[BaseModel]) -> None:
    text = TUNING.split(f"`{settings.__name__}`: ")[1].split("\n\n")[0]
    for name, field in settings.model_fields.items():
        assert f"`{name}`" in text
        if isinstance(field.default, float) and field.default:
            assert re.search(rf"`{name}`[^`]*\({field.default}\b", text), name


def test_every_make_target_that_the_pages_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        assert set(re.findall(r"`make ([a-z-]+)|^make ([a-z-]+)", page.read_text(), re.M)) <= {
            pair for target in targets for pair in ((target, ""), ("", target))
        }


def test_numbers_in_the_readme() -> None:
    assert f"({len(refusal_text.TEXTS)} are built in)" in README
    assert "<!-- figures -->" in README


def test_picture_is_well_formed_and_has_words_for_those_who_do_not_see_it() -> None:
    picture = ET.parse(ROOT / "docs" / "data-flow.svg").getroot()
    words = {child.tag.rpartition("}")[2]: child.text for child in picture}
    assert words["title"]
    assert "draft proposes" in str(words["desc"])


def test_pages_name_no_folder_of_a_developers_machine() -> None:
    for page in PAGES:
        assert not re.search(r"/(home|root|work|tmp|Users)/", page.read_text(encoding="utf-8")), page.name
