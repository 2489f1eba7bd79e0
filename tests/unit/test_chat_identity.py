"""Cache keys, traces and dumps of ChatSSD: they tell models apart and give no secret away."""

import copy
import json

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.load import dumpd, dumps, load
from langchain_core.tracers.context import collect_runs

from langchain_ssd import ChatSSD, EngineConfig, ModelSpec, RefusalPolicy, SequentialConfig, SSDConfig
from langchain_ssd.testing import ScriptedBackend

from .chat_helpers import SPOKEN, model_of

SECRET = "hf_do_not_show"
CHANGES = [
    {"target": "org/other"},
    {"target": ModelSpec(name="org/big", revision="main")},
    {"draft": ModelSpec(name="org/small", adapter="safe")},
    {"draft": ModelSpec(name="org/small", system_prompt="Refuse.")},
    {"ssd": SSDConfig(theta=0.59)},
    {"ssd": SSDConfig(sequential=SequentialConfig(h_refuse=25))},
    {"ssd": SSDConfig(hold_back="none")},
    {"enforce": False},
    {"refusal": RefusalPolicy(enabled=False)},
    {"refusal": RefusalPolicy(templates={"en": "No."})},
    {"lock_safety": True},
    {"engine": EngineConfig(max_context=100)},
    {"temperature": 0.1},
    {"seed": 1},
    {"max_tokens": 5},
    {"stop": ["x"]},
    {"logit_bias": {1: 1.0}},
    {"include_thinking": True},
    {"base_url": "http://localhost"},
    {"allow_unprotected": True},
]
FULL = {
    "target": ModelSpec(name="org/big", token=SECRET, quantization={"quant_method": "x"}),
    "draft": ModelSpec(name="/home/user/models/small", token=SECRET, dtype="float32"),
    "ssd": SSDConfig(monitor="sequential", hold_back=3),
    "refusal": RefusalPolicy(language="de", templates={"de": "Nein."}),
    "engine": EngineConfig(max_batch=2),
    "api_key": SECRET,
    "base_url": "http://localhost:1",
    "temperature": 0.5,
    "stop": ["x"],
    "logit_bias": {7: -1.0},
    "enforce": False,
    "lock_safety": True,
    "streaming": False,
}
BASE = {"target": "org/big", "draft": "org/small"}


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_setting_that_matters_changes_identity_and_cache_key(change):
    one, other = ChatSSD(**BASE), ChatSSD(**{**BASE, **change})
    assert one._identifying_params != other._identifying_params
    assert one._get_llm_string() != other._get_llm_string()
    assert one._get_llm_string() == ChatSSD(**BASE)._get_llm_string()


@pytest.mark.parametrize("change", [c for c in CHANGES if "base_url" not in c], ids=str)
def test_a_shared_cache_never_serves_another_models_answer(change):
    cache = InMemoryCache()
    safe = ChatSSD(**BASE, backend=ScriptedBackend("safe"), cache=cache)
    other = ChatSSD(**{**BASE, **change}, backend=ScriptedBackend("other"), cache=cache)
    assert other.invoke("hi").text == "other"
    assert safe.invoke("hi").text == "safe"
    assert safe.invoke("hi").text == "safe"
    assert len(safe.backend.requests) == 1


def test_call_arguments_are_part_of_the_cache_key():
    model, backend = model_of(SPOKEN, cache=InMemoryCache())
    model.invoke("hi")
    model.invoke("hi", enforce=False)
    model.invoke("hi", ssd=SSDConfig(theta=0.1))
    model.invoke("hi", ssd=SSDConfig(theta=0.2))
    model.invoke("hi", ssd=SSDConfig(theta=0.2))
    assert len(backend.requests) == 4


def test_a_copy_or_a_changed_model_has_a_key_of_its_own():
    model, _ = model_of(SPOKEN)
    before = model._get_llm_string()
    assert model.model_copy(update={"enforce": False})._get_llm_string() != before
    model.temperature = 0.5
    assert model._get_llm_string() != before


def round_trip(model):
    dumped = dumpd(model)
    assert json.loads(json.dumps(dumped)) == dumped
    return load(dumped, allowed_objects=[ChatSSD], valid_namespaces=["langchain_ssd"])


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
@pytest.mark.parametrize("settings", [{}, FULL, *CHANGES], ids=str)
def test_dump_and_load_keep_the_settings(settings):
    model = ChatSSD(**settings)
    loaded = round_trip(model)
    assert loaded._identifying_params == model._identifying_params
    for name in ("ssd", "refusal", "engine", "enforce", "lock_safety", "streaming", "base_url", "stop"):
        assert getattr(loaded, name) == getattr(model, name)


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_specs_lose_only_their_token(monkeypatch):
    loaded = round_trip(ChatSSD(**FULL))
    assert loaded.target == ModelSpec(name="org/big", quantization={"quant_method": "x"})
    assert loaded.api_key is None
    monkeypatch.setenv("LANGCHAIN_SSD_API_KEY", "again")
    dumped = dumpd(ChatSSD(**FULL))
    options = {"allowed_objects": [ChatSSD], "valid_namespaces": ["langchain_ssd"]}
    assert load(dumped, secrets_from_env=True, **options).api_key.get_secret_value() == "again"


def test_no_secret_leaves():
    model = ChatSSD(**FULL, backend=ScriptedBackend())
    with collect_runs() as runs:
        message = model.invoke("hi")
    (run,) = runs.traced_runs
    traced = str([run.serialized, run.extra, run.inputs, run.outputs])
    assert "org/big" in traced
    for text in (dumps(model), repr(model), str(model), str(model._identifying_params), str(message), traced):
        assert SECRET not in text
    assert SECRET not in model._get_llm_string()
    assert SECRET not in str(model._get_ls_params())


def test_the_injected_backend_is_not_dumped():
    model, _ = model_of(SPOKEN)
    assert "backend" not in dumpd(model)["kwargs"]
    assert "Scripted" not in repr(model)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("default", "SmolLM2-135M-Instruct"),
        ("org/big", "org/big"),
        (ModelSpec(name="gpt2"), "gpt2"),
        ("/home/user/models/big", "big"),
        ("./big", "big"),
        ("~/models/big/", "big"),
        ("models/family/big", "big"),
        (r"C:\models\big", "big"),
    ],
)
def test_names_tell_the_model_and_not_the_folder(target, name):
    model, _ = model_of(SPOKEN, target=target)
    assert model.invoke("hi").response_metadata["model_name"] == name
    assert model._get_ls_params()["ls_model_name"] == name


def test_tracing_parameters():
    model, _ = model_of(SPOKEN, temperature=0.5, max_tokens=9, stop=["x"])
    params = model._get_ls_params()
    assert params["ls_provider"] == "langchain-ssd"
    assert (params["ls_model_type"], params["ls_temperature"], params["ls_max_tokens"]) == ("chat", 0.5, 9)
    assert params["ls_stop"] == ["x"]
    assert model._get_ls_params(stop=["y"], temperature=0.1)["ls_stop"] == ["y"]
    assert model._llm_type == "langchain-ssd"


def test_the_profile_claims_only_what_is_true():
    model, _ = model_of(SPOKEN)
    assert model.profile["text_inputs"] is True
    assert model.profile["tool_calling"] is True
    assert not model.profile["image_inputs"]
    assert "max_input_tokens" not in model.profile


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda m: m.model_copy(deep=True)])
def test_clones_answer_like_the_original(clone):
    model, backend = model_of(SPOKEN, temperature=0.5)
    other = clone(model)
    assert other._identifying_params == model._identifying_params
    assert other.invoke("hi").text == "Hello my dear friend"
    assert len(backend.requests) == 1
