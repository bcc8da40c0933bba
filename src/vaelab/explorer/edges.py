"""Which of the data that are shown are neighbours in the data space: the lines of the maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from vaelab import checks
from vaelab.explorer.rows import Rows
from vaelab.graphs import EXACT, Graph, kept_graph
from vaelab.records import Dataset
from vaelab.tensors import to_float, unit_of

__all__ = ["EACH", "TAKEN", "graph_of", "packed", "possible", "strongest_first"]

EACH = 3
"""How many of its strongest edges a datum has in a page without a server."""

TAKEN = 6
"""About how many bytes the edges of a datum take there: 5.5 in a page of 70,000 digits."""

LARGEST = 2**30
"""Bytes of data at most for a graph to be computed: they are held in memory meanwhile."""


def possible(sets: Sequence[Dataset]) -> bool:
    """Whether data are few and small enough for a graph of them while a person waits."""
    count = sum(map(len, sets))
    return 2 <= count <= EXACT and sum(part.x.nbytes for part in sets) <= LARGEST


def graph_of(rows: Rows, progress: Callable[[int, int], object] | None = None) -> Graph:
    """The neighbour graph of all data: images as they are, vectors in each element's own unit.

    Raises:
        checks.ArgumentError: The data are too many, or too large.
    """
    if not possible(rows.sets):
        raise checks.ArgumentError(
            f"data are {rows.count:,}, but neighbours are drawn of 2 to {EXACT:,} that take at "
            f"most {LARGEST // 2**30} GiB."
        )
    x = rows.at(np.arange(rows.count))
    unit = unit_of(to_float(x), "per-dimension") if len(rows.shape) == 1 else None
    return kept_graph(x, unit=unit, progress=progress)


def strongest_first(graph: Graph) -> np.ndarray:
    """The two ends of each edge, `(E, 2)` in `int32`, the strongest edges first.

    The order of equal ones is drawn by a fixed seed: each datum's nearest has a weight of 1, and
    the first edges should be of data all over the maps.

    >>> ends = np.array([0, 1], np.int32), np.array([2, 2], np.int32)
    >>> strongest_first(Graph(*ends, np.array([0.5, 1.0], np.float32), 3)).tolist()
    [[1, 2], [0, 2]]
    """
    drawn = np.random.default_rng(0).permutation(len(graph))
    order = drawn[np.argsort(-graph.weights[drawn], kind="stable")]
    return np.stack([graph.rows, graph.columns], 1)[order]


def packed(graph: Graph, each: int = EACH) -> list[bytes]:
    """The `each` strongest edges of each datum in few bytes, each edge once.

    The first of `each` parts has the edges that are the strongest of one of their ends, the second
    those that are the second strongest, and so on. With row < column the ends of an edge, its
    number is row · N + column. A part has them in order, each as the difference from the last one,
    in groups of seven bits from the lowest on; the eighth bit says that more groups follow.

    >>> ends = np.array([0, 1], np.int32), np.array([2, 2], np.int32)
    >>> packed(Graph(*ends, np.array([0.5, 1.0], np.float32), 3), each=1)[0].hex()
    '0203'
    """
    ends = strongest_first(graph).astype(np.int64)
    node, edge = ends.T.ravel(), np.tile(np.arange(len(ends)), 2)
    order = np.lexsort((edge, node))
    first = np.searchsorted(node[order], np.arange(graph.count))
    rank = np.full(len(ends), len(ends))
    np.minimum.at(rank, edge[order], np.arange(len(order)) - first[node[order]])
    numbers = ends[:, 0] * graph.count + ends[:, 1]
    return [_in_sevens(np.sort(numbers[rank == k])) for k in range(each)]


def _in_sevens(numbers: np.ndarray) -> bytes:
    """Rising whole numbers as their differences, in groups of seven bits."""
    steps = np.diff(numbers, prepend=0)
    places = np.arange(math.ceil(max(1, int(steps.max(initial=0)).bit_length()) / 7))
    later = (steps[:, None] >> (7 * (places + 1))) > 0  # whether more groups follow
    groups = ((steps[:, None] >> (7 * places)) & 127) | (later << 7)
    there = np.concatenate([np.ones((len(steps), 1), bool), later[:, :-1]], 1)
    return bytes(groups[there].astype(np.uint8))
