"""Laws of the bounds, most of them on a linear-Gaussian model where everything is known exactly."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch.distributions import MultivariateNormal

from vaelab import checks, recipes
from vaelab.distributions import DiagonalNormal
from vaelab.model import Model
from vaelab.objectives import ELBO, OBJECTIVES, ImportanceWeighted

FEATURES, LATENT = 5, 2


@pytest.fixture
def linear() -> Model:
    """A linear model with weights of ordinary size, and posteriors wide enough to sample from."""
    model = recipes.build("linear", (FEATURES,), {"latent_dim": LATENT}).model()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
        last = model.parts["posterior"].network.layers[-1]
        last.weight[LATENT:], last.bias[LATENT:] = 0.0, 0.0  # σ(x) = 1
    return model.eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(6, FEATURES, generator=torch.Generator().manual_seed(2))


def marginal(model: Model) -> MultivariateNormal:
    """The exact p(x) of a linear-Gaussian model: N(b, W Wᵀ + σ² I)."""
    with torch.no_grad():
        offset = model.decode(torch.zeros(LATENT)).mean
        weights = torch.stack([model.decode(e).mean - offset for e in torch.eye(LATENT)], -1)
        variance = model.decode(torch.zeros(LATENT)).variance[0]
    return MultivariateNormal(offset, weights @ weights.T + variance * torch.eye(FEATURES))


def test_the_exact_marginal_is_right(linear: Model, x: torch.Tensor) -> None:
    """Importance sampling from the prior, with many draws, agrees with the formula."""
    with torch.no_grad():
        z = torch.randn(400_000, 1, LATENT)
        estimate = linear.decode(z).log_prob(x).logsumexp(0) - math.log(len(z))
    torch.testing.assert_close(estimate, marginal(linear).log_prob(x), atol=0.05, rtol=0)


def test_elbo_is_below_the_bound_is_below_the_exact(linear: Model, x: torch.Tensor) -> None:
    exact = marginal(linear).log_prob(x).mean().item()
    means = [_bound(linear, x, k) for k in (1, 4, 16, 256)]
    for (lower, error), (higher, other) in pairwise(means):
        assert lower < higher - 3 * math.hypot(error, other), "the bound must grow with K"
    top, error = means[-1]
    assert top < exact + 4 * error, "the bound must stay under the exact log p(x)"
    assert exact - top < 0.2, "with many particles it comes near"


def _bound(model: Model, x: torch.Tensor, particles: int, draws: int = 400) -> tuple[float, float]:
    """Mean over data of the importance-weighted bound, and its Monte Carlo error."""
    generator = torch.Generator().manual_seed(particles)
    with torch.no_grad():
        many = x.repeat(draws, 1)
        loss = ImportanceWeighted(particles)(model, many, generator=generator).loss
    values = -loss.view(draws, len(x)).mean(1)
    return values.mean().item(), (values.std() / math.sqrt(draws)).item()


def test_one_particle_is_the_elbo_in_expectation(linear: Model, x: torch.Tensor) -> None:
    bound, error = _bound(linear, x, 1, draws=4000)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        many = x.repeat(4000, 1)
        elbo = ELBO()(linear, many, generator=generator).elbo.view(4000, len(x)).mean(1)
    other = (elbo.std() / math.sqrt(4000)).item()
    assert bound == pytest.approx(elbo.mean().item(), abs=4 * math.hypot(error, other))


def test_elbo_gap_is_the_divergence_to_the_true_posterior(linear: Model, x: torch.Tensor) -> None:
    """ln p(x) − ELBO = KL(q(z|x) ‖ p(z|x)), where the true posterior is known."""
    exact = marginal(linear).log_prob(x)
    with torch.no_grad():
        elbo = ELBO(particles=200_000)(linear, x).elbo
        offset = linear.decode(torch.zeros(LATENT)).mean
        weights = torch.stack([linear.decode(e).mean - offset for e in torch.eye(LATENT)], -1)
        variance = linear.decode(torch.zeros(LATENT)).variance[0]
        precision = torch.eye(LATENT) + weights.T @ weights / variance
        mean = (x - offset) @ weights / variance @ torch.linalg.inv(precision)
        q = linear.encode(x)
        gap = torch.distributions.kl_divergence(
            MultivariateNormal(q.mean, torch.diag_embed(q.variance)),
            MultivariateNormal(mean, precision_matrix=precision),
        )
    torch.testing.assert_close(exact - elbo, gap, atol=0.03, rtol=0)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_return_terms_per_datum_in_nats(
    name: str, linear: Model, x: torch.Tensor
) -> None:
    objective = OBJECTIVES[name]()
    terms = objective(linear, x, generator=torch.Generator().manual_seed(0))
    for values in (terms.loss, terms.rate, terms.distortion, terms.elbo):
        assert values.shape == (len(x),)
        assert values.dtype == torch.float32
    assert (terms.rate >= 0).all()
    same = objective(linear, x, generator=torch.Generator().manual_seed(0))
    assert torch.equal(terms.loss, same.loss)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_datum_does_not_depend_on_its_batch_mates(
    name: str, linear: Model, x: torch.Tensor
) -> None:
    """The same row with the same draws, among other rows."""
    objective = OBJECTIVES[name](particles=3)
    mates = x.clone()
    mates[1:] = torch.randn(len(x) - 1, FEATURES)
    first = objective(linear, x, generator=torch.Generator().manual_seed(0))
    other = objective(linear, mates, generator=torch.Generator().manual_seed(0))
    assert first.loss[0].item() == pytest.approx(other.loss[0].item(), rel=1e-6)
    assert first.rate[0].item() == pytest.approx(other.rate[0].item(), rel=1e-6)


def test_beta_weighs_the_rate_and_is_in_the_name(linear: Model, x: torch.Tensor) -> None:
    def terms(**settings: float) -> object:
        return ELBO(**settings)(linear, x, generator=torch.Generator().manual_seed(0))

    plain, heavy = terms(), terms(beta=4.0)
    torch.testing.assert_close(heavy.loss, heavy.distortion + 4 * heavy.rate)
    assert torch.equal(plain.elbo, heavy.elbo), "what is reported as ELBO is free of weights"
    assert ELBO().name == "elbo"
    assert ELBO(beta=4.0).name == "elbo_beta4"
    assert ELBO(free_bits=0.5).name == "elbo_free0.5"
    assert ImportanceWeighted(7).name == "iwae_k7"


def test_warm_up_grows_the_weight_linearly(linear: Model, x: torch.Tensor) -> None:
    objective = ELBO(beta=2.0, warmup=10)
    for step, weight in [(0, 0.0), (5, 1.0), (10, 2.0), (99, 2.0), (None, 2.0)]:
        terms = objective(linear, x, step=step, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(terms.loss, terms.distortion + weight * terms.rate)


def test_free_bits_charge_each_dimension_at_least_that_much(linear: Model, x: torch.Tensor) -> None:
    terms = ELBO(free_bits=0.7)(linear, x)
    q, p = linear.encode(x), DiagonalNormal(torch.zeros(LATENT), torch.ones(LATENT))
    by_dimension = torch.distributions.kl_divergence(q.base_dist, p.base_dist)
    charge = by_dimension.clamp_min(0.7).sum(-1)
    torch.testing.assert_close(terms.loss - terms.distortion, charge)
    torch.testing.assert_close(terms.rate, by_dimension.sum(-1))
    huge = ELBO(free_bits=100.0)(linear, x)
    torch.testing.assert_close(huge.loss - huge.distortion, torch.full((len(x),), 200.0))


def test_vamp_rate_is_estimated_by_monte_carlo(x: torch.Tensor) -> None:
    model = recipes.build("vamp", (FEATURES,), {"components": 4}).model()
    with torch.no_grad():
        q, p = model.encode(x), model.prior()
        z = q.sample((50_000,))
        exact = (q.log_prob(z) - p.log_prob(z)).mean(0)
        estimate = ELBO(particles=50_000)(model, x).rate
    torch.testing.assert_close(estimate, exact, atol=0.02, rtol=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ELBO(beta=-1.0), "beta = -1.0, but it must be a finite number of at least 0."),
        (lambda: ELBO(warmup=-1), "warmup = -1, but it must be a whole number of at least 0."),
        (lambda: ELBO(free_bits=math.nan), "free_bits = nan, but it must be a finite number"),
        (lambda: ImportanceWeighted(0), "particles = 0, but it must be a whole number"),
    ],
)
def test_bad_settings_are_refused(make: object, message: str) -> None:
    with pytest.raises(checks.ArgumentError, match=message):
        make()
