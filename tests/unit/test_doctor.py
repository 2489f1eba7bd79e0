"""``doctor``: every check finds what it looks for, says what to do, and loads no weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma3TextConfig, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from langchain_ssd.backend import ChatMessage
from langchain_ssd.cli import app
from langchain_ssd.commands import checks, memory
from langchain_ssd.commands.checks import Check
from langchain_ssd.config import ModelSpec
from langchain_ssd.drafts import default_pair
from langchain_ssd.errors import (
    ModelNotFound,
    SSDError,
    TemplateError,
    UnsafeModel,
    UnsupportedModel,
    VocabularyMismatch,
)

TARGET, DRAFT = ModelSpec(name="owner/target"), ModelSpec(name="owner/draft")
SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


class World:
    """What a machine and two models look like to the checks; tests change what they are about."""

    def __init__(self) -> None:
        self.configs: dict[str, Any] = {
            "owner/target": LlamaConfig(**SMALL, max_position_embeddings=4096),
            "owner/draft": LlamaConfig(**SMALL, max_position_embeddings=8192),
        }
        self.free: int | None = 2**34
        self.size: int | None = 2**20
        self.ready = True
        self.raises: dict[str, SSDError] = {}
        self.rendered: list[Sequence[ChatMessage]] = []
        self.ids = [1, 2, 3]

    def maybe(self, name: str, value: Any) -> Callable[..., Any]:
        def act(*args: Any) -> Any:
            if name in self.raises:
                raise self.raises[name]
            return value(*args) if callable(value) else value

        return act


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()

    class Renderer:
        def __init__(self, tokenizer: object, spec: ModelSpec) -> None:
            self.spec = spec

        def render(self, messages: Sequence[ChatMessage]) -> list[int]:
            world.rendered.append(messages)
            return list(world.maybe(f"template of {self.spec.name}", world.ids)())

    fakes = {
        "load_config": lambda spec: world.maybe(f"read {spec.name}", world.configs[spec.name])(),
        "load_tokenizer": lambda spec: range(64),
        "compare_vocabularies": world.maybe("vocabularies", 64),
        "check_config": world.maybe("architecture", None),
        "check_files": world.maybe("files", None),
        "weight_bytes": lambda spec: world.size,
        "pick_device": lambda spec: spec.device or "cpu",
        "available_memory": lambda device: world.free,
        "Renderer": Renderer,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(checks, name, fake)
    monkeypatch.setattr(default_pair, "is_ready", lambda: world.ready)
    return world


def found(name: str, rows: list[Check]) -> Check:
    (row,) = [row for row in rows if row.name == name]
    return row


def test_good_pair_has_no_failures_and_says_what_is_not_there_yet(world: World) -> None:
    rows = checks.examine(TARGET, DRAFT)
    assert [row.name for row in rows if row.status == "fail"] == []
    assert [row.name for row in rows if row.status == "warn"] == ["calibration"]
    assert "64 shared token ids" in found("vocabularies fit", rows).found
    assert found("contexts", rows).found == "target 4,096, draft 8,192: conversations end at 4,096"
    assert "thresholds are guesses" in found("calibration", rows).found


def test_templates_are_tried_with_a_system_message(world: World) -> None:
    checks.examine(TARGET, DRAFT)
    assert len(world.rendered) == 2
    assert [message.role for message in world.rendered[0]] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("what", "error", "row", "advice"),
    [
        ("vocabularies", VocabularyMismatch("token 7 is 'a' and 'b'"), "vocabularies fit", "own tokenizer"),
        ("architecture", UnsupportedModel("cannot be rewound"), "target can rewind", "attention cache"),
        ("files", UnsafeModel("no safetensors"), "draft weights", "convert"),
        ("template of owner/draft", TemplateError("none"), "draft chat template", "chat_template"),
        ("read owner/draft", ModelNotFound("cannot be read"), "draft readable", "revision"),
    ],
)  # fmt: skip
def test_failures_are_rows_with_the_reason_and_what_to_do(
    world: World, what: str, error: SSDError, row: str, advice: str
) -> None:
    world.raises[what] = error
    failed = found(row, checks.examine(TARGET, DRAFT))
    assert failed.status == "fail"
    assert failed.found == error.message
    assert advice in failed.advice


def test_unreadable_model_does_not_hide_what_is_wrong_with_the_other(world: World) -> None:
    world.raises = {
        "read owner/target": ModelNotFound("gone"),
        "template of owner/draft": TemplateError("none"),
    }
    rows = checks.examine(TARGET, DRAFT)
    assert {row.name for row in rows if row.status == "fail"} == {"target readable", "draft chat template"}
    assert "vocabularies fit" not in {row.name for row in rows}


def test_template_that_renders_nothing_fails(world: World) -> None:
    world.ids = []
    assert found("target chat template", checks.examine(TARGET, DRAFT)).status == "fail"


@pytest.mark.parametrize(("free", "status"), [(2**34, "ok"), (10, "fail"), (None, "warn")])
def test_memory_is_compared_with_what_is_free(world: World, free: int | None, status: str) -> None:
    world.free = free
    row = found("memory on cpu", checks.examine(TARGET, DRAFT))
    assert row.status == status
    assert bool(row.advice) is (status != "ok")


def test_memory_too_small_for_a_full_batch_is_a_note(world: World) -> None:
    config = world.configs["owner/target"]
    weights, cache = memory.weights_in_memory(config, TARGET), memory.cache_bytes(config, TARGET)
    assert weights is not None
    world.free = 2 * weights + 3 * cache
    assert found("memory on cpu", checks.examine(TARGET, DRAFT)).status == "warn"


def test_devices_are_looked_at_one_by_one(world: World) -> None:
    rows = checks.examine(TARGET, DRAFT.model_copy(update={"device": "cuda:1"}))
    assert found("memory on cpu", rows).found.startswith("target:")
    assert found("memory on cuda:1", rows).found.startswith("draft:")


def test_equal_weights_are_counted_once(world: World) -> None:
    twin = TARGET.model_copy(update={"system_prompt": "Be careful."})
    row = found("memory on cpu", checks.examine(TARGET, twin))
    weights = memory.weights_in_memory(world.configs["owner/target"], TARGET)
    assert weights is not None
    assert row.found.startswith(f"target and draft share: {memory.human(weights)} of weights")


def test_contexts_that_are_unknown_or_where_the_draft_reads_less(world: World) -> None:
    world.configs["owner/draft"] = LlamaConfig(**SMALL, max_position_embeddings=128)
    row = found("contexts", checks.examine(TARGET, DRAFT))
    assert (row.status, "end at 128" in row.found) == ("warn", True)
    world.configs["owner/draft"].max_position_embeddings = 0
    row = found("contexts", checks.examine(TARGET, DRAFT))
    assert (row.status, "max_context" in row.advice) == ("warn", True)


def test_weights_on_a_hub_have_no_size_yet(world: World) -> None:
    world.size = None
    assert "hub" in found("target weights", checks.examine(TARGET, DRAFT)).found


# What memory is told from


def test_parameters_are_counted_without_making_them() -> None:
    config = LlamaConfig(**SMALL, tie_word_embeddings=True)
    real = sum(weight.numel() for weight in LlamaForCausalLM(config).parameters())
    assert memory.parameter_count(config) == real
    assert memory.weights_in_memory(config, ModelSpec(name="m", dtype="float16")) == 2 * real
    assert memory.weights_in_memory(config, ModelSpec(name="m", dtype="float64")) == 8 * real


def test_type_of_the_weights_is_the_checkpoints_unless_chosen() -> None:
    config = LlamaConfig(**SMALL, dtype=torch.bfloat16)
    count = memory.parameter_count(config)
    assert memory.weights_in_memory(config, ModelSpec(name="m")) == 2 * count
    assert (
        memory.weights_in_memory(LlamaConfig(**SMALL), ModelSpec(name="m", gguf_file="m.gguf")) == 2 * count
    )
    assert memory.weights_in_memory(LlamaConfig(**SMALL), ModelSpec(name="m")) == 4 * count


@pytest.mark.parametrize(
    ("quantization", "bits"),
    [
        ({"load_in_4bit": True}, 4.5),
        ({"load_in_8bit": True}, 8.25),
        ({"quant_method": "gptq", "bits": 4}, 4.0),
    ],
)
def test_quantised_weights_are_smaller(quantization: dict[str, Any], bits: float) -> None:
    config = LlamaConfig(**SMALL)
    size = memory.weights_in_memory(config, ModelSpec(name="m", quantization=quantization))
    assert size == int(memory.parameter_count(config) * bits / 8)


def test_size_that_only_loading_would_tell() -> None:
    quantised = LlamaConfig(**SMALL)
    quantised.quantization_config = {"quant_method": "awq"}
    assert memory.weights_in_memory(quantised, ModelSpec(name="m")) is None
    unknown = ModelSpec(name="m", quantization={"quant_method": "odd"})
    assert memory.weights_in_memory(LlamaConfig(**SMALL), unknown) is None


def test_cache_counts_key_and_value_heads_and_keeps_windows_small() -> None:
    spec = ModelSpec(name="m", dtype="float16")
    assert memory.cache_bytes(LlamaConfig(**SMALL), spec, tokens=10) == 2 * 2 * 10 * 2 * 4 * 2
    sliding = Gemma3TextConfig(
        **SMALL, head_dim=4, sliding_window=4, layer_types=["sliding_attention", "full_attention"]
    )
    assert memory.cache_bytes(sliding, spec, tokens=10) == 2 * (4 + 10) * 2 * 4 * 2


def test_free_memory_of_this_machine() -> None:
    free = memory.available_memory("cpu")
    assert free is not None
    assert 2**20 < free < 2**50


def test_memory_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_cgroup", lambda: 12345)
    assert memory.available_memory("cpu") == 12345


@pytest.mark.parametrize(("size", "text"), [(3 * 2**20, "3 MiB"), (3 * 2**29, "1.5 GiB")])
def test_sizes_for_people(size: int, text: str) -> None:
    assert memory.human(size) == text


# The command


def test_doctor_exits_with_1_if_something_fails_and_0_if_not(world: World) -> None:
    arguments = ["doctor", "--target", "owner/target", "--draft", "owner/draft"]
    good = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
    assert good.exit_code == 0, good.output
    assert "This pair can work here." in good.output
    world.raises["vocabularies"] = VocabularyMismatch("token 7 is 'a' for the target and 'b' for the draft")
    bad = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
    assert bad.exit_code == 1
    assert "token 7 is 'a' for the target" in bad.output
    assert "1 check(s) failed" in bad.output


def test_doctor_without_the_default_pair_says_how_to_get_it(world: World, tmp_path: Path) -> None:
    world.ready = False
    shown = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "160"})
    assert shown.exit_code == 1
    assert "run: langchain-ssd setup" in shown.output
    named = checks.examine(TARGET, DRAFT)
    assert found("default pair", named).status == "warn"
