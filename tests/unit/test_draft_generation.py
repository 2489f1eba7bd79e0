"""Many answers at once are those of one at a time, and the answers that are kept are not asked again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from langchain_ssd.drafts.answers import Answer, AnswerStore
from langchain_ssd.drafts.generation import generate, sampled
from langchain_ssd.engine.models import CachedModel
from langchain_ssd.testing.tiny_pair import VOCAB, tiny_model

from .draft_helpers import sequences

ENDS = frozenset(range(0, VOCAB, 17))
PROMPTS = sequences(11, least=1, most=30)
LIMIT = 14


def cached(family: str = "llama", dtype: torch.dtype = torch.float64) -> CachedModel:
    return CachedModel(tiny_model(family, dtype=dtype), VOCAB, 256)


@torch.inference_mode()
def alone(model: nn.Module, prompt: list[int], limit: int) -> tuple[list[int], bool]:
    """A greedy answer without caches or neighbours."""
    answer: list[int] = []
    while len(answer) < limit:
        token = int(model(input_ids=torch.tensor([prompt + answer])).logits[0, -1].argmax())
        if token in ENDS:
            return answer, True
        answer.append(token)
    return answer, False


def together(model: CachedModel, **options: Any) -> dict[int, tuple[list[int], bool]]:
    found = list(generate(model, PROMPTS, ENDS, LIMIT, **options))
    assert len({i for i, *_ in found}) == len(found)
    return {i: (ids, finished) for i, ids, finished in found}


# Generation


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_continuous_batching_is_greedy_one_at_a_time(family: str, dtype: torch.dtype) -> None:
    model = cached(family, dtype)
    expected = {i: alone(model.model, prompt, LIMIT) for i, prompt in enumerate(PROMPTS)}
    assert {finished for _, finished in expected.values()} == {True, False}
    for batch in (1, 4, 32):
        assert together(model, batch=batch) == expected


def test_each_answer_can_have_its_own_limit() -> None:
    model = cached()
    limits = [1 + i % 5 for i in range(len(PROMPTS))]
    expected = {i: alone(model.model, p, limits[i]) for i, p in enumerate(PROMPTS)}
    assert together(model, batch=3, limits=limits) == expected


def test_an_end_token_is_no_part_of_the_answer() -> None:
    answers = together(cached())
    assert not any(ENDS.intersection(ids) for ids, _ in answers.values())
    assert all(len(ids) == LIMIT for ids, finished in answers.values() if not finished)


def test_no_more_rows_run_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model, most = cached(), 0
    join = model.join

    def counted() -> int:
        nonlocal most
        row = join()
        most = max(most, len(model.lengths))
        return row

    monkeypatch.setattr(model, "join", counted)
    together(model, batch=3)
    assert most == 3


def test_a_free_row_is_used_at_once() -> None:
    model = cached()
    expected = [len(alone(model.model, p, LIMIT)[0]) for p in PROMPTS]
    before = model.passes
    together(model, batch=2)
    prefills = sum(len(p) > 1 for p in PROMPTS)
    # Two rows side by side need about half of the steps; rows that wait for each other would need more.
    assert model.passes - before - prefills <= (sum(expected) + len(PROMPTS)) / 2 + LIMIT


def test_rows_are_free_at_the_end_and_when_the_consumer_stops() -> None:
    model = cached()
    together(model, batch=4)
    assert model.lengths == []
    answers = generate(model, PROMPTS, ENDS, LIMIT, batch=4)
    next(answers)
    assert len(model.lengths) == 4
    answers.close()
    assert model.lengths == []
    assert len(together(model, batch=4)) == len(PROMPTS)


def test_rows_are_free_when_a_step_fails() -> None:
    def broken(logits: Tensor) -> Tensor:
        raise RuntimeError("no token")

    model = cached()
    with pytest.raises(RuntimeError, match="no token"):
        together(model, pick=broken)
    assert model.lengths == []


def test_nothing_asked_is_nothing_answered() -> None:
    assert list(generate(cached(), [], ENDS, LIMIT)) == []


# Drawing


def test_drawn_tokens_repeat_with_the_seed() -> None:
    model = cached()
    one, two, other = (together(model, batch=3, pick=sampled(1.0, 0.95, seed)) for seed in (1, 1, 2))
    assert one == two != other


def test_tokens_are_drawn_by_their_share_of_the_nucleus() -> None:
    probs = torch.tensor([0.15, 0.5, 0.05, 0.3])
    pick = sampled(1.0, 0.9, seed=0)
    counts = Counter(pick(probs.log().expand(20_000, 4)).tolist())
    assert set(counts) == {0, 1, 3}  # 0.5 and 0.3 make less than 0.9
    for token in counts:
        assert counts[token] / 20_000 == pytest.approx(float(probs[token]) / 0.95, abs=0.015)


def test_a_small_nucleus_and_a_low_temperature_are_greedy() -> None:
    logits = torch.randn(50, VOCAB, generator=torch.Generator().manual_seed(0))
    for pick in (sampled(1.0, 1e-6, seed=0), sampled(1e-4, 1.0, seed=0)):
        assert torch.equal(pick(logits), logits.argmax(-1))


# Answers that are kept


class Asked:
    """Counts new answers and may stop the run."""

    def __init__(self, at_most: int | None = None) -> None:
        self.count, self.at_most = 0, at_most

    def __call__(self, answers: int) -> None:
        self.count += answers
        if self.count == self.at_most:
            raise KeyboardInterrupt


def ask(path: Path, prompts: list[list[int]], limit: int = LIMIT, asked: Asked | None = None) -> list[Answer]:
    return AnswerStore(path).answer(cached(), prompts, ENDS, limit, batch=4, progress=asked or Asked())


def test_answers_come_in_the_order_of_the_prompts(tmp_path: Path) -> None:
    model = tiny_model()
    expected = [alone(model, p, LIMIT) for p in PROMPTS]
    assert ask(tmp_path / "new folder" / "a.jsonl", PROMPTS) == [Answer(tuple(a), f) for a, f in expected]


def test_known_answers_are_not_asked_again(tmp_path: Path) -> None:
    path, asked = tmp_path / "a.jsonl", Asked()
    first = ask(path, PROMPTS)
    assert ask(path, PROMPTS, asked=asked) == first
    assert asked.count == 0


def test_a_prompt_that_occurs_twice_is_asked_once(tmp_path: Path) -> None:
    asked = Asked()
    one, two, three = ask(tmp_path / "a.jsonl", [PROMPTS[0], PROMPTS[1], PROMPTS[0]], asked=asked)
    assert one == three != two
    assert asked.count == 2


def test_an_answer_is_known_for_its_own_limit_only(tmp_path: Path) -> None:
    path, asked = tmp_path / "a.jsonl", Asked()
    ask(path, PROMPTS[:3])
    assert all(len(a.ids) <= 2 for a in ask(path, PROMPTS[:3], limit=2, asked=asked))
    assert asked.count == 3


def test_an_interrupted_run_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    path, asked = tmp_path / "a.jsonl", Asked()
    with pytest.raises(KeyboardInterrupt):
        ask(path, PROMPTS, asked=Asked(at_most=5))
    assert ask(path, PROMPTS, asked=asked) == ask(tmp_path / "b.jsonl", PROMPTS)
    assert asked.count == len(PROMPTS) - 5


@pytest.mark.parametrize("lost", [1, 2, 20])
def test_half_a_line_is_dropped_and_spoils_nothing_after_it(tmp_path: Path, lost: int) -> None:
    path, asked = tmp_path / "a.jsonl", Asked()
    first = ask(path, PROMPTS[:4])
    path.write_bytes(path.read_bytes()[:-lost])
    assert ask(path, PROMPTS[:6], asked=asked)[:4] == first
    assert asked.count == 2 + (lost > 1)  # only the end of the line was lost
    again = Asked()
    assert ask(path, PROMPTS[:6], asked=again)[:4] == first
    assert again.count == 0
