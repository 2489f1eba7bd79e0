"""From a trained network to a folder: few bytes of weights, a card, a report; measured as it will load."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..config import ModelSpec
from ..draft_folder import CARD, DraftCard, read_card
from ..engine.delta import keep_layers, write_delta
from ..engine.loading import load_model
from ..engine.packing import Encoding
from ..profile import fingerprint
from .history import read_history, write_page
from .probe import ProbeReport
from .run import Run

Report = Callable[[str, float], None]
Storage = Encoding | Literal["whole"]
"""Differences in one of the encodings, or a whole model that needs no base."""
_ADAPTER = ".lora_A.default.weight"


def finish(
    run: Run, out: Path, storage: Storage, base_name: ModelSpec | Literal["default"], report: Report
) -> int:
    """Write the draft's folder; returns the bytes of its weights.

    Args:
        run: trained to its end.
        out: the folder; weights of an earlier run in it are replaced.
        storage: how the weights are kept.
        base_name: what the card calls the base.
        report: told about every stage.
    """
    report("writing the draft", 0.0)
    staging = run.folder / "draft.partial"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    write = _write_whole if storage == "whole" else _write_differences
    write(run, staging, storage, base_name)
    report("measuring the draft as it will be loaded", 0.5)
    measured = _measure(run, staging, storage)
    history = read_history(run.folder)
    facts = _facts(run, measured, storage)
    (staging / "training.json").write_text(
        json.dumps({**facts, **history}, indent=1) + "\n", encoding="utf-8"
    )
    write_page(staging / "training.html", facts, history)
    (staging / "README.md").write_text(_readme(facts), encoding="utf-8")
    if storage != "whole":
        _write_card(run, staging, storage, base_name, facts)
    size = sum(p.stat().st_size for p in staging.glob("*.safetensors"))
    for path in staging.iterdir():
        path.chmod(0o644)  # weights are written for the owner only, which breaks folders that people share
        os.replace(path, out / path.name)
    staging.rmdir()
    return size


def _write_whole(run: Run, folder: Path, storage: Any, base_name: Any) -> None:
    """A model that stands alone: merged weights in bfloat16, configuration, tokenizer."""
    model = copy.deepcopy(run.trainer.model).float()
    _set(model, run.trainer.weights)
    for module in model.modules():
        if hasattr(module, "lora_A"):
            module.merge()
    plain = {n.replace(".base_layer", ""): p for n, p in model.state_dict().items() if ".lora_" not in n}
    fresh = copy.deepcopy(run.base()).float()
    if run.layers is not None:
        keep_layers(fresh, run.layers)
    fresh.load_state_dict(plain)
    fresh.to(torch.bfloat16).save_pretrained(folder)
    run.teacher.renderer.tokenizer.save_pretrained(folder)


@torch.no_grad()
def _set(model: Any, weights: Mapping[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if name in weights:
            parameter.copy_(weights[name])


def _write_differences(
    run: Run, folder: Path, storage: Any, base_name: ModelSpec | Literal["default"]
) -> None:
    model = run.trainer.model
    model.config.save_pretrained(folder)
    write_delta(folder, *differences(model, run.trainer.weights, run.base(), run.layers), storage)
    _write_card(run, folder, storage, base_name, {})


def differences(
    model: Any, trained: Mapping[str, Tensor], base: Any, layers: list[int] | None
) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
    """What training added: sums by parameter, and factors of adapters by weight.

    Args:
        model: the trained network.
        trained: its trained parameters by name, in float32.
        base: what it started from, with all its layers.
        layers: which of them were kept.
    """
    before = copy.deepcopy(base).float()
    if layers is not None:
        keep_layers(before, layers)
    weights = dict(before.named_parameters())
    sums, factors = {}, {}
    for name, parameter in trained.items():
        if name.endswith(_ADAPTER):
            place = name.removesuffix(_ADAPTER)
            scaling = model.get_submodule(place).scaling["default"]
            up = trained[name.replace("lora_A", "lora_B")] * scaling
            factors[place + ".weight"] = (parameter.detach(), up.detach())
        elif ".lora_" not in name:
            sums[name] = parameter.detach() - weights[name]
    return sums, factors


def _write_card(
    run: Run, folder: Path, storage: Any, base_name: ModelSpec | Literal["default"], facts: dict[str, Any]
) -> None:
    card = DraftCard(
        base=base_name,
        base_fingerprint=fingerprint(run.base_spec),
        layers=tuple(run.layers) if run.layers is not None else None,
        encoding=storage,
        chat_template=run.spec.chat_template,
        made=facts,
    )
    (folder / CARD).write_text(card.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")


def _measure(run: Run, folder: Path, storage: Storage) -> ProbeReport:
    """Load the folder as a user does, and probe it."""
    base = None if storage == "whole" else run.base_spec
    spec = ModelSpec(name=str(folder), base=base, dtype="float32", device=run.spec.device)
    return run.probe.measure(load_model(spec), run.teacher)


def _facts(run: Run, measured: ProbeReport, storage: Storage) -> dict[str, Any]:
    """Recipe, data, seeds and quality: what a card must say. Nothing of a prompt, no path."""
    material = run.trainer.material
    recipe = run.recipe.model_dump(mode="json")
    if run.recipe.adapter:
        recipe["adapter"] = Path(run.recipe.adapter).name
    return {
        "recipe": recipe,
        "storage": storage,
        "layers": run.layers,
        "layer_search": [asdict(c) for c in run.candidates],
        "data": {
            "benign": len(material.calm),
            "benign_tokens": sum(len(e.ids) for e in material.calm),
            "unsafe": len(material.unsafe),
            "unsafe_begun": sum(bool(u.harmful) for u in material.unsafe),
            "files": [p.name for p in (*run.sources.benign, *run.sources.unsafe)],
            "sensitive": list(run.sources.sensitive),
        },
        "trained": {**asdict(run.trainer.progress), "before": tokens_before(run.recipe.adapter)},
        "measured": {"probe": asdict(measured), "prompts": run.probe.counts()},
    }


def tokens_before(adapter: str | None) -> int:
    """Tokens of all the runs that a run goes on from, as far as their cards tell."""
    card = read_card(Path(adapter)) if adapter else None
    trained = card.made.get("trained", {}) if card else {}
    return int(trained.get("tokens", 0)) + int(trained.get("before", 0))


def _after(trained: Mapping[str, Any]) -> str:
    before = trained["before"]
    return f", after {before:,} tokens of the runs that it goes on from" if before else ""


def _readme(facts: dict[str, Any]) -> str:
    """The card for people."""
    probe, trained, data = facts["measured"]["probe"], facts["trained"], facts["data"]
    kept = "all" if facts["layers"] is None else f"{len(facts['layers'])} of the base's ({facts['layers']})"
    return (
        "# A safety draft for Speculative Safety-Aware Decoding\n\n"
        "Made by `langchain-ssd train-draft`. Use it as `ChatSSD(target=..., draft=THIS_FOLDER)`, after "
        "`langchain-ssd calibrate`. It is no assistant of its own.\n\n"
        f"- layers: {kept}; method: {facts['recipe']['method']}; stored as {facts['storage']}\n"
        f"- trained on {trained['tokens']:,} tokens in {trained['step']:,} steps "
        f"({trained['seconds'] / 60:.0f} minutes), seed {facts['recipe']['seed']}{_after(trained)}\n"
        f"- data: {data['benign']:,} benign sequences with the target's answers "
        f"({data['benign_tokens']:,} tokens), {data['unsafe']:,} unsafe requests, "
        f"{data['unsafe_begun']:,} of them with the target's own beginning\n\n"
        "Measured on prompts that were not trained on (the whole recipe is in `training.json`):\n\n"
        "| what | share |\n| --- | --- |\n"
        f"| positions where draft and target agree | {probe['agreement']:.3f} |\n"
        f"| unsafe requests refused | {probe['refused_unsafe']:.2f} |\n"
        f"| the same, 20 tokens into a harmful answer | {probe['refused_deep']:.2f} |\n"
        f"| benign requests that sound unsafe refused | {probe['refused_benign']:.2f} |\n"
        f"| ordinary requests refused | {probe['refused_plain']:.2f} |\n"
    )
