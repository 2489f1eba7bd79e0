"""The checks behind ``doctor``: each looks at one thing and says what to do about it.

A check never loads weights.  It reads configurations and tokenizers with the engine's own loader, so
that what passes here is what the engine will accept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ..backend import ChatMessage
from ..config import ModelSpec
from ..drafts import default_pair
from ..engine.loading import pick_device, same_weights
from ..engine.reading import (
    check_config,
    check_files,
    compare_vocabularies,
    context_length,
    load_config,
    load_tokenizer,
    weight_bytes,
)
from ..engine.rendering import Renderer
from ..errors import SSDError
from ..pairs import DEFAULT, draft_spec, target_spec
from ..profile import find_profile
from .memory import available_memory, cache_bytes, human, weights_in_memory

Status = Literal["ok", "warn", "fail"]
_TEST_CONVERSATION = (
    ChatMessage("system", "Answer briefly."),
    ChatMessage("user", "Hello."),
    ChatMessage("assistant", "Hello! How can I help?"),
    ChatMessage("user", "Name a colour."),
)


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table."""

    name: str
    status: Status
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model of the pair, as far as it can be read."""

    role: str
    spec: ModelSpec
    config: Any
    tokenizer: Any


def examine(target: str | ModelSpec, draft: str | ModelSpec) -> list[Check]:
    """Every check on a pair, in the order in which a user should mend what fails."""
    wanted = DEFAULT in (target, draft)
    checks = [_default_pair(wanted)]
    if wanted and checks[0].status == "fail":
        return checks
    models = [
        model
        for model in (
            _read("target", target_spec(target), checks),
            _read("draft", draft_spec(draft), checks),
        )
        if model
    ]
    if len(models) == 2:
        checks.append(_vocabularies(*models))
    for model in models:
        checks += [_architecture(model), _weights(model), _template(model)]
    if len(models) == 2:
        checks.append(_contexts(*models))
    return [*checks, *_memory(models), _calibration(models)]


def _attempt(name: str, advice: str, look: Callable[[], Check]) -> Check:
    """A check whose typed error becomes a failed row."""
    try:
        return look()
    except SSDError as error:
        return Check(name, "fail", error.message, advice)


def _read(role: str, spec: ModelSpec, checks: list[Check]) -> Candidate | None:
    try:
        model = Candidate(role, spec, load_config(spec), load_tokenizer(spec))
    except SSDError as error:
        checks.append(
            Check(f"{role} readable", "fail", error.message, "check the name, the revision and the token")
        )
        return None
    kind = str(getattr(model.config, "model_type", "unknown"))
    checks.append(Check(f"{role} readable", "ok", f"{kind}, {len(model.tokenizer):,} token ids"))
    return model


def _default_pair(wanted: bool) -> Check:
    if default_pair.is_ready():
        return Check("default pair", "ok", "set up")
    return Check("default pair", "fail" if wanted else "warn", "not set up", "run: langchain-ssd setup")


def _vocabularies(target: Candidate, draft: Candidate) -> Check:
    advice = "use a draft that was made from the target's own tokenizer"

    def look() -> Check:
        shared = compare_vocabularies(target.tokenizer, draft.tokenizer)
        return Check("vocabularies fit", "ok", f"{shared:,} shared token ids")

    return _attempt("vocabularies fit", advice, look)


def _architecture(model: Candidate) -> Check:
    name = f"{model.role} can rewind"

    def look() -> Check:
        check_config(model.config)
        return Check(name, "ok", "its cache can be cut back after each block, and it needs no remote code")

    return _attempt(name, "use a model with an ordinary attention cache and no code of its own", look)


def _weights(model: Candidate) -> Check:
    name = f"{model.role} weights"

    def look() -> Check:
        check_files(model.spec)
        size = weight_bytes(model.spec)
        kind = "GGUF" if model.spec.gguf_file else "safetensors"
        if size is None:
            return Check(name, "ok", f"on a hub; only {kind} files will be read")
        return Check(name, "ok", f"{kind}, {human(size)} on disk")

    return _attempt(name, "convert the model to safetensors", look)


def _template(model: Candidate) -> Check:
    name = f"{model.role} chat template"
    advice = "give ModelSpec(chat_template=...): a template that fits, or 'plain' for a base model"

    def look() -> Check:
        ids = Renderer(model.tokenizer, model.spec).render(_TEST_CONVERSATION)
        if not ids:
            return Check(name, "fail", "it renders a conversation to nothing", advice)
        return Check(name, "ok", f"a test conversation with a system message is {len(ids)} tokens")

    return _attempt(name, advice, look)


def _contexts(target: Candidate, draft: Candidate) -> Check:
    of_target, of_draft = (context_length(model.config, None) for model in (target, draft))
    if max(of_target, of_draft) > 2**30:
        advice = "set EngineConfig(max_context=...) to what the model was trained on"
        return Check("contexts", "warn", "a configuration does not say how far its model reads", advice)
    found = f"target {of_target:,}, draft {of_draft:,}: conversations end at {min(of_target, of_draft):,}"
    if of_draft < of_target:
        return Check("contexts", "warn", found, "nothing, unless conversations outgrow the draft")
    return Check("contexts", "ok", found)


def _memory(models: list[Candidate]) -> list[Check]:
    """Needed against available memory, for each device."""
    checks, by_device = [], dict[str, list[Candidate]]()
    for model in models:
        by_device.setdefault(pick_device(model.spec), []).append(model)
    for device, held in by_device.items():
        checks.append(_room(device, held, available_memory(device)))
    return checks


def _room(device: str, held: list[Candidate], available: int | None) -> Check:
    name = f"memory on {device}"
    cache = sum(cache_bytes(model.config, model.spec) for model in held)
    shared = len(held) == 2 and same_weights(held[0].spec, held[1].spec)
    sizes = [weights_in_memory(model.config, model.spec) for model in (held[:1] if shared else held)]
    weights = sum(size or 0 for size in sizes)
    roles = " and ".join(model.role for model in held) + (" share" if shared else "")
    found = f"{roles}: {human(weights)} of weights, {human(cache)} of cache per 1,000 tokens and sequence"
    if available is None or None in sizes:
        return Check(name, "warn", found, "not everything could be told: check that there is room")
    found += f"; {human(available)} free"
    if weights + cache > available:
        return Check(name, "fail", found, "use smaller or quantised models, or another device")
    if weights + 8 * cache > available:
        return Check(name, "warn", found, "lower EngineConfig(max_batch=...) or max_context")
    return Check(name, "ok", found)


def _calibration(models: list[Candidate]) -> Check:
    """Whether the draft's folder has a profile that was made for these weights."""
    specs = {model.role: model.spec for model in models}
    advice = "run: langchain-ssd calibrate --target ... --draft ... --out DRAFT_FOLDER/profile.json"

    def look() -> Check:
        profile = find_profile(None, specs.get("target"), specs.get("draft"))
        if profile is None:
            return Check(
                "calibration", "warn", "no profile in the draft's folder: thresholds are guesses", advice
            )
        responses = profile.measured.get("responses", "an unknown number of")
        return Check("calibration", "ok", f"a profile from {responses} benign responses")

    return _attempt("calibration", advice, look)
