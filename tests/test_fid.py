"""FID: torchmetrics' value is ours on the same features, and a missing package is named."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from torch import nn

from vaelab import checks
from vaelab.comparison import evaluate
from vaelab.estimator import VAE
from vaelab.fid import fid
from vaelab.generation import frechet_distance
from vaelab.records import Dataset

pytestmark = pytest.mark.usefixtures("brief_classifier")


class Means(nn.Module):
    """The means of four quarters of the first channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(x[:, :1].double(), 2).flatten(1)


def test_it_is_the_frechet_distance_of_the_networks_features(train: Dataset) -> None:
    real, fake = train.x[:300], 255 - train.x[300:500]
    mine = [Means()(torch.from_numpy(x) / 255).numpy() for x in (real, fake)]
    assert fid(real, fake, network=Means()) == pytest.approx(frechet_distance(*mine), rel=1e-3)
    floats = [x.astype(np.float32) / 255 for x in (real, fake)]
    assert fid(*floats, network=Means()) == pytest.approx(frechet_distance(*mine), rel=1e-3)
    bright = floats[1] * 1.4 - 0.2  # as samples of a Gaussian likelihood may be
    clipped = fid(floats[0], bright.clip(0, 1), network=Means())
    assert fid(floats[0], bright, network=Means()) == clipped
    assert fid(real, real, network=Means()) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("shape", [(3, 5), (1, 1, 4, 4), (3, 2, 4, 4)])
def test_what_an_inception_network_cannot_see_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(checks.DataError, match=r"real has shape .* FID needs at least two images"):
        fid(np.zeros(shape, np.uint8), np.zeros((3, 1, 4, 4), np.uint8))


@pytest.mark.skipif(
    importlib.util.find_spec("torch_fidelity") is not None, reason="nothing is missing"
)
def test_a_missing_package_is_named(train: Dataset, test: Dataset) -> None:
    with pytest.raises(checks.ArgumentError, match=r"pip install 'vaelab\[fid\]'"):
        fid(train.x[:4], train.x[:4])
    vae = VAE("vae", epochs=1).fit(train)
    with pytest.raises(checks.ArgumentError, match=r"pip install 'vaelab\[fid\]'"):
        evaluate(vae, test, particles=2, fid=True)
