"""Calibration profiles: files, precedence in ChatSSD, and models they were not made for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.load import dumpd, load
from langchain_core.runnables import ConfigurableField
from pydantic import ValidationError

from langchain_ssd import ChatSSD, ModelSpec, SequentialConfig, SSDConfig
from langchain_ssd.config import EvidenceWeights
from langchain_ssd.errors import ConfigError, ModelNotFound, SafetyLocked
from langchain_ssd.profile import Profile, ProfiledModel, fingerprint
from langchain_ssd.testing import ScriptedBackend

MEASURED = SSDConfig(
    monitor="sequential",
    alpha_utility=0.2,
    alpha_floor=0.2,
    block_size=4,
    sequential=SequentialConfig(
        h_safety=3.0, h_release=0.7, h_refuse=9.0, evidence=EvidenceWeights(kl=0.6), calibrated=True
    ),
)
PROFILE = Profile(
    target=ProfiledModel(title="big"),
    draft=ProfiledModel(title="small"),
    ssd=MEASURED,
    measured={"responses": 300},
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(PROFILE.to_json())
    return path


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    """A local draft with a profile of its own."""
    folder = tmp_path / "draft"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 1000)
    known = ProfiledModel(title="small", fingerprint=fingerprint(ModelSpec(name=str(folder))))
    (folder / "profile.json").write_text(PROFILE.model_copy(update={"draft": known}).to_json())
    return folder


def safety(model: ChatSSD, **options: Any) -> SSDConfig:
    """The settings that reach the request."""
    model.invoke("hi", **options)
    assert isinstance(model.backend, ScriptedBackend)
    return model.backend.requests[-1].safety


def chat(**settings: Any) -> ChatSSD:
    return ChatSSD(backend=ScriptedBackend("hello"), **settings)


# The file


def test_a_profile_comes_back_from_its_file_and_holds_only_what_it_sets(file: Path) -> None:
    read = Profile.read(file)
    assert read == PROFILE
    assert read.ssd.model_fields_set == MEASURED.model_fields_set
    assert json.loads(file.read_text()).keys() == {"format", "target", "draft", "ssd", "measured"}
    assert "theta" not in file.read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"extra": 1},
        {"ssd": {"enforce": False}},
        {"ssd": {"hold_back": "none"}},
        {"ssd": {"sequential": {"h_safety": 50}}},
        {"ssd": {"alpha_utility": -1}},
        {"target": {}},
    ],
    ids=str,
)
def test_what_is_no_profile_is_a_typed_error(change: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps({**json.loads(PROFILE.to_json()), **change}))
    with pytest.raises(ConfigError, match=r"mine\.json is no calibration profile") as caught:
        chat(ssd_profile=file)
    assert str(file.parent) not in caught.value.message


@pytest.mark.parametrize("text", ["", "{", "[]", "x" * 1_100_000])
def test_broken_files_are_typed_errors(text: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match="no calibration profile"):
        chat(ssd_profile=file)


def test_a_missing_file_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.json cannot be read") as caught:
        chat(ssd_profile=str(tmp_path / "gone.json"))
    assert str(tmp_path) not in caught.value.message


# Precedence


@pytest.mark.parametrize("how", ["path", "text", "profile", "langchain's name"])
def test_a_profile_is_the_base_of_the_settings(how: str, file: Path) -> None:
    given = {
        "path": {"ssd_profile": file},
        "text": {"ssd_profile": str(file)},
        "profile": {"ssd_profile": PROFILE},
        "langchain's name": {"profile": file},
    }
    model = chat(**given[how])
    assert safety(model) == MEASURED
    assert safety(model).sequential.calibrated
    assert model.profile is not None
    assert model.profile["text_inputs"] is True  # what LangChain calls a profile is still there


def test_a_profile_given_twice_is_refused(file: Path) -> None:
    with pytest.raises(ValidationError, match="once"):
        chat(profile=file, ssd_profile=file)


def test_explicit_settings_win_one_by_one() -> None:
    model = chat(ssd_profile=PROFILE, ssd=SSDConfig(block_size=2, hold_back=5))
    assert safety(model) == MEASURED.model_copy(update={"block_size": 2, "hold_back": 5})
    assert safety(chat(ssd_profile=PROFILE, ssd={"monitor": "paper"})).monitor == "paper"
    assert safety(chat(ssd_profile=PROFILE, enforce=False)).enforce is False
    assert safety(chat(ssd_profile=PROFILE, ssd={"enforce": False})).enforce is False


@pytest.mark.parametrize(
    "ssd",
    [
        {"sequential": {"h_refuse": 30}},
        {"sequential": {"evidence": {"kl": 2}}},
        {"common_tokens": 5},
        {"alpha_utility": 0.4},
    ],
    ids=str,
)
def test_settings_that_calibration_rests_on_are_no_longer_calibrated_when_changed(
    ssd: dict[str, Any],
) -> None:
    found = safety(chat(ssd_profile=PROFILE, ssd=ssd))
    assert not found.sequential.calibrated
    assert found.sequential.h_safety == 3.0
    given = SSDConfig(sequential=SequentialConfig(h_refuse=9.0))  # the profile's own value
    assert safety(chat(ssd_profile=PROFILE, ssd=given)).sequential.calibrated


def test_settings_that_contradict_the_profile_are_refused() -> None:
    with pytest.raises(ValidationError, match="thresholds must satisfy"):
        chat(ssd_profile=PROFILE, ssd={"sequential": {"h_release": 3.5}})


def test_a_calls_own_settings_lie_over_the_profile_too() -> None:
    model = chat(ssd_profile=PROFILE, ssd={"block_size": 2})
    found = safety(model, ssd={"theta": 0.5})
    assert (found.monitor, found.theta, found.block_size) == ("sequential", 0.5, 4)
    assert safety(model, hold_back="none").sequential == MEASURED.sequential


def test_without_a_profile_nothing_changes() -> None:
    assert safety(chat()) == SSDConfig()
    assert safety(chat(), ssd={"theta": 0.5}) == SSDConfig(theta=0.5)


# A draft's own profile


def test_a_drafts_own_profile_is_found_and_can_be_switched_off(draft: Path) -> None:
    for given in (None, "default"):
        for spec in (str(draft), ModelSpec(name=str(draft)), ModelSpec(name="org/base", adapter=str(draft))):
            assert safety(chat(draft=spec, ssd_profile=given)) == MEASURED
    assert safety(chat(draft=str(draft), ssd_profile="none")) == SSDConfig()


def test_a_draft_without_a_profile_has_none_and_says_so_when_asked(tmp_path: Path) -> None:
    assert safety(chat(draft=str(tmp_path))) == SSDConfig()
    with pytest.raises(ModelNotFound, match="langchain-ssd calibrate"):
        chat(draft=str(tmp_path), ssd_profile="default")


def test_a_profile_of_other_weights_is_refused(draft: Path) -> None:
    spec = ModelSpec(name=str(draft))
    before = fingerprint(spec)
    weights = bytearray((draft / "model.safetensors").read_bytes())
    weights[-1] ^= 1  # trained further: the same size
    (draft / "model.safetensors").write_bytes(weights)
    assert fingerprint(spec) != before
    with pytest.raises(ConfigError, match="made for another draft"):
        chat(draft=str(draft))
    assert safety(chat(draft=str(draft), ssd_profile="none")) == SSDConfig()


def test_fingerprints_tell_prompts_and_files_apart(draft: Path) -> None:
    spec = ModelSpec(name=str(draft))
    assert fingerprint(spec) == fingerprint(spec.model_copy(update={"device": "cuda"}))
    assert fingerprint(spec) != fingerprint(spec.model_copy(update={"system_prompt": "Refuse."}))
    assert fingerprint(ModelSpec(name="org/model")) is None
    (draft / "profile.json").unlink()
    assert fingerprint(spec) == fingerprint(ModelSpec(name=str(draft)))


# Copies, locks, dumps


def test_copies_keep_the_profile_and_a_new_draft_has_its_own(draft: Path) -> None:
    model = chat(ssd_profile=PROFILE)
    assert safety(model.model_copy(update={"temperature": 0.5})) == MEASURED
    assert safety(model.model_copy(update={"ssd": SSDConfig(block_size=7)})).block_size == 7
    assert safety(model.model_copy(update={"ssd_profile": "none"})) == SSDConfig()
    assert safety(chat().model_copy(update={"draft": str(draft)})) == MEASURED
    assert safety(model.model_copy(deep=True)) == MEASURED


def test_configurable_models_keep_the_profile() -> None:
    model = chat(ssd_profile=PROFILE, ssd={"block_size": 2})
    chain = model.configurable_fields(temperature=ConfigurableField(id="heat"))
    chain.invoke("hi", {"configurable": {"heat": 0.5}})
    assert isinstance(model.backend, ScriptedBackend)
    assert model.backend.requests[-1].safety == MEASURED.model_copy(update={"block_size": 2})


def test_a_lock_holds_the_profile() -> None:
    model = chat(ssd_profile=PROFILE, lock_safety=True)
    for change in ({"ssd_profile": "none"}, {"ssd_profile": None}):
        with pytest.raises(SafetyLocked):
            model.model_copy(update=change)
    with pytest.raises(SafetyLocked):
        model.configurable_fields(ssd_profile=ConfigurableField(id="p"))
    with pytest.raises(SafetyLocked):
        model.invoke("hi", ssd={"theta": 0.5})
    model.invoke("hi", ssd=MEASURED)
    with pytest.raises(ValidationError, match="frozen"):
        model.ssd_profile = None  # type: ignore[misc]


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_a_dump_holds_the_settings_and_not_the_file(file: Path) -> None:
    model = ChatSSD(ssd_profile=file, ssd={"block_size": 2})
    dumped = dumpd(model)
    assert str(file.parent) not in json.dumps(dumped)
    loaded = load(dumped, allowed_objects=[ChatSSD], valid_namespaces=["langchain_ssd"])
    assert loaded._settings().safety == model._settings().safety
    assert loaded._identifying_params == model._identifying_params
    for call in ({}, {"ssd": {"theta": 0.5}}):
        assert loaded._settings().override(call, locked=False).safety == (
            model._settings().override(call, locked=False).safety
        )
    assert "measured" not in str(dumped)
    off = dumpd(ChatSSD(ssd_profile="none"))
    assert off["kwargs"]["ssd_profile"] == "none"
    assert model._identifying_params != ChatSSD()._identifying_params
    assert model._get_llm_string() != ChatSSD(ssd_profile=file)._get_llm_string()


def test_reading_a_profile_loads_nothing_heavy(file: Path) -> None:
    code = (
        f"import sys; from langchain_ssd import ChatSSD; ChatSSD(ssd_profile={str(file)!r});"
        "print([m for m in ('torch', 'transformers', 'tokenizers', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
