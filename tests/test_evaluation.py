"""`evaluate`: all figures of a model, each right where it is known, and flagged where it is not."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from vaelab import VAE, checks, data, importance, recipes
from vaelab.comparison import details, evaluate
from vaelab.comparison._judging import CLASSES, _errors
from vaelab.comparison._tables import MEANINGS
from vaelab.metrics import mean_and_error
from vaelab.networks import MLP
from vaelab.posteriors import FixedGaussian
from vaelab.records import Dataset


@contextmanager
def quickly_annealed() -> Iterator[None]:
    """A quarter of the temperatures: enough where the prior is near to what is looked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importance, "annealed", partial(importance.annealed, steps=250))
        yield


@pytest.fixture(scope="module")
def vae(train: Dataset) -> VAE:
    return VAE("vae", epochs=6, seed=0).fit(train)


@pytest.fixture(scope="module")
def figures(vae: VAE, train: Dataset, test: Dataset) -> dict[str, object]:
    with quickly_annealed():
        return evaluate(vae, test, train, particles=100, annealed=2)


@pytest.fixture(scope="module")
def vectors() -> Dataset:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3000, 2))
    x = z @ rng.normal(size=(2, 6)) + 0.5 * rng.normal(size=(3000, 6)) + 1.0
    return Dataset(x.astype(np.float32), None, "vectors")


def marginal(vae: VAE) -> MultivariateNormal:
    """p(x) of a linear-Gaussian model."""
    with torch.no_grad():
        p = vae.model_.decode(torch.zeros(1, 2))
        weights = vae.model_.decode(torch.eye(2)).mean - p.mean
        return MultivariateNormal(p.mean[0], weights.T @ weights + torch.diag(p.variance[0]))


def test_the_figures_of_a_linear_model_are_the_exact_ones(vectors: Dataset) -> None:
    """x = W z + b + noise: log p(x) is Gaussian, and I(x; z) = ½ ln det(I + WᵀW / σ²)."""
    vae = VAE("linear", epochs=60, seed=0).fit(vectors)
    found = evaluate(vae, vectors, particles=200, most=None, annealed=40)
    exact = marginal(vae)
    log_p = exact.log_prob(torch.from_numpy(vectors.x))
    noise = vae.model_.decode(torch.zeros(1, 2)).variance[0].detach()
    told = 0.5 * torch.logdet(exact.covariance_matrix / noise)
    assert abs(found["annealed_difference"]) < 0.1
    assert found["annealed_count"] == 40
    assert found["log_likelihood"] == pytest.approx(float(log_p.mean()), abs=0.03)
    assert found["elbo"] <= found["log_likelihood"] + 0.03
    assert found["mutual_information"] == pytest.approx(float(told), abs=0.15)
    assert abs(found["marginal_kl"]) < 0.1
    assert found["unreliable"] < 0.05
    assert found["active_units"] == 2
    assert "annealed_count" not in evaluate(vae, vectors, particles=2)


def test_the_parts_add_up(figures: dict[str, float]) -> None:
    assert figures["elbo"] == pytest.approx(-(figures["rate"] + figures["distortion"]))
    assert sum(figures["kl_per_dimension"]) == pytest.approx(figures["rate"], rel=1e-4)
    assert figures["marginal_kl"] == pytest.approx(
        figures["total_correlation"] + figures["dimension_kl"], abs=1e-6
    )
    parts = figures["mutual_information"] + figures["marginal_kl"]
    assert parts == pytest.approx(figures["rate"], rel=0.1), "by draws, not by the closed form"
    assert figures["elbo"] < figures["log_likelihood"]


def test_few_data_have_so_many_draws_that_the_elbo_is_no_matter_of_luck(vectors: Dataset) -> None:
    """With one draw, chance moved the ELBO of 30 data by 0.2 nats, and above log p(x)."""
    vae = VAE("linear", epochs=40, seed=0).fit(vectors)
    few = replace(vectors, x=vectors.x[:30])
    found = [evaluate(vae, few, particles=64, seed=seed) for seed in range(5)]
    elbos = np.array([figures["elbo"] for figures in found])
    lucky = np.array([vae.terms(few, seed=seed).elbo.mean() for seed in range(5)])
    assert lucky.std() > 0.05
    assert elbos.std() < 0.02
    for figures in found:
        assert figures["elbo"] <= figures["log_likelihood"] + 0.02
        assert figures["elbo"] == pytest.approx(-(figures["rate"] + figures["distortion"]))
    assert found[0] == evaluate(vae, few, particles=64, seed=0)


def test_ten_thousand_data_have_one_draw_each(vectors: Dataset) -> None:
    vae = VAE("linear", epochs=1, seed=0).fit(vectors)
    many = replace(vectors, x=np.resize(vectors.x, (10_000, 6)))
    found = evaluate(vae, many, particles=1, most=10, seed=3)
    assert found["elbo"] == vae.terms(many, seed=3).elbo.mean()


def test_the_error_of_a_share_is_that_of_its_zeros_and_ones() -> None:
    right = np.random.default_rng(0).random(80) < 0.7
    found = _errors({"right": right.mean()}, 80)["right_se"]
    assert found == pytest.approx(mean_and_error(right.astype(float))[1])


def test_shares_and_means_have_errors(figures: dict[str, float]) -> None:
    names = ("knn_accuracy", "linear_probe_accuracy_sampled", "precision", "coverage")
    for name in names:
        share = figures[name]
        assert figures[f"{name}_se"] == pytest.approx((share * (1 - share) / 199) ** 0.5, rel=0.01)
    assert 0 < figures["silhouette_se"] < 0.1


def test_every_figure_is_told_and_is_plain_json(figures: dict[str, object]) -> None:
    assert json.loads(json.dumps(figures)) == figures
    assert {name for name in figures if not name.endswith("_se")} <= set(MEANINGS)
    lines = details(figures).splitlines()
    assert len(lines) == sum(not name.endswith("_se") for name in figures)
    assert "±" in lines[0]
    (aggregate,) = [line for line in lines if line.startswith("marginal_kl ")]
    assert "test data" in aggregate, "the doctor's is of training data"


def test_a_posterior_that_is_too_narrow_is_flagged(train: Dataset, test: Dataset) -> None:
    recipe = recipes.vae(train.shape)
    narrow = replace(recipe, posterior=FixedGaussian(MLP(train.shape, (2,), (16,)), scale=1e-3))
    vae = VAE(narrow, epochs=2).fit(train)
    with pytest.warns(checks.VaelabWarning, match=r"log p\(x\) of 'vae' cannot be trusted"):
        found = evaluate(vae, test, particles=64)
    assert found["unreliable"] > 0.5
    assert evaluate(vae, test, particles=20)["unreliable"] is None, "too few to tell"


def test_a_sound_posterior_is_not_flagged(vae: VAE, train: Dataset, test: Dataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = evaluate(vae, test, train, particles=100)
    assert found["unreliable"] < 0.5


def test_annealing_finds_what_a_narrow_posterior_misses(vectors: Dataset) -> None:
    narrow = FixedGaussian(MLP((6,), (2,)), scale=0.02)
    recipe = replace(recipes.linear((6,)), posterior=narrow)
    vae = VAE(recipe, epochs=10, seed=0).fit(vectors)
    with pytest.warns(checks.VaelabWarning, match="cannot be trusted"):
        found = evaluate(vae, vectors, particles=50, annealed=20)
    assert found["annealed_difference"] > 5 * found["annealed_difference_se"]
    exact = marginal(vae).log_prob(torch.from_numpy(vectors.limited(20).x)).mean()
    assert found["annealed_log_likelihood"] == pytest.approx(float(exact), abs=0.15)


def test_without_labels_nothing_is_said_of_classes(vae: VAE, test: Dataset) -> None:
    found = evaluate(vae, replace(test, y=None), particles=2)
    assert all(found[name] is None for name in CLASSES)
    assert "precision" not in found


def test_samples_are_judged_by_a_classifier_or_by_features_of_ones_own(
    vae: VAE, figures: dict[str, float], train: Dataset, test: Dataset
) -> None:
    assert figures["classifier_accuracy"] > 0.9
    noise = VAE("vae", epochs=1, learning_rate=1e-9).fit(train)
    worse = evaluate(noise, test, train, particles=2)
    assert worse["classifier_frechet"] > 2 * figures["classifier_frechet"]
    assert worse["coverage"] < figures["coverage"]
    assert "precision" not in evaluate(vae, test, train, particles=2, samples=0)
    own = evaluate(vae, test, particles=2, features=lambda x: np.asarray(x).reshape(len(x), -1))
    assert own["frechet"] > 0
    assert "classifier_frechet" not in own


def test_known_factors_are_looked_for_in_the_code() -> None:
    train, test = (part.limited(300) for part in data.load("shapes"))
    found = evaluate(VAE("vae", epochs=1).fit(train), test, train, particles=2, samples=0)
    assert {"mig", "sap", "factor_vae", "dci_disentanglement"} <= set(found)


def test_progress_ends_where_all_is_done(vae: VAE, test: Dataset) -> None:
    told: list[tuple[int, int]] = []
    evaluate(vae, test, particles=3, most=50, progress=lambda *now: told.append(now))
    assert told[-1] == (150, 150)
