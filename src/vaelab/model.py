"""Floor 4: a variational autoencoder: a posterior, a prior and a likelihood."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab import checks
from vaelab.conditioning import Conditioned, bound, class_weights
from vaelab.likelihoods import Likelihood
from vaelab.posteriors import Posterior
from vaelab.priors import Prior

__all__ = ["Model", "class_by_class"]

BLOCK = 8192
"""Rows whose classes are looked at together: what is copied of data stays small."""


class Model(nn.Module):
    """posterior × prior × likelihood, each reached as a distribution.

    Arguments:
        posterior: x ↦ q(z|x).
        prior: p(z).
        likelihood: z ↦ p(x|z).

    Attributes:
        parts: The three modules by name: `"posterior"`, `"prior"`, `"likelihood"`.
        classes: C, how many classes of labels a conditional model knows; 0 for any other model.

    Raises:
        checks.ArgumentError: The parts disagree on the shape of a datum, the latent dimension or
            the number of classes.

    >>> from vaelab import recipes
    >>> model = recipes.vae((1, 28, 28)).model()
    >>> x = torch.rand(4, 1, 28, 28)
    >>> z = model.encode(x).rsample((3,))           # (K, N, D)
    >>> model.decode(z).log_prob(x).shape           # (K, N)
    torch.Size([3, 4])
    >>> model.prior().log_prob(z).shape
    torch.Size([3, 4])
    """

    def __init__(self, posterior: Posterior, prior: Prior, likelihood: Likelihood) -> None:
        super().__init__()
        if posterior.shape != likelihood.shape:
            raise checks.ArgumentError(
                f"the posterior reads data of shape {posterior.shape}, but the likelihood gives "
                f"{likelihood.shape}; give both the same shape."
            )
        if posterior.latent_dim != likelihood.latent_dim:
            raise checks.ArgumentError(
                f"the posterior has {posterior.latent_dim} latent dimensions, but the likelihood "
                f"{likelihood.latent_dim}; give both the same latent_dim."
            )
        self.parts = nn.ModuleDict(
            {"posterior": posterior, "prior": prior, "likelihood": likelihood}
        )
        found = {m.classes for m in self.modules() if isinstance(m, Conditioned)}
        if len(found) > 1:
            raise checks.ArgumentError(
                f"networks are given {' and '.join(map(str, sorted(found)))} classes; give all the "
                "same number."
            )
        self.classes = max(found, default=0)
        event = self.prior().event_shape
        if event != (self.latent_dim,):
            raise checks.ArgumentError(
                f"the prior is over z of shape {tuple(event)}, but the posterior has "
                f"latent_dim = {self.latent_dim}; give both the same."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one datum: `(C, H, W)` or `(D,)`."""
        return cast("Posterior", self.parts["posterior"]).shape

    @property
    def latent_dim(self) -> int:
        """D, the number of latent dimensions."""
        return cast("Posterior", self.parts["posterior"]).latent_dim

    @property
    def value_range(self) -> tuple[float, float]:
        """Smallest and largest value of x that the likelihood can score."""
        return cast("Likelihood", self.parts["likelihood"]).value_range

    def encode(self, x: Tensor) -> Distribution:
        """q(z|x) of data `(..., *shape)` in `float32`: batch `(...)`, event `(D,)`."""
        q: Distribution = self.parts["posterior"](x)
        return q

    def prior(self) -> Distribution:
        """p(z): batch `()`, event `(D,)`."""
        p: Distribution = self.parts["prior"](self.encode)
        return p

    def decode(self, z: Tensor) -> Distribution:
        """p(x|z) of latent points `(..., D)`: batch `(...)`, event `shape`."""
        p: Distribution = self.parts["likelihood"](z)
        return p

    def given(self, y: Tensor) -> Model:
        """The model of data with these labels, q(z|x, y), p(z) and p(x|z, y); it shares weights.

        Arguments:
            y: Numbers of classes, one for each datum `(N,)`, or one for any number of data `(1,)`;
                or weights of the classes, `(N, C)` or `(1, C)`, for points between classes.

        Raises:
            checks.ArgumentError: The model is not conditional, or a class is not known to it.

        >>> from vaelab import recipes
        >>> model = recipes.conditional((1, 28, 28)).model()
        >>> model.given(torch.tensor([7])).decode(torch.zeros(5, 2)).mean.shape
        torch.Size([5, 1, 28, 28])
        """
        if not self.classes:
            raise checks.ArgumentError("y is given, but the model takes no labels; leave it out.")
        if y.dim() == 1:
            least, most = (int(value) for value in torch.aminmax(y))
            if least < 0 or most >= self.classes:
                raise checks.ArgumentError(
                    f"y ranges from {least} to {most}, but the model knows the classes 0 to "
                    f"{self.classes - 1}."
                )
            y = class_weights(y, self.classes)
        return bound(self, y.to(next(self.parameters()).device))


def class_by_class(
    model: Model,
    y: np.ndarray,
    compute: Callable[[Model, np.ndarray, int], Iterable[np.ndarray]],
    *,
    seed: int = 0,
) -> list[np.ndarray]:
    """What is computed of data by a conditional model, in the order of the data.

    It is computed for the rows of one class at a time, so that what knows of no labels, such as a
    metric, serves conditional models too.

    Arguments:
        model: A conditional model.
        y: Number of the class of each of N rows, `(N,)`.
        compute: Is given the model with one class bound, numbers of rows `(n,)`, and a seed of
            their own; returns arrays with n rows.
        seed: What the seeds are made from.

    Returns:
        The arrays, with N rows each.

    >>> from vaelab import recipes
    >>> model = recipes.conditional((3,), classes=2).model()
    >>> y = np.array([1, 0, 1])
    >>> [rows] = class_by_class(model, y, lambda given, rows, seed: [rows])
    >>> rows
    array([0, 1, 2])
    """
    parts, places = [], []
    for start in range(0, len(y), BLOCK):
        block = y[start : start + BLOCK]
        for label in np.unique(block).tolist():
            rows = start + np.flatnonzero(block == label)
            own = np.random.SeedSequence([seed, start, label]).generate_state(1)[0]
            parts.append(tuple(compute(model.given(torch.tensor([label])), rows, int(own))))
            places.append(rows)
    order = np.argsort(np.concatenate(places))
    return [np.concatenate(column)[order] for column in zip(*parts, strict=True)]
