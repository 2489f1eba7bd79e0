"""``langchain-ssd train-draft`` on a tiny target from disk: from text files to a folder that loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from langchain_ssd.cli import app
from langchain_ssd.config import EngineConfig, ModelSpec
from langchain_ssd.drafts import corpus
from langchain_ssd.engine.loading import load_pair
from langchain_ssd.pairs import draft_spec
from langchain_ssd.testing.tiny_pair import save_tiny_pair

runner = CliRunner()
SHORT = (
    "asked_tokens=12",
    "answer_tokens=12",
    "depth=8",
    "step_tokens=256",
    "micro_tokens=512",
    "search_tokens=300",
)


@pytest.fixture
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped texts are many for a test."""
    benign, unsafe = corpus.shipped_benign, corpus.shipped_unsafe
    monkeypatch.setattr(corpus, "shipped_benign", lambda part: benign(part)[:6])
    monkeypatch.setattr(corpus, "shipped_unsafe", lambda part: unsafe(part)[:6])


def arguments(folder: Path, target: ModelSpec, *more: str) -> list[str]:
    prompts = folder / "prompts.txt"
    prompts.write_text("\n".join(f"What is {n} plus {n}?" for n in range(30)))
    settings = [x for name in SHORT for x in ("--set", name)]
    counts = ["--set", "wrapped_benign=2", "--set", "opened_benign=2", "--synthesise", "0"]
    given = ["--target", target.name, "--prompts", str(prompts), "--out", str(folder / "out")]
    return ["train-draft", *given, *settings, *counts, *more]


@pytest.mark.usefixtures("_little")
@pytest.mark.parametrize("more", [("--layers", "1"), ("--method", "lora", "--rank", "2")], ids=str)
@pytest.mark.parametrize("storage", ["int8", "whole"])
def test_a_tiny_target_gets_a_draft_that_loads(more: tuple[str, ...], storage: str, tmp_path: Path) -> None:
    target, _ = save_tiny_pair(tmp_path)
    out = tmp_path / "out"
    shown = runner.invoke(
        app,
        arguments(tmp_path, target, "--tokens", "600", "--storage", storage, *more),
        catch_exceptions=False,
    )
    assert shown.exit_code == 0, shown.output
    for word in (
        "what will be trained",
        "memory",
        "answers of the target",
        "agreement",
        "The draft is ready",
    ):
        assert word in shown.output
    pair = load_pair(target, draft_spec(str(out)), EngineConfig(), lambda stage, part: None)
    kept = pair.draft.model.model.config.num_hidden_layers  # type: ignore[union-attr]
    assert kept == (1 if "--layers" in more else 2)
    facts = json.loads((out / "training.json").read_text())
    assert facts["trained"]["tokens"] >= 600
    assert facts["probes"]
    assert [s["step"] for s in facts["steps"]] == list(range(1, len(facts["steps"]) + 1))
    assert bool(facts["layer_search"]) is ("--layers" in more)
    assert all(s["padding"] <= 0.15 for s in facts["steps"])
    assert "<svg" in (out / "training.html").read_text()
    card = (out / "README.md").read_text()
    assert "What is" not in card
    assert str(tmp_path) not in card
    assert (out / "draft.json").is_file() is (storage != "whole")


@pytest.mark.usefixtures("_little")
def test_an_interrupted_run_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    """Stopped after a third of its tokens and started again: the same weights as in one go."""
    target, _ = save_tiny_pair(tmp_path)
    weights = []
    for name, stops in (("one", (900,)), ("two", (900,))):
        folder = tmp_path / name
        folder.mkdir()
        for tokens in stops:
            given = arguments(folder, target, "--tokens", str(tokens), "--layers", "1", "--layer-ids", "0")
            given += ["--set", "precision=float32", "--storage", "float16"]
            if name == "two":
                interrupted(given, folder)
            shown = runner.invoke(app, given)
            assert shown.exit_code == 0, shown.output
        weights.append((folder / "out" / "delta.safetensors").read_bytes())
    assert weights[0] == weights[1]


def interrupted(given: list[str], folder: Path) -> None:
    """Run it until its second step has been saved, then stop it as Ctrl+C does."""
    from langchain_ssd.drafts import checkpoint, run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_SAVE_SECONDS", -1.0)
        save, saved = checkpoint.save, [0]

        def stop(trainer: Any, where: Path) -> None:
            save(trainer, where)
            saved[0] += 1
            if saved[0] == 2:
                raise KeyboardInterrupt

        patch.setattr(checkpoint, "save", stop)
        runner.invoke(app, given)
    assert saved[0] == 2
    assert not (folder / "out" / "delta.safetensors").exists()


def test_a_dry_run_tells_memory_and_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, _ = save_tiny_pair(tmp_path)
    monkeypatch.setattr(torch.nn.Module, "__call__", None)
    shown = runner.invoke(app, arguments(tmp_path, target, "--dry-run", "--layers", "1"))
    assert shown.exit_code == 0, shown.output
    assert "GiB" in shown.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--set", "rankk=3"], "rankk"),
        (["--set", "tokens=-1"], "tokens"),
        (["--init", "x", "--layers", "1"], "init or layers"),
        (["--layer-ids", "3,1"], "ascend"),
        (["--layers", "9"], "layers"),
        (["--layer-ids", "0,7"], "layers"),
    ],
    ids=str,
)
def test_bad_options_are_one_line(more: list[str], words: str, tmp_path: Path) -> None:
    target, _ = save_tiny_pair(tmp_path)
    shown = runner.invoke(app, arguments(tmp_path, target, *more))
    assert shown.exit_code == 2, shown.output
    assert shown.output.startswith("error (config): ")
    assert words in shown.output.replace("\n", " ")
