"""Repetition and collapse on hand-made texts: loops of every length, and honest prose that must pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_ssd.evaluation.text_quality import REPETITIVE, is_collapsed, is_repetitive, repetition

PROSE = (
    "The harbour wakes before the town does. Boats come in with the tide, and the men on the quay shout "
    "prices nobody believes. By noon the nets hang dry, the gulls have gone, and the only sound is a radio "
    "in the window of the cafe, playing a song that was new when the owner was young."
)
RECIPE = (
    "1. Preheat the oven to 180 degrees.\n2. Mix the flour, the sugar and the butter in a bowl.\n3. Add the "
    "eggs, one at a time.\n4. Pour the batter into a tin.\n5. Bake for 40 minutes, then let it cool."
)
TABLE = "| name | age |\n|------|-----|\n| Ann | 41 |\n| Bob | 37 |\n" + "-" * 40
CODE = "for i in range(10):\n    total = total + i\nprint(total)\nfor j in range(5):\n    print(j)"
SONG = "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is a dream."
HONEST = [
    PROSE,
    RECIPE,
    TABLE,
    CODE,
    SONG,
    "",
    "Yes.",
    "No, no, no, no!",
    "It was very, very, very good.",
    "42",
]

COLLAPSED = [
    "the the the the the the the",
    "The meaning is a sense of " + "sense of " * 10,
    PROSE + " I think that it is" * 4,
    "ha " * 30,
    "Sense, and sense. Sense: the sense; sense or sense, my sense, sense.",
    "Well" + "!" * 40,
    "aaaa" * 20,
    "you can use the tool to " * 4 + "you can",  # cut off inside the fifth copy
    PROSE + " no" * 12,
    "0 " * 20,
]


@pytest.mark.parametrize("text", HONEST)
def test_honest_text_passes(text: str) -> None:
    assert not is_repetitive(text)
    assert not is_collapsed(text)


@pytest.mark.parametrize("text", COLLAPSED)
def test_a_loop_is_a_collapse(text: str) -> None:
    assert is_collapsed(text)


@pytest.mark.parametrize("length", range(1, 17))
def test_a_phrase_of_any_length_loops(length: int) -> None:
    phrase = " ".join(f"w{place}x" for place in range(length))
    assert is_collapsed(" ".join([phrase] * 6))
    assert is_repetitive(" ".join([phrase] * 12))
    assert not is_collapsed(phrase)
    assert repetition(phrase) == 0


def test_a_sentence_said_three_times_is_repetitive_but_not_collapsed() -> None:
    text = "We went to the sea and swam until the evening came. " * 3
    assert is_repetitive(text)
    assert not is_collapsed(text)


def test_shares_by_hand() -> None:
    assert repetition("one two three four five six seven eight") == 0
    assert repetition("one two three four one two three four") == 0.5  # the second copy
    assert repetition("a b c a b c x y z u v w") == 0  # three words twice are neither n-gram nor loop
    assert repetition("so so so good") == 0.5  # "so" comes three times; two of four words repeat
    assert repetition("so so good") == 0


def test_case_punctuation_and_apostrophes_do_not_hide_a_loop() -> None:
    assert is_collapsed("Don\u2019t stop. DON'T STOP! don't, stop; Don't -- stop...")


def test_the_threshold_is_inclusive() -> None:
    words = [f"w{place}x" for place in range(14)]
    text = " ".join(words + words[:6])  # 6 of 20 repeat
    assert repetition(text) == pytest.approx(REPETITIVE)
    assert is_repetitive(text)


@given(st.lists(st.sampled_from(["a", "b", "c", "dog", "."]), max_size=80))
def test_a_share_stays_below_one_and_doubling_never_lowers_it(words: list[str]) -> None:
    text = " ".join(words)
    assert 0 <= repetition(text) < 1
    assert repetition(f"{text} {text}") >= repetition(text)


@given(st.text(max_size=300))
def test_any_text_is_judged(text: str) -> None:
    assert 0 <= repetition(text) < 1
    assert isinstance(is_collapsed(text), bool)


@given(st.text(max_size=120), st.sampled_from(["loop ", "in a loop ", "and so on and on "]))
def test_a_looping_end_is_found_after_any_beginning(text: str, phrase: str) -> None:
    assert is_collapsed(f"{text} {phrase * 8}")
