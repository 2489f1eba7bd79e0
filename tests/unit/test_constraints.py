"""A grammar along one answer: looking ahead and going back leave no trace; ends are where they belong."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from langchain_ssd.constraint import Constraint
from langchain_ssd.engine.constraints import FreeText, GrammarState, Legal, legal_rows
from langchain_ssd.errors import GrammarFailed

from .grammar_helpers import END, GRAMMARS, PAIR, ids

SCHEMA = {
    "type": "object",
    "properties": {
        "k": {"enum": ["alpha", "alphabet", "beta"]},
        "n": {"type": "number"},
        "s": {"type": "string", "maxLength": 3},
    },
    "required": ["k", "n", "s"],
    "additionalProperties": False,
}


def start(
    kind: Any = "json_schema", value: Any = SCHEMA, may_refuse: bool = False, given: str = ""
) -> GrammarState:
    return GRAMMARS.start(Constraint(kind, value, may_refuse), ids(given))


def after(state: GrammarState, text: str) -> GrammarState:
    for token in ids(text):
        state.settle(token)
    return state


def legal(state: GrammarState) -> list[int]:
    return tokens(state.front)


def tokens(position: Legal) -> list[int]:
    return [i for i in range(PAIR.vocab_size) if i in position]


def test_looking_ahead_leaves_no_trace() -> None:
    """Random walks with random look-ahead, held against states that only ever went forward."""
    rng = random.Random(0)
    for _ in range(40):
        state, plain, taken = start(may_refuse=True), start(may_refuse=True), 0
        while taken < 40:
            assert legal(state) == legal(plain)
            for _ in range(rng.randrange(6)):
                if state.closed:
                    break
                state.propose(rng.choice(legal(state)))
                if rng.random() < 0.2:
                    state.retract()
            ahead = state._ahead[0] if state._ahead and rng.random() < 0.6 else None
            token = rng.choice(legal(plain)) if ahead is None else ahead
            state.settle(token)
            if rng.random() < 0.5:
                state.rewind()
            plain.settle(token)
            taken += 1
            if token == END or plain.over:
                state.rewind()
                assert state.over is plain.over
                break
            if state._ahead:
                assert [state.legal(0).only] == [plain.front.only]
                state.rewind()


def test_masks_before_each_proposal_are_kept_until_it_is_settled() -> None:
    state = start("choice", ["abc", "abd", "xyz"])
    fronts = []
    for token in ids("ab"):
        fronts.append(legal(state))
        state.propose(token)
    assert [tokens(state.legal(depth)) for depth in (0, 1)] == fronts
    state.settle(ids("a")[0])
    assert state.legal(0).only == ids("b")[0]
    state.rewind()
    assert legal(state) == ids("b")
    assert legal(after(state, "b")) == sorted(ids("cd"))


@pytest.mark.parametrize("text", ["", '{"k": "', '{"k": "alpha'])
def test_the_end_is_illegal_before_the_grammar_accepts(text: str) -> None:
    assert END not in legal(after(start(), text))


def test_the_end_is_legal_exactly_where_the_grammar_accepts() -> None:
    state = start("regex", "[0-9]{2,4}")
    for length in range(4):
        assert (END in legal(state)) is (length >= 2)
        state.settle(ids("7")[0])
    assert state.over
    assert state.front == Legal(1 << END, END)


def test_an_answer_is_over_with_the_token_that_completes_it() -> None:
    state = after(start(), '{"k": "beta", "n": 1, "s": "x')
    assert not state.over
    state.propose(ids('"')[0])
    assert not state.closed
    state.propose(ids("}")[0])
    assert state.closed
    assert not state.over  # it is only proposed
    state.settle(ids('"')[0])
    state.settle(ids("}")[0])
    assert state.over


def test_a_proposed_end_can_be_taken_back() -> None:
    state = after(start("regex", "[0-9]+"), "42")
    before = legal(state)
    state.propose(END)
    assert state.closed
    state.retract()
    assert legal(state) == before
    state.propose(END)
    state.settle(ids("0")[0])
    assert not state.closed
    assert legal(state) == before


def test_control_tokens_are_never_text_but_by_the_workers_own_word() -> None:
    anything = start("regex", "(?s:.*)")
    assert set(legal(anything)).isdisjoint({257, 258, 259})
    lark = Constraint("lark", 'start: <[257]> "x" <[258]>', may_refuse=False)
    with pytest.raises(GrammarFailed, match="no token"):
        _ = GRAMMARS.start(lark).front
    own = GRAMMARS.start(lark, trusted=True)
    assert own.front.only == 257
    own.settle(257)
    assert own.front.only == ids("x")[0]


def test_a_token_the_grammar_does_not_allow_is_an_error() -> None:
    with pytest.raises(GrammarFailed):
        after(start(), "[")


def test_whether_the_refusal_was_taken() -> None:
    assert not after(start(may_refuse=True), '{"k": "').declined
    assert after(start(may_refuse=True), "I'm sorry").declined
    state = start(may_refuse=True)
    for token in ids("I can"):  # what is only proposed does not count
        state.propose(token)
    assert not state.declined
    state.rewind()
    assert not state.declined
    assert after(state, "I can").declined


def test_words_of_both_are_of_the_form_until_only_a_refusal_goes_on() -> None:
    state = after(start("choice", ["I can", "I can swim"], may_refuse=True), "I can")
    assert END in state.front  # the answer could end here
    assert not state.over
    assert not state.declined
    for token in ids("not"):
        state.propose(token)
    state.rewind()
    assert tokens(state.front) == tokens(after(start("choice", ["I can", "I can swim"], True), "I can").front)
    assert not after(state, " swim").declined
    assert after(after(start("choice", ["I can"], True), "I can"), "not").declined


def test_a_prefill_is_the_beginning_of_the_answer() -> None:
    state = start(given='{"k": "alphab')
    assert state.front.only == ids("e")[0]
    assert after(start(may_refuse=True, given="I can"), "not").declined


def test_free_text_asks_nothing() -> None:
    free = FreeText()
    for act in (free.propose, free.settle):
        act(7)
    free.rewind(), free.retract()
    assert free.front == free.legal(5) == Legal(None)
    assert (free.closed, free.over, free.declined) == (False, False, False)


def test_states_of_one_grammar_do_not_see_each_other() -> None:
    one, two = start(), start()
    before = legal(two)
    after(one, '{"k": "beta", ')
    assert legal(two) == before
    assert legal(start()) == before


def test_positions_become_rows() -> None:
    like = torch.zeros(1, 19)
    assert legal_rows([Legal(None), Legal(None)], like) is None
    rows = legal_rows([Legal(1 << 18 | 1), Legal(None), Legal(0b1010)], like)
    assert rows is not None
    assert rows.dtype == torch.bool
    assert [row.nonzero()[:, 0].tolist() for row in rows] == [[0, 18], list(range(19)), [1, 3]]
