"""What a draft learns from, against torch's own losses over the whole vocabulary."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from langchain_ssd.drafts.losses import (
    Vocabulary,
    cross_entropy,
    distillation,
    log_probs,
    sample_vocabulary,
)

V, D, N = 40, 8, 6


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


STATES, HEAD = normal(N, D, seed=1), normal(V, D, seed=2)
TEACHER = (2 * normal(N, V, seed=3)).log_softmax(-1)
LABELS = torch.tensor([3, 3, 0, 39, 17, 8])
WANTED = torch.tensor([[3, 0], [39, 17], [8, 3]])


def whole() -> Vocabulary:
    return sample_vocabulary(WANTED, V, V, generator())


# The sample


def test_a_sample_has_all_wanted_tokens_and_the_drawn_ones_in_order() -> None:
    sample = sample_vocabulary(WANTED, V, 10, generator())
    ids = sample.ids.tolist()
    assert ids == sorted(set(ids))
    assert len(ids) == 5 + 10
    assert {0, 3, 8, 17, 39} <= set(ids)


def test_only_drawn_tokens_stand_for_others() -> None:
    sample = sample_vocabulary(WANTED, V, 10, generator())
    wanted = torch.isin(sample.ids, WANTED)
    assert sample.log_weight[wanted].tolist() == [0.0] * 5
    assert sample.log_weight[~wanted].tolist() == pytest.approx([math.log(35 / 10)] * 10)


@pytest.mark.parametrize("drawn", [35, 36, 1000])
def test_a_sample_of_everything_has_no_weights(drawn: int) -> None:
    sample = sample_vocabulary(WANTED, V, drawn, generator())
    assert sample.ids.tolist() == list(range(V))
    assert not sample.log_weight.any()


def test_a_draw_repeats_with_its_generator() -> None:
    one, two, other = (sample_vocabulary(WANTED, V, 10, generator(s)).ids.tolist() for s in (1, 1, 2))
    assert one == two != other


def test_all_tokens_wanted_leaves_none_to_draw() -> None:
    sample = sample_vocabulary(torch.arange(V), V, 10, generator())
    assert sample.ids.tolist() == list(range(V))
    assert not sample.log_weight.any()


def test_tokens_are_found_in_the_sample() -> None:
    sample = sample_vocabulary(WANTED, V, 10, generator())
    assert torch.equal(sample.ids[sample.places(LABELS)], LABELS)


# Over the whole vocabulary


def test_log_probabilities_of_everything_are_a_log_softmax() -> None:
    torch.testing.assert_close(log_probs(STATES, HEAD, whole()), (STATES @ HEAD.T).log_softmax(-1))


def test_cross_entropy_over_everything_is_torchs() -> None:
    ours = cross_entropy(log_probs(STATES, HEAD, whole()), whole().places(LABELS))
    torch.testing.assert_close(ours, functional.cross_entropy(STATES @ HEAD.T, LABELS, reduction="none"))


def test_distillation_over_everything_is_torchs_divergence() -> None:
    top = TEACHER.topk(V, dim=-1)
    student = log_probs(STATES, HEAD, whole())
    theirs = functional.kl_div(student, TEACHER, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(distillation(student, top.indices, top.values), theirs, rtol=1e-4, atol=1e-4)


def test_gradients_over_everything_are_torchs() -> None:
    def gradient(loss: str) -> Tensor:
        states = STATES.clone().requires_grad_()
        if loss == "ours":
            top = TEACHER.topk(V, dim=-1)
            student = log_probs(states, HEAD, whole())
            total = (
                distillation(student, top.indices, top.values).sum() + cross_entropy(student, LABELS).sum()
            )
        else:
            student = (states @ HEAD.T).log_softmax(-1)
            total = functional.kl_div(student, TEACHER, log_target=True, reduction="sum")
            total = total + functional.nll_loss(student, LABELS, reduction="sum")
        total.backward()
        assert states.grad is not None
        return states.grad

    torch.testing.assert_close(gradient("ours"), gradient("theirs"), rtol=1e-4, atol=1e-4)


# With only some of the teacher's tokens


def test_the_rest_of_the_teacher_is_one_outcome() -> None:
    top = TEACHER.topk(5, dim=-1)
    student = log_probs(STATES, HEAD, whole())
    p, q = top.values.exp(), student.gather(1, top.indices).exp()
    p, q = (torch.cat([x, 1 - x.sum(-1, keepdim=True)], -1) for x in (p, q))
    expected = (p * (p / q).log()).sum(-1)
    torch.testing.assert_close(distillation(student, top.indices, top.values), expected, rtol=1e-4, atol=1e-5)


def test_lumping_never_makes_the_divergence_larger() -> None:
    student = log_probs(STATES, HEAD, whole())
    tops = [TEACHER.topk(k, dim=-1) for k in (1, 4, 12, V)]
    losses = torch.stack([distillation(student, t.indices, t.values) for t in tops])
    assert (losses.diff(dim=0) >= -1e-5).all()
    assert (losses >= -1e-6).all()


def test_a_student_that_is_the_teacher_loses_nothing() -> None:
    top = TEACHER.topk(6, dim=-1)
    assert distillation(TEACHER, top.indices, top.values).abs().max() < 1e-5


def test_a_certain_row_has_a_finite_loss_and_gradient() -> None:
    logits = torch.zeros(1, V).index_fill(1, torch.tensor([2]), 200.0).requires_grad_()
    teacher = torch.tensor([[0.0, -60.0]])
    loss = distillation(logits.log_softmax(-1), torch.tensor([[2, 5]]), teacher).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


# Over a sample


def test_the_denominator_is_unbiased_over_many_draws() -> None:
    draws, whole_z = 4000, (STATES @ HEAD.T).exp().sum(-1)
    source, total, squares = generator(5), torch.zeros(N), torch.zeros(N)
    for _ in range(draws):
        sample = sample_vocabulary(WANTED, V, 8, source)
        logits = STATES @ HEAD[sample.ids].T
        z = (logits - log_probs(STATES, HEAD, sample))[:, 0].exp()
        total, squares = total + z, squares + z.square()
    mean = total / draws
    error = (squares / draws - mean.square()).clamp_min(0).sqrt() / math.sqrt(draws)
    assert ((mean - whole_z).abs() <= 4 * error).all()
    assert (error / whole_z).max() < 0.05  # else anything would pass
