"""Tokens with their texts: they join to the whole, and control tokens of the template are seen."""

from __future__ import annotations

import pytest

from langchain_ssd.backend import ChatMessage
from langchain_ssd.errors import InvalidRequest, ProtocolError
from langchain_ssd.testing import ScriptedBackend
from langchain_ssd.worker.wire import tokens_from_wire

from .engine_helpers import make


@pytest.mark.parametrize("text", ["hello", "a é 漢 👍🏽 b", "", " \n\t", "<|im_end|>"])
def test_the_texts_of_a_texts_tokens_join_to_it(text: str) -> None:
    engine, _ = make()
    tokens = engine.tokenize(text)
    assert "".join(token.text for token in tokens) == text
    assert [token.id for token in tokens] == engine.token_ids(text)


def test_a_conversation_is_tokenized_as_the_target_reads_it() -> None:
    engine, pair = make()
    messages = (ChatMessage("system", "be kind"), ChatMessage("user", "hé"))
    tokens = engine.tokenize(messages)
    renderer = pair.target.renderer
    assert [token.id for token in tokens] == renderer.render(messages)
    whole = "".join(token.text for token in tokens)
    assert whole == renderer.tokenizer.decode(renderer.render(messages), skip_special_tokens=False)
    assert "be kind" in whole
    assert renderer.control_ids.intersection(token.id for token in tokens)


def test_the_double_tokenizes_like_it_counts() -> None:
    backend = ScriptedBackend()
    tokens = backend.tokenize("to be or not")
    assert [token.id for token in tokens] == backend.token_ids("to be or not")
    assert "".join(token.text for token in tokens) == "to be or not"


@pytest.mark.parametrize(("ids", "texts"), [([1, "2"], ["a", "b"]), ([1], ["a", "b"]), ([1], [None])])
def test_broken_tokens_from_a_worker_are_refused(ids: list[object], texts: list[object]) -> None:
    with pytest.raises(ProtocolError):
        tokens_from_wire({"type": "tokens", "id": 1, "ids": ids, "texts": texts})


def test_a_backend_that_cannot_say_says_so() -> None:
    class Other(ScriptedBackend):
        tokenize = ScriptedBackend.__mro__[1].tokenize  # what a backend without one inherits

    with pytest.raises(InvalidRequest, match="token_ids"):
        Other().tokenize("x")
