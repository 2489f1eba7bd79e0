"""``ChatSSD`` through a server in shadow mode: that is no protection, whoever says so and however late."""

from __future__ import annotations

import pytest

from langchain_ssd import ChatSSD
from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.errors import ConfigError, SafetyLocked
from langchain_ssd.events import Failed, Finished, Summary, Token
from langchain_ssd.testing import ScriptedBackend
from langchain_ssd_tgi import RemoteBackend
from langchain_ssd_tgi.protocol import PROTOCOL

from .serving import Exact, serving

HELLO = ChatRequest((ChatMessage("user", "hi"),))
SHADOW = {"safety": {"enforce": False}}


@pytest.mark.parametrize("locked", [True, False])
def test_a_server_in_shadow_mode_is_no_protection_and_is_taken_only_by_those_who_say_so(locked: bool) -> None:
    with serving(ScriptedBackend("ok"), lock_safety=locked, **SHADOW) as server:
        with pytest.raises(ConfigError, match=r"shadow mode.*enforce=False"):
            ChatSSD(base_url=server.url).invoke("hi")
        with pytest.raises(ConfigError, match="shadow mode"):
            next(ChatSSD(base_url=server.url, allow_unprotected=True).stream("hi"))
        assert server.backend.requests == []
        assert ChatSSD(base_url=server.url, enforce=False).invoke("hi").text == "ok"


@pytest.mark.parametrize("locked", [True, False])
def test_a_server_that_went_over_to_shadow_mode_unseen_answers_nothing_unprotected(locked: bool) -> None:
    with serving(ScriptedBackend("ok"), lock_safety=locked, **SHADOW) as server:
        backend = RemoteBackend(server.url)
        backend._info = {"ssd": {"protocol": PROTOCOL, "enforced": True}}  # what it was before
        last = list(backend.submit(HELLO))[-1]
        if locked:
            assert isinstance(last, Failed)
            assert last.code == SafetyLocked.code
            assert server.backend.requests == []
        else:
            assert server.backend.requests[0].safety.enforce


def test_an_answer_that_was_only_watched_fails_though_the_server_had_promised_more() -> None:
    watched = [Token(0, 1, "Hi", False, "utility"), Finished(summary=Summary(enforced=False))]
    with serving(Exact(watched), lock_safety=False) as server:
        with pytest.raises(ConfigError, match="shadow mode"):
            ChatSSD(base_url=server.url).invoke("hi")
        assert ChatSSD(base_url=server.url, enforce=False).invoke("hi").text == "Hi"
