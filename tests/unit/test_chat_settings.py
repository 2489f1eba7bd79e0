"""What a constructor and a call may set, and what a safety lock holds."""

import math

import pytest
from langchain_core.runnables import ConfigurableField
from pydantic import ValidationError

from langchain_ssd import ChatSSD, ModelSpec, RefusalPolicy, SSDConfig
from langchain_ssd.constraint import Constraint
from langchain_ssd.errors import BackendNotInstalled, InvalidRequest, SafetyLocked
from langchain_ssd.testing import ScriptedBackend

from .chat_helpers import SPOKEN, model_of

BAD_SAMPLING = [
    ("temperature", math.nan),
    ("temperature", -0.1),
    ("temperature", math.inf),
    ("top_p", 0),
    ("top_p", 2),
    ("top_k", 0),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("max_tokens", 1.5),
    ("stop", ["secret"] * 1000),
    ("stop", [""]),
    ("stop", ["secret" * 1000]),
    ("stop", [17]),
    ("seed", 2**70),
    ("seed", -1),
    ("repetition_penalty", 0),
    ("presence_penalty", 3),
    ("frequency_penalty", -3),
    ("logit_bias", {-1: 1.0}),
    ("logit_bias", {1: math.nan}),
    ("logit_bias", {1: 1000}),
    ("logprobs", "maybe"),
    ("timeout", 0),
    ("timeout", math.nan),
    ("include_thinking", "secret"),
]
BAD_SAFETY = [
    ("ssd", "off"),
    ("ssd", {"theta": 2}),
    ("ssd", {"thteta": 0.6}),
    ("enforce", "secret"),
    ("refusal", {"patience": 0}),
    ("refusal", 7),
]


@pytest.mark.parametrize(("name", "value"), [*BAD_SAMPLING, *BAD_SAFETY, ("max_retries", -1)])
def test_a_constructor_refuses_bad_values_without_quoting_them(name, value):
    with pytest.raises(ValidationError) as caught:
        ChatSSD(**{name: value})
    assert name in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [*BAD_SAMPLING, *BAD_SAFETY, ("hold_back", -1), ("hold_back", "x")]
)
def test_a_call_refuses_bad_values_without_quoting_them(name, value):
    model, backend = model_of(SPOKEN)
    with pytest.raises(InvalidRequest) as caught:
        model.invoke("hi", **{name: value})
    assert name.replace("ssd", "").replace("refusal", "") in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert backend.requests == []


def test_a_field_that_was_set_badly_later_fails_the_call():
    model, backend = model_of(SPOKEN)
    model.temperature = math.nan
    with pytest.raises(InvalidRequest, match="temperature"):
        model.invoke("hi")
    assert backend.requests == []


@pytest.mark.parametrize(
    "name", ["thteta", "tool", "model", "temprature", "api_key", "n", "target", "functions"]
)
def test_a_call_refuses_names_it_does_not_know(name):
    model, backend = model_of(SPOKEN)
    for call in (lambda: model.invoke("hi", **{name: 1}), lambda: model.bind(**{name: 1}).invoke("hi")):
        with pytest.raises(InvalidRequest, match=f"unknown argument '{name}'"):
            call()
    with pytest.raises(InvalidRequest, match="unknown argument"):
        list(model.stream("hi", **{name: 1}))
    assert backend.requests == []


@pytest.mark.parametrize("name", ["thteta", "model", "temprature", "ssd_config", "hold_back"])
def test_a_constructor_refuses_names_it_does_not_know(name):
    with pytest.raises(ValidationError, match=name):
        ChatSSD(**{name: 1})


def test_langchains_own_arguments_pass():
    model, backend = model_of(SPOKEN)
    assert model.invoke("hi", stream=True).text == "Hello my dear friend"
    form = {"kwargs": {}, "schema": {"title": "a", "type": "object", "properties": {}}}
    assert model.invoke("hi", ls_structured_output_format=form).text == "Hello my dear friend"
    assert len(backend.requests) == 2


@pytest.mark.parametrize("text", ["\x00", "\ud800"])
def test_stop_strings_are_text(text):
    model, backend = model_of(SPOKEN)
    with pytest.raises(InvalidRequest, match="a stop string holds"):
        model.invoke("hi", stop=[text])
    assert backend.requests == []


def test_ssd_can_be_given_as_plain_values():
    model, backend = model_of(SPOKEN, ssd={"monitor": "sequential"}, refusal={"language": "de"})
    model.invoke("hi", ssd={"theta": 0.5}, refusal={"patience": 3})
    assert backend.requests[0].safety == SSDConfig(theta=0.5)
    assert backend.requests[0].refusal == RefusalPolicy(patience=3)


def test_nothing_given_is_the_default():
    model, backend = model_of(SPOKEN)
    model.invoke("hi", temperature=None, ssd=None, enforce=None)
    assert backend.requests[0].safety == SSDConfig()
    assert backend.requests[0].sampling.temperature == 0.0


# The lock


LOCKED = {"ssd": SSDConfig(theta=0.5), "refusal": RefusalPolicy(patience=1), "lock_safety": True}


@pytest.mark.parametrize(
    "change",
    [
        {"enforce": False},
        {"hold_back": "none"},
        {"hold_back": 0},
        {"ssd": SSDConfig()},
        {"ssd": {"theta": 0.0}},
        {"refusal": RefusalPolicy(enabled=False)},
        {"refusal": {}},
        {"ssd": SSDConfig(theta=0.5), "enforce": False},
        {"logit_bias": {5: 1.0}},
        {"repetition_penalty": 0.99},
        {"presence_penalty": -0.1},
        {"frequency_penalty": -2.0},
        {"response_format": Constraint("regex", "yes|no", may_refuse=False)},
    ],
)
def test_a_locked_model_refuses_changes(change):
    model, backend = model_of(SPOKEN, **LOCKED)
    calls = [
        lambda: model.invoke("hi", **change),
        lambda: list(model.stream("hi", **change)),
        lambda: model.bind(**change).invoke("hi"),
        lambda: model.bind(**change).bind(seed=1).batch(["hi"]),
        lambda: model.with_config(tags=["x"]).invoke("hi", **change),
    ]
    for call in calls:
        with pytest.raises(SafetyLocked, match="locked"):
            call()
    assert backend.requests == []


def test_a_locked_model_takes_the_same_settings_and_other_arguments():
    model, backend = model_of(SPOKEN, **LOCKED)
    model.invoke("hi", ssd=SSDConfig(theta=0.5), enforce=True, hold_back="verdict", refusal={"patience": 1})
    model.invoke("hi", temperature=0.5, stop=["x"], include_thinking=True, timeout=5)
    model.invoke("hi", repetition_penalty=1.2, presence_penalty=0.5, frequency_penalty=0.5)
    model.invoke("hi", response_format=Constraint("regex", "yes|no"))
    assert [request.safety for request in backend.requests] == [SSDConfig(theta=0.5)] * 4


def test_the_lock_may_hold_shadow_mode():
    model, backend = model_of(SPOKEN, enforce=False, lock_safety=True)
    model.invoke("hi")
    assert backend.requests[0].safety.enforce is False
    with pytest.raises(SafetyLocked):
        model.invoke("hi", enforce=True)


@pytest.mark.parametrize("name", ["ssd", "refusal", "enforce", "lock_safety", "target", "draft", "base_url"])
def test_a_locked_model_has_no_configurable_or_copied_safety(name):
    model, _ = model_of(SPOKEN, lock_safety=True)
    with pytest.raises(SafetyLocked):
        model.configurable_fields(**{name: ConfigurableField(id="x")})
    with pytest.raises(SafetyLocked):
        model.model_copy(update={name: None})
    bound = model.configurable_fields(temperature=ConfigurableField(id="t"))
    with pytest.raises(SafetyLocked):
        bound.configurable_fields(**{name: ConfigurableField(id="x")})


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize(
    "name", ["ssd", "refusal", "enforce", "lock_safety", "target", "draft", "engine", "backend"]
)
def test_settings_of_worker_and_safety_are_frozen(name, locked):
    model, _ = model_of(SPOKEN, lock_safety=locked)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(model, name, None)


def test_a_locked_model_that_is_copied_stays_locked():
    model, _ = model_of(SPOKEN, lock_safety=True)
    with pytest.raises(SafetyLocked):
        model.model_copy(update={"temperature": 0.5}).invoke("hi", enforce=False)


# Configurable fields and remote servers


def test_configurable_fields_reach_the_request():
    model, backend = model_of(SPOKEN, **LOCKED)
    chain = model.configurable_fields(temperature=ConfigurableField(id="heat"))
    chain.invoke("hi", {"configurable": {"heat": 0.7}})
    chain.invoke("hi")
    assert [request.sampling.temperature for request in backend.requests] == [0.7, 0.0]
    with pytest.raises(SafetyLocked):
        chain.invoke("hi", {"configurable": {"heat": 0.7}}, enforce=False)


def test_a_remote_server_needs_its_distribution(monkeypatch):
    monkeypatch.setattr("langchain_ssd.backend.entry_points", lambda **_: [])
    model = ChatSSD(base_url="http://localhost:1", api_key="key")
    with pytest.raises(BackendNotInstalled, match="pip install langchain-ssd-tgi") as caught:
        model.invoke("hi")
    assert "key" not in str(caught.value)


def test_the_key_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("LANGCHAIN_SSD_API_KEY", "from-env")
    assert ChatSSD().api_key.get_secret_value() == "from-env"


def test_specs_can_be_given_as_plain_values():
    model = ChatSSD(target={"name": "org/big", "device": "cpu"}, draft="org/small", backend=ScriptedBackend())
    assert model.target == ModelSpec(name="org/big", device="cpu")
    with pytest.raises(ValidationError, match="nmae"):
        ChatSSD(target={"nmae": "x"})
