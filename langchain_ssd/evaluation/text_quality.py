"""Has an answer got stuck? Repetition and collapse, counted in words. Pure Python.

Made for English-like answers of 64 to 256 tokens that may be cut off anywhere.  Words are runs of letters
and digits in lower case; text without spaces between its words (Chinese, Japanese) is out of reach.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

NGRAM = 4  # four words in the same order are seldom said twice in 200 words of ordinary prose
LONGEST_PHRASE = 16  # the longest phrase, in words, whose loop is looked for
LOOP_COPIES = 3  # "very, very, very" is the shortest run that counts as repetition
REPETITIVE = 0.3  # ordinary prose and lists stay well below this share
REPETITIVE_LEAST = 12  # fewer words than this may repeat for effect

COLLAPSE_COPIES = 4  # nobody says a phrase four times in a row on purpose ...
COLLAPSE_WORDS = 6  # ... but a single word must come six times: "no, no, no, no" is still speech
TAIL = 24  # how many of the last words show what the text has come to
TAIL_LEAST = 8  # fewer words than this prove nothing
TAIL_SHARE = 0.5  # the commonest word of English makes up about 7 words in 100

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
# The same sign twenty times in a row; the excepted ones draw lines, tables of contents and blanks.
_SIGNS = re.compile(r"([^\s\w\-=*.#~+|])\1{19,}|([^\W_])\2{19,}")


@dataclass(frozen=True, slots=True)
class _Loop:
    """One phrase said again and again: where it starts, its length and its copies, in words."""

    start: int
    phrase: int
    length: int

    @property
    def copies(self) -> int:
        return self.length // self.phrase


def repetition(text: str) -> float:
    """The share of words that only repeat what was said before.

    A word counts if it lies in a run of ``NGRAM`` words that occurred earlier, or in the second or a later
    copy of a phrase said ``LOOP_COPIES`` times in a row.

    Args:
        text: an answer, whole or cut off.

    Returns:
        A number from 0 (nothing repeats) up to, but not including, 1; 0 for an empty text.
    """
    words = _words(text)
    repeated = _in_repeated_ngrams(words)
    for loop in _loops(words):
        if loop.copies >= LOOP_COPIES:
            repeated.update(range(loop.start + loop.phrase, loop.start + loop.length))
    return len(repeated) / len(words) if words else 0.0


def is_repetitive(text: str) -> bool:
    """Whether at least ``REPETITIVE`` of ``REPETITIVE_LEAST`` or more words only repeat what was said."""
    return len(_words(text)) >= REPETITIVE_LEAST and repetition(text) >= REPETITIVE


def is_collapsed(text: str) -> bool:
    """Whether the text fell into a loop and says nothing any more.

    True in three cases: a phrase of at most ``LONGEST_PHRASE`` words comes ``COLLAPSE_COPIES`` times in a
    row and fills ``COLLAPSE_WORDS`` words ("sense of sense of sense of sense of"); one word makes up
    ``TAIL_SHARE`` of the last ``TAIL`` words; or one sign or letter comes twenty times in a row.

    Args:
        text: an answer, whole or cut off.
    """
    words = _words(text)
    looping = any(loop.copies >= COLLAPSE_COPIES and loop.length >= COLLAPSE_WORDS for loop in _loops(words))
    return looping or _ends_in_one_word(words) or _SIGNS.search(text) is not None


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower().replace("\u2019", "'"))


def _in_repeated_ngrams(words: list[str]) -> set[int]:
    """The places of all words in an n-gram that occurred earlier."""
    seen: set[tuple[str, ...]] = set()
    places: set[int] = set()
    for start in range(len(words) - NGRAM + 1):
        ngram = tuple(words[start : start + NGRAM])
        if ngram in seen:
            places.update(range(start, start + NGRAM))
        seen.add(ngram)
    return places


def _loops(words: list[str]) -> Iterator[_Loop]:
    """Every longest stretch in which each word equals the one a phrase earlier."""
    for phrase in range(1, LONGEST_PHRASE + 1):
        equal = 0
        for place in range(phrase, len(words) + 1):
            if place < len(words) and words[place] == words[place - phrase]:
                equal += 1
                continue
            if equal:
                yield _Loop(place - equal - phrase, phrase, equal + phrase)
            equal = 0


def _ends_in_one_word(words: list[str]) -> bool:
    tail = words[-TAIL:]
    if len(tail) < TAIL_LEAST:
        return False
    return Counter(tail).most_common(1)[0][1] >= TAIL_SHARE * len(tail)
