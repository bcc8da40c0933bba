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
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from torch import Tensor

from vaelab import checks
from vaelab.conditioning import Conditioned
from vaelab.distributions import seeded
from vaelab.inputs import suited
from vaelab.likelihoods import LIKELIHOODS, Bernoulli, Gaussian, Likelihood, in_words
from vaelab.model import Model
from vaelab.networks import MLP, ConvDecoder, ConvEncoder
from vaelab.objectives import ELBO, ImportanceWeighted, Objective
from vaelab.parts import Part
from vaelab.posteriors import DiagonalGaussian, FixedGaussian, Posterior
from vaelab.priors import Prior, StandardNormal, Vamp
from vaelab.records import Training
from vaelab.separation import Separation

__all__ = [
    "RECIPES",
    "Recipe",
    "beta",
    "build",
    "changed",
    "conditional",
    "conv",
    "conv_neighbours",
    "fixed_variance",
    "gaussian",
    "iwae",
    "linear",
    "neighbours",
    "onward",
    "options",
    "own",
    "stated",
    "vae",
    "vamp",
]

Shape = tuple[int, ...]
Settings = Mapping[str, Any]
PartT = TypeVar("PartT", bound=Part)

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
        separation: A term that keeps neighbours together on the map, added to the objective.
    """

    name: str
    posterior: Posterior
    prior: Prior
    likelihood: Likelihood
    objective: Objective = field(default_factory=ELBO)
    training: Training = field(default_factory=Training)
    separation: Separation | None = None

    def model(self) -> Model:
        """The model that the parts make; training copies it and gives the copy fresh weights."""
        return Model(self.posterior, self.prior, self.likelihood)


def _units(shape: Shape) -> str:
    """In which units data of a shape are computed with: images in one, vectors each element in
    its own.
    """
    return "per-dimension" if len(shape) == 1 else "shared"


def _gaussian(recipe: Recipe, units: str) -> Recipe:
    """The recipe with a Gaussian likelihood of the same network, and its parts in units of data."""
    network = recipe.likelihood.network
    return replace(
        recipe,
        posterior=_in_units(recipe.posterior, units),
        prior=_in_units(recipe.prior, units),
        likelihood=Gaussian(network, units=units),
    )


def _in_units(part: PartT, units: str) -> PartT:
    """The part that computes in units of the data, if it computes with data at all."""
    settings = part.settings()
    return type(part)(**(settings | {"units": units})) if "units" in settings else part


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
    """`vae` for data that are real numbers: Gaussian likelihood, one learnt scale.

    Each element of vectors is computed with in units of its standard deviation, the scale too;
    images have one unit.
    """
    return replace(_gaussian(vae(shape, latent_dim), _units(shape)), name="gaussian")


def linear(shape: Shape, latent_dim: int = 2) -> Recipe:
    """Linear encoder and decoder, Gaussian likelihood with one learnt scale, one unit for all.

    Its optimum is probabilistic PCA, as J. Lucas et al. (2019) show,
    https://arxiv.org/abs/1911.02469
    """
    return Recipe(
        "linear",
        DiagonalGaussian(MLP(shape, (2, latent_dim)), units="shared"),
        StandardNormal(latent_dim),
        Gaussian(MLP((latent_dim,), shape), units="shared"),
        training=Training(learning_rate=1e-2, weight_decay=0.0),
    )


def conditional(shape: Shape, latent_dim: int = 2, classes: int = 10) -> Recipe:
    """Conditional VAE: `vae` whose networks are given the class of a datum too; needs labels.

    `VAE` sets `classes` to how many there are; see `vaelab.conditioning.Conditioned`.
    """
    encoder = MLP((math.prod(shape) + classes,), (2, latent_dim), ENCODER)
    decoder = MLP((latent_dim + classes,), shape, DECODER)
    return replace(
        vae(shape, latent_dim),
        name="conditional",
        posterior=DiagonalGaussian(Conditioned(encoder, shape, classes)),
        likelihood=Bernoulli(Conditioned(decoder, (latent_dim,), classes)),
    )


def neighbours(
    shape: Shape, latent_dim: int = 2, neighbours: int = 15, components: int = 128
) -> Recipe:
    """A map whose classes lie apart: `vamp` whose map keeps neighbours in the data neighbours.

    The prior is one that can bend: against a standard normal one, the gaps between clusters cost
    a rate that the decoder wants. `neighbours` is k of the graph; see `Separation`.
    """
    separation = Separation(neighbours=neighbours)
    recipe = vamp(shape, latent_dim, components)
    return replace(recipe, name="neighbours", separation=separation)


def conv_neighbours(
    shape: Shape, latent_dim: int = 2, neighbours: int = 15, components: int = 128
) -> Recipe:
    """`neighbours` with the convolutional networks of `conv`, for images `(C, H, W)`."""
    images = conv(shape, latent_dim)
    return replace(
        _neighbours(shape, latent_dim, neighbours, components),
        name="conv-neighbours",
        posterior=images.posterior,
        likelihood=images.likelihood,
    )


_neighbours = neighbours  # an option of both recipes has the same name


def options(name: str) -> dict[str, float]:
    """The options of a recipe beside the shape, with their defaults.

    >>> options("fixed-variance")
    {'latent_dim': 2, 'scale': 1.0}
    """
    recipe = RECIPES[checks.choice("recipe", name, RECIPES)]
    parameters = list(inspect.signature(recipe).parameters.values())[1:]
    return {parameter.name: parameter.default for parameter in parameters}


def build(
    name: str,
    shape: Shape,
    settings: Settings | None = None,
    *,
    likelihood: str | None = None,
) -> Recipe:
    """The recipe of a name for data of a shape, leaving torch's global random state as it was.

    Arguments:
        name: A name in `RECIPES`.
        shape: Shape of a datum.
        settings: Options of the recipe by name; see `options`.
        likelihood: `"bernoulli"` or `"gaussian"`, which takes the place of the recipe's own, on
            the same network: real numbers can be given to a recipe made for grey levels. By
            default, its own.

    Raises:
        checks.ArgumentError: An unknown name, option or value, or a shape it cannot be made for.

    >>> build("beta", (4,), {"beta": 2.0}).objective.name
    'elbo_beta2'
    >>> type(build("conv", (3, 8, 8), likelihood="gaussian").likelihood).__name__
    'Gaussian'
    """
    _check_options(name, settings or {})
    for size in ("latent_dim", "classes"):
        checks.integer(size, (settings or {}).get(size, 1))
    with seeded(0):
        recipe = RECIPES[name](shape, **(settings or {}))
        if likelihood is None or checks.choice("likelihood", likelihood, LIKELIHOODS) == own(
            recipe
        ):
            return recipe
        if likelihood == "bernoulli":
            raise checks.ArgumentError(
                f"likelihood = 'bernoulli', but recipe {name!r} is made of its Gaussian one; "
                "give another recipe, 'vae' say."
            )
        return _gaussian(recipe, _units(shape))


def _check_options(name: str, settings: Settings) -> None:
    """Refuses options that a recipe has not; where others have one, they are named."""
    known = options(name)
    for option in settings:
        if option in known:
            continue
        what = f"recipe {name!r} has no option {option!r}"
        others = [repr(other) for other in RECIPES if option in options(other)]
        if others:
            have = "has" if len(others) == 1 else "have"
            raise checks.ArgumentError(f"{what}; recipe {' and '.join(others)} {have}.")
        raise checks.ArgumentError(checks.unknown(what, option, known, why=""))


def own(recipe: Recipe) -> str | None:
    """The name of a recipe's likelihood in `LIKELIHOODS`; `None` for one that is not there.

    >>> own(vae((4,))), own(linear((4,)))
    ('bernoulli', 'gaussian')
    """
    kinds = {cls: name for name, cls in LIKELIHOODS.items()}
    return kinds.get(type(recipe.likelihood))


def stated(recipe: Recipe, x: Tensor, *, asked: str | None) -> str:
    """Which likelihood a recipe has, and why it was taken for data at rest, in one line.

    Arguments:
        recipe: The recipe.
        x: The data.
        asked: The likelihood that was asked for, or `"auto"`; `None` for a recipe of the user's.

    >>> stated(vae((3,)), Tensor([[0.0, 1.0, 1.0]]), asked="auto")
    'Bernoulli: values are bits'
    """
    suits, values = suited(x)
    why = ""
    if asked is None:
        why = ", which the given recipe has"
    elif asked != "auto":
        why = f", as likelihood={asked!r} asks"
    elif own(recipe) != suits:
        why = f", which recipe {recipe.name!r} has"
    return f"{in_words(recipe.likelihood)}{why}: {values}"


def changed(
    recipe: Recipe,
    *,
    objective: Settings,
    training: Settings,
    separation: float | None = None,
) -> Recipe:
    """The recipe with other settings of its objective and its training, by their names.

    Arguments:
        recipe: The recipe.
        objective, training: The settings.
        separation: The weight of its separation, which it gets if it has none; 0 takes it away,
            `None` leaves it as it is.

    Raises:
        checks.ArgumentError: An unknown setting or a value that is not allowed.
    """
    for name, record, settings in (
        ("training", recipe.training, training),
        ("objective", recipe.objective, objective),
    ):
        known = [field.name for field in fields(record)]  # type: ignore[arg-type]
        for setting in settings:
            checks.choice(f"setting of {name}", setting, known)
    return replace(
        recipe,
        objective=replace(recipe.objective, **objective),  # type: ignore[type-var]
        training=replace(recipe.training, **training),
        separation=_weighted(recipe.separation, separation),
    )


def _weighted(separation: Separation | None, weight: float | None) -> Separation | None:
    if weight is None:
        return separation
    return replace(separation or Separation(), weight=weight) if weight else None


def onward(recipe: Recipe, learning_rate: float) -> Recipe:
    """The recipe for one more pass over data, all of which are trained on.

    A warm-up of its objective would begin anew with each pass, so there is none.
    """
    known = {field.name for field in fields(recipe.objective)}  # type: ignore[arg-type]
    once = {"steps": None, "minutes": None, "validation_fraction": 0.0, "patience": None}
    return changed(
        recipe,
        objective={name: 0 for name in ("warmup", "warmup_epochs") if name in known},
        training={"epochs": 1, "learning_rate": learning_rate, **once},
    )


RECIPES: dict[str, Callable[..., Recipe]] = {
    "vae": vae,
    "fixed-variance": fixed_variance,
    "conv": conv,
    "beta": beta,
    "iwae": iwae,
    "vamp": vamp,
    "gaussian": gaussian,
    "linear": linear,
    "conditional": conditional,
    "neighbours": neighbours,
    "conv-neighbours": conv_neighbours,
}
"""The named recipes."""
