"""Tokens → text: incremental decoding, stop strings, thinking, each whatever the cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from langchain_ssd.engine.text import StopMatcher, ThinkingSplitter, TokenDecoder
from langchain_ssd.testing.byte_tokenizer import byte_tokenizer

ASCII = byte_tokenizer().convert_tokens_to_ids(list("abc<|>"))
SAMPLE = "naïve 😀👩‍👩‍👧 漢字かな 한글 \u200b\u0301 a\nb \ufffd z"


def by_bytes(ids: list[int]) -> str:
    """A byte-level tokenizer's decoding: id = byte."""
    return bytes(ids).decode(errors="replace")


def pieces(ids: list[int], context: list[int] | None = None) -> list[str]:
    decoder = TokenDecoder(by_bytes, context or ())
    return [*(decoder.push(i) for i in ids), decoder.flush()]


@given(st.text(max_size=40))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_pieces_of_text_join_to_the_text(text: str) -> None:
    assert "".join(pieces(list(text.encode()))) == text


def test_no_piece_shows_half_a_character() -> None:
    got = pieces(list("a😀漢".encode()))
    assert got == ["a", "", "", "", "😀", "", "", "漢", ""]


def test_an_unfinished_character_is_flushed_as_the_replacement_character() -> None:
    assert pieces([65, 0xF0, 0x9F]) == ["A", "", "", "\ufffd"]
    assert pieces([65]) == ["A", ""]
    assert pieces([]) == [""]


def test_a_genuine_replacement_character_survives() -> None:
    for text in ("a\ufffdb", "\ufffd", "\ufffd\ufffd x", SAMPLE):
        assert "".join(pieces(list(text.encode()))) == text


BROKEN = [b"\x80", b"\xf0\x9f", b"\xe2\x82", b"\xc3", b"\xff\xff", b"\xed\xa0\x80", b""]


@given(st.lists(st.tuples(st.sampled_from(BROKEN), st.sampled_from(["a", "é", "漢", "😀"])), max_size=8))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_broken_bytes_between_characters_are_replaced_as_in_the_whole(parts: list[tuple[bytes, str]]) -> None:
    ids = list(b"".join(broken + char.encode() for broken, char in parts))
    assert "".join(pieces(ids)) == by_bytes(ids)


def test_a_long_run_of_broken_bytes_is_shown_and_does_not_wait_for_ever() -> None:
    got = pieces([0x80] * 30)
    assert "".join(got) == "\ufffd" * 30
    assert got[:16] != [""] * 16


@given(st.text(alphabet="aé😀 ", max_size=10), st.text(alphabet="aé😀 ", max_size=12))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_a_context_is_not_repeated(context: str, text: str) -> None:
    assert "".join(pieces(list(text.encode()), list(context.encode()))) == text


@given(st.lists(st.sampled_from([*ASCII, 256, 257, 259]), max_size=24))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_a_real_tokenizer_with_control_tokens_between(ids: list[int]) -> None:
    backend = byte_tokenizer().backend_tokenizer

    def decode(some: list[int]) -> str:
        return backend.decode(list(some), skip_special_tokens=True)

    decoder = TokenDecoder(decode)
    assert "".join([*(decoder.push(i) for i in ids), decoder.flush()]) == decode(ids)


def spaced_tokenizer() -> Tokenizer:
    """Words that carry their own leading space, as SentencePiece writes them; 0 is a control token."""
    vocab = {"<s>": 0, "▁Hello": 1, "▁world": 2, "!": 3, "▁": 4}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<s>"))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


@pytest.mark.parametrize(
    "ids", [[1, 2, 3], [1, 4, 2], [4, 4, 1], [1, 0, 2], [0, 1, 2], [1, 0, 0, 2, 0], [1, 2, 0, 2]]
)
def test_leading_spaces_are_kept_inside_an_answer(ids: list[int]) -> None:
    tokenizer = spaced_tokenizer()

    def decode(some: list[int]) -> str:
        return tokenizer.decode(list(some), skip_special_tokens=True)

    decoder = TokenDecoder(decode)
    assert "".join([*(decoder.push(i) for i in ids), decoder.flush()]) == decode(ids)


# ── stop strings ─────────────────────────────────────────────────────────────────────────────────────


def first_stop(text: str, stops: list[str]) -> int | None:
    """Where the stop string that is complete first begins; of several complete at once, the longest."""
    ends = [(text.find(s) + len(s), text.find(s)) for s in stops if s in text]
    return min(ends)[1] if ends else None


def matched(parts: list[str], stops: list[str]) -> tuple[int | None, list[int]]:
    """Push parts until a stop; returns where it begins, and ``safe`` after every push."""
    matcher, safe = StopMatcher(stops), []
    for part in parts:
        end = matcher.push(part)
        safe.append(matcher.safe)
        if end is not None:
            return end, safe
    return None, safe


def cut(text: str, cuts: list[int]) -> list[str]:
    at = sorted({0, len(text), *(c for c in cuts if c <= len(text))})
    return [text[a:b] for a, b in pairwise(at)]


stop_lists = st.lists(st.text(alphabet="ab", min_size=1, max_size=5), max_size=4)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.text(alphabet="abc", max_size=20), stop_lists, st.lists(st.integers(0, 20), max_size=8))
def test_equals_a_search_in_the_whole_text(text: str, stops: list[str], cuts: list[int]) -> None:
    parts = cut(text, cuts)
    end, safe = matched(parts, stops)
    assert end == first_stop(text, stops)
    assert safe == sorted(safe)
    if end is not None:
        assert max(safe[:-1], default=0) <= end  # nothing of the stop string was ever called safe
    elif parts:
        held = text[safe[-1] :]  # the longest end that may still become a stop string, and no more
        ends = [text[i:] for i in range(len(text) + 1)]
        assert held == next(e for e in ends if not e or any(s.startswith(e) and s != e for s in stops))


def test_a_stop_string_may_cross_any_number_of_pieces() -> None:
    assert matched(list("xxSTOPyy"), ["STOP"])[0] == 2
    assert matched(["xS", "TO", "", "P"], ["STOP"]) == (1, [1, 1, 1, 1])


def test_a_false_start_is_released_when_it_is_known_to_be_one() -> None:
    matcher = StopMatcher(["aab"])
    safe = []
    for piece in "aaac":
        matcher.push(piece)
        safe.append(matcher.safe)
    assert safe == [0, 0, 1, 4]


def test_overlapping_stop_strings_end_at_the_first_complete_one() -> None:
    for parts in (["abcd"], list("abcd"), ["ab", "cd"], ["abc", "d"]):
        assert matched(parts, ["abcd", "bc"])[0] == 1
        assert matched(parts, ["abcd", "cd"])[0] == 0  # both complete with d: the longer


def test_without_stop_strings_everything_is_safe() -> None:
    assert matched(["ab", "c"], []) == (None, [2, 3])


# ── thinking ─────────────────────────────────────────────────────────────────────────────────────────


def parsed(text: str, enabled: bool, opened: bool) -> tuple[str, str]:
    """Thinking and answer of a whole text."""
    if not opened:
        if not enabled or not text.lstrip().startswith("<think>"):
            return "", text
        text = text.lstrip().removeprefix("<think>")
    thought, _, answer = text.partition("</think>")
    return thought, answer


def split(parts: list[str], enabled: bool = True, opened: bool = False) -> tuple[str, str]:
    splitter = ThinkingSplitter(enabled, opened)
    got = [piece for part in parts for piece in splitter.push(part)] + splitter.flush()
    return "".join(t for t, thought in got if thought), "".join(t for t, thought in got if not thought)


fragments = st.sampled_from(["<think>", "</think>", "<", "th", "</", "ink>", "a", "\n", " ", "think"])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(fragments, max_size=8).map("".join),
    st.lists(st.integers(0, 40), max_size=10),
    st.booleans(),
    st.booleans(),
)
def test_thinking_is_found_wherever_it_is_cut(
    text: str, cuts: list[int], enabled: bool, opened: bool
) -> None:
    assert split(cut(text, cuts), enabled, opened) == parsed(text, enabled, opened)


def test_both_parts_of_one_piece() -> None:
    assert ThinkingSplitter(True).push("<think>hm</think>Hi") == [("hm", True), ("Hi", False)]
    assert ThinkingSplitter(False).push("<think>hm</think>Hi") == [("<think>hm</think>Hi", False)]
