"""The neighbour graph of data: its formula, its cache, and what is drawn along its edges."""

from __future__ import annotations

import math
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import vaelab.data.cache
from vaelab import checks, graphs
from vaelab.graphs import Companions, Graph, kept_graph, neighbour_graph


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAELAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "computed"


def blobs(count: int = 120, size: int = 5, seed: int = 0) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    centres = 20 * generator.normal(size=(3, size))
    places = centres[np.arange(count) % 3] + generator.normal(size=(count, size))
    return torch.from_numpy(places.astype(np.float32))


def dense(graph: Graph) -> np.ndarray:
    weights = np.zeros((graph.count, graph.count))
    weights[graph.rows, graph.columns] = graph.weights
    return weights + weights.T


def as_defined(x: np.ndarray, k: int) -> np.ndarray:
    """The formula, datum by datum, with a root found by SciPy."""
    from scipy.optimize import brentq

    count = len(x)
    sure = np.zeros((count, count))
    for i in range(count):
        far = np.linalg.norm(x - x[i], axis=1)
        far[i] = np.inf
        near = np.argsort(far)[: k - 1]
        beyond = np.maximum(0, far[near] - far[near][far[near] > 0].min())

        def excess(log_width: float, beyond: np.ndarray = beyond) -> float:
            return float(np.exp(-beyond / math.exp(log_width)).sum() - math.log2(k))

        sure[i, near] = np.exp(-beyond / math.exp(brentq(excess, -20, 20)))
    return sure + sure.T - sure * sure.T


@pytest.mark.parametrize("k", [3, 8, 15])
def test_the_graph_is_what_its_formula_says(k: int) -> None:
    x = blobs()
    assert np.allclose(dense(neighbour_graph(x, neighbours=k)), as_defined(x.numpy(), k), atol=1e-5)


def test_a_copy_is_no_measure_of_the_nearest() -> None:
    """Each datum has a copy at distance 0 and pairs beyond: ρ is the distance to the first pair."""
    x = torch.cat([blobs(60), blobs(60)])
    found, wanted = dense(neighbour_graph(x, neighbours=10)), as_defined(x.numpy(), 10)
    assert np.allclose(found, wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Tensorflow:ImportWarning")
def test_the_graph_is_that_of_umap() -> None:
    from umap.umap_ import fuzzy_simplicial_set

    x = blobs(300)
    theirs, *_ = fuzzy_simplicial_set(x.numpy(), 15, np.random.RandomState(0), "euclidean")
    assert np.allclose(dense(neighbour_graph(x)), theirs.toarray(), atol=1e-4)


def test_each_edge_is_there_once_and_joins_two_data() -> None:
    graph = neighbour_graph(blobs())
    assert graph.count == 120
    assert len(graph) == len(graph.rows) == len(graph.columns) == len(graph.weights)
    assert (graph.rows < graph.columns).all()
    assert len(np.unique(graph.rows.astype(int) * 120 + graph.columns)) == len(graph)
    assert ((graph.weights > 0) & (graph.weights <= 1)).all()
    assert (graph.rows.dtype, graph.columns.dtype, graph.weights.dtype) == (
        np.int32, np.int32, np.float32,
    )  # fmt: skip


def test_neighbours_are_of_one_cluster() -> None:
    graph = neighbour_graph(blobs())
    assert (graph.rows % 3 == graph.columns % 3).all()


def test_a_graph_keeps_to_scales_and_shifts_of_the_data() -> None:
    x = blobs()
    moved = neighbour_graph(1000 * x + 5)
    assert np.allclose(dense(moved), dense(neighbour_graph(x)), atol=1e-2)


def test_units_decide_which_data_are_near() -> None:
    """An element of huge units hides the clusters, until it is measured in them."""
    noise = 1e6 * torch.rand(120, 1, generator=torch.Generator().manual_seed(0))
    x = torch.cat([blobs(), noise], 1)
    blind, clear = neighbour_graph(x), neighbour_graph(x, unit=torch.tensor([1.0] * 5 + [1e6]))
    same = [np.mean(graph.rows % 3 == graph.columns % 3) for graph in (blind, clear)]
    assert same[0] < 0.6
    assert same[1] == 1


def test_many_elements_are_compared_by_their_components() -> None:
    """Data on a plane of 5 dimensions have the neighbours they have within it."""
    x = blobs()
    basis = torch.linalg.qr(torch.randn(300, 5, generator=torch.Generator().manual_seed(1)))[0]
    assert np.allclose(dense(neighbour_graph(x @ basis.T)), dense(neighbour_graph(x)), atol=1e-2)


def test_grey_levels_are_read_in_blocks_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randint(256, (150, 1, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    whole = neighbour_graph(x)
    monkeypatch.setattr(graphs, "BLOCK", 32)
    told: list[tuple[int, int]] = []
    parts = neighbour_graph(x, progress=lambda done, total: told.append((done, total)))
    assert np.allclose(dense(whole), dense(parts), atol=1e-5)
    assert told == [(32, 150), (64, 150), (96, 150), (128, 150), (150, 150)]


def test_few_data_have_as_many_neighbours_as_there_are() -> None:
    assert len(neighbour_graph(blobs(4), neighbours=15)) == 6


def test_copies_are_neighbours_and_no_datum_its_own() -> None:
    graph = neighbour_graph(torch.zeros(40, 3))
    assert (graph.rows < graph.columns).all()
    assert np.allclose(graph.weights, 1)
    mixed = neighbour_graph(torch.cat([torch.zeros(30, 5), blobs(30)]), neighbours=5)
    assert np.isfinite(mixed.weights).all()


class Searched:
    """Stands in for pynndescent, which compiles itself for half a minute: it misses a few.

    Those that it misses follow from `random_state`, as in the package; a datum is not always the
    first of its own row. The slow test below has the package itself.
    """

    def __init__(self, data: np.ndarray, *, n_neighbors: int, random_state: int | None) -> None:
        far = np.linalg.norm(data[:, None] - data, axis=-1)
        near = np.argsort(far, axis=1)[:, : n_neighbors + 1]
        rng, count = np.random.default_rng(random_state), len(data)
        missed = np.where(rng.random(count) < 0.005, n_neighbors - 1, n_neighbors)
        near = near[np.arange(n_neighbors + 1) != missed[:, None]].reshape(count, n_neighbors)
        near[::7, :2] = near[::7, 1::-1]
        self.neighbor_graph = near, np.take_along_axis(far, near, 1)


def nearly_exact(count: int) -> bool:
    """Whether a search of so many data gives nearly their graph, and twice the same."""
    x = blobs(count)
    found, again = neighbour_graph(x, seed=1), neighbour_graph(x, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "EXACT", count)
        exact = dense(neighbour_graph(x)) > 0
    assert np.array_equal(dense(found), dense(again))
    assert not dense(found).diagonal().any()
    return bool(np.mean((dense(found) > 0) == exact) > 0.999)


def test_many_data_are_searched_nearly_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.SimpleNamespace(NNDescent=Searched)
    monkeypatch.setitem(sys.modules, "pynndescent", package)
    monkeypatch.setattr(checks, "find_spec", lambda name: name == "pynndescent")
    monkeypatch.setattr(graphs, "EXACT", 500)
    assert nearly_exact(600)
    one, other = (neighbour_graph(blobs(600), seed=seed) for seed in (1, 2))
    assert not np.array_equal(dense(one), dense(other)), "the seed decides what is missed"


@pytest.mark.slow
def test_many_data_are_searched_by_pynndescent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "EXACT", 500)
    assert nearly_exact(600)


def test_of_a_datum_that_is_not_found_among_its_own_the_farthest_goes() -> None:
    found = np.array([[7, 0, 2], [3, 1, 4], [5, 6, 7]])
    assert graphs._without(np.arange(3), found).tolist() == [[7, 2], [3, 4], [5, 6]]


def test_many_data_want_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "EXACT", 100)
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(checks.ArgumentError) as caught:
        neighbour_graph(blobs())
    assert str(caught.value) == (
        "a graph of 120 data needs the package pynndescent, which is not installed; install it "
        "with: pip install 'vaelab[neighbours]'."
    )


@pytest.mark.parametrize(
    ("x", "k", "told"),
    [
        (torch.zeros(1, 3), 15, "x has 1 datum, but a graph needs 2 at least."),
        (torch.zeros(5, 3), 1, "neighbours = 1, but it must be a whole number of at least 2."),
    ],
)
def test_what_makes_no_graph_is_refused(x: torch.Tensor, k: int, told: str) -> None:
    with pytest.raises(checks.ArgumentError) as caught:
        neighbour_graph(x, neighbours=k)
    assert str(caught.value) == told


class TestCache:
    @pytest.fixture(autouse=True)
    def counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0

        def compute(*args: object, **kwargs: object) -> Graph:
            self.made += 1
            return neighbour_graph(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(graphs, "neighbour_graph", compute)
        monkeypatch.setattr(graphs, "KEPT", 100)

    def test_a_graph_is_computed_once(self, cache: Path) -> None:
        x = blobs()
        first, second = kept_graph(x), kept_graph(x.clone())
        assert self.made == 1
        assert np.array_equal(dense(first), dense(second))
        assert len(list(cache.glob("neighbours-of-120-*.npz"))) == 1

    def test_other_data_or_settings_have_another(self) -> None:
        x = blobs()
        other = x.clone()
        other[-1, -1] += 1
        kept_graph(x)
        kept_graph(other)
        kept_graph(x, neighbours=5)
        kept_graph(x, unit=torch.full((5,), 2.0))
        kept_graph(x.reshape(60, 10))
        assert self.made == 4 + 1

    @pytest.mark.parametrize("damage", [b"", b"garbage", b"PK\x03\x04garbage"])
    def test_a_damaged_file_is_computed_again(self, cache: Path, damage: bytes) -> None:
        whole = kept_graph(blobs())
        [path] = cache.glob("*.npz")
        path.write_bytes(damage)
        assert np.array_equal(dense(kept_graph(blobs())), dense(whole))
        assert self.made == 2

    def test_a_file_of_other_data_is_computed_again(self, cache: Path) -> None:
        kept_graph(blobs())
        [path] = cache.glob("*.npz")
        arrays = dict(np.load(path))
        arrays["columns"] = arrays["columns"] + 1
        np.savez(path, **arrays)
        kept_graph(blobs())
        assert self.made == 2

    def test_few_data_are_not_kept(self, cache: Path) -> None:
        kept_graph(blobs(90))
        assert not cache.exists()

    def test_a_cache_that_cannot_be_written_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("VAELAB_CACHE", str(tmp_path / "file"))
        with pytest.warns(checks.VaelabWarning) as told:
            graph = kept_graph(blobs())
        assert len(graph) > 0
        assert [str(one.message) for one in told] == [
            f"{tmp_path}/file/computed: cannot be written (Not a directory), so what was computed "
            "is not kept; set VAELAB_CACHE to a folder that can."
        ]

    def test_what_is_kept_is_told_and_cleaned(self, cache: Path) -> None:
        kept_graph(blobs())
        [one] = vaelab.data.cache.converted()
        assert one.source == "data: neighbours of 120"
        assert one.size == one.path.stat().st_size > 0
        assert vaelab.data.cache.clean() == [one]
        assert not list(cache.glob("*.npz"))


class TestCompanions:
    graph = Graph(
        np.array([0, 0, 1], np.int32),
        np.array([1, 2, 2], np.int32),
        np.array([0.25, 0.75, 0.5], np.float32),
        5,
    )

    def shares(self, row: int, held: list[int]) -> np.ndarray:
        companions = Companions(self.graph, torch.tensor(held, dtype=torch.int64))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            drawn = companions.draw(torch.full((20_000,), row))
        return np.bincount(drawn.numpy(), minlength=5) / 20_000

    def test_neighbours_are_drawn_as_often_as_their_edges_weigh(self) -> None:
        error = 4 * math.sqrt(0.25 / 20_000)
        assert np.allclose(self.shares(0, []), [0, 0.25, 0.75, 0, 0], atol=error)
        assert np.allclose(self.shares(1, []), [1 / 3, 0, 2 / 3, 0, 0], atol=error)
        assert np.allclose(self.shares(2, []), [0.6, 0.4, 0, 0, 0], atol=error)

    def test_who_has_no_neighbour_is_alone(self) -> None:
        assert self.shares(3, [])[3] == 1
        assert self.shares(4, [])[4] == 1

    def test_data_held_out_are_nobodys_neighbours(self) -> None:
        assert self.shares(0, [2])[1] == 1
        assert self.shares(1, [0, 2])[1] == 1

    def test_a_graph_without_edges_can_be_drawn_from(self) -> None:
        companions = Companions(self.graph, torch.arange(5))
        assert companions.draw(torch.arange(5)).tolist() == [0, 1, 2, 3, 4]

    def test_every_edge_of_a_large_graph_can_be_drawn_and_no_other(self) -> None:
        graph = neighbour_graph(blobs(300))
        there = dense(graph) > 0
        companions = Companions(graph, torch.tensor([7]))
        with torch.random.fork_rng():
            torch.manual_seed(1)
            seen = np.zeros_like(there)
            for _ in range(300):
                seen[np.arange(300), companions.draw(torch.arange(300)).numpy()] = True
        assert not seen[:, 7][there[:, 7]].any()
        assert not (seen & ~there).sum() - seen.trace()
        assert np.mean(seen[there & (np.arange(300) != 7)]) > 0.95


def test_no_warning_for_any_of_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        neighbour_graph(torch.zeros(40, 60))
