"""Penalties and logit bias against a plain re-statement, also for tokens that are only proposed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_ssd.config import Sampling
from langchain_ssd.engine.penalties import Penalties

from . import naive

V = 12
tokens = st.lists(st.integers(0, V - 1), max_size=8)
biases = st.dictionaries(st.integers(0, V + 3), st.floats(-100, 100), max_size=4)


def row() -> torch.Tensor:
    return torch.randn(V, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3


def processed(penalties: Penalties, logits: torch.Tensor, ahead: list[int] | None = None) -> torch.Tensor:
    out = logits.clone()
    penalties.apply_(out, ahead or [])
    return out


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    tokens, tokens, tokens, tokens,
    st.sampled_from([1.0, 1.3, 0.5]),
    st.sampled_from([0.0, 0.7, -1.0]),
    st.sampled_from([0.0, 0.4, -0.5]),
    biases,
)  # fmt: skip
def test_equals_the_plain_rule(
    prompt: list[int], prefill: list[int], emitted: list[int], ahead: list[int],
    repetition: float, presence: float, frequency: float, bias: dict[int, float],
) -> None:  # fmt: skip
    sampling = Sampling(
        repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency, logit_bias=bias
    )
    penalties = Penalties(sampling, prompt, prefill, V)
    for token in emitted:
        penalties.add(token)
    logits = row()
    answer = [*prefill, *emitted, *ahead]
    known = {token: b for token, b in bias.items() if token < V}
    expected = naive.penalise(
        logits.tolist(), [*prompt, *answer], answer, repetition, presence, frequency, known
    )
    for _ in range(2):  # proposals are not counted: the second time is like the first
        assert processed(penalties, logits, ahead).tolist() == pytest.approx(expected)


def test_nothing_asked_costs_nothing() -> None:
    penalties = Penalties(Sampling(logit_bias={3: 0.0}), [1], [2], V)
    logits = row()
    assert not penalties.active
    assert torch.equal(processed(penalties, logits, [5]), logits)


def test_prompt_tokens_count_for_repetition_only() -> None:
    logits = torch.ones(V)
    assert processed(Penalties(Sampling(presence_penalty=1.0), [4], [], V), logits)[4] == 1.0
    assert processed(Penalties(Sampling(frequency_penalty=1.0), [4, 4], [], V), logits)[4] == 1.0
    assert processed(Penalties(Sampling(repetition_penalty=2.0), [4], [], V), logits)[4] == 0.5


def test_repetition_makes_a_negative_logit_more_negative() -> None:
    logits = torch.tensor([-1.0, 1.0])
    out = processed(Penalties(Sampling(repetition_penalty=2.0), [0, 1], [], 2), logits)
    assert out.tolist() == [-2.0, 0.5]


def test_bias_on_padded_ids_is_ignored() -> None:
    penalties = Penalties(Sampling(logit_bias={V: 5.0, V + 100: 5.0, 0: 1.0}), [], [], V)
    out = processed(penalties, torch.zeros(V))
    assert out.tolist() == [1.0] + [0.0] * (V - 1)


def test_rows_that_are_not_finite_stay_so() -> None:
    penalties = Penalties(Sampling(repetition_penalty=1.5, logit_bias={1: 100.0}), [0, 1], [], V)
    logits = row()
    logits[0], logits[1] = float("nan"), float("-inf")
    out = processed(penalties, logits)
    assert out[0].isnan()
    assert out[1] == float("-inf")
