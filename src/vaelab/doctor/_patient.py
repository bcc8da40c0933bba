"""One model and its data: what is worked out once for all checks of a model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.distributions import Distribution

from vaelab.comparison import shown
from vaelab.doctor import _advice
from vaelab.estimator import VAE
from vaelab.importance import Weighed
from vaelab.information import Information, information
from vaelab.latent import Codes
from vaelab.metrics import PerDatum, enough_draws
from vaelab.records import Dataset

__all__ = ["MOST_TEST", "Patient", "admitted"]

MOST_TRAIN, MOST_TEST, WEIGHED = 10_000, 2_000, 500
"""At most how many training and test data are looked at, and how many have their weights drawn."""


@dataclass(frozen=True, eq=False)
class Patient:
    """A model, data as it is shown them, and what is worked out once for all checks.

    Attributes:
        vae: The fitted model.
        train, test: All data, as they were given.
        on_train, on_test: ELBO, rate and distortion of those looked at.
        codes, test_codes: Their posteriors.
        information: What the codes of training data tell, and how far all are from the prior.
        weighed: Importance weights of some of the test data.
        particles: K.
        prior: p(z).
        seed: Where draws start.
    """

    vae: VAE
    train: Dataset
    test: Dataset
    on_train: PerDatum
    on_test: PerDatum
    codes: Codes
    test_codes: Codes
    information: Information
    weighed: Weighed
    particles: int
    prior: Distribution
    seed: int

    @property
    def epochs(self) -> int:
        """How many epochs it was trained."""
        return len(self.vae.history_)

    def again(self, name: str, change: str = "", *, recipe: str = "", latent_dim: int = 0) -> str:
        """The command that trains such a model with a change; see `_advice.anew`."""
        data = self.train
        return _advice.anew(self.vae, data, name, change, recipe=recipe, latent_dim=latent_dim)

    def longer(self) -> str:
        """The command that trains it for twice as long; see `_advice.longer`."""
        return _advice.longer(self.vae, self.train)


@torch.no_grad()
def admitted(vae: VAE, train: Dataset, test: Dataset, particles: int, seed: int) -> Patient:
    """Works out what the checks share; see `vaelab.doctor.examine_model` for the arguments."""
    few, others = (
        shown(data.limited(most), vae.training_.binarize)
        for data, most in ((train, MOST_TRAIN), (test, MOST_TEST))
    )
    some = None if others.y is None else others.y[:WEIGHED]
    first = replace(others, x=others.x[:WEIGHED], y=some, factors=None)
    codes, prior = vae.encode(few), vae.model_.prior()
    return Patient(
        vae,
        train,
        test,
        on_train=vae.terms(few, seed=seed, draws=enough_draws(len(few))),
        on_test=vae.terms(others, seed=seed, draws=enough_draws(len(others))),
        codes=codes,
        test_codes=vae.encode(others),
        information=information(codes, prior=prior, seed=seed),
        weighed=vae.weigh(first, particles=particles, seed=seed),
        particles=particles,
        prior=prior,
        seed=seed,
    )
