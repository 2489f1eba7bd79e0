"""The composite against hand-computed rows and a naive oracle, with degenerate rows and ties."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_ssd.decoding.composite import composite, sample_spaces, weigh
from langchain_ssd.decoding.evidence import rows
from langchain_ssd.decoding.monitor import Decision
from langchain_ssd.decoding.sampling import SamplingRule
from langchain_ssd.decoding.verify import RowSettings, score

from . import naive


def t(*row: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor([row], dtype=dtype)


def mixed(pM: torch.Tensor, pm: torch.Tensor, scheme: str, alpha: float, c: int) -> list[float]:
    return composite(pM, pm, scheme, alpha, c)[0].tolist()


# Ranks: p_M 0 1 2 3, p_m 2 0 1 3 (the tie of 1 and 3 goes to 1).
TARGET, DRAFT = t(0.5, 0.3, 0.15, 0.05), t(0.3, 0.1, 0.5, 0.1)


@pytest.mark.parametrize(
    ("scheme", "alpha", "c", "f"),
    [
        ("utility", 0.3, 1, [0.44, 0, 0, 0]),  # k = 2: {0,1} and {2,0} share 0
        ("utility", 0.3, 2, [0.44, 0.24, 0.255, 0]),  # k = 3 brings two more at once
        ("utility", 0.3, 3, [0.44, 0.24, 0.255, 0]),
        ("utility", 0.3, 4, [0.44, 0.24, 0.255, 0.065]),
        ("utility", 0.3, 99, [0.44, 0.24, 0.255, 0.065]),  # c above V is V
        ("utility", 0.0, 2, [0.5, 0.3, 0.15, 0]),
        ("utility", 1.0, 2, [0.3, 0.1, 0.5, 0]),
        ("utility", 2.0, 2, [0.1, 0, 0.85, 0]),  # 2 * 0.1 - 0.3 is below 0
        ("safety", 0.8, 1, [0.34, 0, 0.43, 0]),
        ("safety", 0.8, 2, [0.34, 0.14, 0.43, 0]),
        ("safety", 0.8, 9, [0.34, 0.14, 0.43, 0.09]),
        ("safety", 1.0, 2, [0.3, 0.1, 0.5, 0]),
        ("safety", 2.0, 2, [0.1, 0, 0.85, 0]),
    ],
)
def test_by_hand(scheme: str, alpha: float, c: int, f: list[float]) -> None:
    assert mixed(TARGET, DRAFT, scheme, alpha, c) == pytest.approx([x / sum(f) for x in f])


def test_the_utility_exception_leaves_the_target_as_it_is() -> None:
    pM, pm = t(0.4, 0.3, 0.2, 0.1), t(0.1, 0.2, 0.3, 0.4)  # k = 3 shares {1, 2}; 0 is not in top_3(p_m)
    for alpha in (0.0, 0.3, 1.0, 2.0):
        assert mixed(pM, pm, "utility", alpha, 2) == pM[0].tolist()
    assert mixed(pM, pm, "safety", 1.0, 1) == pytest.approx([0.2, 0, 0, 0.8])
    assert mixed(pM, pm, "utility", 1.0, 4) == pytest.approx([0.1, 0.2, 0.3, 0.4])  # never at k = V


def test_utility_without_mass_falls_back_to_the_target() -> None:
    pM, pm = t(0.6, 0.4, 0.0), t(0.0, 0.0, 1.0)  # k = 2 shares {0}, which the draft gives nothing
    assert mixed(pM, pm, "utility", 1.0, 1) == pM[0].tolist()
    assert mixed(pM, pm, "utility", 2.0, 1) == pM[0].tolist()
    assert mixed(pM, pm, "utility", 0.5, 1) == [1.0, 0.0, 0.0]


def test_safety_without_mass_falls_back_to_the_draft_on_the_union() -> None:
    pM, pm = t(0.48, 0.48, 0.01, 0.01, 0.01, 0.01), t(0.2, 0.18, 0.155, 0.155, 0.155, 0.155)
    Q = mixed(pM, pm, "safety", 2.0, 2)  # 2 * 0.2 - 0.48 and 2 * 0.18 - 0.48 are both below 0
    assert pytest.approx([0.2 / 0.38, 0.18 / 0.38, 0, 0, 0, 0]) == Q


def test_ties_go_to_the_lower_id() -> None:
    flat = torch.full((1, 6), 1 / 6, dtype=torch.float64)
    for scheme in ("utility", "safety"):
        assert mixed(flat, flat, scheme, 0.3, 2) == pytest.approx([0.5, 0.5, 0, 0, 0, 0])


def reversed_rows(V: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Token 0 is the best of both; all others are ranked the other way round."""
    down = torch.arange(V - 1, 0, -1, dtype=dtype)
    pM = torch.cat([torch.tensor([2.0 * V], dtype=dtype), down])
    pm = torch.cat([torch.tensor([2.0 * V], dtype=dtype), down.flip(0)])
    return (pM / pM.sum()).unsqueeze(0), (pm / pm.sum()).unsqueeze(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("V", "c"), [(40, 3), (1000, 10), (4099, 2), (700, 300)])
def test_the_intersection_may_need_half_the_vocabulary(V: int, c: int, dtype: torch.dtype) -> None:
    pM, pm = reversed_rows(V, dtype)
    for scheme, alpha in (("utility", 0.3), ("safety", 0.8)):
        expected = naive.composite(pM[0].tolist(), pm[0].tolist(), scheme, alpha, c)
        got = mixed(pM, pm, scheme, alpha, c)
        assert [x > 0 for x in got] == [x > 0 for x in expected]
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_a_wholly_reversed_row_is_the_targets() -> None:
    pM = torch.arange(900, 0, -1, dtype=torch.float32).unsqueeze(0) / (450 * 901)
    assert torch.equal(composite(pM, pM.flip(1), "utility", 0.3, 10), pM)


def random_rows(seed: int, R: int, V: int, dtype: torch.dtype, ties: bool) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(R, V, generator=g, dtype=torch.float64) * 3
    b = a * float(torch.rand((), generator=g)) + torch.randn(R, V, generator=g, dtype=torch.float64) * 3
    if ties:
        a, b = a.round(), b.round()
    return a.to(dtype).softmax(-1), b.to(dtype).softmax(-1)


alphas = st.sampled_from([0.0, 0.15, 0.3, 0.8, 1.0, 1.3, 2.0])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.integers(0, 10**6),
    st.integers(1, 300),
    st.integers(1, 320),
    alphas,
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_equals_the_oracle(seed: int, V: int, c: int, alpha: float, ties: bool, dtype: torch.dtype) -> None:
    pM, pm = random_rows(seed, 2, V, dtype, ties)
    for scheme in ("utility", "safety"):
        got = composite(pM, pm, scheme, alpha, c)
        for row, a, b in zip(got.tolist(), pM.tolist(), pm.tolist(), strict=True):
            expected = naive.composite(a, b, scheme, alpha, c)
            assert row == pytest.approx(expected, abs=1e-5 if dtype == torch.float32 else 1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 70), min_size=2, max_size=4), st.booleans())
def test_rows_do_not_see_each_other(seed: int, cs: list[int], ties: bool) -> None:
    pM, pm = random_rows(seed, len(cs), 150, torch.float64, ties)
    alpha = torch.tensor([[0.1 * i + 0.3] for i in range(len(cs))], dtype=torch.float64)
    together = sample_spaces(pM, pm, torch.tensor(cs).unsqueeze(1))
    for i, c in enumerate(cs):
        alone = sample_spaces(pM[i : i + 1], pm[i : i + 1], c)
        for space, own in ((together.utility, alone.utility), (together.safety, alone.safety)):
            got, want = weigh(space, alpha), weigh(own, float(alpha[i]))
            pairs = [
                dict(zip(x.ids[r].tolist(), x.probs[r].tolist(), strict=True))
                for x, r in ((got, i), (want, 0))
            ]
            for pair in pairs:
                pair.pop(-1, None)
            assert pairs[0] == pytest.approx(pairs[1], abs=1e-12)
            assert got.whole_target[i] == want.whole_target[0]


def test_spaces_are_sorted_padded_and_sliced_alike() -> None:
    pM, pm = random_rows(1, 3, 90, torch.float64, True)
    spaces = sample_spaces(pM, pm, torch.tensor([[1], [5], [20]]))
    for space in (spaces.utility, spaces.safety):
        for r in range(3):
            ids = space.ids[r].tolist()
            real = [i for i in ids if i >= 0]
            assert real == sorted(set(real))
            assert ids == real + [-1] * (len(ids) - len(real))  # padding is last
            assert space.target[r].tolist() == [pM[r, i].item() if i >= 0 else 0.0 for i in ids]
            assert space.draft[r].tolist() == [pm[r, i].item() if i >= 0 else 0.0 for i in ids]
        one = space[1:2]
        assert torch.equal(one.ids, space.ids[1:2])
        assert one.fallback_to_target == space.fallback_to_target


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(2, 300), st.integers(1, 300), st.booleans())
def test_identity_at_the_ends_of_alpha(seed: int, V: int, c: int, ties: bool) -> None:
    pM, pm = random_rows(seed, 3, V, torch.float64, ties)
    for scheme, alpha, own in (("utility", 0.0, pM), ("safety", 1.0, pm)):
        for Q, p in zip(composite(pM, pm, scheme, alpha, c).tolist(), own.tolist(), strict=True):
            assert naive.order(Q)[0] == naive.order(p)[0]


def neighbours(n: int) -> torch.Tensor:
    """Float32 rows whose two greatest entries are neighbouring floats, the greater one second.

    The greatest four hold 0.85 of the mass: dividing by it lifts the two over 0.25, where floats are sparser.
    """
    x = torch.linspace(0.22, 0.249, n)
    head = torch.stack([x, torch.nextafter(x, torch.tensor(1.0)), torch.full((n,), 0.2), 0.65 - 2 * x], dim=1)
    return torch.cat([head, torch.full((n, 50), 0.15 / 50)], dim=1)


@pytest.mark.parametrize("mode", ["utility", "safety"])
def test_identity_survives_neighbouring_floats(mode: str) -> None:
    """Law 2 has no margin: dividing by the mass of the sample space must not make a tie."""
    n, alpha = 500, 0.0 if mode == "utility" else 1.0
    p = neighbours(n)
    other = torch.tensor([0.4, 0.3, 0.2, 0.05, *[0.05 / 50] * 50]).expand(n, 54).contiguous()
    own, beside = (rows(x.log())._replace(probs=x, best=x.max(1).indices) for x in (p, other))
    pair = (own, beside) if mode == "utility" else (beside, own)
    scored = score(*pair, None, [RowSettings(4, alpha, alpha, alpha, SamplingRule())] * n, range(n))
    chosen = [scored.choice(row, Decision(mode, alpha)).best.token for row in range(n)]
    assert chosen == [naive.order(row)[0] for row in p.tolist()]
