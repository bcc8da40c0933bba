"""Floor 7: the named models, each a short function that combines parts.

A recipe function takes the shape of a datum and returns a `Recipe`; `dataclasses.replace` makes a
new combination of any of them. The parts in a recipe say what to build: training gives its copy of
them fresh weights, drawn from the seed.

>>> from dataclasses import replace
>>> from vaelab import priors
>>> mine = replace(conv((1, 28, 28)), prior=priors.Vamp((1, 28, 28), components=50))
>>> mine.model().latent_dim
2
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vaelab import checks
from vaelab.distributions import seeded
from vaelab.likelihoods import Bernoulli, Gaussian, Likelihood
from vaelab.model import Model
from vaelab.networks import MLP, ConvDecoder, ConvEncoder
from vaelab.objectives import ELBO, ImportanceWeighted, Objective
from vaelab.posteriors import DiagonalGaussian, FixedGaussian, Posterior
from vaelab.priors import Prior, StandardNormal, Vamp
from vaelab.records import Training

__all__ = ["RECIPES", "Recipe", "build", "options"]

Shape = tuple[int, ...]

ENCODER = (256, 128, 128)
DECODER = (128, 128, 128, 256)


@dataclass(frozen=True, eq=False)
class Recipe:
    """A combination of parts, an objective and training settings.

    Attributes:
        name: What it is called in tables and folders.
        posterior, prior, likelihood: The parts.
        objective: What is minimised.
        training: How it is trained.
    """

    name: str
    posterior: Posterior
    prior: Prior
    likelihood: Likelihood
    objective: Objective = field(default_factory=ELBO)
    training: Training = field(default_factory=Training)

    def model(self) -> Model:
        """The model that the parts make; training copies it and gives the copy fresh weights."""
        return Model(self.posterior, self.prior, self.likelihood)


def vae(shape: Shape, latent_dim: int = 2) -> Recipe:
    """The classic VAE: dense networks, diagonal Gaussian posterior, Bernoulli likelihood."""
    return Recipe(
        "vae",
        DiagonalGaussian(MLP(shape, (2, latent_dim), ENCODER)),
        StandardNormal(latent_dim),
        Bernoulli(MLP((latent_dim,), shape, DECODER)),
    )


def fixed_variance(shape: Shape, latent_dim: int = 2, scale: float = 1.0) -> Recipe:
    """The posterior's standard deviation is the constant `scale`; only its mean is learnt."""
    posterior = FixedGaussian(MLP(shape, (latent_dim,), ENCODER), scale)
    return replace(vae(shape, latent_dim), name="fixed-variance", posterior=posterior)


def conv(shape: Shape, latent_dim: int = 2) -> Recipe:
    """`vae` with convolutional networks, for images `(C, H, W)` of any size."""
    return replace(
        vae(shape, latent_dim),
        name="conv",
        posterior=DiagonalGaussian(ConvEncoder(shape, (2, latent_dim))),
        likelihood=Bernoulli(ConvDecoder((latent_dim,), shape)),
    )


def beta(shape: Shape, latent_dim: int = 2, beta: float = 4.0) -> Recipe:
    """β-VAE: `vae` with the KL divergence weighted by `beta`."""
    return replace(vae(shape, latent_dim), name="beta", objective=ELBO(beta=beta))


def iwae(shape: Shape, latent_dim: int = 2, particles: int = 5) -> Recipe:
    """`vae` trained with the importance-weighted bound of `particles` draws."""
    objective = ImportanceWeighted(particles)
    return replace(vae(shape, latent_dim), name="iwae", objective=objective)


def vamp(shape: Shape, latent_dim: int = 2, components: int = 128) -> Recipe:
    """`vae` with a VampPrior: a mixture of posteriors at `components` learnt pseudo-inputs."""
    return replace(vae(shape, latent_dim), name="vamp", prior=Vamp(shape, components))


def gaussian(shape: Shape, latent_dim: int = 2) -> Recipe:
    """`vae` for data that are real numbers: Gaussian likelihood, one learnt scale."""
    likelihood = Gaussian(MLP((latent_dim,), shape, DECODER))
    return replace(vae(shape, latent_dim), name="gaussian", likelihood=likelihood)


def linear(shape: Shape, latent_dim: int = 2) -> Recipe:
    """Linear encoder and decoder, Gaussian likelihood with one learnt scale.

    Its optimum is probabilistic PCA, as J. Lucas et al. (2019) show,
    https://arxiv.org/abs/1911.02469
    """
    return Recipe(
        "linear",
        DiagonalGaussian(MLP(shape, (2, latent_dim))),
        StandardNormal(latent_dim),
        Gaussian(MLP((latent_dim,), shape)),
        training=Training(learning_rate=1e-2, weight_decay=0.0),
    )


def options(name: str) -> dict[str, float]:
    """The options of a recipe beside the shape, with their defaults.

    >>> options("fixed-variance")
    {'latent_dim': 2, 'scale': 1.0}
    """
    recipe = RECIPES[checks.choice("recipe", name, RECIPES)]
    parameters = list(inspect.signature(recipe).parameters.values())[1:]
    return {parameter.name: parameter.default for parameter in parameters}


def build(name: str, shape: Shape, settings: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a name for data of a shape, leaving torch's global random state as it was.

    Arguments:
        name: A name in `RECIPES`.
        shape: Shape of a datum.
        settings: Options of the recipe by name; see `options`.

    Raises:
        checks.ArgumentError: An unknown name, option or value, or a shape it cannot be made for.

    >>> build("beta", (4,), {"beta": 2.0}).objective.name
    'elbo_beta2'
    """
    known = options(name)
    for option in settings or {}:
        checks.choice(f"option of recipe {name!r}", option, known)
    checks.integer("latent_dim", (settings or {}).get("latent_dim", 1))
    with seeded(0):
        return RECIPES[name](shape, **(settings or {}))


RECIPES: dict[str, Callable[..., Recipe]] = {
    "vae": vae,
    "fixed-variance": fixed_variance,
    "conv": conv,
    "beta": beta,
    "iwae": iwae,
    "vamp": vamp,
    "gaussian": gaussian,
    "linear": linear,
}
