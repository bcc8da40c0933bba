"""The explorer as a person has it: every feature in a real browser, live and in a still file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route

from browser import chromium, grey, opened, pixels, until
from conftest import blobs
from vaelab import VAE, explorer, metrics, networks, recipes, report
from vaelab.comparison import compare
from vaelab.exhibits import Exhibits
from vaelab.explorer import portable
from vaelab.likelihoods import Bernoulli
from vaelab.objectives import ELBO
from vaelab.plots._canvas import CLASS_COLOURS
from vaelab.records import Dataset

pytestmark = pytest.mark.usefixtures("brief_classifier")

NAMES = ["vae", "fixed-variance", "conv"]
SIZE = 12
SCREENSHOTS = Path(__file__).parent / "screenshots"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def data() -> tuple[Dataset, Dataset]:
    return blobs(600, seed=0), blobs(200, seed=1)


@pytest.fixture(scope="module")
def models(data: tuple[Dataset, Dataset]) -> dict[str, VAE]:
    return {name: VAE(name, epochs=3, seed=0).fit(data[0]) for name in NAMES}


@pytest.fixture(scope="module")
def whole(data: tuple[Dataset, Dataset]) -> np.ndarray:
    """Training and test data."""
    return np.concatenate([part.x for part in data])


@pytest.fixture(scope="module")
def live(models: dict[str, VAE], data: tuple[Dataset, Dataset]) -> Iterator[str]:
    with explorer.explore(models, data, open_browser=False) as running:
        yield running.url


@pytest.fixture(scope="module")
def file(
    models: dict[str, VAE], data: tuple[Dataset, Dataset], tmp_path_factory: pytest.TempPathFactory
) -> str:
    path = tmp_path_factory.mktemp("still") / "page.html"
    return portable.save(path, models, data).as_uri()


@pytest.fixture(params=["live", "still"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    address = request.getfixturevalue({"live": "live", "still": "file"}[request.param])
    with opened(browser, address) as page:
        yield page
        keep(page, request.node.name)


@pytest.fixture
def server(browser: Browser, live: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    with opened(browser, live) as page:
        yield page
        keep(page, request.node.name)


def keep(page: Page, name: str) -> None:
    """Keeps a picture of what a test left on the page, to be looked at."""
    plain = re.sub(r"\W+", "-", name.removeprefix("test_")).strip("-")
    page.screenshot(path=SCREENSHOTS / f"{plain}.png", full_page=True)


def map_of(page: Page, model: int = 0) -> Locator:
    return page.get_by_role("application").nth(model)


def middle(page: Page, dx: float = 0.0, dy: float = 0.0, model: int = 0) -> tuple[float, float]:
    """A place of a map, in shares of its size from the middle."""
    box = map_of(page, model).bounding_box()
    assert box
    return box["x"] + box["width"] * (0.5 + dx), box["y"] + box["height"] * (0.5 + dy)


def moved(page: Page, dx: float, dy: float) -> np.ndarray:
    """How far a way on the first map, in shares of its size, leads in the latent space."""
    box = map_of(page).bounding_box()
    assert box
    return np.array([dx * box["width"], -dy * box["height"]]) / address(page, "view0")[2]


def two_clicks(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Chooses the ends of an interpolation on the first map, in shares of its size."""
    for place in (start, end):
        page.mouse.click(*middle(page, *place))


def spoken(page: Page) -> np.ndarray:
    """The point that the status says."""
    text = page.get_by_role("status").first.inner_text()
    found = re.fullmatch(r"z = \((−?\d+\.\d\d(?:, −?\d+\.\d\d)*)\)", text)
    assert found, text
    return np.array([float(number) for number in found[1].replace("−", "-").split(", ")])


def typed(page: Page, *z: float) -> None:
    page.locator("#typed").fill(", ".join(map(str, z)))
    page.locator("#typed").press("Enter")


def decoded(page: Page, model: int = 0) -> Locator:
    return page.get_by_role("img", name=re.compile("^Decoded")).nth(model)


def strip(page: Page, model: int = 0) -> Locator:
    return page.get_by_role("img", name=re.compile("^Interpolation")).nth(model)


def bytes_of(means: np.ndarray) -> np.ndarray:
    """Images (N, 1, H, W) in [0, 1] as the page must show them: side by side, (H, N·W)."""
    return np.concatenate(list((255 * means[:, 0]).round().astype(int)), axis=1)


def alike(shown: np.ndarray, means: np.ndarray, page: Page) -> bool:
    """Equal, but for a grey level that half-precision weights may move in a still file."""
    off = np.abs(shown.astype(int) - bytes_of(means))
    return bool(off.max() <= (1 if page.url.startswith("file") else 0))


def picture(download: Any) -> Image.Image:
    """The picture in a file that the page gave."""
    return Image.open(io.BytesIO(Path(download.value.path()).read_bytes()))


def test_names_that_a_screen_reader_relies_on(page: Page) -> None:
    maps = page.get_by_role("application", name=re.compile("^Latent map"))
    assert [maps.nth(i).get_attribute("aria-label").split(":")[0] for i in range(3)] == [
        f"Latent map of {name}" for name in NAMES
    ]
    for text in ("left", "right", "top"):
        button = page.get_by_role("button", name=text, exact=True)
        assert button.get_attribute("aria-pressed") == "true"
    assert page.get_by_role("img", name=re.compile("^Decoded")).count() == 3
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select')]"
        ".filter(e => !e.labels?.length && !e.getAttribute('aria-label')).length"
    )
    assert unnamed == 0
    assert page.locator("html").get_attribute("lang") == "en"


def test_a_typed_point_is_decoded_by_all_models(page: Page, models: dict[str, VAE]) -> None:
    typed(page, 0.5, 0.2)
    assert page.get_by_role("status").first.inner_text() == "z = (0.50, 0.20)"
    for index, vae in enumerate(models.values()):
        until(lambda index=index: "0.50, 0.20" in decoded(page, index).get_attribute("aria-label"))
        assert alike(grey(decoded(page, index)), vae.inverse_transform([[0.5, 0.2]]), page)


def test_numbers_have_minus_signs_and_are_read_with_either(page: Page) -> None:
    page.locator("#typed").fill("−0.5, -0.2")
    page.locator("#typed").press("Enter")
    until(lambda: status(page) == "z = (−0.50, −0.20)")
    page.locator("#datum").fill("3")
    page.locator("#datum").press("Enter")
    cell = page.locator(".panel td").first
    cell.wait_for()
    assert cell.inner_text().startswith("−")


def test_a_wrong_point_is_refused_in_words(page: Page) -> None:
    typed(page, 0.5)
    assert (
        "z needs 2 numbers"
        in page.get_by_role("region", name="Decoded point").get_by_role("alert").inner_text()
    )
    typed(page, 0.5, 0.25)
    assert page.get_by_role("region", name="Decoded point").get_by_role("alert").inner_text() == ""


def test_moving_over_the_map_decodes_places_without_data_too(
    page: Page, models: dict[str, VAE]
) -> None:
    seen = []
    for dx, dy in ((0.0, 0.0), (0.2, 0.1), (-0.48, -0.48)):
        page.mouse.move(*middle(page, dx, dy))
        until(lambda: near(address(page, "z"), spoken(page)))
        z = address(page, "z")
        until(lambda z=z: alike(grey(decoded(page)), models["vae"].inverse_transform([z]), page))
        seen.append(z)
    assert seen[1][0] > seen[0][0]
    assert seen[1][1] < seen[0][1]  # upwards is more
    assert seen[2][0] < seen[0][0] < seen[1][0]


def address(page: Page, name: str) -> np.ndarray:
    found = re.search(rf"[#&]{name}=([^&]*)", page.evaluate("location.hash"))
    return np.array([float(part) for part in found[1].split(",")]) if found else np.empty(0)


def near(found: np.ndarray, wanted: Any, off: float = 0.006) -> bool:
    """Equal, but for the rounding of what the status says."""
    return found.shape == np.shape(wanted) and bool(np.abs(found - wanted).max() <= off)


def test_another_map_moves_all_points_only_if_asked_to(page: Page) -> None:
    page.mouse.move(*middle(page, 0.1, 0.1, model=1))
    until(lambda: grey(decoded(page, 0)).any())
    before = decoded(page, 0).get_attribute("aria-label")
    page.get_by_role("button", name="Same point in all models").click()
    page.mouse.move(*middle(page, -0.2, 0.2, model=1))
    until(lambda: decoded(page, 1).get_attribute("aria-label").split("at ")[1] in status(page))
    assert decoded(page, 0).get_attribute("aria-label") == before


def status(page: Page) -> str:
    return page.get_by_role("status").first.inner_text()


def painted(page: Page, colour: str, model: int = 0) -> int:
    """How many pixels of a map have about a colour."""
    shot = Image.open(io.BytesIO(map_of(page, model).screenshot()))
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(np.asarray(shot)[..., :3].astype(int) - wanted).max(-1) < 25).sum())


def test_the_legend_hides_and_shows_a_class(page: Page) -> None:
    colour = CLASS_COLOURS[1]
    button = page.get_by_role("button", name="right", exact=True)
    many = painted(page, colour)
    assert many > 200
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    until(lambda: painted(page, colour) < many / 20)
    button.click()
    until(lambda: painted(page, colour) > many / 2)


def test_zoom_keeps_what_is_under_the_pointer_and_panning_moves_it(page: Page) -> None:
    page.mouse.move(*middle(page, 0.2, 0.1))
    before, scale = spoken(page), address(page, "view0")
    until(lambda: len(address(page, "view0")) == 3)
    scale = address(page, "view0")
    page.mouse.wheel(0, -400)
    until(lambda: address(page, "view0")[2] > 1.2 * scale[2])
    x, y = middle(page, 0.2, 0.1)
    page.mouse.move(x + 1, y)
    page.mouse.move(x, y)
    assert np.allclose(spoken(page), before, atol=0.02)
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=5)
    page.mouse.up()
    assert np.allclose(spoken(page), before, atol=0.02)  # dragged along
    page.mouse.move(x, y)
    assert spoken(page)[0] < before[0]
    assert spoken(page)[1] > before[1]
    assert len(address(page, "start")) == 0  # a drag is no click
    page.get_by_role("button", name="Show all").click()
    until(lambda: np.allclose(address(page, "view0"), scale, rtol=0.01, atol=0.01))


def test_two_clicks_are_the_ends_of_the_interpolation(page: Page, models: dict[str, VAE]) -> None:
    two_clicks(page, (-0.2, -0.2), (0.25, 0.15))
    until(lambda: strip(page).count() == 1)
    until(lambda: len(address(page, "end")) == 2)
    start, end = address(page, "start"), address(page, "end")
    assert near(end, spoken(page))
    steps = np.linspace(start, end, 11)
    for index, vae in enumerate(models.values()):
        assert alike(grey(strip(page, index)), vae.inverse_transform(steps), page)
    assert map_of(page).locator(".path polyline").count() == 2
    page.locator("#steps").fill("5")
    page.locator("#steps").press("Enter")
    until(lambda: grey(strip(page)).shape == (SIZE, 5 * SIZE))


def test_an_end_can_be_dragged(page: Page, models: dict[str, VAE]) -> None:
    two_clicks(page, (-0.2, -0.2), (0.25, 0.15))
    until(lambda: len(address(page, "end")) == 2)
    start, end, view = (address(page, name) for name in ("start", "end", "view0"))
    there = end + moved(page, -0.15, 0.15)
    page.mouse.move(*middle(page, 0.25, 0.15))
    page.mouse.down()
    page.mouse.move(*middle(page, 0.1, 0.3), steps=4)
    page.mouse.up()
    until(lambda: near(address(page, "end"), there, 2 / view[2]))  # no place on the way to it
    assert near(address(page, "start"), start)
    assert near(address(page, "view0"), view, 1e-3)  # the map stays
    last = models["vae"].inverse_transform([address(page, "end")])
    until(lambda: alike(np.hsplit(grey(strip(page)), 11)[-1], last, page))


def test_data_as_ends_give_their_reconstructions(
    page: Page, models: dict[str, VAE], whole: np.ndarray
) -> None:
    for index, way in ((7, "start"), (640, "end")):
        page.locator("#datum").fill(str(index))
        page.locator("#datum").press("Enter")
        page.get_by_role("img", name=re.compile(rf"^Datum {index},")).first.wait_for()
        page.get_by_role("button", name=f"Use as {way}").click()
    until(lambda: strip(page).count() == 1)
    for index, vae in enumerate(models.values()):
        ends = np.hsplit(grey(strip(page, index)), 11)
        for end, row in ((ends[0], 7), (ends[-1], 640)):
            assert alike(end, vae.reconstruct(whole[[row]]), page)


def test_a_datum_shows_itself_its_reconstructions_and_figures(
    page: Page, models: dict[str, VAE], whole: np.ndarray
) -> None:
    place = models["vae"].transform(whole[[3]])[0]
    centre, scale = address_view(page)
    box = map_of(page).bounding_box()
    assert box
    x = box["x"] + box["width"] / 2 + (place[0] - centre[0]) * scale
    y = box["y"] + box["height"] / 2 - (place[1] - centre[1]) * scale
    page.mouse.move(x, y)
    picture = page.get_by_role("img", name=re.compile(r"^Datum \d+, class ")).first
    picture.wait_for()
    index = int(re.findall(r"\d+", picture.get_attribute("aria-label"))[0])
    codes = models["vae"].transform(whole)
    assert np.hypot(*(codes[index] - place)) <= np.hypot(*(codes[3] - place)) + 2 / scale
    assert np.array_equal(grey(picture), whole[index, 0])
    again = page.get_by_role("img", name="Reconstruction by conv")
    assert alike(grey(again), models["conv"].reconstruct(whole[[index]]), page)
    cells = page.get_by_role("region", name="Datum").locator("td")
    texts = (cells.nth(i).inner_text().replace("−", "-") for i in range(3))
    elbo, rate, distortion = map(float, texts)
    terms = metrics.per_datum(models["vae"].model_, ELBO(), torch.from_numpy(whole))
    assert rate == pytest.approx(float(terms.rate[index]), abs=0.02)  # a closed form
    assert elbo == pytest.approx(-(rate + distortion), abs=0.02)


def address_view(page: Page) -> tuple[np.ndarray, float]:
    page.mouse.move(*middle(page))
    until(lambda: len(address(page, "view0")) == 3)
    view = address(page, "view0")
    return view[:2], view[2]


def test_the_nearest_data_are_the_nearest(
    page: Page, models: dict[str, VAE], whole: np.ndarray
) -> None:
    typed(page, 0.3, -0.4)
    codes = models["vae"].transform(whole)
    nearest = np.argsort(np.hypot(*(codes - [0.3, -0.4]).T))[:6]
    shown = page.get_by_role("region", name="Nearest data").get_by_role("img")

    def indices() -> list[int]:
        names = [shown.nth(i).get_attribute("aria-label") or "" for i in range(shown.count())]
        return [int(re.findall(r"\d+", name)[0]) for name in names]

    until(lambda: indices() == nearest.tolist())
    assert np.array_equal(grey(shown.first), whole[nearest[0], 0])


def test_the_lasso_finds_its_members(page: Page, whole: np.ndarray) -> None:
    page.get_by_role("button", name="Lasso").click()
    page.mouse.move(*middle(page, -0.49, -0.49))
    page.mouse.down()
    for dx, dy in ((0.49, -0.49), (0.49, 0.49), (-0.49, 0.49)):
        page.mouse.move(*middle(page, dx, dy), steps=3)
    page.mouse.up()
    region = page.get_by_role("region", name="Region")
    until(lambda: "data, by vae" in region.inner_text())
    count = int(region.inner_text().split(" data, by")[0].split("\n")[-1])
    assert count > 0.98 * len(whole)
    mean = region.get_by_role("img", name=re.compile("^Mean of"))
    mean.wait_for()
    off = np.abs(grey(mean).astype(float) - whole[:, 0].mean(0))
    assert off.max() < 3
    with page.expect_download() as download:
        region.get_by_role("button", name="Save CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert len(rows) == count
    assert set(rows[0]) == {"index", "split", "row", "label", "z1", "z2"}
    assert {row["label"] for row in rows} == {"left", "right", "top"}
    last = rows[-1]
    assert (last["split"], int(last["row"])) == ("test", int(last["index"]) - 600)
    with page.expect_download() as download:
        region.get_by_role("button", name="Save images").click()
    assert picture(download).size == (10 * SIZE * 2, 10 * SIZE * 2)


def test_keys_do_what_the_pointer_does(page: Page) -> None:
    map_of(page).focus()
    page.keyboard.press("ArrowRight")
    first = spoken(page)
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+ArrowUp")
    assert spoken(page)[1] > first[1]
    page.keyboard.press("Enter")
    until(lambda: strip(page).count() == 1)
    scale = address(page, "view0")
    page.keyboard.press("+")
    until(lambda: len(scale) == 0 or address(page, "view0")[2] > scale[2])


def test_the_address_brings_back_what_was_shown(browser: Browser, page: Page) -> None:
    page.get_by_role("button", name="top", exact=True).click()
    two_clicks(page, (-0.2, -0.2), (0.25, 0.15))
    page.mouse.wheel(0, -300)
    typed(page, 0.5, 0.2)
    until(lambda: near(address(page, "hidden"), [2]) and near(address(page, "z"), [0.5, 0.2]))
    until(lambda: len(address(page, "end")) == 2)
    until(lambda: strip(page).count() == 1)
    shown = grey(strip(page))
    with opened(browser, page.url) as again:
        until(lambda: strip(again).count() == 1)
        assert np.array_equal(grey(strip(again)), shown)
        assert status(again) == "z = (0.50, 0.20)"
        until(lambda: near(address(again, "view0"), address(page, "view0"), 0.01))
        button = again.get_by_role("button", name="top", exact=True)
        assert button.get_attribute("aria-pressed") == "false"


PAINTS = """async (hash) => {
  const { mount } = await import("vaelab/explorer.js");
  const { LatentMap } = await import("vaelab/map.js");
  const { Live } = await import("vaelab/live.js");
  let paints = 0;
  const { paint } = LatentMap.prototype;
  LatentMap.prototype.paint = function (colours) {
    paints++;
    paint.call(this, colours);
  };
  history.replaceState = () => {};  // no explorer that is there writes its own view meanwhile
  location.hash = hash;
  const root = document.body.appendChild(document.createElement("div"));
  const { density, hidden, colour, linked } = await mount(root, await Live.connect(location.href));
  root.remove();
  return { paints, density, hidden: [...hidden], colour, linked };
}"""


@pytest.mark.parametrize(
    ("said", "colour", "paints"),
    [("", "class", {3}), ("colour=none", "none", {3}), ("colour=elbo", "elbo", {3, 6})],
)
def test_each_map_is_painted_once_at_the_start(
    server: Page, said: str, colour: str, paints: set[int]
) -> None:
    """Three maps; a figure that comes later than they are painted has them painted again."""
    plain = {"density": False, "hidden": [], "colour": colour, "linked": True}
    other = {"density": True, "hidden": [1, 2], "linked": False}
    for more, wanted in (("", plain), ("&density&hidden=1,2&unlinked", plain | other)):
        found = server.evaluate(PAINTS, f"{said}{more}")
        assert found.pop("paints") in paints
        assert found == wanted


def test_points_are_coloured_by_a_figure(page: Page) -> None:
    page.locator("#colour").select_option("elbo")
    until(lambda: painted(page, CLASS_COLOURS[1]) < 50)
    assert "nats" in page.get_by_label("vae", exact=True).first.inner_text()


INKED = """c => {
  const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
  let count = 0;
  for (let i = 3; i < data.length; i += 4) count += data[i] > 0;
  return count / (c.width * c.height);
}"""


def test_density_and_backdrop_are_drawn(page: Page) -> None:
    under = map_of(page).locator("canvas").first

    def inked() -> float:
        return float(under.evaluate(INKED))

    assert inked() == 0
    page.get_by_role("button", name="Density").click()
    until(lambda: 0.05 < inked() < 1)
    page.get_by_role("button", name="Density").click()
    until(lambda: inked() == 0)
    page.get_by_role("button", name="Decoded backdrop").click()
    until(lambda: inked() > 0.95)


def test_the_animation_plays(page: Page) -> None:
    two_clicks(page, (-0.3, -0.3), (0.3, 0.3))
    frame = page.locator("canvas.frame").first
    frame.wait_for()
    first = grey(frame)
    page.get_by_role("button", name="Play").click()
    until(lambda: not np.array_equal(grey(frame), first))
    page.get_by_role("button", name="Pause").click()


def test_the_strip_is_saved(page: Page) -> None:
    two_clicks(page, (-0.3, -0.3), (0.3, 0.3))
    until(lambda: strip(page).count() == 1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    saved = np.asarray(picture(download).convert("L"))
    factor = 96 // SIZE
    assert saved.shape == (3 * SIZE * factor, 11 * SIZE * factor)
    assert np.array_equal(saved[: SIZE * factor : factor, ::factor], grey(strip(page)))


def test_the_strip_is_saved_as_an_animation(server: Page) -> None:
    two_clicks(server, (-0.3, -0.3), (0.3, 0.3))
    until(lambda: strip(server).count() == 1)
    with server.expect_download() as download:
        server.get_by_role("button", name="Save GIF").click()
    animation = picture(download)
    assert animation.format == "GIF"
    assert animation.n_frames >= 11


def test_the_geodesic_is_no_longer_than_the_straight_line(server: Page) -> None:
    two_clicks(server, (-0.4, -0.1), (0.4, 0.2))
    until(lambda: strip(server).count() == 1)
    straight = grey(strip(server))
    server.locator("#path").select_option("geodesic")
    until(lambda: not np.array_equal(grey(strip(server)), straight))
    ends = [np.hsplit(shown, 11) for shown in (straight, grey(strip(server)))]
    assert np.array_equal(ends[0][0], ends[1][0])
    assert np.array_equal(ends[0][-1], ends[1][-1])
    text = server.locator(".strip figcaption").nth(1).inner_text()
    length, line = map(float, re.findall(r"\d+\.\d+", text))
    assert length <= line + 0.01


def test_a_drawing_lands_on_the_map(server: Page) -> None:
    board = server.get_by_role("img", name="Board to draw on")
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    assert box
    server.mouse.move(box["x"] + 40, box["y"] + 40)
    server.mouse.down()
    server.mouse.move(box["x"] + 60, box["y"] + 60, steps=4)
    server.mouse.up()
    read = server.get_by_role("img", name="Your picture, as the models read it")
    read.wait_for()
    shown = grey(read)
    assert shown[:6, :6].max() > 100
    assert shown[7:, 7:].max() < 20
    assert server.locator(".posterior polygon").count() == 12  # two ellipses with halos, 3 models
    ranks = server.get_by_role("region", name="Your own picture").locator("td")
    assert ranks.count() == 12
    assert server.locator(".histogram line").count() == 3
    server.get_by_role("button", name="Clear").click()
    assert server.locator(".posterior").count() == 0


def test_a_file_lands_where_the_same_datum_does(
    server: Page, models: dict[str, VAE], whole: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(whole[5, 0]).save(tmp_path / "five.png")
    server.locator("#file").set_input_files(tmp_path / "five.png")
    read = server.get_by_role("img", name="Your picture, as the models read it")
    read.wait_for()
    assert np.array_equal(grey(read), whole[5, 0])
    again = server.get_by_role("img", name="Reconstruction of your picture by vae")
    assert alike(grey(again), models["vae"].reconstruct(whole[[5]]), server)


DROP = """bytes => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(bytes)], "five.png", { type: "image/png" }));
  document.querySelector(".map").dispatchEvent(
    new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


def test_a_picture_can_be_dropped_anywhere(server: Page, whole: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(whole[9, 0]).save(file, "PNG")
    server.evaluate(DROP, list(file.getvalue()))
    read = server.get_by_role("img", name="Your picture, as the models read it")
    read.wait_for()
    assert np.array_equal(grey(read), whole[9, 0])


def test_a_file_that_is_no_picture_is_told_so(browser: Browser, live: str, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with opened(browser, live, forgiven="status of 400") as page:
        page.locator("#file").set_input_files(tmp_path / "bad.png")
        wrong = page.get_by_role("region", name="Your own picture").locator(".wrong")
        wrong.wait_for()
        assert "picture" in wrong.inner_text()
        typed(page, 0.5, 0.2)
        until(lambda: "0.50, 0.20" in (decoded(page).get_attribute("aria-label") or ""))


def turned(page: Page, axes: str) -> bool:
    """Whether the page's address says that its first map shows these axes."""
    return f"axes0={axes}" in unquote(page.evaluate("location.hash"))


def test_many_dimensions_have_axes_and_sliders(
    browser: Browser, data: tuple[Dataset, Dataset]
) -> None:
    vae = VAE("vae", latent_dim=5, epochs=1, seed=0).fit(data[0])
    with (
        explorer.explore({"five": vae}, data, open_browser=False) as running,
        opened(browser, running.url) as page,
    ):
        typed(page, 0.1, 0.2, 0.3, 0.4, 0.5)
        assert status(page) == "z = (0.10, 0.20, 0.30, 0.40, 0.50)"
        page.get_by_label("across, five").select_option("z3")
        page.get_by_label("up, five").select_option("z5")
        until(lambda: turned(page, "z3,z5"))  # before, the map shows others, and acts by them
        page.mouse.move(*middle(page, 0.2, 0.2))
        until(lambda: abs(spoken(page)[2] - 0.3) > 0.02)
        assert np.allclose(spoken(page)[[0, 1, 3]], [0.1, 0.2, 0.4])
        slider = page.get_by_label("z2")
        slider.fill("1.5")
        z = address_of_five(page)
        assert z[1] == pytest.approx(1.5)
        until(lambda: alike(grey(decoded(page)), vae.inverse_transform([z]), page))


def test_of_two_choices_of_axes_the_later_counts(
    browser: Browser, data: tuple[Dataset, Dataset]
) -> None:
    vae = VAE("vae", latent_dim=5, epochs=1, seed=0).fit(data[0])
    late: list[Route] = []
    with (
        explorer.explore({"five": vae}, data, open_browser=False) as running,
        opened(browser, running.url) as page,
    ):
        page.route(re.compile(r"/view\?.*axes=z3%2Cz2"), lambda route: late.append(route))
        page.get_by_label("across, five").select_option("z3")
        page.get_by_label("up, five").select_option("z5")
        until(lambda: turned(page, "z3,z5"))
        with page.expect_response(lambda answer: "z3%2Cz2" in answer.url) as answer:
            late[0].continue_()
        answer.value.finished()
        page.wait_for_timeout(1000)  # more than the page waits before it notes what it shows
        assert turned(page, "z3,z5")


PLACES = """() => Object.fromEntries([...document.querySelectorAll(".map .mark")].map((mark) => {
  const ring = mark.querySelector("circle");
  return [mark.classList[1], ring ? ["cx", "cy"].map((at) => Number(ring.getAttribute(at))) : []];
}))"""


def test_other_axes_move_all_marks(browser: Browser, data: tuple[Dataset, Dataset]) -> None:
    vae = VAE("vae", latent_dim=5, epochs=1, seed=0).fit(data[0])
    file = io.BytesIO()
    Image.fromarray(data[0].x[9, 0]).save(file, "PNG")
    with (
        explorer.explore({"five": vae}, data, open_browser=False) as running,
        opened(browser, running.url) as page,
    ):
        two_clicks(page, (-0.2, -0.2), (0.25, 0.15))
        page.locator("#datum").fill("5")
        page.locator("#datum").press("Enter")
        page.evaluate(DROP, list(file.getvalue()))
        page.get_by_role("button", name="Lasso").click()
        page.mouse.move(*middle(page, -0.3, -0.3))
        page.mouse.down()
        for dx, dy in ((0.3, -0.3), (0.3, 0.3)):
            page.mouse.move(*middle(page, dx, dy), steps=3)
        page.mouse.up()
        names = {"probe", "start", "end", "path", "step", "datum", "picture", "posterior", "lasso"}
        until(lambda: set(page.evaluate(PLACES)) == names)
        until(lambda: address(page, "end").size == 5)
        box = map_of(page).bounding_box()
        assert box
        codes = vae.transform(data[0].x[[5, 9]])
        points = {"start": address(page, "start"), "end": address(page, "end")}
        points |= {"datum": codes[0], "picture": codes[1]}

        def right(across: int, up: int) -> bool:
            found, view = page.evaluate(PLACES), address(page, "view0")
            for name, z in points.items():
                x = box["width"] / 2 + (z[across] - view[0]) * view[2]
                y = box["height"] / 2 - (z[up] - view[1]) * view[2]
                if not np.allclose(found[name], [x, y], atol=2.5):
                    return False
            return True

        until(lambda: right(0, 1))
        page.get_by_label("across, five").select_option("z3")
        until(lambda: right(2, 1))
        page.get_by_label("up, five").select_option("z5")
        until(lambda: right(2, 4))
        assert set(page.evaluate(PLACES)) == names - {"lasso"}


def address_of_five(page: Page) -> np.ndarray:
    until(lambda: address(page, "z").size == 5 and address(page, "z")[1] == pytest.approx(1.5))
    return address(page, "z")


def test_vectors_are_drawn_as_curves(browser: Browser) -> None:
    x = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    vae = VAE("vae", epochs=1, seed=0).fit(x)
    with (
        explorer.explore({"vae": vae}, Dataset(x=x, y=None, name="x"), open_browser=False) as run,
        opened(browser, run.url) as page,
    ):
        typed(page, 0.5, 0.2)
        until(lambda: "0.50, 0.20" in (decoded(page).get_attribute("aria-label") or ""))
        shown = pixels(decoded(page))
        blue = (shown[..., 2] > 150) & (shown[..., 0] < 60)
        assert blue.any(0).sum() > 0.8 * shown.shape[1]
        assert page.get_by_role("region", name="Your own picture").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(browser: Browser, live: str, scheme: Any) -> None:
    with opened(browser, live, color_scheme=scheme) as page:
        shot = Image.open(io.BytesIO(map_of(page).screenshot())).convert("L")
        brightness = np.median(np.asarray(shot))
        assert brightness > 200 if scheme == "light" else brightness < 60
        page.get_by_role("button", name="Dark").click()
        again = Image.open(io.BytesIO(map_of(page).screenshot())).convert("L")
        assert (np.median(np.asarray(again)) > 200) == (scheme == "dark")


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_nothing_is_cut_off_at_other_widths(browser: Browser, live: str, width: int) -> None:
    with opened(browser, live, viewport={"width": width, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_telephone_shows_the_decoded_point_with_the_map(browser: Browser, live: str) -> None:
    with opened(browser, live, viewport={"width": 390, "height": 844}) as page:
        for model in range(len(NAMES)):
            map_of(page, model).evaluate("map => map.scrollIntoView({ block: 'end' })")
            seen, touched = decoded(page).bounding_box(), map_of(page, model).bounding_box()
            assert seen
            assert touched
            assert seen["y"] >= 0, "in sight"
            assert touched["height"] > 300
            assert seen["y"] + seen["height"] < touched["y"] + 100, "and not on the map"


FIT = """async () => {
  const { LatentMap } = await import("vaelab/map.js");
  const map = new LatentMap("m", { view: () => {} });
  const boxes = [1.5, 100].map((far) => {
    const rest = Array.from({ length: 8000 }, (_, i) => Math.sin(i * i));
    map.place(Float32Array.from([...rest, far, 0, -1.4, 0, 0, far]));
    return map.box();
  });
  return boxes;
}"""


def test_the_first_view_holds_all_points_with_a_margin_but_those_far_off(server: Page) -> None:
    near, far = server.evaluate(FIT)
    left, bottom, right, top = near
    assert left < -1.44
    assert bottom < -1.03
    assert min(right, top) > 1.54
    assert max(right, top) < 2
    assert max(map(abs, far)) < 3, "one point does not make all others small"


APART = """async () => {
  const { apart } = await import("vaelab/labels.js");
  const crowd = Array.from({ length: 12 }, (_, i) => [200 + (i % 3), 150 - (i % 2)]);
  const far = [[0, 0], [100, 0], [50, 80]];
  const alike = (count, half) => Array.from({ length: count }, () => half);
  const beside = apart([[10, 10], [11, 10], [14, 12]], alike(3, [6, 8]), 2);
  const two = apart([[10, 10], [12, 11]], alike(2, [6, 8]));
  return { beside, two, far: apart(far, alike(3, [20, 8])),
    crowd: apart(crowd, alike(12, [22, 8])), again: apart(crowd, alike(12, [22, 8])), from: crowd };
}"""


def test_names_on_a_map_are_moved_apart_or_left_out(server: Page) -> None:
    found = server.evaluate(APART)
    (ax, ay), (bx, by) = found["two"]
    assert max(abs(ax - bx) / 12, abs(ay - by) / 16) >= 1
    assert np.hypot(ax - 10, ay - 10) < 10, "a little"
    assert found["far"] == [[0, 0], [100, 0], [50, 80]]
    assert found["beside"][:2] == [[10, 10], [11, 10]], "what is fixed stays, and is never left out"
    x, y = found["beside"][2]
    assert max(abs(x - 11) / 12, abs(y - 10) / 16) >= 1, "the others make room"
    assert found["crowd"] == found["again"]
    assert found["crowd"][0], "the first matters most"
    left = [
        (place, home) for place, home in zip(found["crowd"], found["from"], strict=True) if place
    ]
    assert 1 < len(left) < 12
    for k, (place, home) in enumerate(left):
        assert np.hypot(place[0] - home[0], place[1] - home[1]) < 27
        for other, _ in left[:k]:
            assert max(abs(place[0] - other[0]) / 44, abs(place[1] - other[1]) / 16) > 0.93


WRITTEN = """async () => {
  const { LatentMap } = await import("vaelab/map.js");
  const map = new LatentMap("m", { view: () => {} });
  map.names = [{ text: "7", at: [0, 0] }];
  map.show([0, 0], 40);
  map.drawOver();
  const place = (key) => Number(map.over.querySelector(".name").getAttribute(key));
  const name = () => [place("x"), place("y")];
  const free = name();
  map.mark("start", [[-0.5, -0.3]], { text: "start" });
  const beside = name();
  map.mark("start", null);
  const again = name();
  return { free, beside, again };
}"""


def test_names_make_room_for_what_is_written_at_a_mark(server: Page) -> None:
    found = server.evaluate(WRITTEN)
    (x, y), (moved_x, moved_y) = found["free"], found["beside"]
    centre = x - 20 + 9 + 24.5, y - 5 + 12 - 13  # of the word beside its ring
    assert abs(centre[0] - x) < 30.6
    assert abs(centre[1] - (y - 5)) < 16, "it would cover the name"
    apart = abs(moved_x - centre[0]) / 30.6, abs(moved_y - 5 - centre[1]) / 16
    assert max(apart) > 0.99
    assert found["again"] == found["free"]


LAWS = """async () => {
  const { Nearby, inside, density } = await import("vaelab/nearby.js");
  const { project, lift, ellipse } = await import("vaelab/space.js");
  let seed = 1;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  const points = Float32Array.from({ length: 4000 }, () => random() * 4 - 2);
  const shown = (i) => i % 3 !== 0;
  const nearby = new Nearby(points);
  let wrong = 0;
  for (let k = 0; k < 300; k++) {
    const [x, y, r] = [random() * 5 - 2.5, random() * 5 - 2.5, random() * 0.3];
    let [best, least] = [-1, r * r];
    for (let i = 0; i < 2000; i++) {
      const d = (points[2 * i] - x) ** 2 + (points[2 * i + 1] - y) ** 2;
      if (shown(i) && d <= least) [best, least] = [i, d];
    }
    wrong += nearby.find(x, y, r, shown) !== best;
  }
  const star = [[-1, -1], [1, -1], [1, 1], [0, 0], [-1, 1]];
  const members = inside(points, star, () => true);
  const expected = [];
  for (let i = 0; i < 2000; i++) {
    const [x, y] = [points[2 * i], points[2 * i + 1]];
    if (Math.abs(x) < 1 && y > -1 && y < Math.abs(x)) expected.push(i);
  }
  const mass = density(points, [-3, -3, 3, 3], 60, 60, shown).reduce((a, b) => a + b, 0);
  const c = Math.SQRT1_2;
  const view = { names: [], origin: Float32Array.of(1, 2, 3), points,
    basis: [Float32Array.of(c, c, 0), Float32Array.of(0, 0, 1)] };
  const z = Float32Array.of(0.3, -0.2, 0.7);
  const lifted = lift(view, [0.5, -1.5], z);
  const turned = { ...view, basis: [view.basis[0], Float32Array.of(c, -c, 0)] };
  const [xx, xy] = [(0.9 ** 2 + 0.2 ** 2) / 2, (0.9 ** 2 - 0.2 ** 2) / 2];
  const round = ellipse(turned, z, [0.9, 0.2, 0.5], 2).map(([x, y]) => {
    const [cx, cy] = project(turned, z);
    const [dx, dy] = [x - cx, y - cy];
    return (xx * (dx * dx + dy * dy) - 2 * xy * dx * dy) / (xx * xx - xy * xy) / 4;
  });
  return { wrong, members: members.join() === expected.join(), mass,
    there: project(view, lifted), kept: [z[0] - z[1], lifted[0] - lifted[1]],
    round: [Math.min(...round), Math.max(...round)] };
}"""


def test_laws_of_the_page_s_geometry(server: Page) -> None:
    found = server.evaluate(LAWS)
    assert found["wrong"] == 0
    assert found["members"]
    assert found["mass"] == pytest.approx(2000 - 667, rel=1e-3)
    assert found["there"] == pytest.approx([0.5, -1.5], abs=1e-6)
    assert found["kept"][0] == pytest.approx(found["kept"][1], abs=1e-6)
    assert found["round"] == pytest.approx([1, 1], abs=1e-5)


def test_the_report_is_alive(
    browser: Browser, data: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    run = compare(["vae", "conv"], *data, out=tmp_path, epochs=1, particles=2)
    path = report.write(tmp_path, run, Exhibits(run.models, *data, latents=run.latents))
    with opened(browser, path.as_uri()) as page:
        typed(page, 0.5, 0.2)
        for index, vae in enumerate(run.models.values()):
            shown = decoded(page, index)
            until(lambda shown=shown: "0.50, 0.20" in (shown.get_attribute("aria-label") or ""))
            assert alike(grey(shown), vae.inverse_transform([[0.5, 0.2]]), page)
        links = page.get_by_text("Save this figure")
        assert links.count() == page.locator("main figure > .wide > img").count() > 5
        with page.expect_download() as download:
            links.first.click()
        saved = tmp_path / "figures" / download.value.suggested_filename
        assert Path(download.value.path()).read_bytes() == saved.read_bytes()
        elbo = page.locator("tbody tr", has_text="conv").first.locator("td").first.inner_text()
        stated = f"{run.figures['conv']['elbo']:.2f}".replace("-", "−")
        assert elbo.startswith(stated)
        keep(page, "report")


def test_the_report_is_legible_at_any_width(
    browser: Browser, data: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    run = compare(["vae", "linear"], *data, out=tmp_path, epochs=1, particles=2)
    command = "vaelab compare blobs " + "--a-long-option=value " * 9
    shown = Exhibits(run.models, *data, latents=run.latents)
    path = report.write(tmp_path, run, shown, command=command)
    wide = {"width": 1400, "height": 900}
    scales = "images => images.map(i => [i.id, 160 * i.width / i.naturalWidth])"
    with opened(browser, path.as_uri(), viewport=wide) as page:
        sizes = dict(page.locator("main figure img").evaluate_all(scales))
        assert {name for name, size in sizes.items() if abs(size - 100) > 1} <= {"interpolation"}
    with opened(browser, path.as_uri(), viewport={"width": 390, "height": 844}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        sizes = dict(page.locator("main figure img").evaluate_all(scales))
        assert min(sizes.values()) > 79, "pixels an inch"
        pre = page.locator("#repeat ~ pre").first
        assert pre.evaluate("box => box.scrollWidth <= box.clientWidth")
        table = page.locator(".wide").first
        fades = "box => ['--left', '--right'].map(name => box.style.getPropertyValue(name))"
        until(lambda: table.evaluate(fades) == ["0px", "2.5rem"])
        table.evaluate("box => box.scrollTo(1000, 0)")
        until(lambda: table.evaluate(fades) == ["2.5rem", "0px"])
        keep(page, "report-narrow")


def test_a_server_that_ends_is_told_and_found_again(
    browser: Browser, models: dict[str, VAE], data: tuple[Dataset, Dataset]
) -> None:
    first = explorer.explore(models, data, open_browser=False)
    port = int(first.url.rstrip("/").rsplit(":", 1)[1])
    with opened(browser, first.url, forgiven="ERR_CONNECTION_REFUSED") as page:
        first.close()
        lost = page.get_by_text("The server is gone")
        lost.wait_for()
        with explorer.explore(models, data, port=port, open_browser=False):
            lost.wait_for(state="hidden")
            typed(page, 0.5, 0.2)
            wanted = models["vae"].inverse_transform([[0.5, 0.2]])
            until(lambda: alike(grey(decoded(page)), wanted, page))


def test_what_is_not_exact_or_not_all_is_told(
    browser: Browser, data: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    plain = recipes.vae((1, SIZE, SIZE))
    layer = torch.nn.Linear(2, SIZE * SIZE)
    network = networks.Wrapped(layer, (2,), (1, SIZE, SIZE))
    vae = VAE(replace(plain, likelihood=Bernoulli(network)), training={"steps": 1}).fit(data[0])
    told = "Blended from a lattice of decoded images"
    exact = VAE("linear", training={"steps": 1}).fit(data[0])
    for model, budget, blended in ((vae, 10**6, 1), (exact, 20_000, 0)):
        path = tmp_path / "page.html"
        path.write_text("<!doctype html>" + portable.part({"m": model}, data, budget=budget))
        with opened(browser, path.as_uri()) as page:
            assert page.get_by_text(told).count() == blended
            assert page.get_by_text("a random part of the data").count() == 1 - blended
