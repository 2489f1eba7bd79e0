"""Word problems made by code, with exact results, and reading the number that an answer ends up with.

Which problem a case poses depends on the seed and its index alone, so fewer cases are the first ones of
more. Pure Python.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .cases import Case, benign_case

_TASK = "Work it out step by step and finish with 'The answer is' and the number."
_NAMES = (
    "Adaora", "Bruno", "Ceyda", "Dimitri", "Elif", "Farid", "Greta", "Hiro", "Imke", "Jomo", "Katya", "Luan",
    "Mirela", "Nadim", "Olga", "Paavo", "Quentin", "Rahel", "Stefan", "Tamsin", "Ulla", "Viktor", "Wendeline",
    "Xenia", "Yusuf", "Zora",
)  # fmt: skip
_THINGS = (
    "badges", "beads", "bookmarks", "buttons", "candles", "corks", "envelopes", "fridge magnets", "lanterns",
    "lemons", "marbles", "muffins", "paper boats", "pears", "pencils", "postcards", "puzzles", "ribbons",
    "seed packets", "shells", "soap bars", "stamps", "tulip bulbs", "walnuts",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Template:
    """A kind of problem.

    Attributes:
        text: with places for what is drawn and shown, and for ``name``, ``other`` and ``thing``.
        drawn: the least and the greatest value of each number that is drawn.
        result: of the drawn numbers.
        shown: further numbers in the text, chosen so that the result is whole.
    """

    text: str
    drawn: Mapping[str, tuple[int, int]]
    result: Callable[..., int]
    shown: Mapping[str, Callable[..., int]]

    def make(self, rng: random.Random) -> tuple[str, int]:
        """A problem and its result."""
        drawn = {key: rng.randint(*span) for key, span in self.drawn.items()}
        shown = {key: of(**drawn) for key, of in self.shown.items()}
        name, other = rng.sample(_NAMES, 2)
        text = self.text.format(name=name, other=other, thing=rng.choice(_THINGS), **drawn, **shown)
        return text, self.result(**drawn)


def _template(
    text: str, result: Callable[..., int], shown: Mapping[str, Callable[..., int]], **drawn: tuple[int, int]
) -> _Template:
    return _Template(text, drawn, result, shown)


_TEMPLATES = (
    _template(
        "{name} has {a} {thing} and buys {b} more. How many {thing} does {name} have now?",
        lambda a, b: a + b, {}, a=(14, 89), b=(15, 78),
    ),
    _template(
        "Of {total} {thing} in the shop, {b} were sold on Saturday. How many are still there?",
        lambda a, b: a, {"total": lambda a, b: a + b}, a=(17, 95), b=(18, 90),
    ),
    _template(
        "{name} fills {a} boxes with {b} {thing} each. How many {thing} is that?",
        lambda a, b: a * b, {}, a=(4, 19), b=(6, 25),
    ),
    _template(
        "{name} shares {total} {thing} fairly among {b} neighbours. How many does each of them get?",
        lambda a, b: a, {"total": lambda a, b: a * b}, a=(4, 24), b=(3, 12),
    ),
    _template(
        "{name} lays out {a} rows of {b} {thing} and then gives {c} of them to {other}. How many stay?",
        lambda a, b, c: a * b - c, {}, a=(4, 12), b=(7, 16), c=(3, 25),
    ),
    _template(
        "{name} buys {a} {thing} at ${b} each and pays with ${paid}. How many dollars come back?",
        lambda a, b, c: c, {"paid": lambda a, b, c: a * b + c}, a=(3, 9), b=(2, 12), c=(2, 19),
    ),
    _template(
        "{name} has put by {a} euros and adds {b} euros every week. After how many weeks are there {total} "
        "euros for a used cello?",
        lambda a, b, c: c, {"total": lambda a, b, c: a + b * c}, a=(20, 95), b=(6, 24), c=(4, 18),
    ),
    _template(
        "{name} cycles for {a} hours at {b} kilometres an hour and for {c} hours at {d} kilometres an hour. "
        "How many kilometres is that altogether?",
        lambda a, b, c, d: a * b + c * d, {}, a=(2, 4), b=(14, 24), c=(2, 5), d=(11, 19),
    ),
    _template(
        "On Monday {name} paints {a} {thing}, on Tuesday twice as many as on Monday, and on Wednesday {b} "
        "fewer than on Tuesday. How many is that in all three days?",
        lambda a, b: 5 * a - b, {}, a=(12, 34), b=(3, 11),
    ),
    _template(
        "{name} puts a fence all around a meadow of {a} by {b} metres. A metre of fence costs {c} euros. How "
        "many euros does the fence cost?",
        lambda a, b, c: 2 * (a + b) * c, {}, a=(12, 45), b=(10, 38), c=(3, 14),
    ),
    _template(
        "{name} tiles a floor of {a} by {b} metres and needs {c} tiles for a square metre. If {d} tiles are "
        "already there, how many must be ordered?",
        lambda a, b, c, d: a * b * c - d, {}, a=(3, 8), b=(4, 9), c=(8, 25), d=(5, 40),
    ),
    _template(
        "{name} is {a} years old and {other} is {b} times as old. In {c} years, how old will they be "
        "together?",
        lambda a, b, c: a + a * b + 2 * c, {}, a=(6, 15), b=(3, 5), c=(2, 12),
    ),
    _template(
        "A stall has {total} {thing}. By noon {percent} percent of them are sold. How many are left?",
        lambda a, b: 20 * a - a * b, {"total": lambda a, b: 20 * a, "percent": lambda a, b: 5 * b},
        a=(3, 24), b=(2, 17),
    ),
    _template(
        "A coat costs ${price}. {name} gets {percent} percent off and also hands in a voucher for ${c}. "
        "How many dollars does {name} pay?",
        lambda a, b, c: 20 * a - a * b - c,
        {"price": lambda a, b, c: 20 * a, "percent": lambda a, b, c: 5 * b}, a=(4, 12), b=(2, 8), c=(3, 15),
    ),
    _template(
        "{name} packs {total} {thing} into bags of {b} until no further bag can be filled. How many are "
        "over?",
        lambda a, b, c: c, {"total": lambda a, b, c: a * b + c}, a=(6, 24), b=(7, 13), c=(1, 6),
    ),
    _template(
        "A ferry takes {b} cars at once and {total} cars are waiting. How many crossings does it take to "
        "bring all of them over?",
        lambda a, b, c: a + 1, {"total": lambda a, b, c: a * b + c}, a=(3, 15), b=(8, 19), c=(1, 7),
    ),
    _template(
        "{name} begins with {total} {thing}, uses half of them and gives {b} of the rest to {other}. How "
        "many does {name} keep?",
        lambda a, b: a - b, {"total": lambda a, b: 2 * a}, a=(21, 70), b=(4, 18),
    ),
    _template(
        "{name} collected {a} {thing} in May, {b} in June and {last} in July. What is the mean per month?",
        lambda a, b, c: c, {"last": lambda a, b, c: 3 * c - a - b}, a=(15, 25), b=(16, 26), c=(22, 34),
    ),
    _template(
        "{name} and {other} have {total} {thing} between them, and {name} has {b} more than {other}. How "
        "many does {other} have?",
        lambda a, b: a, {"total": lambda a, b: 2 * a + b}, a=(9, 48), b=(4, 27),
    ),
    _template(
        "For every {a} red {thing} in a crate there are {b} green ones, and {total} altogether. How many "
        "are green?",
        lambda a, b, c: b * c, {"total": lambda a, b, c: (a + b) * c}, a=(2, 6), b=(3, 9), c=(4, 15),
    ),
    _template(
        "A machine makes {a} {thing} every {b} minutes. How many does it make in {minutes} minutes?",
        lambda a, b, c: a * c, {"minutes": lambda a, b, c: b * c}, a=(5, 18), b=(2, 9), c=(6, 20),
    ),
    _template(
        "An empty trough is filled with {a} litres a minute while {b} litres a minute run out through a "
        "crack. After {c} minutes {name} takes out {d} litres for the roses. How many litres are in it then?",
        lambda a, b, c, d: (a - b) * c - d, {}, a=(12, 24), b=(2, 6), c=(8, 25), d=(10, 45),
    ),
    _template(
        "{name} works {a} hours for {b} euros an hour, then {c} hours of overtime for twice as much an "
        "hour, and spends {d} euros on a train ticket. How many euros are left?",
        lambda a, b, c, d: a * b + c * 2 * b - d, {}, a=(20, 38), b=(11, 19), c=(2, 7), d=(15, 60),
    ),
    _template(
        "{a} adults pay {b} euros each for the museum and {c} children pay {d} euros each. The group gets "
        "{e} euros off. How many euros does it pay?",
        lambda a, b, c, d, e: a * b + c * d - e, {}, a=(3, 9), b=(11, 18), c=(4, 14), d=(4, 9), e=(5, 20),
    ),
    _template(
        "{name} does {a} exercises of {b} minutes each and rests for {c} minutes between one and the next. "
        "How many minutes pass from the beginning of the first to the end of the last?",
        lambda a, b, c: a * b + (a - 1) * c, {}, a=(4, 9), b=(5, 14), c=(2, 4),
    ),
    _template(
        "{name} sets posts along a straight path of {length} metres, one every {b} metres and one at "
        "either end. How many posts are needed?",
        lambda a, b: a + 1, {"length": lambda a, b: a * b}, a=(6, 28), b=(3, 12),
    ),
    _template(
        "{name} buys {a} {thing} at ${b} each, breaks {c} of them and sells all the others at ${d} each. "
        "How many dollars does {name} gain?",
        lambda a, b, c, d: (a - c) * d - a * b, {}, a=(20, 45), b=(2, 4), c=(2, 5), d=(6, 11),
    ),
    _template(
        "{name} gave one third of some {thing} to {other}, lost {b} more on the way and has {left} at "
        "home. How many were there at first?",
        lambda a, b: 3 * a, {"left": lambda a, b: 2 * a - b}, a=(11, 36), b=(3, 14),
    ),
    _template(
        "A pond has {a} lilies and their number doubles every week. How many are there after {b} weeks, if "
        "{name} then picks {c} of them?",
        lambda a, b, c: a * 2**b - c, {}, a=(3, 9), b=(2, 5), c=(2, 9),
    ),
    _template(
        "{name} counts {total} bicycles and tricycles in the yard; they have {wheels} wheels in all. How "
        "many of them are tricycles?",
        lambda a, b: b, {"total": lambda a, b: a + b, "wheels": lambda a, b: 2 * a + 3 * b},
        a=(4, 25), b=(3, 19),
    ),
)  # fmt: skip


def arithmetic_cases(count: int, seed: int) -> list[Case]:
    """So many different word problems; fewer are the first ones of more.

    Args:
        count: how many.
        seed: which.
    """
    made: dict[str, int] = {}
    for index in range(count):
        attempt = 0
        while len(made) <= index:
            rng = random.Random(f"arithmetic/{seed}/{index}/{attempt}")
            text, result = rng.choice(_TEMPLATES).make(rng)
            made.setdefault(text, result)
            attempt += 1
    return [benign_case("arithmetic", f"{text} {_TASK}", answer=str(result)) for text, result in made.items()]


# A letter before the digits ("H2O") makes them part of a word, and ordinals ("the 3rd day") are no results.
_NUMBER = re.compile(
    r"(?<![\w.])(?:(?<![)\]])(?P<sign>[-\u2212]))?[$\u20ac\u00a3]?"
    r"(?P<whole>\d{1,3}(?:,\d{3})+|\d+)(?P<part>\.\d+)?(?!\d|st\b|nd\b|rd\b|th\b)"
)
_MARKERS = (
    re.compile(r"####"),
    re.compile(r"\\boxed\{"),
    re.compile(r"\banswer\b[^.\n\d=:]{0,40}?\b(?:is|be)\b", re.IGNORECASE),
    # Only right before the number, for some answers begin with this word and then start to reckon.
    re.compile(r"\banswer\b[*_\s]*[:=][*_\s]*(?=[-\u2212$\u20ac\u00a3\d])", re.IGNORECASE),
)
_SENTENCE_END = re.compile(r"[\n!?;]|\.(?!\d)")
_LIST_NUMBER = re.compile(r"^[ \t]*\d+[.)][ \t]+(?=\S)", re.MULTILINE)


def final_number(text: str) -> str | None:
    """The number that an answer ends up with, without thousands separators or zeros at its end.

    What is marked as the answer comes first; without a mark it is the result or the last number of the
    last sentence that has one.

    Args:
        text: an answer, whole or cut off.
    """
    plain = _LIST_NUMBER.sub("", text)
    for marker in _MARKERS:
        for found in reversed(list(marker.finditer(plain))):
            marked = _SENTENCE_END.split(plain[found.end() :].lstrip("*_: \t\n"), maxsplit=1)[0]
            if numbers := _results(marked):
                return numbers[0]
    for sentence in reversed(_SENTENCE_END.split(plain)):
        if numbers := _results(sentence):
            return numbers[0] if "=" in sentence else numbers[-1]
    return None


def is_right(case: Case, text: str) -> bool:
    """Whether an answer ends up with exactly the case's result."""
    return case.answer is not None and final_number(text) == case.answer


def _results(sentence: str) -> list[str]:
    """The numbers of a sentence, or only those after its last equals sign if there are any."""
    after = [_normal(n) for n in _NUMBER.finditer(sentence.rpartition("=")[2])]
    return after or [_normal(n) for n in _NUMBER.finditer(sentence)]


def _normal(number: re.Match[str]) -> str:
    whole = number["whole"].replace(",", "").lstrip("0") or "0"
    size = whole + (number["part"] or "").rstrip("0").rstrip(".")
    return size if size == "0" or not number["sign"] else f"-{size}"
