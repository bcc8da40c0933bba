"""A page without a server: what it carries, and what a browser makes of it, is what Python has."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page
from torch import nn

from browser import chromium
from vaelab import VAE, checks, latent, recipes
from vaelab.explorer import sheets, still
from vaelab.explorer.scene import Scene
from vaelab.latent import Codes
from vaelab.metrics import PerDatum
from vaelab.networks import ACTIVATIONS, MLP, ConvDecoder, Wrapped
from vaelab.recipes import RECIPES
from vaelab.records import Dataset

GREY, COLOUR, VECTOR = (1, 12, 12), (3, 37, 50), (7,)


ALL_WAYS = sheets.WAYS


@pytest.fixture(autouse=True)
def _few_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures stay as they are, so that tests that are not about it need not try all ways."""
    monkeypatch.setattr(sheets, "WAYS", ((256, 75),))


@pytest.fixture
def all_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "WAYS", ALL_WAYS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def still_page(browser: Browser, tmp_path: Path) -> Iterator[Any]:
    """What opens a page of a fragment, with the backend as `b`; nothing may go wrong in it."""
    pages: list[Page] = []
    told: list[str] = []

    def opened(fragment: str) -> Page:
        page = browser.new_page()
        pages.append(page)
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        path = tmp_path / f"page{len(pages)}.html"
        path.write_text(document(fragment), encoding="utf-8")
        page.goto(path.as_uri())
        page.wait_for_function("window.b !== undefined", timeout=20_000)
        return page

    yield opened
    for page in pages:
        page.close()
    assert told == []


def document(fragment: str) -> str:
    folder = resources("vaelab.explorer") / "page"
    kind = "data:text/javascript;base64,"
    names = {
        f"vaelab/{name}.js": kind + base64.b64encode((folder / f"{name}.js").read_bytes()).decode()
        for name in ("still", "decoder", "embedded", "shapes", "types")
    }
    start = 'import { Still } from "vaelab/still.js"; window.b = await Still.open(document);'
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>test</title>'
        f'<script type="importmap">{json.dumps({"imports": names})}</script>\n'
        f'{fragment}\n<script type="module">{start}</script></html>'
    )


def data_of(shape: tuple[int, ...], count: int, seed: int = 0, **more: Any) -> Dataset:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    if len(shape) == 1:
        x = (rng.normal(0, 1, (count, *shape)) * 10.0 ** np.arange(len(shape))).astype(np.float32)
    else:
        soft = rng.uniform(0, 1, (count, *shape[:1], 4, 4))
        x = nn.functional.interpolate(torch.from_numpy(soft), shape[1:]).numpy()
        x = (255 * x).round().astype(np.uint8)
    named = {"name": "made", "class_names": ("a", "b", "c"), **more}
    return Dataset(x=x, y=y, split="test" if seed else "train", **named)


def fitted(recipe: Any, data: Dataset, latent_dim: int = 2, **more: Any) -> VAE:
    """A model that was hardly trained, its decoder's weights made large and unlike."""
    named = {} if isinstance(recipe, recipes.Recipe) else {"latent_dim": latent_dim}
    vae = VAE(recipe, **named, **more, training={"steps": 1, "batch_size": 32}).fit(data)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in vae.model_.parts["likelihood"].parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += 0.3 * noise * parameter.std(correction=0).clamp(0.05)
    return vae


def read(fragment: str) -> dict[str, Any]:
    """The JSON of a fragment, as a browser cuts it out."""
    found = re.search(r'id="vaelab-scene">(.*?)</script', fragment, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def blob(fragment: str, ref: Mapping[str, Any]) -> np.ndarray:
    found = re.search(rf'id="vaelab-blob-{ref["blob"]}">(.*?)</script', fragment, re.DOTALL)
    assert found
    return np.frombuffer(base64.b64decode(found[1]), ref["type"])


def in_page(page: Page, call: str, *values: Any) -> Any:
    """What an expression of the backend `b` and values `v` gives."""
    found = page.evaluate(
        """async ([call, v]) => {
          const packed = (x) => {
            const bytes = new Uint8Array(x.buffer, x.byteOffset, x.byteLength);
            let text = "";
            for (const byte of bytes) text += String.fromCharCode(byte);
            const array = x.constructor.name.replace("Array", "").toLowerCase();
            return { array, text: btoa(text) };
          };
          const plain = (x) => {
            if (ArrayBuffer.isView(x)) return packed(x);
            if (Array.isArray(x)) return x.map(plain);
            if (x === null || typeof x !== "object") return x;
            return Object.fromEntries(Object.entries(x).map(([key, value]) => [key, plain(value)]));
          };
          const f = (x) => Float32Array.from(x.flat());
          return plain(await new Function("b", "v", "f", `return ${call}`)(window.b, v, f));
        }""",
        [call, list(values)],
    )
    return unpacked(found)


def unpacked(found: Any) -> Any:
    """What the page gave, with its arrays as arrays."""
    if isinstance(found, list):
        return [unpacked(value) for value in found]
    if isinstance(found, dict) and set(found) == {"array", "text"}:
        return np.frombuffer(base64.b64decode(found["text"]), found["array"])
    return {k: unpacked(v) for k, v in found.items()} if isinstance(found, dict) else found


def refused(page: Page, call: str, *values: Any) -> str:
    return str(
        page.evaluate(
            """async ([call, v]) => {
              try { await new Function("b", "v", `return ${call}`)(window.b, v); }
              catch (error) { return error.message; }
              return "nothing was refused";
            }""",
            [call, list(values)],
        )
    )


def shown(vae: VAE, z: np.ndarray, span: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Means as the page shows them: bytes of images, before they are rounded."""
    means = latent.decode(vae.model_, z).astype(np.float64)
    if means.ndim == 2:
        return means
    return np.clip(255 * (means - span[0]) / (span[1] - span[0]), 0, 255)


def check_decodes(page: Page, index: int, vae: VAE, data: Dataset, *, most: float = 1.0) -> None:
    dim = vae.model_.latent_dim
    z = np.random.default_rng(3).normal(0, 1.5, (9, dim)).astype(np.float32)
    found = in_page(page, "b.decode(v[0], f(v[1]))", index, z.tolist()).astype(float)
    wanted = shown(vae, z)
    found = found.reshape(wanted.shape)
    if wanted.ndim == 2:  # each element in its own unit
        assert (abs(found - wanted) <= most / 255 * np.ptp(wanted, axis=0)).all()
        assert (np.ptp(wanted, axis=0) > 0.1 * data.x.std(0)).all()
    else:
        assert abs(found - wanted).max() <= most
        assert wanted.std() > 10  # and there is something to see


SHOWN = [name for name, recipe in RECIPES.items() if not recipe(GREY).model().classes]


@pytest.fixture(scope="module")
def grey() -> tuple[Dataset, Dataset, dict[str, VAE]]:
    train, test = data_of(GREY, 90), data_of(GREY, 30, seed=1)
    kinds = {name: 1 + k % 3 for k, name in enumerate(SHOWN)}
    return train, test, {name: fitted(name, train, dim) for name, dim in kinds.items()}


def test_every_recipe_decodes_in_the_page_as_in_python(
    still_page: Any, grey: tuple[Dataset, Dataset, dict[str, VAE]]
) -> None:
    train, test, models = grey
    page = still_page(still.embedded(models, train, test))
    assert in_page(page, "b.scene.can.decode") == "exact"
    assert [m["name"] for m in in_page(page, "b.scene.models")] == SHOWN
    for index, vae in enumerate(models.values()):
        if type(vae.model_.parts["likelihood"]).__name__ == "Bernoulli":
            check_decodes(page, index, vae, train)
        else:  # whose means leave [0, 1]
            z = np.array([[0.3] * vae.model_.latent_dim], np.float32)
            found = np.array(in_page(page, "b.decode(v[0], f(v[1]))", index, z.tolist()), float)
            assert abs(found - shown(vae, z).ravel()).max() <= 1


def test_every_activation_is_known_to_the_page(still_page: Any) -> None:
    train = data_of(COLOUR, 40)
    models = {}
    for name in ACTIVATIONS:
        network = ConvDecoder((2,), COLOUR, channels=6, widths=(9,), activation=name)
        conv = recipes.conv(COLOUR, 2)
        conv = replace(conv, likelihood=type(conv.likelihood)(network))
        network = MLP((5,), COLOUR, widths=(11, 7), activation=name)
        dense = recipes.vae(COLOUR, 5)
        dense = replace(dense, likelihood=type(dense.likelihood)(network))
        models |= {f"conv {name}": fitted(conv, train), f"dense {name}": fitted(dense, train)}
    page = still_page(still.embedded(models, train))
    for index, vae in enumerate(models.values()):
        check_decodes(page, index, vae, train)


@pytest.mark.parametrize("shape", [(3, 33, 70), (2, 9, 66), (1, 5, 3)])
def test_convolutions_of_any_shape(still_page: Any, shape: tuple[int, ...]) -> None:
    train = data_of(shape, 40)
    vae = fitted("conv", train)
    page = still_page(still.embedded({"conv": vae}, train))
    check_decodes(page, 0, vae, train)


def test_vectors_decode_in_their_own_units(still_page: Any) -> None:
    train, test = data_of(VECTOR, 80), data_of(VECTOR, 20, seed=1)
    models = {name: fitted(name, train, 2) for name in ("vae", "linear")}
    fragment = still.embedded(models, train, test)
    page = still_page(fragment)
    for index, vae in enumerate(models.values()):
        check_decodes(page, index, vae, train)
    assert read(fragment)["images"] is None
    assert in_page(page, "b.scene.can.hover") == "none"
    assert in_page(page, "b.datum(3)")["image"] is None
    told = "this page holds no data themselves, only their codes."
    assert refused(page, "b.images([0])") == refused(page, "b.mean([0])") == told


def test_weights_too_large_for_16_bits_travel_in_32(still_page: Any) -> None:
    train = data_of(GREY, 60)
    vae = fitted("vae", train)
    types = {
        layer["weight"]["type"]
        for layer in read(still.embedded({"vae": vae}, train))["models"][0]["layers"]
        if "weight" in layer
    }
    assert types == {"float16"}
    first = vae.model_.parts["likelihood"].network.layers[0]
    with torch.no_grad():
        first.weight *= 1e6
        first.bias *= 1e6
        vae.model_.parts["likelihood"].network.layers[2].weight /= 1e6
    fragment = still.embedded({"vae": vae}, train)
    types = {
        layer["weight"]["type"]
        for layer in read(fragment)["models"][0]["layers"]
        if "weight" in layer
    }
    assert types == {"float32"}
    check_decodes(still_page(fragment), 0, vae, train)


def known(models: Mapping[str, VAE], sets: list[Dataset]) -> tuple[Any, Any]:
    """Codes and figures that are told from one another at each datum."""
    count = sum(map(len, sets))
    rng = np.random.default_rng(8)
    codes = {
        n: Codes(*(np.concatenate(p) for p in zip(*(v.encode(s) for s in sets), strict=True)))
        for n, v in models.items()
    }
    rate = {n: rng.gamma(2, 5, count) for n in models}
    distortion = {n: rng.normal(100, 20, count) for n in models}
    figures = {n: PerDatum(-(rate[n] + distortion[n]), rate[n], distortion[n]) for n in models}
    return codes, figures


def test_points_labels_figures_and_codes_are_those_of_the_data(
    still_page: Any, grey: tuple[Dataset, Dataset, dict[str, VAE]]
) -> None:
    train, test, every = grey
    models = {name: every[name] for name in ("vae", "fixed-variance", "conv")}
    assert [v.model_.latent_dim for v in models.values()] == [1, 2, 3]
    codes, figures = known(models, [train, test])
    page = still_page(still.embedded(models, train, test, latents=codes, figures=figures))
    scene = Scene(models, train, test, codes=codes)
    facts = in_page(page, "b.scene")
    assert facts["count"] == 120
    assert facts["figures"] == ["elbo", "rate", "distortion"]
    assert facts["can"] == {
        "upload": False,
        "geodesic": False,
        "gif": False,
        "axes": True,
        "edges": "some",
        "hover": "all",
        "decode": "exact",
    }
    same = ("title", "shape", "range", "classes", "splits", "models")
    assert {key: facts[key] for key in same} == {key: scene.facts[key] for key in same}
    assert (in_page(page, "b.labels()") == scene.labels()).all()
    for index, name in enumerate(models):
        loc, scale = codes[name]
        error = 0.5001 * np.ptp(loc, axis=0) / 65535 + 1e-6
        found = in_page(page, "b.codes(v[0], v[1])", index, [119, 0, 90])
        assert (abs(np.reshape(found["loc"], (3, -1)) - loc[[119, 0, 90]]) <= error).all()
        span = np.ptp(np.log(scale), axis=0)
        off = abs(np.log(np.reshape(found["scale"], (3, -1))) - np.log(scale[[119, 0, 90]]))
        assert (off <= 0.5001 * span / 255 + 1e-5).all()
        for axes in (("z1", "z2"), ("pc1", "pc2"), ("z3", "z1"), ("pc3", "pc1")):
            if int(max(axes)[-1]) > max(2, loc.shape[1]):
                continue
            view, wanted = in_page(page, "b.view(v[0], v[1])", index, axes), scene.view(index, axes)
            assert tuple(view["names"]) == wanted.names
            points = np.reshape(view["points"], (-1, 2))
            columns = slice(0, 1 if loc.shape[1] == 1 else 2)
            assert abs(points - wanted.points)[:, columns].max() <= error.sum()
            np.testing.assert_allclose(view["origin"], wanted.origin, atol=1e-6)
            np.testing.assert_allclose(view["basis"], wanted.basis, atol=1e-6)
        for what in ("elbo", "rate", "distortion"):
            values = getattr(figures[name], what)
            found = in_page(page, "b.figure(v[0], v[1])", index, what)
            both = np.ptp(figures[name].rate) + np.ptp(figures[name].distortion)
            assert abs(found - values).max() <= 0.5 * both / 65535 + 1e-4
    spread = np.reshape(in_page(page, "b.view(0, ['z1', 'z2'])")["points"], (-1, 2))[:, 1]
    assert -1 <= spread.min() < -0.9
    assert 0.9 < spread.max() <= 1
    assert abs(np.diff(np.sort(spread))).max() < 0.1
    told = "this page has no axes z1, z9; choose others."
    assert refused(page, "b.view(1, ['z1', 'z9'])") == told


def test_a_datum_is_the_right_one_at_the_edges_of_sheets(
    still_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "SIDE", 40)  # three pictures by three
    train, test = data_of(GREY, 22), data_of(GREY, 9, seed=1)
    vae = fitted("vae", train)
    codes, figures = known({"vae": vae}, [train, test])
    fragment = still.embedded({"vae": vae}, train, test, latents=codes, figures=figures)
    assert len(read(fragment)["images"]["sheets"]) == 4
    page = still_page(fragment)
    x = np.concatenate([train.x, test.x])
    places = [0, 8, 9, 17, 18, 21, 22, 26, 27, 30]
    found = in_page(page, "b.images(v[0])", places)
    assert (np.reshape(found, x[places].shape) == x[places]).all()  # there is room for all of it
    for place in places:
        datum = in_page(page, "b.datum(v[0])", place)
        first = place < 22
        assert (datum["split"], datum["row"]) == (
            ("train", place) if first else ("test", place - 22)
        )
        assert datum["label"] == (train.y[place] if first else test.y[place - 22])
        assert (np.reshape(datum["image"], GREY) == x[place]).all()
        (model,) = datum["models"]
        assert (
            abs(np.ravel(model["image"]) - shown(vae, codes["vae"].loc[[place]]).ravel()).max() <= 1
        )
        assert model["elbo"] == pytest.approx(figures["vae"].elbo[place], abs=0.01)
        assert model["rate"] == pytest.approx(figures["vae"].rate[place], abs=0.01)
    mean = np.reshape(in_page(page, "b.mean(v[0])", places[::-1]), GREY)
    assert abs(mean - x[places].mean(0)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("shape", [(3, 20, 14), (2, 6, 11), (1, 9, 9)])
def test_pictures_of_any_channels_and_sizes_come_back(
    still_page: Any, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "SIDE", 64)
    train = data_of(shape, 50)
    vae = fitted("vae", train)
    page = still_page(still.embedded({"vae": vae}, train))
    found = in_page(page, "b.images(v[0])", list(range(50)))
    assert (np.reshape(found, train.x.shape) == train.x).all()
    monkeypatch.setattr(sheets, "SIDE", max(shape) // 2)  # so they are stored smaller
    smooth = (np.indices(shape[1:]).sum(0) * 200 / sum(shape[1:])).astype(np.uint8)
    data = replace(train, x=np.broadcast_to(smooth, train.x.shape).copy())
    page = still_page(still.embedded({"vae": vae}, data))
    found = np.reshape(in_page(page, "b.images([0, 49])"), (2, *shape))
    assert np.abs(found - data.x[:2].astype(float)).mean() < 12


def test_the_nearest_are_those_of_a_plain_search(
    still_page: Any, grey: tuple[Dataset, Dataset, dict[str, VAE]]
) -> None:
    train, test, every = grey
    vae = every["conv"]
    draws = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    codes = {"conv": Codes(draws, np.ones_like(draws))}
    page = still_page(still.embedded({"conv": vae}, train, test, latents=codes))
    z = codes["conv"].loc[7] + 0.01
    found = in_page(page, "b.nearest(0, f(v[0]), 200)", z.tolist())
    distances = np.linalg.norm(codes["conv"].loc - z, axis=1)
    assert found["indices"][0] == 7
    assert sorted(found["indices"]) == list(range(120))
    np.testing.assert_allclose(found["distances"], np.sort(distances), atol=1e-3)
    np.testing.assert_allclose(distances[found["indices"]], found["distances"], atol=1e-3)
    few = in_page(page, "b.nearest(0, f(v[0]), 5)", z.tolist())
    assert few["indices"].tolist() == found["indices"][:5].tolist()


def test_a_straight_path_has_its_decoded_length(
    still_page: Any, grey: tuple[Dataset, Dataset, dict[str, VAE]]
) -> None:
    train, _, every = grey
    vae = every["fixed-variance"]
    scene = Scene({"vae": vae}, train)
    page = still_page(still.embedded({"vae": vae}, train))
    ends = ([-1.0, 0.5], [1.5, 0.25])
    path = in_page(page, "b.path(0, f(v[0]), f(v[1]), 7, 'straight')", *ends)
    wanted = scene.path(0, *ends, steps=7)
    np.testing.assert_allclose(np.reshape(path["z"], (7, 2)), wanted.points, atol=1e-6)
    assert path["length"] == path["straight"] == pytest.approx(wanted.length, rel=0.01)
    told = "only a straight path here; 'vaelab explore' finds the shortest."
    assert (
        refused(page, "b.path(0, new Float32Array(2), new Float32Array(2), 7, 'geodesic')") == told
    )
    assert "'vaelab explore'" in refused(page, "b.place(new Blob([]), {invert: false})")
    assert "'vaelab explore'" in refused(page, "b.gif(0, new Float32Array(4))")
    assert refused(page, "b.figure(0, 'elbo')") == "this page holds no figures of each datum."
    assert in_page(page, "b.datum(0)")["models"][0]["elbo"] is None


def wrapped(shape: tuple[int, ...], latent_dim: int) -> recipes.Recipe:
    recipe = recipes.vae(shape, latent_dim)
    module = nn.Sequential(
        nn.Linear(latent_dim, 16), nn.Softplus(), nn.Linear(16, int(np.prod(shape)))
    )
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    network = Wrapped(module, (latent_dim,), shape)
    return replace(recipe, likelihood=type(recipe.likelihood)(network))


@pytest.mark.parametrize(
    ("latent_dim", "shape"), [(1, GREY), (2, GREY), (2, (3, 8, 9)), (2, VECTOR)]
)
def test_other_decoders_travel_as_a_lattice(
    still_page: Any, latent_dim: int, shape: tuple[int, ...]
) -> None:
    train = data_of(shape, 60)
    if len(shape) == 1:
        train = replace(train, x=(train.x > 0).astype(np.float32))
    vae = VAE(wrapped(shape, latent_dim), training={"steps": 1}).fit(train)
    page = still_page(still.embedded({"mine": vae, "vae": fitted("vae", train)}, train))
    assert in_page(page, "b.scene.can.decode") == "lattice"
    z = vae.transform(train)
    found = np.array(in_page(page, "b.decode(0, f(v[0]))", z.tolist()))
    wanted = shown(vae, z)
    most = 3 if len(shape) == 3 else 0.01
    assert abs(found.reshape(wanted.shape) - wanted).max() <= most
    far = np.array(in_page(page, "b.decode(0, f(v[0]))", [[99.0] * latent_dim]))
    assert np.isfinite(far).all()
    check_decodes(page, 1, fitted("vae", train), train)


def test_a_lattice_beyond_two_dimensions_lies_on_the_map(still_page: Any) -> None:
    train = data_of(GREY, 60)
    vae = VAE(wrapped(GREY, 4), training={"steps": 1}).fit(train)
    page = still_page(still.embedded({"mine": vae}, train))
    view = Scene({"mine": vae}, train).view(0, ("pc1", "pc2"))
    z = view.origin + view.points @ view.basis
    found = np.reshape(in_page(page, "b.decode(0, f(v[0]))", z.tolist()), (60, *GREY))
    assert abs(found - shown(vae, z)).max() <= 3


def test_a_large_decoder_becomes_a_lattice() -> None:
    train = data_of(GREY, 300)
    vae = fitted("vae", train)
    whole = read(still.embedded({"vae": vae}, train))
    assert "layers" in whole["models"][0]
    fragment = still.embedded({"vae": vae}, train, budget=300_000)
    small = read(fragment)
    assert "lattice" in small["models"][0]
    assert small["scene"]["can"]["decode"] == "lattice"
    assert len(fragment) <= 300_000


def noise(count: int, shape: tuple[int, ...]) -> Dataset:
    """Pictures that nothing can make small."""
    x = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    return Dataset(x=x, y=np.arange(count) % 300, name="noise")


def test_what_does_not_fit_is_left_out_evenly_and_said(still_page: Any) -> None:
    train, other = noise(2000, (3, 8, 8)), noise(500, (3, 8, 8))
    test = replace(other, x=255 - other.x, y=299 - other.y, split="test")
    vae = VAE("linear", training={"steps": 1}).fit(train)
    whole = still.embedded({"m": vae}, train, test, budget=3_000_000)
    assert read(whole)["scene"]["can"]["hover"] == "all"
    assert read(whole)["rows"] is None
    assert read(whole)["labels"]["type"] == "uint16"  # more classes than 8 bits tell apart
    assert blob(whole, read(whole)["labels"]).tolist() == [*train.y, *test.y]
    budget, rng = 110_000, np.random.default_rng(0)
    codes = Codes(rng.normal(size=(2500, 2)), np.ones((2500, 2)))
    rate = rng.gamma(2, 5, 2500)
    known = {"latents": {"m": codes}, "figures": {"m": PerDatum(-rate, rate, 0 * rate)}}
    fragment = still.embedded({"m": vae}, train, test, **known, budget=budget)
    assert len(fragment) <= budget
    facts = read(fragment)
    assert facts["total"] == 2500
    counts = [split["count"] for split in facts["scene"]["splits"]]
    assert sum(counts) == facts["scene"]["count"] < 2500
    assert sum(counts) > 250
    assert counts[0] == pytest.approx(4 * counts[1], abs=5)
    assert facts["scene"]["can"]["hover"] == "some"
    page = still_page(fragment)
    labels = in_page(page, "b.labels()")
    for place in (0, counts[0] - 1, counts[0], sum(counts) - 1):
        datum = in_page(page, "b.datum(v[0])", place)
        data = train if place < counts[0] else test
        assert datum["split"] == data.split
        assert datum["label"] == data.y[datum["row"]]
        assert datum["label"] == facts["scene"]["classes"][labels[place]]["label"]
        row = datum["row"] + (0 if place < counts[0] else 2000)
        np.testing.assert_allclose(datum["models"][0]["z"], codes.loc[row], atol=1e-3)
        assert datum["models"][0]["elbo"] == pytest.approx(-rate[row], abs=0.01)
        image = np.reshape(datum["image"], (3, 8, 8)).astype(float)
        assert abs(image - data.x[datum["row"]]).max() == 0
    assert still.embedded({"m": vae}, train, test, **known, budget=budget) == fragment


def test_of_many_vectors_as_many_travel_as_fit() -> None:
    train = data_of(VECTOR, 20_000)
    vae = VAE("linear", latent_dim=4, training={"steps": 1}).fit(replace(train, x=train.x, y=None))
    fragment = still.embedded({"m": vae}, train, budget=200_000)
    facts = read(fragment)
    assert 160_000 < len(fragment) <= 200_000
    assert len(blob(fragment, facts["rows"])) == facts["scene"]["count"] < facts["total"] == 20_000


@pytest.mark.usefixtures("all_ways")
def test_the_budget_is_kept_and_used() -> None:
    train = data_of((1, 16, 16), 300)
    noisy = replace(train, x=train.x // 2 + noise(300, (1, 16, 16)).x // 2)
    vae = VAE("linear", training={"steps": 1}).fit(noisy)
    sizes, changes = [], []
    for budget in (60_000, 100_000, 300_000):
        fragment = still.embedded({"m": vae}, noisy, budget=budget)
        sizes.append(len(fragment))
        assert budget * 0.3 < len(fragment) <= budget
        changes.append(read(fragment)["images"]["height"])
    assert sizes == sorted(sizes)
    assert changes == sorted(changes)


@pytest.mark.usefixtures("all_ways")
def test_pictures_are_changed_as_little_as_fits() -> None:
    images = data_of((1, 20, 20), 80).x
    images = images // 2 + noise(80, (1, 20, 20)).x // 2
    kinds, changes = [], []
    whole = sheets.TEXT * len(sheets.sheet(images, sheets.Kind(1, 256)))
    for share in (0.05, 0.55, 0.7, 0.9, 1.01):
        kind, count = sheets.best(images, 80, share * whole)
        file = sheets.sheet(images, kind)
        assert sheets.TEXT * len(file) * count / 80 <= share * whole
        assert (count == 80) == (share > 0.1)
        kinds.append(kind)
        changes.append(sheets._change(images, file, kind))
    assert changes[0] <= sheets.ROUGH
    assert changes == sorted(changes, reverse=True)
    assert kinds[-1] == sheets.Kind(1, 256)
    assert changes[-1] == 0
    assert sheets._change(images, sheets.sheet(images, sheets.Kind(1, 6)), sheets.Kind(1, 6)) < 16


@pytest.mark.usefixtures("all_ways")
def test_large_pictures_are_shrunk_and_sheets_stay_bounded() -> None:
    layout = sheets.Layout.of((3, 2000, 100), sheets.Kind(2, 256))
    assert (layout.height, layout.width) == (1000, 50)
    assert layout.whole * 3 * 2000 * 100 <= 2 * sheets.ELEMENTS
    kind, _ = sheets.best(noise(2, (1, 1, 1400)).x, 2, 1e9)
    assert kind == sheets.Kind(3, 256)
    assert sheets.Layout.of((1, 1, 1400), kind).height == 1


EVIL = '</script><script>window.evil = 1</script><!-- <script> "\\u2028 Ünï'


def test_names_stay_text(still_page: Any) -> None:
    train = data_of(GREY, 40, name=EVIL, class_names=(EVIL, "-->", "</SCRIPT >"))
    vae = fitted("linear", train)
    fragment = still.embedded({EVIL: vae}, train)
    assert (
        fragment.count("<script")
        == fragment.count("</script>")
        == 1 + fragment.count("vaelab-blob")
    )
    assert "<!--" not in fragment
    page = still_page(fragment)
    facts = in_page(page, "b.scene")
    assert facts["title"] == facts["models"][0]["name"] == facts["classes"][0]["name"] == EVIL
    assert page.evaluate("window.evil") is None


def test_a_page_without_data_says_so(still_page: Any) -> None:
    train = data_of(GREY, 20)
    page = still_page(still.embedded({"m": fitted("linear", train)}, train))
    page.evaluate("document.getElementById('vaelab-scene').remove()")
    assert refused(page, "b.constructor.open(document)") == (
        "this page holds no data to show; write it again."
    )


def test_errors_are_told_in_one_line() -> None:
    train = data_of(VECTOR, 30)
    vae = fitted("linear", train)
    codes, figures = known({"m": vae}, [train])

    def told(**more: Any) -> str:
        with pytest.raises(checks.ArgumentError) as error:
            still.embedded({"m": vae}, train, **more)
        return str(error.value)

    assert told(budget=0) == "budget = 0, but it must be a whole number of at least 1."
    assert re.fullmatch(
        r"budget = 100, but the decoders alone take [\d,]+ characters; give at least [\d,]+\.",
        told(budget=100),
    )
    assert told(latents={"n": codes["m"]}) == "latents = 'n' is not known. Known: m."
    short = Codes(codes["m"].loc[:9], codes["m"].scale[:9])
    assert told(latents={"m": short}) == (
        "latents of 'm' are of 9 data, but there are 30; "
        "give them of the training data, then the test data."
    )
    figures["m"].rate[3] = np.nan
    assert told(figures=figures) == "figures of 'm' hold NaN or infinity; leave them out."
    two = {"m": vae, "n": vae}
    with pytest.raises(checks.ArgumentError) as error:
        still.embedded(two, train, figures={"n": known(two, [train])[1]["n"]})
    assert str(error.value) == "figures of 'm' are missing; give them of all models."


def test_nothing_is_changed() -> None:
    train = data_of(GREY, 30)
    vae = fitted("conv", train)
    before, x = [p.clone() for p in vae.model_.parameters()], train.x.copy()
    state, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = still.embedded({"m": vae}, train)
    assert first == still.embedded({"m": vae}, train)
    assert all(map(torch.equal, before, vae.model_.parameters()))
    assert (x == train.x).all()
    assert torch.equal(state, torch.get_rng_state())
    assert (numbers == np.random.get_state()[1]).all()
