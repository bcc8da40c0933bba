"""Laws of the estimates of log p(x), on models where it is known exactly or by quadrature."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import genpareto
from torch.distributions import MultivariateNormal

from vaelab import checks, importance, recipes
from vaelab.divergences import kl_normal
from vaelab.importance import (
    Weighed,
    _largest,
    _tail_index,
    annealed,
    standard_error,
    unreliable,
    weigh,
)
from vaelab.model import Model
from vaelab.networks import MAX_LOG_SCALE, unbound

FEATURES, LATENT, NOISE = 5, 2, 0.7


def linear(width: float = 1.0) -> tuple[Model, MultivariateNormal]:
    """A linear-Gaussian model and its exact p(x); q is p(z|x), but for scales times `width`.

    The columns of the decoder's matrix W are orthogonal, so p(z|x) has independent dimensions.
    """
    generator = torch.Generator().manual_seed(1)
    square, offset = torch.randn(FEATURES, FEATURES + 1, generator=generator).split(FEATURES, 1)
    weights = torch.linalg.qr(square).Q[:, :LATENT] * torch.tensor([1.5, 0.8])
    offset, variance = offset.squeeze(1), NOISE**2
    spread = 1 / (1 + weights.square().sum(0) / variance)
    model = recipes.build("linear", (FEATURES,), {"latent_dim": LATENT}).model().eval()
    encoder = model.parts["posterior"].network.layers[-1]
    decoder = model.parts["likelihood"].network.layers[-1]
    with torch.no_grad():
        decoder.weight.copy_(weights)
        decoder.bias.copy_(offset)
        model.parts["likelihood"].raw_log_scale.fill_(
            unbound(torch.tensor(NOISE).log(), MAX_LOG_SCALE)
        )
        project = spread[:, None] * weights.T / variance
        encoder.weight.copy_(torch.cat([project, torch.zeros(LATENT, FEATURES)]))
        scales = unbound((width * spread.sqrt()).log(), MAX_LOG_SCALE)
        encoder.bias.copy_(torch.cat([-project @ offset, scales]))
    covariance = weights @ weights.T + variance * torch.eye(FEATURES)
    return model, MultivariateNormal(offset, covariance)


def data(count: int) -> tuple[torch.Tensor, np.ndarray]:
    """Data of the linear model, and their exact log p(x)."""
    p = linear()[1]
    x = p.sample((count,))
    return x, p.log_prob(x).double().numpy()


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


@pytest.mark.parametrize("particles", [1, 7, 3000])
def test_the_true_posterior_gives_the_exact_value_and_full_weight(particles: int) -> None:
    x, exact = data(20)
    weighed = weigh(linear()[0], x, particles=particles)
    np.testing.assert_allclose(weighed.log_likelihood, exact, atol=2e-5)
    np.testing.assert_allclose(weighed.effective, particles, rtol=1e-6)
    np.testing.assert_allclose(standard_error(weighed, particles), 0, atol=1e-3)
    assert weighed.log_likelihood.dtype == weighed.effective.dtype == np.float64


@pytest.mark.parametrize("width", [2.0, 0.85])
def test_effective_sample_size_is_that_of_two_normals(width: float) -> None:
    """For p = N(0, 1) and q = N(0, s²), E_q[(p/q)²] = s² / √(2s² − 1) in each dimension."""
    x, exact = data(8)
    weighed = weigh(linear(width)[0], x, particles=40_000)
    share = (math.sqrt(2 * width**2 - 1) / width**2) ** LATENT
    np.testing.assert_allclose(weighed.effective / 40_000, share, rtol=0.03)
    np.testing.assert_allclose(weighed.log_likelihood, exact, atol=0.03)


@pytest.mark.parametrize("particles", [64, 2000])
@pytest.mark.parametrize("width", [3.0, 1.2, 0.9, 0.3, 0.1, 0.001])
def test_what_is_unreliable_is_what_is_too_low(width: float, particles: int) -> None:
    """A posterior s times as wide as it should be has weights with tails of index 1 − s²."""
    x, exact = data(200)
    weighed = weigh(linear(width)[0], x, particles=particles)
    missing = (exact - weighed.log_likelihood).mean()
    share = unreliable(weighed, particles)
    if width > 0.5:
        assert missing < 0.05
        assert share < 0.5
    else:
        assert missing > 0.1
        assert share > 0.5


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.5, 0.7, 1.0, 1.5])
def test_the_tail_index_is_that_of_generalised_pareto_weights(k: float) -> None:
    weights = genpareto.rvs(k, size=(4000, 300), random_state=0)
    log_w = torch.from_numpy(np.log(weights))
    parts = [_largest(log_w[:1500], 4000), log_w[1500:]]
    top = _largest(torch.cat(parts), 4000)
    found = _tail_index(top, 4000).numpy()
    assert len(top) == 191, "the tail, 3 √4000, and the largest weight below it"
    count, drawn = len(top) - 1, (300, len(top) - 1)
    expected = (count * k + 5) / (count + 10)
    assert np.median(found) == pytest.approx(expected, abs=0.05)
    tails = genpareto.rvs(k, size=drawn, random_state=1)[:40]
    fitted = [genpareto.fit(tail, floc=0)[0] for tail in tails]
    assert found.std() < 1.3 * np.std(fitted), "no less sure than maximum likelihood"


def test_unreliable_counts_tails_above_a_limit_that_grows_with_particles() -> None:
    tails = np.array([0.2, 0.5, 0.68, 0.72])
    weighed = Weighed(np.zeros(4), np.ones(4), tails)
    assert unreliable(weighed, 64) == pytest.approx(2 / 4)
    assert unreliable(weighed, 10_000) == pytest.approx(1 / 4)
    assert unreliable(weighed, 24) == 1.0


def test_one_particle_is_the_elbo_and_the_bound_grows_with_more() -> None:
    width, draws = 2.0, 4000
    x, exact = data(1)
    model, many = linear(width)[0], x.repeat(draws, 1)
    bounds = [
        mean_and_error(weigh(model, many, particles=k).log_likelihood) for k in (1, 4, 16, 64)
    ]
    elbo = float(exact[0]) - LATENT * kl_normal(0.0, width, 0.0, 1.0)
    assert bounds[0][0] == pytest.approx(elbo, abs=4 * bounds[0][1])
    for (lower, error), (higher, other) in pairwise(bounds):
        assert lower < higher - 3 * math.hypot(error, other), "the bound must grow with K"
    assert bounds[-1][0] < exact[0] + 4 * bounds[-1][1], "it must stay under the exact log p(x)"


def test_the_standard_error_is_the_spread_over_seeds() -> None:
    x, exact = data(1)
    weighed = weigh(linear(2.0)[0], x.repeat(2000, 1), particles=200)
    told = standard_error(weighed, 200).mean()
    assert weighed.log_likelihood.std() == pytest.approx(told, rel=0.08)
    assert exact[0] - weighed.log_likelihood.mean() == pytest.approx(told**2 / 2, rel=0.9)


def test_estimates_do_not_depend_on_how_particles_are_portioned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, _ = data(4)
    model = linear(2.0)[0]
    whole = weigh(model, x, particles=3000)
    for decoded in (256, 1024):  # the same stream of normal draws, cut otherwise
        monkeypatch.setattr(importance, "DECODED", decoded)
        parts = weigh(model, x, particles=3000)
        np.testing.assert_allclose(whole.log_likelihood, parts.log_likelihood, rtol=1e-6)
        np.testing.assert_allclose(whole.effective, parts.effective, rtol=1e-5)


@pytest.mark.parametrize(("count", "particles"), [(3, 20_000), (5000, 2), (200, 100)])
def test_memory_is_bounded_and_data_are_encoded_once(
    count: int, particles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encoded, decoded = linear()[0], [], []
    model.parts["posterior"].register_forward_hook(
        lambda m, given, q: encoded.append(len(given[0]))
    )
    model.parts["likelihood"].register_forward_hook(
        lambda m, given, p: decoded.append(given[0].shape[:-1].numel())
    )
    x, _ = data(count)
    weigh(model, x, particles=particles)
    assert sum(encoded) == count
    assert sum(decoded) == count * particles
    assert max(decoded) <= 4096
    monkeypatch.setattr(importance, "ELEMENTS", 100 * FEATURES)
    decoded.clear()
    weigh(model, x[:50], particles=40)
    annealed(model, x[:50], steps=2, leapfrog=1)
    assert max(decoded) <= 100, "large data are decoded fewer at a time"


def test_progress_is_told_until_all_is_done() -> None:
    x, _ = data(150)
    heard: list[tuple[int, int]] = []
    weigh(linear()[0], x, particles=100, progress=lambda *told: heard.append(told))
    assert len(heard) > 2
    assert heard[-1] == (15_000, 15_000)
    assert all(a < b and of == 15_000 for (a, of), (b, _) in pairwise(heard))
    heard.clear()
    annealed(linear()[0], x, steps=3, leapfrog=1, progress=lambda *told: heard.append(told))
    assert heard == [(150, 450), (300, 450), (450, 450)]


def test_the_seed_decides_all_and_nothing_outside_changes() -> None:
    model, (x, _) = linear(2.0)[0], data(10)
    before = torch.get_rng_state()
    for estimate in (
        lambda seed: weigh(model, x, particles=9, seed=seed),
        lambda seed: annealed(model, x, steps=5, seed=seed),
    ):
        first, same, other = (estimate(seed).log_likelihood for seed in (0, 0, 1))
        assert np.array_equal(first, same)
        assert not np.isclose(first, other).any()
    assert torch.equal(before, torch.get_rng_state())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_annealing_finds_the_exact_value_without_the_posterior() -> None:
    x, exact = data(20)
    model, bad = linear()[0], linear(0.001)[0]
    found = annealed(model, x, steps=150, leapfrog=5)
    assert np.abs(found.log_likelihood - exact).max() < 0.6
    assert abs((found.log_likelihood - exact).mean()) < 0.1
    assert 3 < found.effective.mean() < 4
    quick, same = (annealed(m, x, steps=10, leapfrog=5).log_likelihood for m in (model, bad))
    assert np.array_equal(quick, same), "q plays no part"
    poor = weigh(bad, x, particles=1000)
    assert (exact - poor.log_likelihood).mean() > 5, "it does where particles are drawn from it"


def test_annealing_gives_a_bound_that_grows_with_temperatures() -> None:
    x, exact = data(1)
    many, bounds = x.repeat(600, 1), []
    for steps in (1, 4, 40):
        values = annealed(linear()[0], many, steps=steps, chains=1, leapfrog=5).log_likelihood
        bounds.append(mean_and_error(values))
    for (lower, error), (higher, other) in pairwise(bounds):
        assert lower < higher - 3 * math.hypot(error, other)
    assert bounds[-1][0] < exact[0] + 4 * bounds[-1][1]


def test_one_temperature_is_importance_sampling_from_the_prior() -> None:
    model, (x, _) = linear()[0], data(1)
    values = annealed(model, x.repeat(4000, 1), steps=1, chains=1).log_likelihood
    with torch.no_grad():
        reference = model.decode(torch.randn(4000, LATENT)).log_prob(x).double().numpy()
    error = math.hypot(mean_and_error(values)[1], mean_and_error(reference)[1])
    assert values.mean() == pytest.approx(reference.mean(), abs=4 * error)


def test_annealed_weights_are_right_in_expectation() -> None:
    """E[w] = p(x), though steps are few: it fails for transitions that leave no target as it is."""
    x, exact = data(1)
    many = x.repeat(8000, 1)
    values = annealed(linear()[0], many, steps=8, chains=1, leapfrog=3).log_likelihood
    ratio, error = mean_and_error(np.exp(values - exact))
    assert error < 0.03
    assert ratio == pytest.approx(1, abs=4 * error)


@pytest.mark.parametrize("settings", [("vae", {}), ("vamp", {"components": 8})])
def test_both_estimates_agree_with_quadrature_on_images(settings: tuple[str, dict]) -> None:
    name, options = settings
    model = recipes.build(name, (1, 4, 4), options).model().eval()
    x = (255 * (torch.rand(12, 1, 4, 4) < 0.5)).to(torch.uint8)
    with torch.no_grad():
        for layer in model.parts["likelihood"].network.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.mul_(1.5)
        axis = torch.linspace(-6, 6, 181)
        z = torch.cartesian_prod(axis, axis).unsqueeze(1)
        density = model.decode(z).log_prob(x / 255) + model.prior().log_prob(z)
        exact = density.double().logsumexp(0).numpy() + 2 * math.log(axis[1] - axis[0])
    weighed = weigh(model, x, particles=5000)
    np.testing.assert_allclose(weighed.log_likelihood, exact, atol=0.1)
    slow = annealed(model, x, steps=60, chains=4, leapfrog=4)
    np.testing.assert_allclose(slow.log_likelihood, exact, atol=1.0)
    assert abs((slow.log_likelihood - exact).mean()) < 0.15


@pytest.mark.parametrize("setting", ["steps", "chains", "leapfrog"])
def test_bad_settings_are_refused(setting: str) -> None:
    x, _ = data(1)
    with pytest.raises(checks.ArgumentError, match="particles = 0, but it must be a whole number"):
        weigh(linear()[0], x, particles=0)
    with pytest.raises(checks.ArgumentError, match=f"{setting} = 0, but it must be a whole number"):
        annealed(linear()[0], x, **{setting: 0})
