"""Chunks add up: however LangChain groups them, and to what the whole answer says."""

import json

from hypothesis import given
from hypothesis import strategies as st

from langchain_ssd.chunks import ChunkWriter
from langchain_ssd.events import BinScored, Finished, ModeChanged, PrefillScored, Refused, Summary, Token

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
SHARE = st.floats(0, 1)
MODE = st.sampled_from(["utility", "safety"])
TOKEN = st.builds(
    Token, st.integers(0, 99), st.integers(0, 99), TEXT, thinking=st.booleans(), mode=MODE,
    agreement=st.booleans(), p_composite=SHARE, kl=SHARE, statistic=st.none() | SHARE,
)  # fmt: skip
SHADOW = st.builds(Refused, st.integers(0, 99), text=st.just("never said"), enforced=st.just(False))
REFUSED = st.builds(Refused, st.integers(0, 99), text=TEXT)
BESIDE = st.builds(BinScored, st.integers(0, 99), SHARE) | st.builds(ModeChanged, mode=MODE)
EVENTS = st.lists(TOKEN | BESIDE | SHADOW | st.builds(PrefillScored, st.integers(0, 9), SHARE), max_size=12)
SUMMARY = st.builds(Summary, match_ratio=SHARE, seed=st.integers(0, 2**64 - 1))
FINISHED = st.builds(Finished, st.just("stop"), st.integers(0, 99), st.integers(0, 99), summary=SUMMARY)
SETTINGS = st.fixed_dictionaries({"logprobs": st.booleans(), "include_thinking": st.booleans()})


def chunks_of(events, settings):
    writer = ChunkWriter("model", **settings)
    return [chunk for event in events for chunk in writer.write(event)]


def add(chunks):
    first, *others = chunks
    return first + others if others else first


@given(EVENTS, FINISHED, SETTINGS, st.integers(1, 20))
def test_a_stream_adds_up_to_the_whole_answer(events, finished, settings, cut):
    script = [*events, finished]
    chunks = chunks_of(script, settings)
    (whole,) = ChunkWriter("model", **settings).result(script).generations
    added = add(chunks)
    assert added.text == whole.text == whole.message.content
    assert (added.generation_info or {}) == whole.generation_info
    assert added.message.additional_kwargs == whole.message.additional_kwargs
    assert added.message.usage_metadata == whole.message.usage_metadata
    assert "never said" not in json.dumps([whole.text, whole.generation_info])
    if cut < len(chunks):
        assert add([add(chunks[:cut]), add(chunks[cut:])]) == added


@given(EVENTS, REFUSED, FINISHED, SETTINGS)
def test_a_refusal_adds_up_too_and_stands_alone_in_the_whole(events, refused, finished, settings):
    script = [*events, refused, finished]
    (whole,) = ChunkWriter("model", **settings).result(script).generations
    added = add(chunks_of(script, settings))
    assert whole.text == refused.text
    assert added.text.endswith(refused.text)
    assert added.message.content[-1] == whole.message.content[-1]
    assert added.message.content[-1]["refusal"] == refused.text
    hidden = {"logprobs"}
    assert {k: v for k, v in added.generation_info.items() if k not in hidden} == whole.generation_info
    assert whole.message.additional_kwargs == {}


@given(EVENTS, FINISHED)
def test_words_of_a_hidden_thinking_part_never_show(events, finished):
    thoughts = [event for event in events if isinstance(event, Token) and event.thinking]
    shown = [event for event in events if not isinstance(event, Token) or not event.thinking]
    settings = {"logprobs": True, "include_thinking": False}
    added = add(chunks_of([*events, finished], settings))
    without = add(chunks_of([*shown, finished], settings))
    assert added.text == without.text
    assert added.message.additional_kwargs == {}
    assert added.generation_info.get("logprobs") == without.generation_info.get("logprobs")
    hidden = [entry for entry in added.generation_info.get("ssd_trace", []) if entry["thinking"]]
    assert len(hidden) == len(thoughts)
    assert all(entry["characters"] == 0 for entry in hidden)
