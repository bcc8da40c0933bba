"""What a model is judged by: the data as it is shown them, and what is computed from them once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vaelab import latent, metrics
from vaelab.estimator import VAE
from vaelab.generation import FeatureMap, Features
from vaelab.importance import Progress
from vaelab.latent import Codes
from vaelab.records import Dataset
from vaelab.tensors import STATIC_SEED, as_tensor, binarized

__all__ = ["JUDGED", "PARTICLES", "SAMPLES", "Evidence", "labels_of", "shown"]

PARTICLES = 64
"""K, of the importance-weighted log p(x), unless told otherwise."""

JUDGED = 2_000
"""How many test data the importance-weighted log p(x) is estimated on, unless told otherwise."""

SAMPLES = 5_000
"""How many samples are judged, unless told otherwise."""


def labels_of(data: Dataset | None) -> np.ndarray | None:
    """The labels of data of at least two classes; else `None`."""
    if data is None or data.y is None or len(np.unique(data.y)) < 2:
        return None
    return data.y


def shown(data: Dataset, binarize: str) -> Dataset:
    """Data as a model is shown them that was trained with `Training.binarize`."""
    if binarize == "none":
        return data
    return replace(data, x=binarized(as_tensor(data.x), STATIC_SEED).numpy())


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a model is judged by; the fields are the arguments of `evaluate`."""

    vae: VAE
    given: Dataset
    given_train: Dataset | None
    binarize: str
    particles: int = PARTICLES
    most: int | None = JUDGED
    seed: int = 0
    samples: int = SAMPLES
    annealed: int = 0
    fid: bool = False
    features: Features | FeatureMap | None = None
    progress: Progress | None = None

    @cached_property
    def test(self) -> Dataset:
        """The data to judge on, as the model is shown them."""
        return shown(self.given, self.binarize)

    @cached_property
    def train(self) -> Dataset | None:
        """The training data, as the model is shown them."""
        return None if self.given_train is None else shown(self.given_train, self.binarize)

    @cached_property
    def terms(self) -> metrics.PerDatum:
        """The ELBO's terms for each of the test data."""
        draws = metrics.enough_draws(len(self.test))
        return self.vae.terms(self.test, seed=self.seed, draws=draws)

    @cached_property
    def codes(self) -> Codes:
        """The posteriors of the test data."""
        return self.vae.encode(self.test)

    @cached_property
    def drawn(self) -> np.ndarray:
        """The samples to judge, at most as many as there are test data.

        Those of a conditional model have the labels of as many of the test data.
        """
        some = self.given.limited(self.samples)
        z = latent.draw(self.vae.model_, len(some), self.seed)
        return self.vae.decode(z, some.y)

    @cached_property
    def among(self) -> Codes | None:
        """The posteriors of the training data."""
        return None if self.train is None else self.vae.encode(self.train)
