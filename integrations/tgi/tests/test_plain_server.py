"""Plain servers: refused unless allowed, and then nothing claims to be protected."""

from __future__ import annotations

import json
from math import log
from typing import Any

import pytest

from langchain_ssd import ChatSSD
from langchain_ssd.errors import (
    ConfigError,
    InvalidRequest,
    Overloaded,
    ProtocolError,
    SSDError,
    UnprotectedAnswer,
)
from langchain_ssd.guard import guard as with_guard
from langchain_ssd.testing import ScriptedBackend, answer
from langchain_ssd_tgi import RemoteBackend
from langchain_ssd_tgi.client.failures import error_of
from langchain_ssd_tgi.client.plain import PlainReader
from langchain_ssd_tgi.server import describing

from .serving import serving


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our server without what makes it ours: no ssd in /info, and a request may not ask for it."""

    async def info(_: Any, connection: Any) -> None:
        await connection.reply({"model_id": "org/model", "max_total_tokens": 100, "max_input_tokens": 99})

    from langchain_ssd_tgi.server import app

    monkeypatch.setitem(app.ROUTES, ("GET", "/info"), info)
    assert describing.info is not info


PLAIN = {"telemetry": False, "model_name": "plain"}


@pytest.mark.usefixtures("plain")
def test_a_plain_server_is_refused_unless_it_is_allowed() -> None:
    with serving(ScriptedBackend("Hello there"), **PLAIN) as server:
        for call in ("invoke", "warm_up", "get_num_tokens"):
            model = ChatSSD(base_url=server.url)
            with pytest.raises(ConfigError, match=r"no SSD protects.*allow_unprotected=True"):
                model.warm_up() if call == "warm_up" else getattr(model, call)("hi")
        assert server.backend.requests == []


@pytest.mark.usefixtures("plain")
def test_an_allowed_one_says_plainly_that_nothing_protects_it() -> None:
    with serving(ScriptedBackend("Hello there"), **PLAIN) as server:
        model = ChatSSD(base_url=server.url, allow_unprotected=True)
        chunks = list(model.stream("hi"))
        assert "".join(chunk.text for chunk in chunks) == "Hello there"
        for message in (model.invoke("hi"), chunks[-1]):
            summary = message.response_metadata["ssd"]
            assert (summary["protected"], summary["monitor"], summary["enforced"]) == (False, "none", False)
            assert (summary["scored"], summary["match_ratio"]) == (0, 0.0)
            assert message.response_metadata["finish_reason"] == "stop"
            assert message.usage_metadata["output_tokens"] == 2
        assert model.warm_up().info["protected"] is False
        assert model.profile["max_input_tokens"] == 100
        assert model.get_num_tokens("to be") == 2


@pytest.mark.usefixtures("plain")
def test_a_guard_takes_its_answers_for_what_they_are_before_their_first_word() -> None:
    with serving(ScriptedBackend("Hello there"), **PLAIN) as server:
        model = ChatSSD(base_url=server.url, allow_unprotected=True)
        guarded = with_guard(model)
        with pytest.raises(UnprotectedAnswer):
            guarded.invoke("hi")
        shown: list[Any] = []
        with pytest.raises(UnprotectedAnswer):
            shown.extend(guarded.stream("hi"))  # keeps what comes before the error
        assert shown == []
        assert with_guard(model, require_ssd=False).invoke("hi").text == "Hello there"
    with serving(ScriptedBackend("Hello there")) as server:
        assert with_guard(ChatSSD(base_url=server.url)).invoke("hi").text == "Hello there"


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("settings", [{"top_k": 5}, {"repetition_penalty": 1.5}, {"logit_bias": {1: 1.0}}])
def test_what_it_would_ignore_is_refused_by_name(settings: dict[str, Any]) -> None:
    with serving(ScriptedBackend("a"), **PLAIN) as server:
        with pytest.raises(InvalidRequest, match=next(iter(settings))):
            ChatSSD(base_url=server.url, allow_unprotected=True, **settings).invoke("hi")
        assert server.backend.requests == []


def test_a_protected_server_needs_no_permission_and_stays_protected_with_it() -> None:
    with serving(ScriptedBackend(answer("Hello"))) as server:
        for allowed in (True, False):
            message = ChatSSD(base_url=server.url, allow_unprotected=allowed).invoke("hi")
            assert message.response_metadata["ssd"]["monitor"] == "paper"
            assert message.response_metadata["ssd"]["enforced"] is True


def test_permission_is_locked_and_part_of_the_identity() -> None:
    locked = ChatSSD(base_url="http://localhost:1", lock_safety=True)
    with pytest.raises(SSDError):
        locked.model_copy(update={"allow_unprotected": True})
    allowed = ChatSSD(base_url="http://localhost:1", allow_unprotected=True)
    assert locked._identifying_params != allowed._identifying_params


def test_chunks_as_text_generation_inference_writes_them() -> None:
    def chunk(content: str, reason: str | None = None, **more: Any) -> dict[str, Any]:
        logprobs = {"content": [{"token": content, "logprob": log(0.5), "top_logprobs": []}]}
        delta = {"role": "assistant", "content": content, "tool_call_id": None}
        return {"choices": [{"delta": delta, "logprobs": logprobs, "finish_reason": reason}], **more}

    reader = PlainReader()
    events = [event for c in (chunk("Hi"), chunk("!", "length")) for event in reader.read(c)]
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    events += reader.read({"choices": [], "usage": usage})
    events += reader.end()
    assert [event.kind for event in events] == ["queued", "token", "token", "finished"]
    assert events[1].p_composite == 0.5
    assert (events[-1].finish_reason, events[-1].prompt_tokens, events[-1].completion_tokens) == (
        "length",
        7,
        2,
    )
    assert PlainReader().end() == []
    with pytest.raises(ProtocolError):
        PlainReader().read(chunk("x", "mystery"))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (422, {"error": "Input validation error: x", "error_type": "validation"}, InvalidRequest),
        (429, {"error": "Model is overloaded", "error_type": "overloaded"}, Overloaded),
        (503, {}, Overloaded),
        (429, {}, Overloaded),
        (401, {}, ConfigError),
        (404, {}, ConfigError),
        (413, {}, InvalidRequest),
    ],
)
def test_errors_of_other_servers_become_typed(
    status: int, body: dict[str, str], kind: type[SSDError]
) -> None:
    error = error_of(status, body.get("error", ""), body.get("code", ""), body.get("error_type", ""))
    assert isinstance(error, kind)
    assert "\n" not in json.dumps(error.message)


@pytest.mark.parametrize("url", ["localhost:1", "ftp://x", ""])
def test_an_address_is_http(url: str) -> None:
    with pytest.raises(ConfigError, match="http"):
        RemoteBackend(url)
