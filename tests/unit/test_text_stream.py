"""Which tokens may be shown, and when: the hold-back rules, with stop strings and thinking in between."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_ssd.config import HoldBack
from langchain_ssd.engine.text import TextStream, ThinkingSplitter, TokenDecoder
from langchain_ssd.events import Token


def stream(
    hold_back: HoldBack = "none", stops: tuple[str, ...] = (), thinks: bool = False, shown: bool = True
) -> TextStream:
    decoder = TokenDecoder(lambda ids: bytes(ids).decode(errors="replace"))
    return TextStream(decoder, stops, hold_back, ThinkingSplitter(thinks), shown)


def put(s: TextStream, index: int, token_id: int) -> bool:
    """Push one token; true if a stop string is complete."""
    return s.push(index, token_id, lambda text, thought: Token(index, token_id, text, thought))


def feed(s: TextStream, text: str, cleared: list[int] | None = None) -> tuple[list[Token], bool]:
    """Push bytes until a stop string; returns what was released, and whether it stopped."""
    out: list[Token] = []
    for i, byte in enumerate(text.encode()):
        if put(s, i, byte):
            return out, True
        out += s.release(i + 1, cleared[i] if cleared else 0)
    return out, False


def text_of(tokens: list[Token]) -> str:
    return "".join(t.text for t in tokens)


@pytest.mark.parametrize(
    ("hold_back", "lengths"),
    [
        ("none", [1, 2, 3, 4, 5]),
        (0, [1, 2, 3, 4, 5]),
        (2, [0, 0, 1, 2, 3]),
        (9, [0] * 5),
        ("response", [0] * 5),
    ],
)
def test_rules_that_count_tokens(hold_back: HoldBack, lengths: list[int]) -> None:
    s, out, seen = stream(hold_back), [], []
    for i, byte in enumerate(b"abcde"):
        put(s, i, byte)
        out += s.release(i + 1, i + 1)
        seen.append(len(out))
    assert seen == lengths
    assert text_of(out + s.finish(False)) == "abcde"


def test_the_verdict_rule_follows_the_monitor() -> None:
    s = stream("verdict")
    out, _ = feed(s, "abcdefg", [0, 0, 2, 2, 2, 6, 6])
    assert [t.index for t in out] == [0, 1, 2, 3, 4, 5]
    assert text_of(out) == "abcdef"
    assert text_of(s.finish(False)) == "g"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.text(alphabet="abé😀", max_size=10),
    st.lists(st.integers(0, 40), min_size=40, max_size=40),
    st.sampled_from(["verdict", "none", 0, 3, "response"]),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=3), max_size=2),
)
def test_nothing_is_released_beyond_what_is_cleared(
    text: str, schedule: list[int], hold_back: HoldBack, stops: list[str]
) -> None:
    s, released, so_far = stream(hold_back, tuple(stops)), [], b""
    for i, byte in enumerate(text.encode()):
        so_far += bytes([byte])
        cleared = min(i + 1, max(schedule[: i + 1]))
        stopped = put(s, i, byte)
        if stopped:
            break
        limit = {"verdict": cleared, "none": i + 1, "response": 0}.get(str(hold_back), 0)
        if isinstance(hold_back, int):
            limit = i + 1 - hold_back
        released += s.release(i + 1, cleared)
        assert [t.index for t in released] == list(range(len(released)))
        assert len(released) <= max(0, limit)
        # A character whose last byte is not cleared must not be shown either.
        assert text_of(released) == text.encode()[: len(released)].decode(errors="ignore")
        assert not any(stop in text_of(released) for stop in stops)
    else:
        stopped = False
    whole = released + s.finish(stopped)
    plain = so_far.decode(errors="ignore")
    assert text_of(whole) == (plain[: min(plain.find(x) for x in stops if x in plain)] if stopped else plain)
    assert [t.index for t in whole] == list(range(len(so_far)))
    assert s.finish(stopped) == []


@pytest.mark.parametrize("hold_back", ["none", "response", 3, "verdict"])
def test_a_stop_string_inside_held_tokens_is_cut_out(hold_back: HoldBack) -> None:
    s = stream(hold_back, ("STOP",))
    out, stopped = feed(s, "abSTOPcd")
    assert stopped
    assert "S" not in text_of(out)  # the beginning of a possible stop string waits under every rule
    assert text_of(out + s.finish(True)) == "ab"


def test_a_false_start_is_shown_after_all() -> None:
    s = stream("none", ("STOP",))
    out, stopped = feed(s, "aSTOx")
    assert not stopped
    assert text_of(out) == "aSTOx"


def test_a_stop_string_in_the_middle_of_a_token_keeps_what_is_before_it() -> None:
    words = ["Hello ", "wor", "ldSTOPmore"]
    s = TextStream(
        TokenDecoder(lambda ids: "".join(words[i] for i in ids)),
        ("dSTOP",),
        "response",
        ThinkingSplitter(False),
        True,
    )
    for i in range(2):
        assert not put(s, i, i)
    assert put(s, 2, 2)
    assert [t.text for t in s.finish(True)] == ["Hello ", "wor", "l"]


def test_an_unfinished_character_is_shown_at_the_end_and_not_after_a_stop() -> None:
    s = stream()
    put(s, 0, 65)
    put(s, 1, 0xF0)
    assert text_of(s.finish(False)) == "A\ufffd"


def test_a_released_but_unfinished_character_is_not_lost_at_the_end() -> None:
    s = stream("none")
    put(s, 0, 0xF0)
    s.release(1, 1)
    assert text_of(s.finish(False)) == "\ufffd"


def test_thinking_is_marked_and_counted() -> None:
    s = stream(thinks=True)
    out, _ = feed(s, "<think>hm</think>Hi")
    out += s.finish(False)
    assert "".join(t.text for t in out if t.thinking) == "hm"
    assert "".join(t.text for t in out if not t.thinking) == "Hi"
    assert s.thinking_tokens == 2


def test_thinking_is_dropped_but_its_tokens_are_reported() -> None:
    s = stream(thinks=True, shown=False)
    out, _ = feed(s, "<think>hm</think>Hi")
    out += s.finish(False)
    assert text_of(out) == "Hi"
    assert [t.index for t in out] == list(range(19))


@pytest.mark.parametrize("text", ["<thi", "<think>a</thi", "  <", "<think>a</"])
@pytest.mark.parametrize("hold_back", ["none", "response"])
def test_half_a_tag_at_the_end_is_text(text: str, hold_back: HoldBack) -> None:
    s = stream(hold_back, thinks=True)
    out, _ = feed(s, text)
    assert text_of(out + s.finish(False)) == text.removeprefix("<think>")


@pytest.mark.parametrize("text", ["<thi", "<think>a</thi", "Hello", "<think>ab</think>Hi"])
@pytest.mark.parametrize("hold_back", ["none", "response"])
def test_every_token_is_reported_once(text: str, hold_back: HoldBack) -> None:
    s = stream(hold_back, thinks=True)
    out, _ = feed(s, text)
    assert [t.index for t in out + s.finish(False)] == list(range(len(text)))
