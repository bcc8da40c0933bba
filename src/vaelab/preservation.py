"""Floor 6: figures of a map: which neighbours and distances of the data their codes keep.

They need no labels, and hold for any map of data to points, be it a model's or another method's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial.distance import squareform
from scipy.stats import pearsonr, rankdata
from torch import Tensor

from vaelab import checks
from vaelab.inputs import suited
from vaelab.tensors import as_tensor, to_float, unit_of

__all__ = ["LEAST", "Preserved", "preservation"]

NEIGHBOURS = 15
"""How many neighbours are looked at, unless told otherwise."""

COMPARED = 2_000
"""At most how many data are compared with each other; time and memory grow with the square."""

LEAST = 3
"""With fewer data nobody has a neighbour that is nearer than another."""

BLOCK = 4096
"""How many elements of the data are taken at once, so that memory does not grow with them."""


class Preserved(NamedTuple):
    """What a map keeps of M data that were compared with each other; see `preservation`.

    Attributes:
        trustworthiness: Of each datum, `(M,)`, in [0, 1].
        continuity: Of each datum, `(M,)`, in [0, 1].
        distance_correlation: From −1 to 1.
    """

    trustworthiness: np.ndarray
    continuity: np.ndarray
    distance_correlation: float


def preservation(
    x: np.ndarray,
    z: np.ndarray,
    *,
    neighbours: int = NEIGHBOURS,
    most: int = COMPARED,
    seed: int = 0,
) -> Preserved:
    r"""Trustworthiness and continuity of a map, and the rank correlation of distances.

    A map is trustworthy if neighbours in it are neighbours in the data: it glues nothing together.
    It is continuous if neighbours in the data are neighbours in it: it tears nothing apart. With
    r_x(i, j) the place of datum j among the M − 1 others by their distance from datum i (1 is the
    nearest), r_z(i, j) the same in the map, and k neighbours,

        trustworthiness_i = 1 − 2/(k (2M − 3k − 1)) Σ_{j: r_z(i,j) ≤ k} max(0, r_x(i, j) − k)
        continuity_i      = 1 − 2/(k (2M − 3k − 1)) Σ_{j: r_x(i,j) ≤ k} max(0, r_z(i, j) − k)

    Their means are what is reported: 1 for a map that keeps all neighbours, about 1/2 for random
    points, 0 at worst. The correlation is Spearman's, over all pairs of data, of their distance in
    the data and in the map; it tells of the large shape, which maps may well give up for the small.
    References: J. Venna & S. Kaski (2001), https://doi.org/10.1007/3-540-44668-0_68, and (2006),
    https://doi.org/10.1016/j.neunet.2006.05.014; L. van der Maaten (2009),
    https://proceedings.mlr.press/v5/maaten09a.html

    Arguments:
        x: Data `(N, D)` or `(N, C, H, W)`, N of at least 3. Distances are Euclidean; vectors for
            which `likelihood="auto"` is Gaussian, as those outside [0, 1], are measured in units
            of each element's standard deviation, as such models measure them.
        z: Their places in the map, `(N, L)`; distances are Euclidean.
        neighbours: k; of fewer than 2k + 1 data it is the largest with 2k < M.
        most: At most how many data, M, are compared: the figures depend on it, so compare only
            where it is the same.
        seed: Decides which data are compared where there are more: for the same N the same ones.

    Returns:
        Values for each of the data compared. The standard error of a mean over them was found to
        be about the spread over disjoint choices of data. A correlation has none; it is 0 where
        all points of the data or of the map lie at one place.

    Raises:
        checks.ArgumentError: Too few data, or x and z of different lengths.
        checks.DataError: NaN or infinity, or another shape.

    >>> x = np.random.default_rng(0).random((100, 3))
    >>> exact, folded = preservation(x, 2 * x), preservation(x, x[:, :1])
    >>> float(exact.trustworthiness.min()), round(exact.distance_correlation, 6)
    (1.0, 1.0)
    >>> round(float(folded.trustworthiness.mean()), 2), round(float(folded.continuity.mean()), 2)
    (0.73, 0.82)
    """
    checks.integer("neighbours", neighbours)
    if len(x) != len(z):
        raise checks.ArgumentError(
            f"x holds {len(x)} data, but z {len(z)}; give the place of each datum."
        )
    count = min(len(x), checks.integer("most", most, least=LEAST))
    if count < LEAST:
        raise checks.ArgumentError(
            f"x holds {count} data, but at least {LEAST} are needed; give more."
        )
    rows = np.random.default_rng(checks.seed(seed)).choice(len(x), count, replace=False)
    data = as_tensor(x[rows])
    of_data = _squares(data, own_units=data.dim() == 2 and suited(data)[0] == "gaussian")
    of_map = _squares(as_tensor(z[rows]))
    correlation = _correlation(of_data, of_map)
    k = min(neighbours, (count - 1) // 2)
    places, mapped = _places(of_data), _places(of_map)
    return Preserved(_kept(mapped, places, k), _kept(places, mapped, k), correlation)


def _squares(x: Tensor, *, own_units: bool = False) -> np.ndarray:
    """Squared distances between data at rest, `(M, M)`; 0 between points at one place."""
    products = np.zeros((len(x), len(x)))
    for part in torch.split(x.flatten(1), BLOCK, dim=1):
        values = to_float(part)
        if own_units:
            values = values / unit_of(values, "per-dimension")
        points = values.double().numpy()
        points = points - np.median(points, axis=0)  # products are exact only if norms are small
        products += points @ points.T
    norms = products.diagonal()
    return np.asarray(norms[:, None] + norms - 2 * products)


def _places(squares: np.ndarray) -> np.ndarray:
    """r(i, j) from squared distances, `(M, M)`, 0 for i itself; what is as near, in its order."""
    own = squares.copy()
    np.fill_diagonal(own, -np.inf)
    return np.asarray(rankdata(own, "ordinal", axis=1)) - 1


def _kept(near: np.ndarray, places: np.ndarray, k: int) -> np.ndarray:
    """Of each datum, `(M,)`: 1 if those that are `near` by r, `(M, M)`, are so by `places` too."""
    reached = places[(near > 0) & (near <= k)].reshape(len(near), k)
    too_far = np.maximum(reached - k, 0).sum(axis=1)
    return np.asarray(1 - 2 * too_far / (k * (2 * len(near) - 3 * k - 1)))


def _correlation(of_data: np.ndarray, of_map: np.ndarray) -> float:
    """Spearman's, over pairs; squares have the order of distances."""
    pairs = [squareform(squares, checks=False) for squares in (of_data, of_map)]
    if any(np.ptp(each) == 0 for each in pairs):
        return 0.0
    return float(pearsonr(*map(rankdata, pairs)).statistic)
