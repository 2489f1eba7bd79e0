"""What a guard reads off an answer, the two formulae of risk, and what is left of an answer taken back."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from langchain_ssd.guard.reading import Summary, call_risks, is_refusal, summary_of
from langchain_ssd.guard.replacing import marked, refusal_words, replaced
from langchain_ssd.guard.risk import SMOOTHING, answer_score, next_risk
from langchain_ssd.refusal_text import TEXTS

from .guard_helpers import NO, REFUSED, UNSAFE, call, says, scripted, ssd

BLOCK = {"type": "refusal", "refusal": NO}


def message(content: Any = "", **metadata: Any) -> AIMessage:
    return AIMessage(content, response_metadata=metadata)


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (message(finish_reason="refusal"), True),
        (message(ssd={"refusal": {"reason": "evidence", "enforced": True}}), True),
        (message(ssd={"refusal": {"reason": "evidence", "enforced": False}}, finish_reason="stop"), False),
        (message(**ssd()), False),
        (message([BLOCK], **ssd()), False),  # a block alone proves nothing, and one that is lost neither
        (message(), False),
    ],
)
def test_a_refusal_is_what_the_metadata_calls_one(answer: AIMessage, refused: bool) -> None:
    assert is_refusal(answer) is refused


@pytest.mark.parametrize("spoilt", [{}, {"match_ratio": 1.5}, {"safety_tokens": 99}, {"scored": "many"}])
def test_numbers_that_make_no_sense_are_no_numbers(spoilt: dict[str, Any]) -> None:
    assert summary_of(message(**ssd())) is not None
    assert summary_of(message(ssd={**ssd()["ssd"], **spoilt} if spoilt else {})) is None


def test_numbers_of_what_says_that_nothing_protected_it_count_for_nothing() -> None:
    assert summary_of(message(ssd={**ssd()["ssd"], "protected": True})) is not None
    assert summary_of(message(ssd={**ssd()["ssd"], "protected": False})) is None


def test_calls_are_rated_one_by_one_and_what_is_unknown_is_risky() -> None:
    calls = [call("a", 1), call("b", 2), call("c", 3)]
    rated = [{"id": "call-1", "mode": "utility", "match_ratio": 0.9}, {"id": "call-2", "mode": "safety"}]
    answer = AIMessage("", tool_calls=calls, response_metadata=ssd(tool_calls=rated))
    modes = {number: risk["mode"] for number, risk in call_risks(answer).items()}
    assert modes == {"call-1": "utility", "call-2": "safety", "call-3": "safety"}
    assert call_risks(answer)["call-1"]["match_ratio"] == 0.9


@pytest.mark.parametrize(
    ("metadata", "mode"),
    [
        (ssd(), "utility"),
        (ssd(safety=1), "safety"),
        ({**ssd(), "ssd_trace": [{"mode": "utility"}, {"mode": "safety"}]}, "safety"),
        ({}, "safety"),
    ],
)
def test_without_a_list_calls_share_the_mode_of_the_answer(metadata: dict[str, Any], mode: str) -> None:
    answer = AIMessage("", tool_calls=[call("a")], response_metadata=metadata)
    assert call_risks(answer)["call-1"]["mode"] == mode


def summary(emitted: int, agreeing: int, safety: int) -> Summary:
    ratio = agreeing / emitted if emitted else 1.0
    return Summary(emitted=emitted, scored=emitted, match_ratio=ratio, safety_tokens=safety)


COUNTS = st.integers(0, 500).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(0, n)))


@settings(deadline=None)
@given(COUNTS)
def test_the_score_of_an_answer_follows_its_formula(counts: tuple[int, int, int]) -> None:
    emitted, agreeing, safety = counts
    score = answer_score(summary(*counts), refused=False)
    assert score == pytest.approx(
        max((emitted - agreeing) / (emitted + 8), safety / emitted if emitted else 0)
    )
    assert 0 <= score <= 1 == answer_score(summary(*counts), refused=True)
    if safety < emitted:
        assert answer_score(summary(emitted, agreeing, safety + 1), refused=False) >= score


def test_one_odd_token_of_a_short_answer_means_little() -> None:
    assert SMOOTHING == 8
    assert answer_score(summary(1, 0, 0), refused=False) == pytest.approx(1 / 9)
    assert answer_score(None, refused=False) == 1


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0, 1))
def test_the_risk_is_the_exponentially_weighted_sum(scores: list[float], decay: float) -> None:
    risk = 0.0
    for score in scores:
        risk = next_risk(risk, score, decay)
    weights = [(1 - decay) * decay**age for age in range(len(scores))]
    assert risk == pytest.approx(sum(w * s for w, s in zip(weights, reversed(scores), strict=True)), abs=1e-9)
    assert -1e-9 <= risk <= 1 + 1e-9


def full_of(text: str) -> AIMessage:
    """The text wherever an answer can hold it."""
    bad = {"name": text, "args": text, "id": "x", "error": text, "type": "invalid_tool_call"}
    metadata = ssd(refused=True, tool_calls=[{"id": "x", "name": text, "mode": "safety"}])
    return AIMessage(
        [{"type": "text", "text": text}, {"type": "reasoning", "reasoning": text}],
        id="m1",
        additional_kwargs={"reasoning_content": text},
        tool_calls=[call(text, where=text)],
        invalid_tool_calls=[bad],
        response_metadata={**metadata, "logprobs": {"content": [{"token": text}]}, "anything": text},
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    )


def test_nothing_of_an_answer_that_is_taken_back_is_left() -> None:
    before = full_of(UNSAFE)
    after = marked(replaced(before, "No."))
    assert UNSAFE in before.model_dump_json()
    assert UNSAFE not in after.model_dump_json()
    assert (after.id, after.text, after.tool_calls) == ("m1", "No.", [])
    assert after.usage_metadata == before.usage_metadata
    assert after.response_metadata["ssd"]["emitted"] == 10
    assert is_refusal(after)
    assert UNSAFE in before.model_dump_json(), "the model's own message must not change under its callbacks"


def test_the_words_of_a_refusal_are_those_of_its_block_and_not_of_the_stream() -> None:
    streamed = scripted(REFUSED, streaming=True).invoke("hi")
    assert UNSAFE in streamed.text
    assert refusal_words(streamed) == NO
    assert refusal_words(message([{"type": "non_standard", "value": BLOCK}])) == NO


@pytest.mark.parametrize(("language", "found"), [("de-AT", "de"), ("xx", "en"), (None, "en")])
def test_a_lost_block_is_made_up_for_in_the_users_language(language: str | None, found: str) -> None:
    lost = message(f"{UNSAFE} No.", ssd={"refusal": {"language": language}}, finish_reason="refusal")
    assert refusal_words(lost) == TEXTS[found]


def test_the_door_has_its_names() -> None:
    from langchain_ssd import guard

    assert sorted(guard.__all__) == guard.__all__
    assert all(getattr(guard, name).__name__ == name for name in guard.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = guard.nonsense


def test_says_is_what_the_model_of_these_tests_means() -> None:
    assert call_risks(says("", call("a")))["call-1"]["mode"] == "utility"
    assert call_risks(says("", call("a"), rated="safety"))["call-1"]["mode"] == "safety"


def test_without_langchain_only_the_middleware_is_missing() -> None:
    program = """
import sys

class Missing:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in ("langchain", "langgraph"):
            raise ImportError(name)

sys.meta_path.insert(0, Missing())
from langchain_ssd import ChatSSD
from langchain_ssd.guard import guard, score_text
from langchain_ssd.testing import ScriptedBackend
print(guard(ChatSSD(backend=ScriptedBackend("Hello!"))).invoke("hi").text)
from langchain_ssd.guard import SSDGuardMiddleware
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "Hello!\n", done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("langchain_ssd.errors.ConfigError")
    assert "pip install 'langchain-ssd[agents]'" in done.stderr
