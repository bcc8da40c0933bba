"""The closed-form KL divergence against quadrature, Monte Carlo and torch, over its whole range."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vaelab import checks
from vaelab.distributions import DiagonalNormal, kl, kl_per_dimension
from vaelab.divergences import kl_normal, kl_normal_monte_carlo, kl_normal_quadrature

CASES = [
    (0.0, 1.0, 0.0, 1.0),
    (0.0, 1.0, 1.0, 2.0),
    (1.0, 2.0, 0.0, 1.0),
    (-3.0, 0.05, 0.5, 1.0),
    (0.0, 1e-3, 0.0, 1e3),
    (5.0, 10.0, -5.0, 3.0),
]

scales = st.floats(1e-8, 1e8)
locs = st.floats(-1e3, 1e3)


@pytest.mark.parametrize("case", CASES)
def test_closed_form_equals_quadrature(case: tuple[float, ...]) -> None:
    value, error = kl_normal_quadrature(*case)
    assert kl_normal(*case) == pytest.approx(value, rel=1e-10, abs=1e-10 + 10 * error)


@pytest.mark.parametrize("case", CASES)
def test_closed_form_equals_monte_carlo(case: tuple[float, ...]) -> None:
    value, error = kl_normal_monte_carlo(*case, draws=200_000, seed=3)
    assert abs(kl_normal(*case) - value) <= 4.5 * error + 1e-12


def test_closed_form_is_the_textbook_formula() -> None:
    m1, s1, m2, s2 = 0.3, 0.7, -1.2, 2.5
    textbook = math.log(s2 / s1) - 0.5 + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2)
    assert kl_normal(m1, s1, m2, s2) == pytest.approx(textbook, rel=1e-14)


@given(locs, scales, locs, scales)
def test_never_negative_and_finite(m1: float, s1: float, m2: float, s2: float) -> None:
    value = kl_normal(m1, s1, m2, s2)
    assert math.isfinite(value)
    assert value >= -1e-15


@given(locs, scales)
def test_zero_for_equal_distributions(m: float, s: float) -> None:
    assert kl_normal(m, s, m, s) == 0.0


@given(locs, scales, locs, scales, st.floats(1e-3, 1e3))
def test_invariant_to_the_unit(m1: float, s1: float, m2: float, s2: float, unit: float) -> None:
    """KL does not change when x is measured in another unit."""
    changed = kl_normal(m1 * unit, s1 * unit, m2 * unit, s2 * unit)
    assert changed == pytest.approx(kl_normal(m1, s1, m2, s2), rel=1e-6, abs=1e-9)


def test_extreme_scales_against_exact_arithmetic() -> None:
    from fractions import Fraction

    for s1, s2 in [(1e-8, 1e8), (1e8, 1e-8), (1e-8, 1e-8), (1e8, 1e8), (1.0, 1.0 + 1e-9)]:
        ratio = Fraction(s1) / Fraction(s2)
        exact = float((ratio**2 - 1) / 2) - math.log(s1 / s2)
        assert kl_normal(0.0, s1, 0.0, s2) == pytest.approx(exact, rel=1e-12, abs=1e-15)


def test_floats_arrays_and_tensors_agree_and_broadcast() -> None:
    loc = np.linspace(-2, 2, 5)[:, None]
    scale = np.array([0.1, 1.0, 3.0])
    array = kl_normal(loc, scale, 0.5, 2.0)
    tensor = kl_normal(torch.tensor(loc), torch.tensor(scale), 0.5, 2.0)
    assert array.shape == (5, 3)
    assert isinstance(kl_normal(0, 1, 0, 1), float)
    np.testing.assert_allclose(tensor.numpy(), array, rtol=1e-14)
    assert kl_normal(float(loc[1, 0]), 3.0, 0.5, 2.0) == array[1, 2]


def test_keeps_float32_and_lets_gradients_flow() -> None:
    scale = torch.tensor([0.5, 2.0], requires_grad=True)
    value = kl_normal(0.0, scale, 0.0, 1.0)
    assert value.dtype == torch.float32
    value.sum().backward()
    torch.testing.assert_close(scale.grad, scale.detach() - 1 / scale.detach())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0.0, 0.0, 1.0), "p_scale holds 0.0, but every value must be finite and above 0."),
        ((0.0, 1.0, 0.0, -2.0), "q_scale holds -2.0, but every value must be finite and above 0."),
        ((math.nan, 1.0, 0.0, 1.0), "p_loc holds nan, but every value must be finite."),
        ((0.0, math.nan, 0.0, 1.0), "p_scale holds nan, but every value must be finite and above"),
        (([0.0, math.inf], 1.0, 0.0, 1.0), "p_loc holds inf, but every value must be finite."),
        ((0.0, "one", 0.0, 1.0), "p_scale = 'one', but it must be a number, an array or a tensor"),
        ((np.zeros(2), np.ones(3), 0.0, 1.0), "shapes do not broadcast: p_loc (2,), p_scale (3,)"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(checks.ArgumentError) as error:
        kl_normal(*arguments)
    assert str(error.value).startswith(message)


def test_bad_tensors_are_named() -> None:
    with pytest.raises(checks.ArgumentError, match=r"q_scale holds 0.0"):
        kl_normal(torch.zeros(3), torch.ones(3), 0.0, torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(checks.ArgumentError, match="shapes do not broadcast"):
        kl_normal(torch.zeros(2), torch.ones(3), 0.0, 1.0)


def test_distributions_use_the_same_code(monkeypatch: pytest.MonkeyPatch) -> None:
    p = DiagonalNormal(torch.randn(4, 3), torch.rand(4, 3) + 0.1)
    q = DiagonalNormal(torch.zeros(3), torch.ones(3))
    expected = torch.distributions.kl_divergence(p.base_dist, q.base_dist)
    torch.testing.assert_close(kl_per_dimension(p, q), expected)
    torch.testing.assert_close(kl(p, q, p.sample((1,))), expected.sum(-1))
    monkeypatch.setattr("vaelab.distributions.normal_formula", lambda *a, **k: torch.ones(4, 3))
    torch.testing.assert_close(kl(p, q, p.sample((1,))), torch.full((4,), 3.0))


def test_monte_carlo_where_there_is_no_closed_form() -> None:
    p = DiagonalNormal(torch.zeros(2, 2), torch.ones(2, 2))
    q = torch.distributions.Independent(
        torch.distributions.StudentT(torch.full((2,), 5.0), validate_args=False), 1
    )
    z = p.sample((20_000,))
    estimate = kl(p, q, z)
    assert estimate.shape == (2,)
    from scipy import stats
    from scipy.integrate import quad

    exact, _ = quad(
        lambda u: stats.norm.pdf(u) * (stats.norm.logpdf(u) - stats.t.logpdf(u, 5)), -12, 12
    )
    assert estimate.tolist() == pytest.approx([2 * exact, 2 * exact], abs=0.01)
