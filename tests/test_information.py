"""Laws of what the code tells of the data, on Gaussian codes where all is in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from vaelab import checks, information, recipes
from vaelab.divergences import kl_normal
from vaelab.information import kl_per_dimension
from vaelab.latent import Codes
from vaelab.latent import encode as encode_data

COUNT = 3000
SCALE = np.array([0.5, 0.8, 1.5])
MIX = np.array([[1.2, 0.5, 0.0], [0.0, 0.9, -0.6], [0.0, 0.0, 0.4]])
SHIFT = np.array([0.3, -1.0, 0.0])


def gaussian(mix: np.ndarray = MIX, count: int = COUNT, seed: int = 3) -> Codes:
    """Codes N(A x + b, diag s²) of data x from N(0, I): q(z) = N(b, A Aᵀ + diag s²)."""
    x = np.random.default_rng(seed).standard_normal((count, len(mix)))
    loc = x @ mix.T + SHIFT
    return Codes(loc.astype(np.float32), np.full_like(loc, SCALE, dtype=np.float32))


def told(codes: Codes, **settings: object) -> information.Information:
    result = information.information(codes, **settings)
    identity(result)
    return result


def identity(result: information.Information) -> None:
    """The terms add up, on every call."""
    assert result.rate == pytest.approx(result.mutual_information + result.marginal_kl, abs=1e-9)
    both = result.total_correlation + result.dimension_kl
    assert result.marginal_kl == pytest.approx(both, abs=1e-9)
    assert result.mutual_information <= result.ceiling + 1e-5


def test_kl_per_dimension_is_the_closed_form() -> None:
    codes = gaussian()
    exact = [
        kl_normal(codes.loc[:, d], codes.scale[:, d], 0.0, 1.0).astype(float).mean()
        for d in range(3)
    ]
    np.testing.assert_allclose(kl_per_dimension(codes), exact, rtol=1e-5)
    unused = Codes(np.zeros((5, 2)), np.ones((5, 2)))
    assert kl_per_dimension(unused).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("mix", [MIX, np.diag([1.0, 0.5, 2.0])])
def test_all_terms_are_those_of_the_closed_form(mix: np.ndarray) -> None:
    result = told(gaussian(mix))
    covariance = mix @ mix.T + np.diag(SCALE**2)
    variance = np.diag(covariance)
    mutual = 0.5 * np.log(np.linalg.det(covariance) / np.prod(SCALE**2))
    marginal = 0.5 * (variance.sum() + SHIFT @ SHIFT - 3 - np.log(np.linalg.det(covariance)))
    correlation = 0.5 * (np.log(variance).sum() - np.log(np.linalg.det(covariance)))
    each = kl_normal(SHIFT, np.sqrt(variance), 0.0, 1.0).sum()
    near = 4 * result.mutual_information_se
    assert result.mutual_information == pytest.approx(mutual, abs=near)
    assert result.marginal_kl == pytest.approx(marginal, abs=4 * result.marginal_kl_se)
    assert result.total_correlation == pytest.approx(correlation, abs=0.06)
    assert result.dimension_kl == pytest.approx(each, abs=4 * result.marginal_kl_se)
    assert result.data == COUNT


def test_the_rate_is_the_mean_divergence_of_the_posteriors() -> None:
    codes = gaussian()
    result = told(codes)
    error = math.hypot(result.mutual_information_se, result.marginal_kl_se)
    assert result.rate == pytest.approx(kl_per_dimension(codes).sum(), abs=4 * error)


def test_standard_errors_are_the_spread_over_seeds() -> None:
    codes = gaussian(count=300)
    many = [told(codes, seed=seed) for seed in range(60)]
    spread = np.std([(r.mutual_information, r.marginal_kl) for r in many], axis=0)
    assert many[0].mutual_information_se == pytest.approx(spread[0], rel=0.4)
    assert many[0].marginal_kl_se > 0.5 * spread[1]
    assert len({r.rate for r in many}) == 60
    assert told(codes, seed=5) == many[5], "the seed decides all"


def test_every_term_is_that_of_a_mixture_by_scipy() -> None:
    """The log-densities of the mixture, computed by scipy at the draws that the seed gives."""
    codes = gaussian(count=40)
    loc, scale = codes.loc.astype(float), codes.scale.astype(float)
    rng = np.random.default_rng([7, information.STREAM])
    z = loc + scale * rng.standard_normal(loc.shape)
    q = [multivariate_normal(m, np.diag(s**2)) for m, s in zip(loc, scale, strict=True)]
    mixture = np.log(np.mean([p.pdf(z) for p in q], axis=0))
    each = np.log(np.mean(norm(loc[:, None], scale[:, None]).pdf(z), axis=0)).sum(1)
    posterior = norm(loc, scale).logpdf(z).sum(1)
    prior = norm.logpdf(z).sum(1)
    result = told(codes, seed=7)
    assert result.mutual_information == pytest.approx((posterior - mixture).mean(), abs=1e-5)
    assert result.marginal_kl == pytest.approx((mixture - prior).mean(), abs=1e-5)
    assert result.total_correlation == pytest.approx((mixture - each).mean(), abs=1e-5)
    assert result.dimension_kl == pytest.approx((each - prior).mean(), abs=1e-5)
    error = (posterior - mixture).std(ddof=1) / math.sqrt(40)
    assert result.mutual_information_se == pytest.approx(error, rel=1e-5)


def test_a_code_that_ignores_the_data_tells_nothing() -> None:
    result = told(Codes(np.zeros((500, 3)), np.ones((500, 3))))
    for value in result[:7]:
        assert value == pytest.approx(0, abs=1e-6)
    elsewhere = told(Codes(np.full((500, 3), 2.0), np.ones((500, 3))))
    assert elsewhere.mutual_information == pytest.approx(0, abs=1e-6)
    assert elsewhere.marginal_kl == pytest.approx(6, abs=4 * elsewhere.marginal_kl_se)


@pytest.mark.parametrize("scale", [1e-4, 1e-30])
def test_narrow_codes_tell_which_datum_it_is_and_no_more(scale: float) -> None:
    loc = gaussian(count=300).loc
    result = told(Codes(loc, np.full_like(loc, scale)))
    assert result.mutual_information == pytest.approx(math.log(300), abs=1e-3)
    assert result.ceiling == pytest.approx(math.log(300), abs=1e-12)
    assert result.mutual_information_se < 1e-3


def test_correlated_dimensions_are_told_from_independent_ones() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2000, 2))
    scale = np.full((2000, 2), 0.3)
    independent = told(Codes(x, scale)).total_correlation
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    correlated = told(Codes(x, scale)).total_correlation
    assert abs(independent) < 0.08
    assert correlated > 0.5
    assert told(Codes(x[:, :1], scale[:, :1])).total_correlation == pytest.approx(0, abs=1e-5)


def test_results_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = gaussian(count=500)
    whole = told(codes)
    for block in (1, 7 * 500):
        monkeypatch.setattr(information, "BLOCK", block)
        assert told(codes) == pytest.approx(whole, abs=1e-6)


def test_memory_does_not_grow_with_the_square(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[int] = []
    original = torch.Tensor.logsumexp
    monkeypatch.setattr(
        torch.Tensor, "logsumexp", lambda t, dim: shapes.append(t.numel()) or original(t, dim)
    )
    told(gaussian(count=3000))
    assert len(shapes) > 30
    assert max(shapes) <= information.BLOCK
    assert sum(shapes) == 3000**2


def test_of_many_data_some_are_drawn_with_the_seed() -> None:
    codes = gaussian(count=2000)
    result = told(codes, most=400)
    assert result.data == 400
    assert told(codes, most=400, seed=1) != result
    assert told(codes, most=2000) == told(codes)
    everything = told(codes)
    near = 5 * result.mutual_information_se
    assert result.mutual_information == pytest.approx(everything.mutual_information, abs=near)


def test_draws_are_not_those_of_data_made_with_the_same_seed() -> None:
    x = np.random.default_rng(0).standard_normal((COUNT, 1))
    result = told(Codes(x, np.full_like(x, 0.5)), seed=0)
    near = 4 * result.mutual_information_se
    assert result.mutual_information == pytest.approx(0.5 * math.log(5), abs=near)


def test_any_prior_can_be_given() -> None:
    model = recipes.build("vamp", (4,), {"components": 6}).model()
    x = torch.rand(300, 4)
    codes, p = encode_data(model, x), model.prior()
    before = torch.get_rng_state()
    result = told(codes, prior=p)
    assert torch.equal(before, torch.get_rng_state())
    with torch.no_grad():
        q = model.encode(x)
        z = q.sample((500,))
        rate = (q.log_prob(z) - p.log_prob(z)).mean(0).mean()
    error = math.hypot(result.mutual_information_se, result.marginal_kl_se)
    assert result.rate == pytest.approx(float(rate), abs=4 * error)
    standard = told(codes, prior=recipes.build("vae", (4,)).model().prior())
    assert standard == pytest.approx(told(codes), abs=1e-6)


@pytest.mark.parametrize(
    ("loc", "scale", "message"),
    [
        (np.zeros((3, 2)), np.ones((3, 1)), r"scales of shape \(3, 1\)"),
        (np.zeros(3), np.ones(3), r"must be \(N, D\)"),
        (np.full((3, 2), math.nan), np.ones((3, 2)), "hold NaN"),
        (np.zeros((3, 2)), np.zeros((3, 2)), "a scale of 0 or less"),
        (np.zeros((1, 2)), np.ones((1, 2)), "codes hold 1 data"),
    ],
)
def test_what_are_no_posteriors_is_refused(
    loc: np.ndarray, scale: np.ndarray, message: str
) -> None:
    with pytest.raises(checks.ArgumentError, match=message):
        information.information(Codes(loc, scale))


def test_bad_settings_are_refused() -> None:
    codes = gaussian(count=5)
    with pytest.raises(checks.ArgumentError, match="most = 1, but it must be a whole number"):
        information.information(codes, most=1)
    with pytest.raises(checks.ArgumentError, match="prior is over z of shape"):
        information.information(codes, prior=recipes.build("vae", (4,)).model().prior())
