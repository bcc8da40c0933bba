"""Floor 6: shortest paths between latent points, as the decoder measures distances."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaelab import checks, latent
from vaelab.latent import device_of
from vaelab.model import Model

__all__ = ["Measured", "Path", "measured", "shortest"]

NODES, NEIGHBOURS = 2_000, 6
"""At most how many codes the graph joins, and each to how many of the nearest at least."""

KEPT = 128 * 1024**2
"""Bytes of decoded data that are held at once: large images make the graph coarser."""

FINE, KNOTS = 192, 24
"""Pieces of a path when its length is taken, and when it is smoothed."""

ROUNDS = 20
"""At most how many steps of L-BFGS a path is smoothed by."""

WORTH = 0.999
"""A detour is taken if it is shorter than this share of the straight line."""


class Path(NamedTuple):
    """A path between two latent points.

    Attributes:
        points: `(steps, D)`, `float32`, both ends included, at equal distances along the path as
            the decoder measures them.
        length: Decoded length of the path, in the data's units.
        straight: Decoded length of the straight line between the same ends, likewise.
    """

    points: np.ndarray
    length: float
    straight: float


class Measured(NamedTuple):
    """A path in 192 pieces, as the decoder measures it.

    Attributes:
        points: `(193, D)`, `float32`, both ends included, at equal distances in the latent space.
        along: How far along its decoded image each point lies, `(193,)`, in the data's units.
    """

    points: np.ndarray
    along: np.ndarray

    @property
    def length(self) -> float:
        """Decoded length of the path, in the data's units."""
        return float(self.along[-1])


def measured(model: Model, knots: np.ndarray) -> Measured:
    """The decoded length of the line through latent points `(K, D)`, K at least 2.

    It is that of the polygon through the images of 193 points of the line.

    >>> from vaelab.recipes import linear
    >>> measured(linear((4,)).model(), np.zeros((2, 2), np.float32)).length
    0.0
    """
    points = _evenly(knots, np.linspace(0, 1, FINE + 1))
    along = np.zeros(FINE + 1)
    size = _rows(model)
    for begin in range(0, FINE, size):
        images = latent.decode(model, points[begin : begin + size + 1])
        along[begin + 1 : begin + len(images)] = _norms(np.diff(images, axis=0))
    return Measured(points, np.cumsum(along))


def shortest(
    model: Model,
    start: np.ndarray,
    end: np.ndarray,
    codes: np.ndarray,
    *,
    steps: int = 11,
    seed: int = 0,
) -> Path:
    """The shortest path between two latent points that is found among the codes of data.

    The length of a curve z(t) is that of its decoded image, ∫ ‖d f(z(t)) / dt‖ dt with f the mean
    of p(x|z): the curve's length under the metric JᵀJ, J = ∂f/∂z, that the decoder pulls back. A
    graph joins a fixed sample of the codes and the two ends to their nearest neighbours; the
    shortest way through it (Dijkstra) stays near the data. It is then smoothed by minimising the
    energy Σ ‖f(zᵢ₊₁) − f(zᵢ)‖², as is the straight line, and the shortest of all is taken: it is
    never longer than the straight line. The same arguments give the same path, and the ends
    swapped give it backwards.

    References: G. Arvanitidis, L. K. Hansen, S. Hauberg, Latent Space Oddity (2018),
    https://arxiv.org/abs/1710.11379; H. Shao, A. Kumar, P. T. Fletcher, The Riemannian Geometry of
    Deep Generative Models (2018), https://arxiv.org/abs/1711.08014

    Arguments:
        model: The model; its weights are left as they are.
        start, end: Latent points `(D,)`.
        codes: Latent points of data `(N, D)`, of which at most 2,000 are used.
        steps: How many points are returned, at least 2.
        seed: Decides which codes are used where there are more.

    Raises:
        checks.ArgumentError: Points of another dimension, or not finite; too few steps.

    >>> from vaelab.recipes import linear
    >>> codes = np.random.default_rng(0).normal(size=(50, 2))
    >>> path = shortest(linear((4,)).model(), np.zeros(2), np.ones(2), codes, steps=3)
    >>> path.points
    array([[0. , 0. ],
           [0.5, 0.5],
           [1. , 1. ]], dtype=float32)
    >>> path.length == path.straight
    True
    """
    checks.integer("steps", steps, least=2)
    wanted = model.latent_dim
    first, last = _point("start", start, wanted), _point("end", end, wanted)
    known = _codes(codes, wanted)
    if first.tolist() > last.tolist():  # one order for both ways, so that they give the same path
        turned = shortest(model, last, first, known, steps=steps, seed=seed)
        return turned._replace(points=turned.points[::-1].copy())
    generator = np.random.default_rng(checks.seed(seed))
    most = max(2, min(NODES, KEPT // (4 * int(np.prod(model.shape)))))
    some = known[generator.permutation(len(known))[:most]].astype(np.float32)
    nodes = np.concatenate([[first, last], some])

    line = latent.path(first, last, KNOTS + 1)
    around = _evenly(_through(model, nodes), np.linspace(0, 1, KNOTS + 1))
    straight = measured(model, line)
    best = straight
    for knots in (around, _smoothed(model, around), _smoothed(model, line)):
        found = measured(model, knots)
        if found.length < min(best.length, WORTH * straight.length):
            best = found
    points = _evenly(best.points, np.linspace(0, 1, steps), best.along)
    points[0], points[-1] = first, last
    return Path(points, best.length, straight.length)


def _evenly(points: np.ndarray, shares: np.ndarray, along: np.ndarray | None = None) -> np.ndarray:
    """Points at shares of the way along a line through points, `(len(shares), D)`.

    Arguments:
        points: `(N, D)`.
        shares: In [0, 1].
        along: How far along each of the points lies, `(N,)`; by default, in the latent space.
    """
    if along is None:
        along = np.concatenate([[0.0], np.cumsum(_norms(np.diff(points, axis=0)))])
    if along[-1] == 0:  # all alike to the decoder: evenly by their number
        along = np.linspace(0, 1, len(points))
    columns = [np.interp(shares * along[-1], along, column) for column in points.T.astype(float)]
    return np.stack(columns, 1).astype(np.float32)


def _through(model: Model, nodes: np.ndarray) -> np.ndarray:
    """The shortest way from node 0 to node 1 through the graph of neighbours, `(P, D)`."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra
    from scipy.spatial import cKDTree

    count = min(NEIGHBOURS, len(nodes) - 1)
    near = np.asarray(cKDTree(nodes).query(nodes, count + 1)[1])[:, 1:]
    pairs = np.stack([np.repeat(np.arange(len(nodes)), count), near.ravel()], 1)
    pairs = np.unique(np.sort(pairs, 1), axis=0)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]  # of equal points, one may be its own neighbour
    weights = _lengths(model, nodes, pairs)
    ends = pairs.astype(np.int32).T  # csgraph of SciPy 1.11 takes no other whole numbers
    graph = csr_array((weights, (ends[0], ends[1])), shape=(len(nodes), len(nodes)))
    before = dijkstra(graph, directed=False, indices=[0], return_predecessors=True)[1][0]
    way = [1]
    while way[-1] != 0:
        if before[way[-1]] < 0:  # the graph falls apart between the ends
            return nodes[:2]
        way.append(int(before[way[-1]]))
    return nodes[way[::-1]]


def _lengths(model: Model, nodes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Decoded length of the segment between each pair of nodes, by way of its middle, `(E,)`."""
    size = _rows(model)
    images = np.concatenate(
        [latent.decode(model, nodes[i : i + size]) for i in range(0, len(nodes), size)]
    )
    lengths = np.empty(len(pairs))
    for begin in range(0, len(pairs), size):
        one, two = pairs[begin : begin + size].T
        middle = latent.decode(model, (nodes[one] + nodes[two]) / 2)
        lengths[begin : begin + size] = _norms(images[one] - middle) + _norms(middle - images[two])
    return np.maximum(lengths, 1e-12)  # csgraph takes 0 for no edge


def _smoothed(model: Model, knots: np.ndarray) -> np.ndarray:
    """The knots, moved to lessen the energy of the curve through them; the ends stay."""
    ends = torch.from_numpy(knots).to(device_of(model))
    inner = ends[1:-1].clone().requires_grad_()
    search = torch.optim.LBFGS([inner], max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def energy() -> Tensor:
        with torch.enable_grad():
            curve = torch.cat([ends[:1], inner, ends[-1:]])
            image = model.decode(curve).mean.flatten(1)
            value = (image[1:] - image[:-1]).square().sum()
            (inner.grad,) = torch.autograd.grad(value, [inner])
        return value.detach()

    search.step(energy)  # type: ignore[no-untyped-call]
    moved = torch.cat([ends[:1], inner.detach(), ends[-1:]]).cpu().numpy()
    return moved if np.isfinite(moved).all() else knots


def _norms(differences: np.ndarray) -> np.ndarray:
    flat = differences.reshape(len(differences), -1)
    return np.asarray(np.sqrt(np.einsum("nf,nf->n", flat, flat, dtype=np.float64)))


def _rows(model: Model) -> int:
    """How many data are decoded at once."""
    return max(1, min(1024, KEPT // (16 * int(np.prod(model.shape)))))


def _point(name: str, given: np.ndarray, wanted: int) -> np.ndarray:
    point = np.asarray(given, np.float32)
    if point.shape != (wanted,) or not np.isfinite(point).all():
        raise checks.ArgumentError(
            f"{name} has shape {point.shape}, but the model has latent_dim = {wanted}: "
            f"give {wanted} finite numbers."
        )
    return point


def _codes(given: np.ndarray, wanted: int) -> np.ndarray:
    codes = np.asarray(given)
    if codes.ndim != 2 or codes.shape[1] != wanted or not len(codes):
        raise checks.ArgumentError(
            f"codes have shape {codes.shape}, but the model has latent_dim = {wanted}: "
            f"give (N, {wanted}) with at least one datum."
        )
    if not np.isfinite(codes).all():
        raise checks.ArgumentError("codes hold NaN or infinity; give finite numbers.")
    return codes
