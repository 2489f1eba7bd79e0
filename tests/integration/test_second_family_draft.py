"""``train-draft`` from end to end on another family: Gemma 3 270M, a base model without a chat template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from langchain_ssd.cli import app
from langchain_ssd.config import EngineConfig, ModelSpec
from langchain_ssd.engine.loading import load_pair
from langchain_ssd.pairs import draft_spec

TOKENS = 4_000
#: Its 262,144 tokens make every answer dear on a CPU, so answers are short and few of our texts are used.
SHORT = {
    "own_texts": 0.02,
    "asked_tokens": 16,
    "answer_tokens": 32,
    "depth": 16,
    "search_tokens": 600,
    "step_tokens": 512,
    "micro_tokens": 512,
    "wrapped_benign": 4,
    "opened_benign": 4,
}
PROMPTS = ["Name a fruit.", "What is a river?", "Write a line about rain.", "How do bees find flowers?"]


@pytest.mark.slow
def test_a_slim_draft_for_gemma(tmp_path: Path) -> None:
    from tests.fetch_gemma import gemma_folder

    folder = gemma_folder()
    if folder is None:
        pytest.fail("Gemma 3 is not there; run: python -m tests.fetch_gemma")
    prompts, out = tmp_path / "prompts.txt", tmp_path / "draft"
    prompts.write_text("\n".join(f"{p} ({n})" for n in range(10) for p in PROMPTS))
    target = ["--target", str(folder), "--chat-template", "plain", "--layers", "4", "--storage", "int4"]
    given = [*target, "--prompts", str(prompts), "--out", str(out), "--tokens", str(TOKENS)]
    short = [word for name, value in SHORT.items() for word in ("--set", f"{name}={value}")]
    shown = CliRunner().invoke(
        app, ["train-draft", *given, "--synthesise", "0", *short], catch_exceptions=False
    )
    assert shown.exit_code == 0, shown.output
    facts = json.loads((out / "training.json").read_text())
    assert facts["trained"]["tokens"] >= TOKENS
    assert len(facts["layer_search"]) >= 3
    losses = [step["benign_loss"] for step in facts["steps"]]
    assert min(losses[-3:]) < losses[0]
    spec = ModelSpec(name=str(folder), chat_template="plain")
    pair = load_pair(spec, draft_spec(str(out)), EngineConfig(), lambda stage, part: None)
    assert pair.draft.model.model.config.num_hidden_layers == 4  # type: ignore[union-attr]
