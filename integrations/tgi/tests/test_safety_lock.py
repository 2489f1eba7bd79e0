"""Who may change safety settings: nobody, unless the server's operator says so."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_ssd import RefusalPolicy, SequentialConfig, SSDConfig
from langchain_ssd.testing import ScriptedBackend, refusal
from langchain_ssd_tgi.server.settings import ServerConfig

from .serving import chat, serving

CHAT = "/v1/chat/completions"
CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"safety": {"enforce": False}}, "enforce"),
    ({"safety": {"theta": 0.0}}, "theta"),
    ({"safety": {"hold_back": "none"}}, "hold_back"),
    ({"safety": {"alpha_safety": 0.0, "monitor": "sequential"}}, "monitor, alpha_safety"),
    ({"safety": {"sequential": {"h_refuse": 1000.0}}}, "sequential"),
    ({"refusal": {"enabled": False}}, "enabled"),
    ({"refusal": {"templates": {"en": "Sure!"}}}, "templates"),
    ({"refusal": {"on_refusal": "append"}}, "on_refusal"),
]


@pytest.mark.parametrize(("change", "names"), CHANGES)
@pytest.mark.parametrize("path", [CHAT, "/generate", "/generate_stream", "/v1/completions"])
def test_a_locked_server_refuses_changes_by_name(change: dict[str, Any], names: str, path: str) -> None:
    body = {CHAT: chat(), "/v1/completions": {"prompt": "hi"}}.get(path, {"inputs": "hi"})
    with serving(ScriptedBackend("a")) as server:
        response = server.post(path, {**body, "ssd": change})
        assert response.status_code == 403
        assert response.json()["code"] == response.json()["error_type"] == "safety_locked"
        assert response.json()["error"].endswith(f"leave out: {names}")
        assert server.backend.requests == []


def test_what_favours_tokens_and_a_grammar_that_cannot_refuse_are_locked_too() -> None:
    with serving(ScriptedBackend("a")) as server:
        constraint = {"kind": "regex", "value": "Sure.*", "may_refuse": False}
        for path, body, name in (
            (CHAT, chat(logit_bias={"7": 100}), "logit_bias"),
            ("/v1/completions", {"prompt": "hi", "logit_bias": {"7": 100}}, "logit_bias"),
            (CHAT, chat(repetition_penalty=0.5), "repetition_penalty"),
            (CHAT, chat(presence_penalty=-2, frequency_penalty=-1), "presence_penalty, frequency_penalty"),
            ("/generate", native(repetition_penalty=0.5), "repetition_penalty"),
            ("/generate_stream", native(frequency_penalty=-0.5), "frequency_penalty"),
            (CHAT, chat(ssd={"constraint": constraint}), "ssd.constraint.may_refuse"),
            ("/generate", {"inputs": "hi", "ssd": {"constraint": constraint}}, "ssd.constraint.may_refuse"),
        ):
            response = server.post(path, body)
            assert (response.status_code, response.json()) == (
                403,
                {
                    "error": f"this server's safety settings are locked; leave out: {name}",
                    "error_type": "safety_locked",
                    "code": "safety_locked",
                },
            )
        assert server.backend.requests == []
        assert server.post(CHAT, chat(repetition_penalty=1.2, presence_penalty=0.5)).is_success
    with serving(ScriptedBackend("a"), lock_safety=False) as server:
        assert server.post(CHAT, chat(repetition_penalty=0.5, frequency_penalty=-1)).is_success


def native(**parameters: Any) -> dict[str, Any]:
    return {"inputs": "hi", "parameters": parameters}


def test_a_locked_server_takes_its_own_settings() -> None:
    own = {"safety": {"theta": 0.5, "enforce": True}, "refusal": {"patience": 2}}
    with serving(ScriptedBackend("a"), safety={"theta": 0.5}) as server:
        assert server.post(CHAT, chat(ssd=own)).is_success
        assert server.backend.requests[0].safety == SSDConfig(theta=0.5)


def test_an_unlocked_server_lays_changes_over_its_own_settings() -> None:
    with serving(ScriptedBackend("a"), lock_safety=False, safety={"theta": 0.5, "bin_size": 9}) as server:
        change = {"safety": {"enforce": False, "sequential": {"h_refuse": 30.0}}, "refusal": {"patience": 5}}
        assert server.post(CHAT, chat(ssd=change, logit_bias={"7": 1.0})).is_success
        (request,) = server.backend.requests
        assert request.safety == SSDConfig(
            theta=0.5, bin_size=9, enforce=False, sequential=SequentialConfig(h_refuse=30)
        )
        assert request.refusal == RefusalPolicy(patience=5)


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"safety": {"thteta": 0.5}}, "ssd.safety.thteta"),
        ({"safety": {"theta": 5}}, "ssd.safety.theta"),
        ({"safety": {"alpha_floor": 5}}, "ssd.safety"),
        ({"refusal": {"secret": 1}}, "ssd.refusal"),
    ],
)
def test_typos_in_safety_settings_never_pass(change: dict[str, Any], name: str, locked: bool) -> None:
    with serving(ScriptedBackend("a"), lock_safety=locked) as server:
        response = server.post(CHAT, chat(ssd=change))
        assert response.status_code == 422
        assert name in response.json()["error"]


def test_a_server_may_give_no_telemetry_at_all() -> None:
    with serving(ScriptedBackend("a"), telemetry=False) as server:
        for options in ({"headers": {"x-ssd": "1"}}, {}):
            body = chat() if options else chat(ssd=True)
            response = server.post(CHAT, body, **options)
            assert (response.status_code, response.json()["code"]) == (403, "telemetry_disabled")
        assert server.post(CHAT, chat(ssd={"telemetry": False})).is_success


def test_deadlines_are_the_shorter_of_both() -> None:
    with serving(ScriptedBackend("a"), request_timeout=50.0) as server:
        for ssd, seconds in ((None, 50), ({"timeout": 5}, 5), ({"timeout": 500}, 50)):
            server.post(CHAT, chat(ssd=ssd))
            assert seconds - 1 < server.backend.requests[-1].timeout <= seconds


ROUTES = [(CHAT, chat()), ("/v1/completions", {"prompt": "hi"}), ("/generate", {"inputs": "hi"})]


@pytest.mark.parametrize(("path", "body"), ROUTES)
def test_a_refusal_is_appended_to_what_was_released_if_the_policy_says_so(path: str, body: Any) -> None:
    script = refusal("No.", after="Sure, here is")
    with serving(ScriptedBackend(script), refusal={"on_refusal": "append"}) as server:
        assert "Sure, here is\\n\\nNo." in server.post(path, body).text
    with serving(ScriptedBackend(script), lock_safety=False) as server:
        change = {"refusal": {"on_refusal": "append"}}
        assert "Sure" not in server.post(path, body).text
        assert "Sure, here is\\n\\nNo." in server.post(path, {**body, "ssd": change}).text


def test_a_server_raises_nothing_in_its_callers() -> None:
    with pytest.raises(ValueError, match="on_refusal"):
        ServerConfig(refusal=RefusalPolicy(on_refusal="raise"))
    with serving(ScriptedBackend("a"), lock_safety=False) as server:
        response = server.post(CHAT, chat(ssd={"refusal": {"on_refusal": "raise"}}))
        assert response.status_code == 422
        assert "ssd.refusal.on_refusal" in response.json()["error"]
        assert server.backend.requests == []
