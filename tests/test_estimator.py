"""The estimator: scikit-learn's interface, determinism, and clear refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vaelab import VAE, checks, likelihoods, networks, priors, recipes
from vaelab.records import Dataset


@pytest.fixture(scope="module")
def vae(train: Dataset) -> VAE:
    return VAE("vae", epochs=3, seed=0).fit(train.x)


def test_the_public_contract(vae: VAE, test: Dataset) -> None:
    count, shape = len(test), test.shape
    z = vae.transform(test.x)
    assert z.shape == (count, 2)
    assert vae.posterior(test.x[:8]).batch_shape == (8,)
    assert vae.inverse_transform([[0.5, 0.2]])[0].shape == shape
    assert vae.reconstruct(test.x).shape == (count, *shape)
    assert vae.interpolate(test.x[0], test.x[1], steps=11).shape == (11, *shape)
    assert vae.sample(64, seed=1).shape == (64, *shape)
    assert isinstance(vae.score(test.x), float)
    assert vae.score_samples(test.x, particles=20).shape == (count,)
    assert vae.n_features_in_ == 144
    assert vae.history_[-1]["epoch"] == 3


def test_everything_deterministic_is(vae: VAE, test: Dataset) -> None:
    before = torch.get_rng_state()
    for call in (
        lambda: vae.transform(test.x),
        lambda: vae.reconstruct(test.x),
        lambda: vae.inverse_transform([[0.1, 0.2]]),
        lambda: vae.interpolate(test.x[0], test.x[3]),
        lambda: vae.sample(4, seed=2),
        lambda: vae.score(test.x),
        lambda: vae.score_samples(test.x, particles=7, seed=1),
    ):
        assert np.array_equal(call(), call())
    assert torch.equal(before, torch.get_rng_state()), "the global random state must be left alone"
    assert not np.array_equal(vae.sample(4, seed=2), vae.sample(4, seed=3))


def test_what_is_computed_for_a_datum_does_not_depend_on_its_batch_mates(
    vae: VAE, test: Dataset
) -> None:
    together = vae.transform(test.x)
    np.testing.assert_allclose(vae.transform(test.x[:1]), together[:1], rtol=1e-4, atol=1e-5)
    mates = test.x.copy()
    mates[1:] = 255 - mates[1:]
    assert np.array_equal(vae.transform(mates)[0], together[0])


def test_interpolation_ends_are_the_reconstructions(vae: VAE, test: Dataset) -> None:
    strip = vae.interpolate(test.x[0], test.x[1], steps=5)
    ends = vae.reconstruct(test.x[:2])
    np.testing.assert_allclose(strip[[0, -1]], ends, atol=1e-6)


def test_arrays_tensors_and_data_sets_are_the_same(vae: VAE, train: Dataset, test: Dataset) -> None:
    z = vae.transform(test.x)
    assert np.array_equal(vae.transform(test), z)
    assert np.array_equal(vae.transform(torch.from_numpy(test.x)), z)
    assert np.array_equal(vae.transform(test.x[:, 0]), z), "grey images without a channel axis"
    as_floats = test.x.astype(np.float64) / 255
    np.testing.assert_allclose(vae.transform(as_floats), z, atol=1e-5)
    again = VAE("vae", epochs=3, seed=0).fit(torch.from_numpy(train.x))
    assert np.array_equal(again.transform(test.x), z)


def test_the_constructor_only_stores_and_clone_works(vae: VAE) -> None:
    options = {"scale": 0.5}
    estimator = VAE("fixed-variance", latent_dim=3, options=options, seed=7)
    assert estimator.get_params()["options"] is options
    copy = clone(estimator)
    assert copy.get_params() == estimator.get_params()
    assert VAE("no such recipe", latent_dim=-1).recipe == "no such recipe"
    with pytest.raises(NotFittedError):
        clone(vae).transform(np.zeros((1, 144)))


def test_works_in_a_pipeline() -> None:
    x = np.random.default_rng(0).normal(5, 3, (300, 6))
    pipeline = make_pipeline(StandardScaler(), VAE("gaussian", epochs=2, seed=0))
    assert pipeline.fit_transform(x).shape == (300, 2)


def test_any_combination_of_parts_is_a_recipe(train: Dataset) -> None:
    shape = train.shape
    mine = replace(
        recipes.conv(shape),
        name="mine",
        prior=priors.Vamp(shape, components=9),
        likelihood=likelihoods.Gaussian(networks.MLP((2,), shape, (16,)), scale="per-dimension"),
    )
    vae = VAE(mine, epochs=2, seed=0).fit(train)
    assert vae.transform(train).shape == (600, 2)
    again = VAE(mine, epochs=2, seed=0).fit(train)
    assert np.array_equal(vae.transform(train), again.transform(train))


def test_the_bound_is_above_the_elbo(vae: VAE, test: Dataset) -> None:
    assert vae.score_samples(test, particles=100).mean() > vae.score(test)


def test_fixed_variance_has_its_scale(train: Dataset) -> None:
    vae = VAE("fixed-variance", epochs=1, options={"scale": 0.25}).fit(train)
    assert np.allclose(vae.encode(train).scale, 0.25)


@pytest.mark.parametrize(
    ("estimator", "x", "message"),
    [
        (VAE("vea"), np.zeros((9, 4)), "recipe = 'vea' is not known; did you mean 'vae'?"),
        (VAE(latent_dim=0), np.zeros((9, 4)), "latent_dim = 0, but it must be a whole number"),
        (VAE(epochs=0), np.zeros((9, 4)), "epochs = 0, but it must be a whole number"),
        (VAE(seed=-1), np.zeros((9, 4)), "seed = -1, but it must be a whole number from 0"),
        (VAE(options={"scale": 2}), np.zeros((9, 4)), "recipe 'vae' has no option 'scale'; recipe"),
        (VAE("conv"), np.zeros((9, 4)), r"in_shape = (4,), but a convolutional network needs"),
        (
            VAE(likelihood="bernoulli"),
            np.zeros((9, 4)) - 3,
            "data range from -3 to -3, but the likelihood needs values in [0, 1]; rescale them, "
            "or use a Gaussian likelihood",
        ),
        (VAE(likelihood="gauss"), np.zeros((9, 4)), "likelihood = 'gauss' is not known; did you"),
        (
            VAE("linear", likelihood="bernoulli"),
            np.zeros((9, 4)),
            "likelihood = 'bernoulli', but recipe 'linear' is made of its Gaussian one; give",
        ),
        (
            VAE(recipes.vae((4,)), likelihood="gaussian"),
            np.zeros((9, 4)),
            "likelihood = 'gaussian' goes with the name of a recipe; set it in yours.",
        ),
        (VAE(), [[0.0, np.nan]], "data hold NaN or infinity, first in row 0"),
        (VAE(), [["a"]], "data have type <U1, but they must be real numbers"),
        (VAE(), np.zeros((0, 4)), "data have shape (0, 4), but vectors (N, D) or images"),
        (VAE(), np.zeros(4), "data have shape (4,), but vectors (N, D) or images"),
        (VAE(), np.zeros(4), "Reshape your data: x[None] makes one datum of them, x[:, None] data"),
        (VAE(), np.zeros((4, 0)), "0 feature(s) (shape=(4, 0)) while a minimum of 1 is required"),
        (VAE(), [[1.0], [1.0, 2.0]], "data are no array: "),
        (VAE(), [[None, 1.0]], "data hold NaN or infinity, first in row 0, column 0 (one value);"),
        (VAE(), [[{}, 1.0]], "data hold no number in row 0, column 0: float() argument must be"),
        (VAE(), np.array([[1, "a"]], object), "data hold no number in row 0, column 1: could not"),
        (VAE(), csr_array(np.eye(3)), "data are a sparse csr_array, but sparse data are not supp"),
        (VAE(), np.zeros((2, 2), complex), "data have type complex128, but they must be real"),
        (VAE(), torch.zeros(2, 2, dtype=torch.complex64), "Complex data not supported: data have"),
    ],
)
def test_bad_input_is_told_in_one_line(estimator: VAE, x: object, message: str) -> None:
    with pytest.raises(checks.VaelabError) as error:
        estimator.fit(x)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, ValueError)


def test_bad_input_to_a_fitted_model(vae: VAE) -> None:
    with pytest.raises(checks.DataError, match=r"each datum has shape \(1, 5, 5\)"):
        vae.transform(np.zeros((2, 1, 5, 5), np.uint8))
    with pytest.raises(checks.ArgumentError, match=r"latent points have shape \(1, 3\)"):
        vae.inverse_transform([[1.0, 2.0, 3.0]])
    with pytest.raises(checks.ArgumentError, match="latent points hold NaN"):
        vae.inverse_transform([[1.0, np.nan]])
    with pytest.raises(checks.ArgumentError, match="steps = 1, but it must be"):
        vae.interpolate(np.zeros((1, 12, 12)), np.zeros((1, 12, 12)), steps=1)
    with pytest.raises(checks.ArgumentError, match="particles = 0"):
        vae.score_samples(np.zeros((2, 1, 12, 12)), particles=0)


def test_the_callers_data_are_not_changed(train: Dataset) -> None:
    x = train.x.astype(np.float32) / 255
    before = x.copy()
    VAE("vae", epochs=1).fit(x).transform(x)
    assert np.array_equal(x, before)
