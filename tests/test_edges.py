"""The lines between neighbours on the explorer's maps: which there are, and what the page shows."""

from __future__ import annotations

import http.client
import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

import vaelab
from browser import chromium, opened, until
from conftest import blobs
from vaelab import VAE, checks, graphs, report
from vaelab.exhibits import Exhibits
from vaelab.explorer import Explorer, edges, explore, portable
from vaelab.explorer.rows import Rows
from vaelab.explorer.scene import Scene
from vaelab.graphs import Graph, neighbour_graph
from vaelab.plots._canvas import CLASS_COLOURS
from vaelab.records import Dataset

pytestmark = pytest.mark.usefixtures("brief_classifier")

NAMES = ["linear", "vae"]
SCREENSHOTS = Path(__file__).parent / "screenshots"


@pytest.fixture(scope="module")
def data() -> tuple[Dataset, Dataset]:
    return blobs(600, seed=0), blobs(200, seed=1)


@pytest.fixture(scope="module")
def models(data: tuple[Dataset, Dataset]) -> dict[str, VAE]:
    return {name: VAE(name, training={"steps": 60}, seed=0).fit(data[0]) for name in NAMES}


@pytest.fixture(scope="module")
def graph(data: tuple[Dataset, Dataset]) -> Graph:
    """The graph of training and test data."""
    return neighbour_graph(torch.from_numpy(np.concatenate([part.x for part in data])))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def live(models: dict[str, VAE], data: tuple[Dataset, Dataset]) -> Iterator[Explorer]:
    with explore(models, data, open_browser=False) as running:
        yield running


@pytest.fixture(scope="module")
def file(
    models: dict[str, VAE], data: tuple[Dataset, Dataset], tmp_path_factory: pytest.TempPathFactory
) -> str:
    return portable.save(tmp_path_factory.mktemp("still") / "page.html", models, data).as_uri()


@pytest.fixture(params=["live", "still"])
def page(
    request: pytest.FixtureRequest, browser: Browser, live: Explorer, file: str
) -> Iterator[Page]:
    with opened(browser, live.url if request.param == "live" else file) as page:
        yield page
        plain = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")
        page.screenshot(path=SCREENSHOTS / f"{plain}.png", full_page=True)


def drawn(count: int, pairs: int, seed: int = 0) -> Graph:
    """A graph of random edges, a third of them of weight 1."""
    rng = np.random.default_rng(seed)
    ends = np.unique(np.sort(rng.integers(0, count, (pairs, 2)), axis=1), axis=0)
    ends = ends[ends[:, 0] < ends[:, 1]].astype(np.int32)
    weights = np.minimum(1, rng.uniform(0.05, 1.5, len(ends))).astype(np.float32)
    return Graph(ends[:, 0], ends[:, 1], weights, count)


def pairs_of(ends: np.ndarray) -> set[tuple[int, int]]:
    return {(min(pair), max(pair)) for pair in np.reshape(ends, (-1, 2)).tolist()}


def unpacked(part: bytes, count: int) -> list[tuple[int, int]]:
    """The edges in a part of a page, read byte by byte."""
    found, number, place = [], 0, 0
    for byte in part:
        number += (byte & 127) << place
        place += 7
        if byte < 128:
            found.append(divmod(number, count))
            place = 0
    return found


# Which edges there are


def test_the_strongest_edges_come_first_and_equal_ones_are_from_everywhere() -> None:
    graph = drawn(900, 4000)
    ends = edges.strongest_first(graph)
    ways = zip(graph.rows.tolist(), graph.columns.tolist(), strict=True)
    weight = dict(zip(ways, graph.weights, strict=True))
    weights = np.array([weight[tuple(pair)] for pair in ends.tolist()])
    assert (np.diff(weights) <= 0).all()
    assert pairs_of(ends) == weight.keys()
    some = ends[: int((weights == 1).sum()) // 4]
    assert np.histogram(some[:, 0], 3, (0, 900))[0].min() > len(some) / 20
    assert (ends == edges.strongest_first(graph)).all()


@pytest.mark.parametrize(("count", "pairs"), [(2, 9), (40, 300), (700, 900), (90_000, 50_000)])
@pytest.mark.parametrize("each", [1, 3])
def test_a_page_has_the_strongest_edges_of_each_datum(count: int, pairs: int, each: int) -> None:
    graph = drawn(count, pairs)
    parts = [unpacked(part, count) for part in edges.packed(graph, each)]
    carried = [pair for part in parts for pair in part]
    assert len(parts) == each
    assert len(set(carried)) == len(carried)
    place: dict[tuple[int, int], int] = {}  # of each edge, at the end where it is stronger
    seen = np.zeros(count, int)
    for one, two in edges.strongest_first(graph).tolist():
        place[one, two] = min(seen[one], seen[two])
        seen[[one, two]] += 1
    for rank, part in enumerate(parts):
        assert part == sorted(pair for pair, found in place.items() if found == rank)


def test_few_bytes_hold_the_edges_of_a_page() -> None:
    count = 20_000
    rows = np.repeat(np.arange(count), 15)
    columns = np.random.default_rng(0).integers(0, count, len(rows))
    ends = np.sort(np.stack([rows, columns], 1)[rows != columns], axis=1).astype(np.int32)
    weights = np.random.default_rng(1).uniform(0.1, 1, len(ends)).astype(np.float32)
    size = sum(map(len, edges.packed(Graph(ends[:, 0], ends[:, 1], weights, count))))
    assert size < edges.TAKEN * count


def test_vectors_are_compared_in_each_elements_own_unit() -> None:
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    far = x * np.array([1, 1000, 0.01, 5], np.float32)
    one, other = (edges.graph_of(Rows([Dataset(x=data, y=None, name="x")])) for data in (x, far))
    assert pairs_of(np.stack([one.rows, one.columns], 1)) == pairs_of(
        np.stack([other.rows, other.columns], 1)
    )
    plain = neighbour_graph(torch.from_numpy(far))
    assert pairs_of(np.stack([plain.rows, plain.columns], 1)) != pairs_of(
        np.stack([one.rows, one.columns], 1)
    )


def test_too_many_or_too_large_data_have_no_lines(
    models: dict[str, VAE], data: tuple[Dataset, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = sum(part.x.nbytes for part in data)
    for name, least in (("EXACT", 800), ("LARGEST", fits)):
        with monkeypatch.context() as patch:
            patch.setattr(edges, name, least)
            assert edges.possible(data)
            patch.setattr(edges, name, least - 1)
            assert not edges.possible(data)
            assert Scene(models, *data).facts["can"]["edges"] == "none"
    assert not edges.possible([blobs(1)])
    monkeypatch.setattr(edges, "EXACT", 799)
    with pytest.raises(checks.ArgumentError) as error:
        Scene(models, *data).edges()
    assert str(error.value) == (
        "data are 800, but neighbours are drawn of 2 to 799 that take at most 1 GiB."
    )


def test_few_data_are_not_kept_in_the_cache_and_many_are(
    data: tuple[Dataset, Dataset],
    graph: Graph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VAELAB_CACHE", str(tmp_path))
    for least, files in ((801, 0), (800, 1)):
        monkeypatch.setattr(graphs, "KEPT", least)
        found = edges.graph_of(Rows(data))
        assert (found.rows == graph.rows).all()
        assert (found.columns == graph.columns).all()
        assert len(list(tmp_path.rglob("*.npz"))) == files


# The server


def test_a_scene_has_the_edges_of_training_and_test_data_and_works_them_out_once(
    models: dict[str, VAE],
    data: tuple[Dataset, Dataset],
    graph: Graph,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene, heard = Scene(models, *data), []
    assert (scene.edges(lambda *how: heard.append(how)) == edges.strongest_first(graph)).all()
    assert heard[-1] == (800, 800)
    monkeypatch.setattr(edges, "graph_of", None)
    assert len(scene.edges()) == len(graph)


def answered(explorer: Explorer, path: str) -> bytes:
    line = http.client.HTTPConnection(urlsplit(explorer.url).netloc, timeout=20)
    line.request("GET", path)
    response = line.getresponse()
    content = response.read()
    line.close()
    assert response.status == 200, content
    return content


def test_the_server_gives_them_in_order(live: Explorer, graph: Graph) -> None:
    found = np.frombuffer(answered(live, "/edges"), "<u4").reshape(-1, 2)
    assert (found == edges.strongest_first(graph)).all()


def test_nothing_waits_for_a_graph_and_it_ends_with_the_server(
    models: dict[str, VAE], data: tuple[Dataset, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def slow(rows: Rows, progress: Any) -> None:
        begun.set()
        try:
            for done in range(1500):
                progress(done, 1500)
                threading.Event().wait(0.01)
        finally:
            ended.set()

    monkeypatch.setattr(edges, "graph_of", slow)
    with explore(models, data, open_browser=False) as running:
        asking = threading.Thread(target=lambda: _asked(running), daemon=True)
        asking.start()
        assert begun.wait(10)
        assert len(answered(running, "/figure?model=0&name=elbo")) == 4 * 800
        assert not ended.is_set()
    assert ended.wait(10)


def _asked(explorer: Explorer) -> None:
    try:
        answered(explorer, "/edges")
    except (OSError, AssertionError, http.client.HTTPException):
        return


# The page


LAWS = """async () => {
  const { adjacent, chosen } = await import("vaelab/edges.js");
  let seed = 1;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  const count = 300;
  const points = Float32Array.from({ length: 2 * count }, () => random() * 4 - 2);
  const ends = Uint32Array.from({ length: 4000 }, () => Math.floor(random() * count));
  const box = [-1, -0.5, 1.5, 1];
  const shown = (i) => i % 3 !== 0;
  const viewed = (i) => points[2 * i] >= -1 && points[2 * i] <= 1.5 &&
    points[2 * i + 1] >= -0.5 && points[2 * i + 1] <= 1;
  const wanted = [];
  for (let e = 0; e < ends.length; e += 2) {
    const [a, b] = [ends[e], ends[e + 1]];
    if (shown(a) && shown(b) && (viewed(a) || viewed(b))) wanted.push(a, b);
  }
  const right = [10, 100000].map((most) => {
    const found = chosen(ends, points, box, shown, most);
    const first = wanted.slice(0, 2 * most);
    return found.count === wanted.length / 2 && found.lines.join() === first.join();
  });
  const around = adjacent(ends, count);
  let wrong = 0;
  for (let i = 0; i < count; i++) {
    const others = [];
    for (let e = 0; e < ends.length; e++) if (ends[e] === i) others.push(ends[e ^ 1]);
    wrong += around(i).join() !== others.join();
  }
  return { right, wrong, few: wanted.length < ends.length };
}"""


def test_laws_of_what_is_drawn(page: Page) -> None:
    assert page.evaluate(LAWS) == {"right": [True, True], "wrong": 0, "few": True}


BACKEND = """async () => {
  const { Still } = await import("vaelab/still.js");
  const { ends, each } = await (await Still.open(document)).edges();
  return { ends: [...ends], each };
}"""


def test_a_file_has_the_strongest_of_each_datum(browser: Browser, file: str, graph: Graph) -> None:
    with opened(browser, file) as page:
        found = page.evaluate(BACKEND)
    parts = [pairs_of(np.array(unpacked(part, 800))) for part in edges.packed(graph)]
    ends = np.reshape(found["ends"], (-1, 2))
    assert found["each"] == edges.EACH == len(parts)
    start = 0
    for part in parts:  # the strongest first
        assert pairs_of(ends[start : start + len(part)]) == part
        some = ends[start : start + len(part) // 5]
        assert np.histogram(some.min(1), 4, (0, 800))[0].min() > 0  # not the first data alone
        start += len(part)
    assert start == len(ends)


def switch(page: Page) -> Locator:
    return page.get_by_role("button", name="Neighbours", exact=True)


def map_of(page: Page) -> Locator:
    return page.get_by_role("application").first


def shot(page: Page) -> np.ndarray:
    picture = Image.open(io.BytesIO(map_of(page).screenshot()))
    return np.asarray(picture.convert("RGB")).astype(int)


def counts(page: Page) -> list[list[int]]:
    """For each map, how many lines it says are drawn, and of how many."""
    text = page.locator("p.edges").inner_text().replace(",", "")
    return [list(map(int, re.findall(rf"{name} (\d+) of (\d+)", text)[0])) for name in NAMES]


def size_of(page: Page, graph: Graph) -> int:
    if page.url.startswith("http"):
        return len(graph)
    return sum(len(unpacked(part, 800)) for part in edges.packed(graph))


def test_lines_are_drawn_below_the_points_on_request(page: Page, graph: Graph) -> None:
    page.wait_for_timeout(300)
    before = shot(page)
    assert not page.locator("p.edges").is_visible()
    switch(page).focus()
    page.keyboard.press("Enter")
    assert switch(page).get_attribute("aria-pressed") == "true"
    page.get_by_text("Lines join data").wait_for()
    known = size_of(page, graph)
    for some, every in counts(page):
        assert some == every
        assert 0.97 * known <= every <= known
    assert page.get_by_text("carries the 3 strongest").count() == page.url.startswith("file")
    until(lambda: (abs(shot(page) - before).max(-1) > 8).mean() > 0.005)
    after, colour = shot(page), CLASS_COLOURS[1]
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    points = abs(before - wanted).max(-1) < 12
    assert points.sum() > 200
    assert (abs(after - before).max(-1) < 12)[points].mean() > 0.97  # points are above lines
    switch(page).click()
    until(lambda: (shot(page) == before).all())
    assert not page.locator("p.edges").is_visible()


def test_lines_are_of_what_is_in_view_and_shown(page: Page) -> None:
    switch(page).click()
    page.get_by_text("Lines join data").wait_for()
    first = counts(page)
    page.get_by_role("button", name="top", exact=True).click()
    until(lambda: counts(page)[0][1] < 0.8 * first[0][1])
    fewer = counts(page)
    assert fewer[1][1] < 0.8 * first[1][1]
    page.get_by_role("button", name="top", exact=True).click()
    until(lambda: counts(page) == first)
    map_of(page).hover()
    page.mouse.wheel(0, -1200)
    until(lambda: counts(page)[0][1] < 0.7 * first[0][1])
    assert counts(page)[1] == first[1]


def corners(line: Locator) -> list[tuple[float, ...]]:
    points = (line.get_attribute("points") or "").split()
    return [tuple(map(float, point.split(","))) for point in points]


def test_a_datum_has_all_its_own_edges(page: Page, graph: Graph) -> None:
    star = page.locator(".mark.edges polyline:not(.halo)")
    page.locator("#datum").fill("7")
    page.locator("#datum").press("Enter")
    page.get_by_role("img", name=re.compile("^Datum 7,")).first.wait_for()
    assert star.count() == 0  # not before it is asked for
    switch(page).click()
    until(lambda: star.count() == len(NAMES))
    if page.url.startswith("http"):
        degree = int((graph.rows == 7).sum() + (graph.columns == 7).sum())
    else:
        carried = [pair for part in edges.packed(graph) for pair in unpacked(part, 800)]
        degree = sum(7 in pair for pair in carried)
    ring = page.locator(".mark.datum circle").first
    for index in range(len(NAMES)):
        places = corners(star.nth(index))
        assert len(places) == 2 * degree
        assert len(set(places[::2])) == 1
    middle = corners(star.first)[0]
    at = [float(ring.get_attribute(name) or "nan") for name in ("cx", "cy")]
    assert middle == pytest.approx(at, abs=0.2)
    assert page.get_by_text(f"{degree} neighbours in the data space").is_visible()
    page.locator("#datum").fill("9")
    page.locator("#datum").press("Enter")
    until(lambda: corners(star.first)[0] != middle)
    switch(page).click()
    assert star.count() == 0


def test_the_address_brings_lines_back(browser: Browser, page: Page) -> None:
    switch(page).click()
    page.get_by_text("Lines join data").wait_for()
    until(lambda: "edges" in page.evaluate("location.hash"))
    with opened(browser, page.url) as again:
        again.get_by_text("Lines join data").wait_for()
        assert switch(again).get_attribute("aria-pressed") == "true"
        assert counts(again) == counts(page)


def test_the_page_says_that_the_graph_is_computed_and_without_one_has_no_switch(
    browser: Browser,
    models: dict[str, VAE],
    data: tuple[Dataset, Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go, make = threading.Event(), edges.graph_of

    def waiting(rows: Rows, progress: Any) -> Any:
        assert go.wait(20)
        return make(rows, progress)

    with monkeypatch.context() as patch:
        patch.setattr(edges, "graph_of", waiting)
        with explore(models, data, open_browser=False) as run, opened(browser, run.url) as page:
            switch(page).click()
            page.get_by_text("Computing the neighbour graph").wait_for()
            go.set()
            page.get_by_text("Lines join data").wait_for()
            assert page.get_by_text("Computing the neighbour graph").count() == 0
    monkeypatch.setattr(edges, "EXACT", 799)
    with explore(models, data, open_browser=False) as run, opened(browser, run.url) as page:
        assert switch(page).count() == 0
        assert page.get_by_role("button", name="Density").count() == 1


def test_a_report_joins_neighbours_where_a_model_was_to_keep_them_together(
    data: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    for separation, there in ((0.0, False), (0.5, True)):
        comparison = vaelab.compare(
            ["linear"], *data, epochs=1, separation=separation, particles=2, training={"steps": 30}
        )
        exhibits = Exhibits(comparison.models, *data, latents=comparison.latents)
        figures = dict.fromkeys(["scores", *report.FIGURES, "kl"], Figure(figsize=(1, 1)))
        path = vaelab.write_report(
            tmp_path / str(separation), comparison, exhibits, figures=figures
        )
        page = path.read_text(encoding="utf-8")
        assert ('"edges": null' in page) is not there
        assert ("with a separation of weight 0.5 (its term: " in page) is there
