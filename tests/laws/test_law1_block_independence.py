"""Law 1: tokens, evidence, modes and refusals do not depend on block size, batch or cache."""

from __future__ import annotations

from functools import lru_cache

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langchain_ssd.config import EngineConfig
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.pair import Pair
from langchain_ssd.testing.byte_tokenizer import OTHER_TEMPLATE, TEMPLATE
from langchain_ssd.testing.tiny_pair import FAMILIES, tiny_pair

from .driving import Case, check, run
from .reference import Settings


@lru_cache(maxsize=64)
def pair(family: str, seed: int, divergence: float, same_template: bool, context: int) -> Pair:
    template = TEMPLATE if same_template else OTHER_TEMPLATE
    end_ids = frozenset({256, 10 + seed, 100 + seed, 200 + seed})  # some bytes end a turn, so that it happens
    return tiny_pair(
        family, seed=seed, divergence=divergence, context=context, draft_template=template, end_ids=end_ids
    )


pairs = st.builds(
    pair,
    st.sampled_from(sorted(FAMILIES)),
    st.integers(0, 1),
    st.sampled_from([0.0, 0.01, 0.05, 0.3]),
    st.booleans(),
    st.sampled_from([100, 256]),
)

decoding = st.builds(
    Settings,
    monitor=st.sampled_from(["paper", "sequential"]),
    enforce=st.sampled_from([True, True, True, False]),
    c=st.sampled_from([1, 2, 10, 40, 300]),
    b=st.integers(1, 7),
    theta=st.sampled_from([0.3, 0.6, 0.9]),
    alpha_utility=st.sampled_from([0.3, 0.45, 1.0, 2.0]),
    alpha_floor=st.sampled_from([0.0, 0.3]),
    alpha_safety=st.sampled_from([0.0, 0.8, 1.0, 2.0]),
    h_safety=st.sampled_from([1.5, 4.0]),
    h_refuse=st.sampled_from([6.0, 24.0, 200.0]),
    bias=st.sampled_from([-3.0, -1.0]),
    patience=st.integers(1, 3),
    refuse_below=st.sampled_from([0.3, 0.9]),
    temperature=st.sampled_from([0.0, 0.0, 0.7, 1.0]),
    top_k=st.sampled_from([None, None, 5]),
    top_p=st.sampled_from([1.0, 1.0, 0.8]),
    seed=st.integers(0, 2**63),
    repetition=st.sampled_from([1.0, 1.0, 1.0, 1.3]),
    presence=st.sampled_from([0.0, 0.0, 0.0, 0.6]),
    frequency=st.sampled_from([0.0, 0.0, 0.0, 0.4]),
    bias_of_token=st.sampled_from([{}, {}, {}, {65: 2.0, 66: -100.0}]),
)

cases = st.builds(
    Case,
    text=st.text(alphabet="abc dé", max_size=12).map("x".__add__),
    settings=decoding,
    block_size=st.integers(1, 8),
    max_tokens=st.sampled_from([1, 9, 17, 60]),
    prefill=st.sampled_from(["", "", "Sure: ", "once upon a time"]),
    joins_at=st.integers(0, 4),
    cancel_after=st.sampled_from([None, None, None, 2]),
)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(pairs, st.lists(cases, min_size=1, max_size=4), st.integers(1, 4))
def test_any_batch_equals_the_naive_reference(loaded: Pair, batch: list[Case], max_batch: int) -> None:
    engine = Engine(loaded, EngineConfig(max_batch=max_batch, prefill_chunk=7))
    batch[0].cancel_after = None  # at least one stays to the end
    for case, events in zip(batch, run(engine, batch), strict=True):
        if case.cancel_after is None:
            check(events, case.reference(loaded), loaded)
    assert loaded.target.model.lengths == loaded.draft.model.lengths == []
