"""Which tokens open a refusal, by the tokenizer of a pair."""

from __future__ import annotations

import pytest

from langchain_ssd.config import ModelSpec
from langchain_ssd.engine.refusal_tokens import OPENINGS, refusal_ids
from langchain_ssd.engine.rendering import Renderer
from langchain_ssd.errors import InvalidRequest
from langchain_ssd.testing.tiny_pair import tiny_pair


def test_a_pair_knows_them_and_what_is_no_letter_is_left_out() -> None:
    pair = tiny_pair()
    decode = pair.target.renderer.tokenizer.decode
    texts = {str(decode([i])) for i in pair.refusal_ids}
    assert {"I", "S", "N", "U"} <= texts  # the tiny pair's tokens are bytes
    assert " " not in texts
    assert all(text.strip().isalpha() for text in texts)
    assert pair.refusal_ids == tuple(sorted(set(pair.refusal_ids)))


def test_ids_that_are_not_shared_are_left_out() -> None:
    pair = tiny_pair()
    least = min(pair.refusal_ids)
    assert refusal_ids(pair.target.renderer, least + 1) == (least,)
    assert refusal_ids(pair.target.renderer, least) == ()


def test_texts_that_cannot_be_written_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = tiny_pair().target.renderer
    encode = Renderer.encode

    def only_sorry(self: Renderer, text: str) -> list[int]:
        if text != "Sorry":
            raise InvalidRequest("not here")
        return encode(self, text)

    monkeypatch.setattr(Renderer, "encode", only_sorry)
    assert refusal_ids(renderer, 10_000) == tuple(encode(renderer, "S"))


def test_the_openings_are_those_of_the_drafts_and_the_templates() -> None:
    """What a draft of ours learns to say, and what the fallback says, begins as one of them."""
    from langchain_ssd.drafts.refusals import OPENINGS as LEARNT
    from langchain_ssd.refusal_text import TEXTS

    firsts = {text.split()[0].strip(",") for text in OPENINGS} | {"I'm", "I"}
    learnt = {text.split()[0].strip(",") for text in LEARNT}
    assert learnt <= firsts
    assert set(TEXTS.values()) <= set(OPENINGS)


def test_the_default_model_has_whole_words() -> None:
    from langchain_ssd.drafts.default_pair import default_target
    from langchain_ssd.engine.reading import load_tokenizer

    target = default_target()
    renderer = Renderer(load_tokenizer(target), ModelSpec(name=target.name))
    ids = refusal_ids(renderer, 10**6)
    texts = {str(renderer.tokenizer.decode([i])) for i in ids}
    assert {"I", " I", "Sorry", " Sor", "No", " No", "Unfortunately", " Unfortunately"} <= texts
    assert len(ids) < 80
