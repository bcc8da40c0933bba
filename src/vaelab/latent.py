"""Floor 5: what lies in the latent space: codes of data, decoded points, paths and grids.

Pure functions of a model; what is drawn takes a seed. Long inputs are taken in batches, so that
memory does not grow with N.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from vaelab import checks
from vaelab.distributions import seeded
from vaelab.model import Model
from vaelab.tensors import batches

__all__ = [
    "Codes",
    "between",
    "decode",
    "device_of",
    "draw",
    "encode",
    "grid",
    "path",
    "quantiles",
    "sample",
]

BATCH = 2048


class Codes(NamedTuple):
    """Posterior of each datum.

    Attributes:
        loc: Means `(N, D)`, `float32`.
        scale: Standard deviations `(N, D)`, `float32`.
    """

    loc: np.ndarray
    scale: np.ndarray

    def sample(self, seed: int) -> np.ndarray:
        """One draw of z for each datum from N(loc, scale²), `(N, D)`."""
        noise = np.random.default_rng(checks.seed(seed)).standard_normal(self.loc.shape)
        return (self.loc + self.scale * noise).astype(np.float32)


def device_of(model: Model) -> torch.device:
    """Where the model's weights are."""
    return next(model.parameters()).device


@torch.no_grad()
def encode(model: Model, x: Tensor) -> Codes:
    """Posterior means and standard deviations of data at rest `(N, *shape)`."""
    loc = np.empty((len(x), model.latent_dim), np.float32)  # small parts would scatter the memory
    scale = np.empty_like(loc)
    rows = range(0, len(x), BATCH)
    for start, batch in zip(rows, batches(x, BATCH, device_of(model)), strict=True):
        q = model.encode(batch)
        loc[start : start + BATCH] = q.mean.cpu()
        scale[start : start + BATCH] = q.stddev.cpu()
    return Codes(loc, scale)


@torch.no_grad()
def draw(model: Model, count: int, seed: int) -> np.ndarray:
    """`count` draws of z from the prior: `(count, D)`."""
    checks.integer("count", count)
    with seeded(checks.seed(seed)):
        return np.asarray(model.prior().sample((count,)).cpu())


def sample(model: Model, count: int, seed: int) -> np.ndarray:
    """Means of p(x|z) at `count` draws of z from the prior: `(count, *shape)`."""
    return decode(model, draw(model, count, seed))


@torch.no_grad()
def decode(model: Model, z: np.ndarray) -> np.ndarray:
    """Mean of p(x|z) at latent points `(N, D)`: `(N, *shape)`, `float32`.

    Raises:
        checks.ArgumentError: Points of another dimension, or not finite.
    """
    points = np.asarray(z, dtype=np.float32)
    if points.ndim != 2 or points.shape[1] != model.latent_dim:
        raise checks.ArgumentError(
            f"latent points have shape {points.shape}, but the model has "
            f"latent_dim = {model.latent_dim}: give (N, {model.latent_dim})."
        )
    if not np.isfinite(points).all():
        raise checks.ArgumentError("latent points hold NaN or infinity; give finite numbers.")
    device = device_of(model)
    parts = [
        model.decode(part.to(device)).mean.cpu()
        for part in torch.split(torch.from_numpy(np.ascontiguousarray(points)), BATCH)
    ]
    return torch.cat(parts).numpy()


def path(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """`steps` points on the straight line from `start` to `end`, both included: `(steps, D)`.

    >>> path(np.array([0.0, 0.0]), np.array([1.0, 2.0]), 3)
    array([[0. , 0. ],
           [0.5, 1. ],
           [1. , 2. ]], dtype=float32)
    """
    checks.integer("steps", steps, least=2)
    start, end = np.asarray(start, np.float32), np.asarray(end, np.float32)
    if start.shape != end.shape or start.ndim != 1:
        raise checks.ArgumentError(
            f"start has shape {start.shape} and end {end.shape}; both must be (latent_dim,)."
        )
    return np.linspace(start, end, steps, dtype=np.float32)


def between(
    model: Model,
    start: np.ndarray,
    end: np.ndarray,
    steps: int,
    *,
    classes: Tensor | None = None,
) -> np.ndarray:
    """What the straight line between two latent points is decoded to: `(steps, *shape)`.

    Arguments:
        model: The model.
        start, end: The two points, `(D,)`.
        steps: How many points, both ends included.
        classes: For a conditional model, the numbers of their classes, `(2,)`: the weights of the
            classes go from one to the other as the points do.
    """
    points = path(start, end, steps)
    if classes is None:
        return decode(model, points)
    first, last = np.eye(model.classes, dtype=np.float32)[classes.numpy()]
    weights = torch.from_numpy(path(first, last, steps))
    each = zip(weights, points, strict=True)
    return np.concatenate([decode(model.given(w[None]), point[None]) for w, point in each])


def quantiles(count: int, tail: float = 0.02) -> np.ndarray:
    """`count` equally probable coordinates of N(0, 1), from its `tail` quantile up: `(count,)`."""
    checks.integer("count", count, least=2)
    return np.asarray(norm.ppf(np.linspace(tail, 1 - tail, count)), dtype=np.float32)


def grid(coordinates: np.ndarray, latent_dim: int) -> np.ndarray:
    """Latent points of a square grid: `(R, R, D)`; row 0 has the largest second coordinate.

    With one latent dimension all rows are alike; with more than two, the others are 0, the
    standard normal prior's centre.
    """
    coordinates = np.asarray(coordinates, np.float32)
    size = len(coordinates)
    points = np.zeros((size, size, latent_dim), np.float32)
    points[..., 0] = coordinates[None, :]
    if latent_dim > 1:
        points[..., 1] = coordinates[::-1, None]
    return points
