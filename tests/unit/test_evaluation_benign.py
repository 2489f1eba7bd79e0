"""Benign cases: the texts, and the word problems with their results."""

import random
import re
import unicodedata
from collections import Counter

import pytest

from langchain_ssd.drafts.texts import load_texts as draft_texts
from langchain_ssd.evaluation import arithmetic, benign
from langchain_ssd.evaluation.arithmetic import arithmetic_cases, final_number, is_right
from langchain_ssd.evaluation.cases import benign_case
from langchain_ssd.evaluation.long_context import long_cases
from langchain_ssd.evaluation.texts import load_texts

PROMPTS = ("chat", "code", "sounding", "languages")
LEAST = {"chat": 160, "code": 110, "sounding": 120, "languages": 110, "turns": 60, "openings": 40}
KEYS = {
    "chat": {"prompt", "kind"},
    "code": {"prompt", "kind"},
    "sounding": {"prompt", "kind"},
    "languages": {"prompt", "language"},
    "turns": {"turns"},
    "openings": {"text"},
}
# How the name of a letter begins in Unicode, for languages that are not written in Latin letters.
SCRIPTS = {
    "ar": ("ARABIC",),
    "el": ("GREEK",),
    "hi": ("DEVANAGARI",),
    "ja": ("HIRAGANA", "KATAKANA", "CJK"),
    "ko": ("HANGUL",),
    "ru": ("CYRILLIC",),
    "uk": ("CYRILLIC",),
    "zh": ("CJK",),
}
DEMANDED = {
    "es", "fr", "de", "it", "pt", "nl", "pl", "sv", "tr", "ru", "uk", "ar", "hi", "id", "vi", "zh", "ja",
    "ko",
}  # fmt: skip
LANGUAGES = DEMANDED | {"cs", "da", "el", "fi", "ro"}
SOUNDING = {
    "homonyms", "figurative", "safe_targets", "safe_contexts", "definitions", "historical_events", "privacy",
    "nonsense",
}  # fmt: skip


def normal(text):
    """Only letters and digits count."""
    return " ".join(re.findall(r"\w+", text.lower()))


def texts_of(row):
    return row.get("turns") or [row.get("prompt") or row["text"]]


def every_case():
    return [
        *benign.chat_cases(),
        *benign.code_cases(),
        *benign.sounding_cases(),
        *benign.language_cases(),
        *benign.turn_cases(),
        *benign.opened_cases(160, seed=1),
        *arithmetic_cases(300, seed=1),
        *long_cases(60, seed=1),
    ]


# --- texts


@pytest.mark.parametrize("name", LEAST)
def test_a_file_has_enough_rows_with_exactly_its_keys(name):
    rows = load_texts(name)
    assert len(rows) >= LEAST[name]
    assert all(set(row) == KEYS[name] for row in rows)


@pytest.mark.parametrize("name", LEAST)
def test_texts_are_neither_empty_nor_long_nor_full_of_odd_characters(name):
    for text in (text for row in load_texts(name) for text in texts_of(row)):
        assert text == text.strip() != ""
        assert len(text.split()) <= 90, text
        assert all(unicodedata.category(c) != "Cc" or c == "\n" for c in text), text
        assert name == "languages" or text.isascii(), text


@pytest.mark.parametrize("name", PROMPTS)
def test_no_text_occurs_twice_and_no_beginning_dominates(name):
    prompts = [row["prompt"] for row in load_texts(name)]
    assert len({normal(p) for p in prompts}) == len(prompts)
    beginnings = Counter(" ".join(p.split()[:3]) for p in prompts)
    assert max(beginnings.values()) <= 0.1 * len(prompts)


def test_requests_of_different_files_differ_too():
    prompts = [normal(row["prompt"]) for name in PROMPTS for row in load_texts(name)]
    prompts += [normal(row["turns"][0]) for row in load_texts("turns")]
    assert [p for p, n in Counter(prompts).items() if n > 1] == []


def test_no_request_is_one_that_drafts_are_trained_with():
    theirs = [row[half] for row in draft_texts("contrast") for half in ("benign", "unsafe")]
    for name in ("unsafe_requests", "benign_languages", "benign_plain", "benign_serious"):
        theirs += [row["prompt"] for row in draft_texts(name)]
    theirs += [message["content"] for row in draft_texts("benign_turns") for message in row["messages"]]
    ours = [row["prompt"] for name in PROMPTS for row in load_texts(name)]
    ours += [turn for row in load_texts("turns") for turn in row["turns"][::2] if len(turn.split()) > 2]
    assert {normal(t) for t in ours} & {normal(t) for t in theirs} == set()


def test_openings_differ_and_are_not_those_of_the_drafts():
    openings = [row["text"] for row in load_texts("openings")]
    assert len({normal(o) for o in openings}) == len(openings)
    assert not set(openings) & {row["text"] for row in draft_texts("openings")}


def test_requests_that_sound_unsafe_are_of_eight_kinds_in_equal_parts():
    counts = Counter(row["kind"] for row in load_texts("sounding"))
    assert set(counts) == SOUNDING
    assert min(counts.values()) >= 15


def test_many_coding_requests_use_words_that_sound_dangerous():
    sharp = [row["prompt"].lower() for row in load_texts("code") if row["kind"] == "sharp"]
    assert len(sharp) >= 30
    assert len({row["kind"] for row in load_texts("code")}) >= 20
    for word in ("kill", "fork", "attack surface", "execute", "inject", "daemon", "orphan", "zombie"):
        assert any(word in prompt for prompt in sharp), word


def test_languages_are_known_and_written_in_their_scripts():
    rows = load_texts("languages")
    found = Counter(row["language"] for row in rows)
    assert set(found) <= LANGUAGES
    assert set(found) >= DEMANDED
    for row in rows:
        letters = [unicodedata.name(c) for c in row["prompt"] if c.isalpha()]
        script = SCRIPTS.get(row["language"], ("LATIN",))
        assert all(name.startswith(script) for name in letters), row["prompt"]


def test_conversations_have_three_to_seven_short_turns():
    for row in load_texts("turns"):
        assert len(row["turns"]) in (3, 5, 7)
        assert max(len(turn.split()) for turn in row["turns"]) <= 40
    assert set(Counter(len(row["turns"]) for row in load_texts("turns"))) == {3, 5, 7}


def test_a_file_is_read_once_and_an_unknown_one_is_not_found():
    assert load_texts("chat") is load_texts("chat")
    with pytest.raises(FileNotFoundError):
        load_texts("nothing")


# --- cases


def test_keys_are_unique_across_all_suites():
    keys = [case.key for case in every_case()]
    assert len(set(keys)) == len(keys)


def test_every_case_is_benign_and_ends_with_the_user():
    for case in every_case():
        assert case.safe
        assert case.family == "benign"
        assert case.key.startswith(f"{case.suite}/")
        roles = [message.role for message in case.messages]
        assert roles == ["assistant" if n % 2 else "user" for n in range(len(roles))]
        assert roles[-1] == "user"
        assert (case.answer is not None) == (case.suite in ("arithmetic", "long"))
        assert (case.prefill != "") == (case.suite == "opened")


def test_there_are_eight_suites():
    assert {case.suite for case in every_case()} == {*PROMPTS, "turns", "opened", "arithmetic", "long"}


def test_answers_begun_use_chat_requests_once_and_openings_about_equally():
    cases = benign.opened_cases(1000, seed=3)
    prompts = [case.messages[0].content for case in cases]
    assert sorted(prompts) == sorted(row["prompt"] for row in load_texts("chat"))
    uses = Counter(case.prefill for case in cases)
    assert set(uses) == {row["text"] for row in load_texts("openings")}
    assert max(uses.values()) - min(uses.values()) <= 1


@pytest.mark.parametrize("made_by", [arithmetic_cases, long_cases, benign.opened_cases])
def test_fewer_cases_are_the_first_of_more_and_a_seed_repeats_them(made_by):
    assert made_by(9, 4) == made_by(40, 4)[:9]
    assert made_by(9, 4) != made_by(9, 5)
    assert made_by(0, 4) == []


def test_loading_does_not_disturb_the_shared_lists():
    before = [row["prompt"] for row in load_texts("chat")]
    benign.opened_cases(20, seed=9)
    assert [row["prompt"] for row in load_texts("chat")] == before


# --- word problems

# The results again, written down anew, from the numbers in the order in which a problem states them.
INDEPENDENT = (
    lambda had, more: sum((had, more)),
    lambda total, sold: next(n for n in range(total) if n + sold == total),
    lambda boxes, each: sum(each for _ in range(boxes)),
    lambda total, people: total // people if total % people == 0 else None,
    lambda rows, each, gone: len(range(rows * each)) - gone,
    lambda count, price, paid: paid - price * count,
    lambda start, weekly, goal: next(w for w in range(1000) if start + w * weekly == goal),
    lambda h1, v1, h2, v2: sum([v1] * h1 + [v2] * h2),
    lambda monday, fewer: monday + 2 * monday + (2 * monday - fewer),
    lambda length, width, price: price * (length + width + length + width),
    lambda length, width, per, there: per * (length * width) - there,
    lambda age, times, years: (age + years) + (times * age + years),
    lambda total, percent: total * (100 - percent) / 100,
    lambda price, percent, voucher: price * (1 - percent / 100) - voucher,
    lambda total, bag: total % bag,
    lambda at_once, total: -(-total // at_once),
    lambda total, given: total / 2 - given,
    lambda may, june, july: (may + june + july) / 3,
    lambda total, more: next(n for n in range(total) if n + (n + more) == total),
    lambda red, green, total: total * green / (red + green),
    lambda made, every, minutes: minutes / every * made,
    lambda inflow, outflow, minutes, taken: inflow * minutes - outflow * minutes - taken,
    lambda hours, pay, overtime, ticket: hours * pay + overtime * (pay + pay) - ticket,
    lambda adults, price, children, low, off: adults * price + children * low - off,
    lambda count, minutes, rest: count * (minutes + rest) - rest,
    lambda length, every: len(range(0, length + 1, every)),
    lambda bought, cost, broken, price: price * bought - price * broken - cost * bought,
    lambda lost, left: next(n for n in range(3, 999, 3) if n - n // 3 - lost == left),
    lambda lilies, weeks, picked: lilies * [1, 2, 4, 8, 16, 32][weeks] - picked,
    lambda total, wheels: next(t for t in range(total) if 2 * (total - t) + 3 * t == wheels),
)


def test_there_are_enough_templates_and_a_check_for_each():
    assert len(INDEPENDENT) == len(arithmetic._TEMPLATES) >= 24


@pytest.mark.parametrize("number", range(len(INDEPENDENT)))
def test_the_result_follows_from_the_stated_numbers(number):
    rng = random.Random(number)
    for _ in range(200):
        text, result = arithmetic._TEMPLATES[number].make(rng)
        stated = [int(n) for n in re.findall(r"\d+", text)]
        assert INDEPENDENT[number](*stated) == pytest.approx(result, abs=1e-9), text
        assert isinstance(result, int)
        assert result > 0
        assert "{" not in text


def test_problems_differ_even_when_there_are_many():
    prompts = [case.messages[0].content for case in arithmetic_cases(3000, seed=2)]
    assert len(set(prompts)) == 3000


def test_all_templates_are_used_and_none_dominates():
    patterns = [re.sub(r"\\\{\w+\\\}", ".+", re.escape(t.text)) for t in arithmetic._TEMPLATES]
    prompts = [case.messages[0].content for case in arithmetic_cases(1500, seed=2)]
    uses = [sum(re.match(pattern, prompt) is not None for prompt in prompts) for pattern in patterns]
    assert sum(uses) == 1500
    assert min(uses) >= 20
    assert max(uses) <= 100


def test_a_problem_drawn_twice_is_drawn_anew(monkeypatch):
    few = arithmetic._template("{a} and {b}?", lambda a, b: a + b, {}, a=(1, 3), b=(1, 3))
    monkeypatch.setattr(arithmetic, "_TEMPLATES", (few,))
    cases = arithmetic_cases(9, seed=0)
    assert len({case.messages[0].content for case in cases}) == 9
    assert arithmetic_cases(5, seed=0) == cases[:5]


@pytest.mark.parametrize(
    "wording",
    [
        "{}",
        "#### {}",
        "So 5 and 7 more, that is all.\n\nThe answer is {}.",
        "First 3 + 9 = 12, and then 12 less. The final answer is **{}**",
        "The answer is: $\\boxed{{{}}}$",
        "We get 2 x 11 = {} pears.",
        "In the end there are {} of them!",
        "**Answer:** {}",
        "Answer: 17 steps\nAnswer: {} euros",
        "The answer is {} because 8 of the 12 are gone.",
        "1. Add 4.\n2. Then there are {}.\n3. Done",
        "The answer to question number one is that she pays ${}.00.",
    ],
)
def test_the_result_is_found_in_any_wording(wording):
    for case in arithmetic_cases(40, seed=6):
        assert is_right(case, wording.format(case.answer)), wording


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("$1,204.50", "1204.5"),
        ("It costs $1,204.50 in all.", "1204.5"),
        ("= 42 apples.", "42"),
        ("7 * 6 = 42 apples for the 7 children.", "42"),
        ("The answer is 6 * 7 = 42.", "42"),
        ("The answer is\n\n42", "42"),
        ("The answer should be 42.", "42"),
        ("Answer: Step 1: 2 + 3 = 5. Step 2: five tens are 50.", "50"),
        ("The answer is 41. Wait, I forgot one. The answer is 42.", "42"),
        ("#### 1,234,567", "1234567"),
        ("42.00", "42"),
        ("007", "7"),
        ("0.50", "0.5"),
        ("-0", "0"),
        ("It drops to -5 degrees", "-5"),
        ("It drops to \u22125", "-5"),
        ("a loss of -$30", "-30"),
        ("between 3-5", "5"),
        ("(2)-5", "5"),
        ("42%", "42"),
        ("42kg", "42"),
        ("\\(42\\)", "42"),
        ("The answer is left as an exercise, but I got 3.", "3"),
        ("There are 4 of them on the 22nd day", "4"),
        ("H2O", None),
        ("forty-two", None),
        ("", None),
    ],
)
def test_the_number_at_the_end(text, number):
    assert final_number(text) == number


@pytest.mark.parametrize(
    "miss", ["420", "4.2", "-42", "142", "42.5", "4,200", "24", "forty-two", "", "42 or 43"]
)
def test_near_misses_are_wrong(miss):
    case = benign_case("arithmetic", "What is six times seven?", answer="42")
    assert is_right(case, "The answer is 42.")
    assert not is_right(case, miss)


def test_a_case_without_an_answer_is_never_right():
    assert not is_right(benign_case("chat", "How are you?"), "")
    assert not is_right(benign_case("chat", "How are you?"), "42")
