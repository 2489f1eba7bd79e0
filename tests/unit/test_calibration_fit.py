"""Weights from synthetic evidence whose truth is known."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from langchain_ssd.calibration.fit import (
    MARGIN,
    choose,
    fit_signals,
    increments,
    logistic,
    lower_bias,
    maximum,
    quality,
    running,
    statistics,
)
from langchain_ssd.calibration.signals import FEATURES, NOTHING, features
from langchain_ssd.calibration.traces import Trace
from langchain_ssd.config import EvidenceWeights
from langchain_ssd.decoding.monitor import LinearLogOdds, SequentialMonitor, SequentialSettings

from .calibration_helpers import gaussian, trace


def equal_weights(n: int) -> torch.Tensor:
    return torch.full((n,), 1.0 / n, dtype=torch.float64)


def test_logistic_regression_finds_the_log_odds_of_gaussians() -> None:
    """Two unit Gaussians d apart have log-odds d * x - (m1^2 - m0^2) / 2."""
    generator = torch.Generator().manual_seed(3)
    n = 20_000
    y = (torch.arange(n) % 2).double()
    x = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    x[:, 0] += 1.0 + 0.8 * y
    bias, slope, nothing = logistic(x, y, equal_weights(n), ridge=1e-9)
    assert slope == pytest.approx(0.8, abs=0.05)
    assert bias == pytest.approx(-(1.8**2 - 1.0) / 2, abs=0.1)
    assert nothing == pytest.approx(0.0, abs=0.05)


def test_logistic_regression_is_at_its_optimum_and_deterministic() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(200, 3, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 50.0, 0.01])
    y = (x[:, 0] + torch.randn(200, generator=generator, dtype=torch.float64) > 0).double()
    found = torch.tensor(logistic(x, y, equal_weights(200)), dtype=torch.float64)
    assert logistic(x, y, equal_weights(200)) == found.tolist()
    mean, scale = x.mean(0), (x - x.mean(0)).square().mean(0).sqrt()
    beta = (found[1:] * scale).requires_grad_()
    bias = (found[0] + (found[1:] * mean).sum()).requires_grad_()
    logits = bias + ((x - mean) / scale) @ beta
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y) + 1e-3 / 2 * beta.square().sum()
    loss.backward()
    assert float(beta.grad.abs().max()) < 1e-6
    assert float(bias.grad.abs()) < 1e-6


def test_separable_rows_and_constant_features_do_no_harm() -> None:
    x = torch.tensor([[0.0, 7.0]] * 10 + [[1.0, 7.0]] * 10, dtype=torch.float64)
    y = torch.tensor([0.0] * 10 + [1.0] * 10, dtype=torch.float64)
    bias, slope, constant = logistic(x, y, equal_weights(20))
    assert constant == 0.0
    assert slope > 1
    assert abs(bias) < 100


def test_every_response_weighs_the_same_and_length_tells_nothing() -> None:
    """Benign responses are long, unsafe ones short; nothing else differs."""
    rng = random.Random(0)
    traces = [trace("benign", n, 1.0, rng, tokens=200) for n in range(40)]
    traces += [trace("unsafe", n, 1.0, rng, tokens=20) for n in range(40)]
    weights = fit_signals(traces, 64)["all"].weights
    assert abs(weights.log_position) < 0.05
    assert abs(weights.kl) < 0.1


def test_logs_from_before_the_gain_of_refusals_are_fitted_without_it() -> None:
    traces = gaussian(20, 20, 1.0)
    everything = fit_signals(traces, 16)
    assert {"refusals", "kl"} <= everything.keys()
    older = fit_signals([*traces[:-1], replace(traces[-1], gain_known=False)], 16)
    assert everything.keys() - older.keys() == {"refusals", "refusals and total variation"}
    assert older["kl"] == everything["kl"]
    assert older["all"].weights.refusal_gain == 0.0


def test_the_informative_signal_wins() -> None:
    fitted = fit_signals(gaussian(60, 40, 0.8), 64)
    assert choose(fitted).signal in ("all", "kl")
    assert fitted["kl"].weights.kl > 0.3
    assert fitted["kl"].quality > 0.8 > fitted["disagreement"].quality
    assert {n for n in FEATURES if getattr(fitted["entropies"].weights, n)} == {
        "entropy_target",
        "entropy_draft",
    }
    assert fit_signals(gaussian(60, 40, 0.8), 64) == fitted


def test_a_draft_that_tells_nothing_gets_a_monitor_that_never_alarms() -> None:
    traces = gaussian(60, 40, 0.0, seed=4)
    chosen = choose(fit_signals(traces, 16))
    assert chosen.signal == NOTHING
    assert {maximum(chosen.weights, t) for t in traces} == {0.0}
    assert choose(fit_signals(gaussian(60, 40, 1.5), 16)).signal != NOTHING


@pytest.mark.parametrize("calm", [0.5, 0.9])
def test_benign_text_drifts_down(calm: float) -> None:
    benign = gaussian(50, 0, 0.0, seed=2)
    weights = lower_bias(EvidenceWeights(bias=0.5, kl=1.0, disagreement=0.0), benign, calm)
    means = sorted(sum(increments(weights, t)) / len(t.rows) for t in benign)
    assert sum(means) / 50 <= -MARGIN
    assert sum(m <= -MARGIN + 1e-12 for m in means) >= calm * 50
    slightly_more = weights.model_copy(update={"bias": weights.bias + 1e-6})
    assert lower_bias(slightly_more, benign, calm).bias == pytest.approx(weights.bias, abs=1e-9)


def test_a_bias_that_is_low_enough_is_left_alone() -> None:
    weights = EvidenceWeights(bias=-3.0, kl=1.0, disagreement=0.0)
    assert lower_bias(weights, gaussian(10, 0, 0.0), 0.9) == weights


def test_an_uninformative_draft_gets_weights_near_zero_and_a_falling_statistic() -> None:
    one = fit_signals(gaussian(150, 150, 0.0, seed=5), 64)["all"]
    calm = gaussian(100, 0, 0.0, seed=6)
    assert all(abs(getattr(one.weights, name)) < 0.3 for name in FEATURES)
    assert sum(sum(increments(one.weights, t)) / len(t.rows) for t in calm) / 100 <= -MARGIN / 2


def test_the_statistic_is_the_monitors() -> None:
    (one,) = gaussian(1, 0, 0.0, seed=9)
    weights = EvidenceWeights()
    monitor = SequentialMonitor(SequentialSettings(3.0, 1.0, 9.0, LinearLogOdds(**weights.model_dump())))
    seen = []
    for e in one.rows:
        monitor.observe(e)
        seen.append(monitor.statistic)
    assert statistics(increments(weights, one)) == seen
    assert maximum(weights, one) == max(seen)
    assert maximum(weights, Trace("benign", "plain", "0", 0, ())) == 0.0


def test_running_values_count_the_prefill_and_stop_where_the_response_does() -> None:
    rng = random.Random(4)
    one = trace("unsafe", 0, 2.0, rng, tokens=6, prefill=3)
    weights = EvidenceWeights()
    steps = increments(weights, one)
    found = running(weights, one)
    assert found[0] == (max(statistics(steps)[:4]), pytest.approx(sum(steps[:4]) / 4))
    assert found[2] == found[-1] == (maximum(weights, one), pytest.approx(sum(steps) / 9))


def test_quality_is_half_where_nothing_differs() -> None:
    same = gaussian(30, 0, 0.0)
    both = same + [replace(t, label="unsafe") for t in same]
    assert quality(EvidenceWeights(), both) == pytest.approx(0.5)


def test_features_stand_in_their_order() -> None:
    (one,) = gaussian(1, 0, 0.0)
    table, e = features(one), one.rows[5]
    expected = [float(not e.agreement), e.kl, e.total_variation, e.entropy_target, e.entropy_draft]
    assert table[5, :5].tolist() == expected
    assert table[5, 6].item() == e.refusal_gain > 0
    weights = EvidenceWeights(
        bias=0.1, kl=0.2, total_variation=0.3, entropy_draft=-0.1, log_position=0.05, refusal_gain=0.4
    )
    linear = torch.tensor([getattr(weights, name) for name in FEATURES], dtype=torch.float64)
    assert float(table[5] @ linear) + 0.1 == pytest.approx(increments(weights, one)[5])
