"""The figures that vaelab promises on the full MNIST, with all defaults and seed 0."""

from __future__ import annotations

import warnings

import pytest
import torch
from sklearn.decomposition import PCA

import vaelab
from vaelab import checks
from vaelab.records import Dataset

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mnist() -> tuple[Dataset, Dataset]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", checks.VaelabWarning)
        train, test = vaelab.data.load("mnist")
    if len(train) < 60_000:
        pytest.skip("only 5,000 digits are at hand: set VAELAB_DATA, or go online")
    return train, test


@pytest.mark.parametrize(("recipe", "least"), [("vae", -143.5), ("conv", -145.0)])
def test_the_elbo_is_what_is_promised(
    recipe: str, least: float, mnist: tuple[Dataset, Dataset]
) -> None:
    train, test = mnist
    torch.set_num_threads(2)
    assert vaelab.VAE(recipe, seed=0).fit(train).score(test) > least


def test_linear_reaches_probabilistic_pca_on_digits(mnist: tuple[Dataset, Dataset]) -> None:
    train, test = mnist
    flat = [part.x.reshape(len(part), -1) / 255.0 for part in (train, test)]
    exact = PCA(2, svd_solver="covariance_eigh").fit(flat[0]).score(flat[1])
    elbo = vaelab.VAE("linear", seed=0).fit(train).score(test)
    assert exact - 0.05 < elbo < exact + 0.02
