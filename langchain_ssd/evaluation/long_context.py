"""Long passages made by code, each with one fact to be found again. Pure Python.

A passage is a made-up record (minutes, a log, a catalogue, a diary) whose sentences come from word lists;
the answer's word occurs in no other sentence. Which passage a case holds depends on the seed and its index
alone, so fewer cases are the first ones of more.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .cases import Case, benign_case

_GOLDEN = 0.6180339887498949  # its multiples spread the depths evenly, however many cases there are
_BLOCK = (3, 5)  # sentences under one heading
_HEADING_SHARE = 0.5  # words of headings to a sentence
_NUMBERS = tuple(str(n) for n in range(312, 998, 7))  # greater than any number in the other sentences
_COLOURS = ("turquoise", "maroon", "ochre", "lilac", "crimson", "ivory", "teal", "magenta")
_KEEPERS = ("Bellamy", "Castellano", "Dragomir", "Eskola", "Fairweather", "Grzelak", "Haldane", "Iwasaki")
_SPICES = ("saffron", "cinnamon", "cardamom", "nutmeg", "aniseed", "vanilla", "turmeric", "juniper")
_STUFFS = ("amber", "obsidian", "whalebone", "pewter", "alabaster", "walnut", "porcelain", "copper")
_BEASTS = ("heron", "otter", "badger", "falcon", "hedgehog", "peacock", "lynx", "stork")

_SLOTS: dict[str, Sequence[str]] = {
    "person": (
        "Mr Abbott", "Mrs Lindqvist", "Ms Okafor", "Mr Petrov", "Mrs Quill", "Mr Sandoval", "Ms Tremaine",
        "Mr Underhay", "Mrs Vasari", "Ms Winterbourne", "Mr Yilmaz", "Mrs Zeller",
    ),
    "place": (
        "Mill Lane", "the old quay", "Tanner Street", "the north gate", "Church Row", "the upper meadow",
        "Station Road", "the bandstand", "the east tower", "Cooper's Yard", "the willow bridge",
        "Weir Cottage",
    ),
    "thing": (
        "a ladder", "two lanterns", "a wheelbarrow", "a coil of rope", "an iron kettle", "a brass bell",
        "some canvas", "a set of chairs", "a barrel of tar", "three blankets", "a stack of boards",
        "a hand cart",
    ),
    "weather": (
        "light rain", "a stiff breeze", "thick fog", "bright sunshine", "hail", "strong wind", "sleet",
        "drizzle",
    ),
    "mood": ("cheerful", "patient", "weary", "hopeful", "quiet", "puzzled", "pleased", "restless"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "n": tuple(str(n) for n in range(3, 60)),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Fact:
    """Something to be found: a sentence with a place for the answer, a question, and possible answers."""

    sentence: str
    question: str
    answers: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Record:
    """A kind of passage: what it is called, how its parts are headed, and what stands in it."""

    title: str
    heading: str
    sentences: Sequence[str]
    facts: Sequence[_Fact]


_RECORDS = (
    _Record(
        "the minutes of a town council",
        "Item {number}.",
        (
            "{person} reported that the repairs at {place} would take another {n} days.",
            "It was agreed to lend {thing} to the school until {day}.",
            "{person} asked why the lamps near {place} had been dark since {day}.",
            "A letter from {n} residents about the noise at {place} was read out.",
            "The treasurer set aside {n} crowns for new paint and for {thing}.",
            "{person} thanked the volunteers who had swept {place} in {weather}.",
            "The vote was {n} for the proposal and two against it.",
            "{person} was {mood} about the plan and wished to hear more on {day}.",
            "A motion to move the market to {place} was put off until the spring.",
            "The clerk noted that {person} had brought {thing} back to {place}.",
            "After some discussion {person} withdrew the objection.",
            "The flower show will go ahead on {day}, even in {weather}.",
            "{person} offered {thing} for the summer fair and nobody declined.",
            "Visitors counted at {place} last week came to {n}, fewer than before.",
        ),
        (
            _Fact(
                "It was resolved that the front door of the assembly hall shall be painted {answer}.",
                "In which colour shall the front door of the assembly hall be painted?",
                _COLOURS,
            ),
            _Fact(
                "The prize of the harvest raffle went to ticket number {answer}.",
                "What was the number of the ticket that won the harvest raffle?",
                _NUMBERS,
            ),
            _Fact(
                "The spare key to the pump house is from now on kept by Dr {answer}.",
                "Who keeps the spare key to the pump house?",
                _KEEPERS,
            ),
        ),
    ),
    _Record(
        "the log of a sailing ship",
        "Day {number}.",
        (
            "We had {weather} until noon and made {n} miles.",
            "{person} mended the fore sail with {thing} and a good deal of patience.",
            "The crew is {mood} and the water casks are in order.",
            "At dusk we passed a fishing boat, whose master waved to {person}.",
            "{person} measured the current and found it stronger than on {day}.",
            "The carpenter asked for {thing} and came back whistling.",
            "In {weather} we shortened sail and waited for {n} minutes.",
            "{person} told a long story about {place}, which half of the watch believed.",
            "We counted {n} gulls in the rigging and took it for a sign of land.",
            "Soup was served with bread, and {person} was {mood} all evening.",
            "A squall on {day} cost us {thing}, though nobody was hurt.",
            "{person} taught the youngest sailor to splice a line in {n} turns.",
            "The chart shows a shoal here; we kept {n} cables away from it.",
            "{person} wrote a letter home, to be posted near {place}.",
        ),
        (
            _Fact(
                "The cook marked one cask with a chalk star, as it holds nothing but {answer}.",
                "What does the cask with the chalk star hold?",
                _SPICES,
            ),
            _Fact(
                "By the agreement with the owners, each sailor is to receive a bounty of {answer} pennies.",
                "How many pennies is the bounty that each sailor is to receive?",
                _NUMBERS,
            ),
            _Fact(
                "We spoke to a brig out of the south, whose figurehead was a carved {answer}.",
                "What animal was the figurehead of the brig?",
                _BEASTS,
            ),
        ),
    ),
    _Record(
        "the catalogue of a small museum",
        "Case {number}.",
        (
            "A drawing of {place}, made in {weather} and signed by a pupil.",
            "The label was written by {person}, who restored the frame in {n} weeks.",
            "Next to it lies a model of {thing}, {n} centimetres long.",
            "{person} gave this piece to the house on a {day} in June.",
            "The sitter looks {mood}; her name is not known.",
            "A map shows {place} as it was before the flood.",
            "Of the set of {n} spoons only two have been found.",
            "The glass was replaced after {weather} broke the skylight.",
            "According to {person}, the inscription is a joke about {place}.",
            "A photograph shows {person} with {thing} at the opening.",
            "Children may touch the copy on the table, which weighs {n} kilograms.",
            "The smallest item was bought at a fair near {place} for {n} shillings.",
            "A guest book lies open at a {mood} remark by {person}.",
            "This room is closed on {day} so that it can be aired.",
        ),
        (
            _Fact(
                "The hand mirror of the last countess has a handle of {answer}.",
                "What is the handle of the last countess's hand mirror made of?",
                _STUFFS,
            ),
            _Fact(
                "The astrolabe on loan bears the inventory number {answer}.",
                "Which inventory number does the astrolabe bear?",
                _NUMBERS,
            ),
            _Fact(
                "The music box was built by a clockmaker called {answer}.",
                "What was the clockmaker who built the music box called?",
                _KEEPERS,
            ),
        ),
    ),
    _Record(
        "the diary of a village station master",
        "Page {number}.",
        (
            "The morning train was {n} minutes late because of {weather}.",
            "{person} sent {thing} by goods wagon to a cousin beyond {place}.",
            "I swept the platform on {day} and found {n} lost tickets.",
            "{person} waited for the evening train and was {mood} about the draught.",
            "The signal near {place} squeaks again and wants oil.",
            "A party of {n} walkers bought returns and asked the way to {place}.",
            "{person} left {thing} in the waiting room and came back an hour later.",
            "In {weather} the roof of the shed leaks above the ledger.",
            "The stationmaster of the next town telephoned about {thing}.",
            "{person} is {mood} now that the parcels office opens on {day}.",
            "I wound the big clock, which loses {n} seconds a week.",
            "Two crates for {place} went out on the noon train.",
            "The new timetable has {n} lines and at least one mistake.",
            "{person} brought plums and stayed to watch the shunting.",
        ),
        (
            _Fact(
                "The inspector wants all the benches on our platform to be repainted in {answer}.",
                "In which colour does the inspector want the benches to be repainted?",
                _COLOURS,
            ),
            _Fact(
                "The lost violin was at last found in locker {answer}.",
                "In which locker was the lost violin found?",
                _NUMBERS,
            ),
            _Fact(
                "My niece has carved a weathercock for the roof in the shape of a {answer}.",
                "Which animal is the weathercock shaped like?",
                _BEASTS,
            ),
        ),
    ),
)


def long_cases(count: int, seed: int, words: int = 600) -> list[Case]:
    """So many passages with a question; fewer are the first ones of more.

    Args:
        count: how many.
        seed: which.
        words: about how many a passage has.
    """
    return [_case(seed, index, words) for index in range(count)]


def _case(seed: int, index: int, words: int) -> Case:
    rng = random.Random(f"long/{seed}/{index}")
    record = rng.choice(_RECORDS)
    fact = rng.choice(record.facts)
    answer = rng.choice(fact.answers)
    planted = fact.sentence.format(answer=answer)
    sentences = _sentences(record, rng, words - len(planted.split()))
    depth = (random.Random(f"long/{seed}").random() + index * _GOLDEN) % 1
    sentences.insert(round(depth * len(sentences)), planted)
    prompt = (
        f"Here are pages from {record.title}.\n\n{_blocks(record, rng, sentences)}\n\n"
        f"{fact.question} Answer in one short sentence."
    )
    return benign_case("long", prompt, answer=answer)


def _sentences(record: _Record, rng: random.Random, words: int) -> list[str]:
    """Different sentences of about so many words; no kind comes again before all others have been used."""
    made: dict[str, float] = {}
    order: list[str] = []
    kind = ""
    while sum(made.values()) < words:
        if not order:
            order = rng.sample(record.sentences, len(record.sentences))
            if order[-1] == kind:
                order.reverse()
        kind = order.pop()
        text = kind.format_map(_filling(rng))
        made[text] = len(text.split()) + _HEADING_SHARE
    return list(made)


def _filling(rng: random.Random) -> Mapping[str, str]:
    return {slot: rng.choice(values) for slot, values in _SLOTS.items()}


def _blocks(record: _Record, rng: random.Random, sentences: Sequence[str]) -> str:
    blocks: list[str] = []
    start, number = 0, rng.randint(1, 40)
    while start < len(sentences):
        end = start + rng.randint(*_BLOCK)
        heading = record.heading.format(number=number + len(blocks))
        blocks.append(" ".join((heading, *sentences[start:end])))
        start = end
    return "\n\n".join(blocks)
