"""Floor 2: the neighbour graph of data: which data lie near which, and how surely.

It is computed once for data and settings, and kept in the cache, where a second model finds it.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaelab import checks
from vaelab.data import cache
from vaelab.tensors import batches

__all__ = ["Companions", "Graph", "kept_graph", "neighbour_graph"]

Progress = Callable[[int, int], object]
"""Hears how much is done, and how much there is to do."""

DIMENSIONS = 50
"""Data of more elements are compared by so many principal components, as is usual before t-SNE."""

FITTED, FITTED_ELEMENTS = 20_000, 2**26
"""From how many data, and elements of data, principal components are taken at most."""

EXACT = 100_000
"""Up to so many data each is compared with each; more are searched approximately."""

KEPT = 5_000
"""Graphs of fewer data are not kept: it would take as long to read them."""

BLOCK = 4096
"""Data whose neighbours are looked for at once."""

HALVINGS = 64
"""Steps of the bisection that finds a datum's width: to the last bit of a float64."""

NARROWEST = 1e-3
"""A datum's width is at least this share of the mean distance to its neighbours."""

VERSION = 1
"""Of the computation: graphs of another one are not looked for in the cache."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A symmetric graph of data, each edge of it once.

    Attributes:
        rows, columns: The two ends of each edge, `(E,)` in `int32`, rows < columns.
        weights: How surely they are neighbours, `(E,)` in `float32`, in (0, 1].
        count: N, how many data there are.
    """

    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    count: int

    def __len__(self) -> int:
        return len(self.weights)


def neighbour_graph(
    x: Tensor,
    *,
    neighbours: int = 15,
    unit: Tensor | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Graph:
    r"""The fuzzy neighbour graph of data, as UMAP defines it.

    With d_ij the Euclidean distance of datum i to its j-th neighbour, ρ_i the smallest that is
    above 0, and σ_i such that Σ_j exp(−max(0, d_ij − ρ_i) / σ_i) = log₂ k, the datum i is sure of
    its neighbour j to a_ij = exp(−max(0, d_ij − ρ_i) / σ_i), and the edge's weight is
    a_ij + a_ji − a_ij a_ji. Data of more than 50 elements are compared by their first 50 principal
    components: on MNIST more neighbours are of one class so than with all 784 grey levels.

    Reference: L. McInnes, J. Healy and J. Melville, UMAP (2018), section 3.1,
    https://arxiv.org/abs/1802.03426

    Arguments:
        x: Data at rest, `(N, *shape)`, N at least 2; a memory map is read in blocks.
        neighbours: k, the datum itself counted, as UMAP does; from 2 on. With fewer data, all.
        unit: The units that elements are compared in, `(*shape)` or `()`; see
            `vaelab.tensors.unit_of`.
        seed: For the search among more than 100,000 data, which is approximate.
        progress: Hears how many data are done.

    Raises:
        checks.ArgumentError: Fewer than 2 data or neighbours.
        checks.ArgumentError: More than 100,000 data, and no pynndescent to search them.

    >>> x = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    >>> graph = neighbour_graph(x, neighbours=2)
    >>> graph.rows.tolist(), graph.columns.tolist(), graph.weights.tolist()
    ([0, 2], [1, 3], [1.0, 1.0])
    """
    checks.integer("neighbours", neighbours, least=2)
    if len(x) < 2:
        raise checks.ArgumentError(f"x has {len(x)} datum, but a graph needs 2 at least.")
    others = min(neighbours, len(x)) - 1
    points = _points(x, unit, seed)
    near = _nearest(points, others, seed, progress)
    return _joined(near, _sureness(_distances(points, near), others + 1))


def kept_graph(
    x: Tensor,
    *,
    neighbours: int = 15,
    unit: Tensor | None = None,
    progress: Progress | None = None,
) -> Graph:
    """`neighbour_graph` from the cache, computed and put there if it is not there yet.

    Graphs of fewer than 5,000 data are computed in about a second, and not kept. One process
    computes a graph while others that want it wait. A cache that cannot be written is told in a
    `VaelabWarning`. Arguments and errors are those of `neighbour_graph`.
    """
    if len(x) < KEPT:
        return neighbour_graph(x, neighbours=neighbours, unit=unit, progress=progress)
    name = f"neighbours-of-{len(x)}-{_key(x, neighbours, unit)}.npz"

    def compute() -> bytes:
        graph = neighbour_graph(x, neighbours=neighbours, unit=unit, progress=progress)
        content = io.BytesIO()
        np.savez(content, rows=graph.rows, columns=graph.columns, weights=graph.weights)
        return content.getvalue()

    content = cache.computed(name, compute, whole=lambda it: _read(it, len(x)) is not None)
    graph = _read(content, len(x))
    assert graph is not None  # what was just computed can be read
    return graph


class Companions:
    """Draws a neighbour of each datum along the edges of a graph.

    Neighbour j of datum i is drawn with probability w_ij / Σ_k w_ik, w being the weights of i's
    edges: each datum has one companion, however many edges it has. A datum without an edge to one
    that may be drawn is its own.

    Arguments:
        graph: The graph.
        held: Rows that are never drawn, `(H,)` in `int64`.
        device: Where the draws are made.

    >>> graph = Graph(np.array([0, 0]), np.array([1, 2]), np.array([0.5, 1.0]), 4)
    >>> companions = Companions(graph, held=torch.tensor([2]))
    >>> companions.draw(torch.tensor([0, 1, 2, 3])).tolist()
    [1, 0, 0, 3]
    """

    def __init__(self, graph: Graph, held: Tensor, device: torch.device | None = None) -> None:
        from scipy.sparse import coo_array

        free = np.ones(graph.count, bool)
        free[held.cpu().numpy()] = False
        rows = np.concatenate([graph.rows, graph.columns])
        columns = np.concatenate([graph.columns, graph.rows])
        weights = np.tile(graph.weights.astype(np.float64), 2)
        kept = free[columns]
        size = (graph.count, graph.count)
        edges = coo_array((weights[kept], (rows[kept], columns[kept])), size).tocsr()
        sums = np.concatenate([[0.0], np.cumsum(edges.data)])
        self.first = torch.from_numpy(edges.indptr.astype(np.int64)).to(device)
        self.ends = torch.from_numpy(edges.indices.astype(np.int32)).to(device)
        self.sums = torch.from_numpy(sums).to(device)

    def draw(self, rows: Tensor) -> Tensor:
        """A neighbour of each of `rows` `(B,)`: `(B,)` in `int64`, by torch's global state."""
        first, last = self.first[rows], self.first[rows + 1]
        low, high = self.sums[first], self.sums[last]
        drawn = low + (high - low) * torch.rand_like(low)
        edge = torch.searchsorted(self.sums, drawn, right=True) - 1
        there = last > first
        ends = self.ends[edge.clamp(first, last - 1)[there]]
        return rows.masked_scatter(there, ends.long())


def _points(x: Tensor, unit: Tensor | None, seed: int) -> np.ndarray:
    """What distances are taken between, `(N, F)`: the data in their units, or their components."""
    from sklearn.decomposition import PCA

    def parts(data: Tensor) -> Iterator[np.ndarray]:
        for part in batches(data, BLOCK, torch.device("cpu")):
            flat = part if unit is None else part / unit.cpu()
            yield flat.flatten(1).numpy()

    size = x[0].numel()
    if size <= DIMENSIONS:
        points = np.concatenate(list(parts(x)))
        points -= points.mean(0)  # far from the origin, distances would lose their digits
        return points
    count = min(len(x), FITTED, max(DIMENSIONS, FITTED_ELEMENTS // size))
    rows = np.sort(np.random.default_rng(seed).permutation(len(x))[:count])
    some = np.concatenate(list(parts(x[torch.from_numpy(rows).to(x.device)])))
    with np.errstate(invalid="ignore"):  # of shares of the variance, where there is none
        pca = PCA(min(DIMENSIONS, count), random_state=seed).fit(some)
    return np.concatenate([pca.transform(part).astype(np.float32) for part in parts(x)])


def _nearest(points: np.ndarray, others: int, seed: int, progress: Progress | None) -> np.ndarray:
    """Which data are nearest to each, itself apart: `(N, others)`."""
    if len(points) > EXACT:
        return _nearly_nearest(points, others, seed)
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=others + 1, algorithm="brute").fit(points)
    near = np.empty((len(points), others), np.int32)
    for rows in _blocks(len(points)):
        found = search.kneighbors(points[rows], return_distance=False)
        near[rows] = _without(rows, found)
        if progress is not None:
            progress(int(rows[-1]) + 1, len(points))
    return near


def _nearly_nearest(points: np.ndarray, others: int, seed: int) -> np.ndarray:
    """`_nearest` of many data, nearly always: by nearest neighbour descent."""
    checks.needs(f"a graph of {len(points):,} data", "pynndescent", extra="neighbours")
    from pynndescent import NNDescent

    found, _ = NNDescent(points, n_neighbors=others + 1, random_state=seed).neighbor_graph
    return _without(np.arange(len(points)), found)


def _without(rows: np.ndarray, found: np.ndarray) -> np.ndarray:
    """What was found for each row but the row itself; where copies hid it, but the last."""
    own = found == rows[:, None]
    own[:, -1] |= ~own.any(1)
    return np.asarray(found[~own].reshape(len(rows), -1))


def _distances(points: np.ndarray, near: np.ndarray) -> np.ndarray:
    """How far the nearest of each are, `(N, others)`: by differences, so that copies have 0."""
    far = np.empty(near.shape)
    for rows in _blocks(len(points)):
        far[rows] = np.linalg.norm(points[rows, None] - points[near[rows]], axis=-1)
    return far


def _blocks(count: int) -> Iterator[np.ndarray]:
    return (np.arange(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


def _sureness(distances: np.ndarray, neighbours: int) -> np.ndarray:
    """a_ij of distances `(N, K)`; see `neighbour_graph`."""
    nearest = np.where(distances > 0, distances, np.inf).min(1, keepdims=True)
    beyond = np.maximum(0, distances - np.where(np.isfinite(nearest), nearest, 0))
    width = np.ones((len(beyond), 1))
    low, high = np.zeros_like(width), np.full_like(width, np.inf)
    for _ in range(HALVINGS):
        wide = np.exp(-beyond / width).sum(1, keepdims=True) > math.log2(neighbours)
        low, high = np.where(wide, low, width), np.where(wide, width, high)
        width = np.where(np.isinf(high), 2 * low, (low + high) / 2)
    least = NARROWEST * distances.mean(1, keepdims=True)
    width = np.maximum(width, np.maximum(least, np.finfo(float).tiny))
    return np.asarray(np.exp(-beyond / width))


def _joined(near: np.ndarray, sureness: np.ndarray) -> Graph:
    """The symmetric graph of what each datum is sure of: a_ij + a_ji − a_ij a_ji."""
    from scipy.sparse import coo_array, triu

    count, others = near.shape
    rows = np.repeat(np.arange(count), others)
    one_way = coo_array((sureness.ravel(), (rows, near.ravel())), (count, count)).tocsr()
    both = one_way + one_way.T - one_way * one_way.T
    edges = triu(both.astype(np.float32), k=1).tocoo()
    there = edges.data > 0
    starts, ends = (end[there].astype(np.int32) for end in (edges.row, edges.col))
    return Graph(starts, ends, edges.data[there], count)


def _key(x: Tensor, neighbours: int, unit: Tensor | None) -> str:
    """What tells a graph from all others, as a name of a file."""
    digest = hashlib.sha256(f"{VERSION} {neighbours} {x.dtype} {tuple(x.shape)}".encode())
    for part in (*torch.split(x, BLOCK), *([] if unit is None else [unit])):
        digest.update(part.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def _read(content: bytes, count: int) -> Graph | None:
    """The graph of `count` data in a file of the cache; `None` if it is damaged."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            rows, columns, weights = arrays["rows"], arrays["columns"], arrays["weights"]
    except (OSError, ValueError, LookupError, zipfile.BadZipFile):
        return None
    ends = np.concatenate([rows, columns])
    sound = rows.shape == columns.shape == weights.shape and rows.dtype == columns.dtype == np.int32
    if not sound or weights.dtype != np.float32 or (len(ends) and int(ends.max()) >= count):
        return None
    return Graph(rows, columns, weights, count)
