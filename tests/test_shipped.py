"""Models that ship: found by name, shown without their data, and told by their cards."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import vaelab
from browser import chromium, opened
from conftest import blobs
from vaelab import VAE, checks, explorer, shipped, storage
from vaelab.cli import cli, completion
from vaelab.data.loading import Listing
from vaelab.explorer.judging import Judge
from vaelab.explorer.rows import Rows
from vaelab.latent import Codes
from vaelab.records import Dataset
from vaelab.shipped._cards import card_of, figure_rows

NAMES = ["blobs-fixed-variance", "blobs-vae"]
LARGEST = 12_000_000
ORIGIN = {
    "command": "python tools/ship.py blobs-vae",
    "date": "2026-01-02",
    "machine": "a machine",
    "licence": "none",
    "weights": "float16",
    "rounding": 0.01,
    "rounding_se": 0.002,
    "held_out": 60,
    "valid_elbo": -50.0,
}


def ship(root: Path, recipe: str, train: Dataset, test: Dataset) -> VAE:
    """A model in 16 bits, with all that lies beside it."""
    vae = VAE(recipe, epochs=2).fit(train)
    vae.model_ = storage.rounded(vae.model_, "float16")
    figures = {
        "elbo": -51.25,
        "elbo_se": 0.5,
        "log_likelihood": -50.0,
        "log_likelihood_se": 0.75,
        "knn_accuracy": 0.9,
        "knn_accuracy_se": 0.01,
        "kl_per_dimension": [1.0, 2.0],
        "particles": 64,
        "log_likelihood_count": 200,
        "parameters": 1234,
        "count": 200,
    }
    folder = vae.save(root / f"blobs-{recipe}", figures=figures)
    codes = Codes(*map(np.concatenate, zip(*map(vae.encode, (train, test)), strict=True)))
    reference = Judge([vae], Rows([train, test])).reference(0)
    shipped.write_map(folder, codes, train, test, reference)
    shipped.write_extras(folder, ORIGIN)
    return vae


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shipped")
    for recipe in ("vae", "fixed-variance"):
        ship(folder, recipe, blobs(600, seed=0), blobs(200, seed=1))
    return folder


@pytest.fixture(autouse=True)
def _shelf(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models ship, and their data are not on this machine."""
    away = Listing("blobs", 600, 200, (1, 12, 12), "none", "download", "")
    monkeypatch.setattr(shipped, "ROOT", root)
    monkeypatch.setattr("vaelab.data.describe", lambda: [away])
    monkeypatch.chdir(tmp_path)


def test_a_name_is_a_model(train: Dataset, root: Path) -> None:
    vae = vaelab.load("blobs-vae")
    assert (shipped.names(), vae.shipped_) == (NAMES, "blobs-vae")
    assert np.array_equal(vae.transform(train), vaelab.load(root / "blobs-vae").transform(train))
    assert vae.fit(train).shipped_ is None
    assert vaelab.load("blobs-vae").partial_fit(train).shipped_ is None


def test_a_name_comes_before_a_folder_which_is_told(train: Dataset, tmp_path: Path) -> None:
    VAE("linear", epochs=1).fit(train).save("blobs-vae")
    with pytest.warns(checks.VaelabWarning, match=r"your folder is \./blobs-vae\."):
        assert vaelab.load("blobs-vae").recipe_.name == "vae"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vaelab.load("./blobs-vae").recipe_.name == "linear"
        assert vaelab.load(Path("blobs-vae")).shipped_ is None


def test_a_wrong_name_is_told_with_those_there_are() -> None:
    with pytest.raises(checks.StorageError) as error:
        vaelab.load("blobs-va")
    assert str(error.value) == (
        "blobs-va is not there, and as the name of a model that ships it is not known; did you "
        "mean 'blobs-vae'? Known: blobs-fixed-variance, blobs-vae."
    )


def test_a_map_has_the_codes_to_its_precision(train: Dataset, test: Dataset) -> None:
    (known,) = shipped.maps(["blobs-vae"]) or ()
    exact = vaelab.load("blobs-vae").encode(np.concatenate([train.x, test.x]))
    span = np.ptp(exact.loc, axis=0)
    assert (abs(known.codes.loc - exact.loc) <= 1.01 * span / 131_070 + 1e-6).all()
    span = np.ptp(np.log(exact.scale), axis=0)
    assert (abs(np.log(known.codes.scale / exact.scale)) <= 1.01 * span / 510 + 1e-5).all()
    assert np.array_equal(np.concatenate([known.train.y, known.test.y]), [*train.y, *test.y])
    assert (known.train.shape, len(known.train), len(known.test)) == (train.shape, 600, 200)
    assert known.fingerprint == train.fingerprint
    assert np.array_equal(known.reference, np.sort(known.reference, 1))


def test_maps_stand_in_only_where_data_are_away(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shipped.maps(["blobs-vae", None]) is None
    monkeypatch.setattr("vaelab.data.describe", list)
    assert shipped.maps(["blobs-vae"]) is None


def test_maps_of_different_data_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = shipped._maps.read_map(root / "blobs-vae")
    other = one._replace(fingerprint="another")
    monkeypatch.setattr(shipped, "read_map", lambda f: one if f.name == "blobs-vae" else other)
    with pytest.raises(checks.DataError, match="blobs-vae was trained on blobs, but blobs-fixed"):
        shipped.maps(["blobs-vae", "blobs-fixed-variance"])


@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_a_damaged_map_is_told(root: Path, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / shipped.MAP).write_bytes(content)
    with pytest.raises(checks.StorageError, match="install vaelab again"):
        shipped._maps.read_map(tmp_path)


def test_the_explorer_shows_the_map_without_data() -> None:
    models = {name: vaelab.load(name) for name in NAMES}
    with explorer.explore(models, open_browser=False) as page:
        scene = page.scene
    facts, can = scene.facts, scene.facts["can"]
    assert (facts["count"], facts["figures"], len(facts["classes"])) == (800, [], 3)
    assert (can["hover"], can["edges"], can["upload"]) == ("none", "none", True)
    assert facts["note"].startswith("blobs is not on this machine, so there are points without")
    datum = scene.datum(700)
    assert (datum.split, datum.row, datum.image) == ("test", 100, None)
    assert datum.models[0].elbo is None
    assert scene.decode(0, [0.5, 0.2]).shape == (1, 1, 12, 12)
    assert scene.path(0, [0, 0], [1, 1], kind="geodesic").points.shape == (11, 2)
    for ask in (
        lambda: scene.images([0]),
        lambda: scene.mean([0]),
        lambda: scene.figure(0, "elbo"),
        scene.edges,
    ):
        with pytest.raises(checks.DataError, match="--data blobs downloads it"):
            ask()


def test_the_page_is_whole_without_data() -> None:
    models = {name: vaelab.load(name) for name in NAMES}
    with (
        explorer.explore(models, open_browser=False) as live,
        chromium() as browser,
        opened(browser, live.url) as page,
    ):
        assert page.locator(".maps section").count() == 2
        assert "blobs is not on this machine" in page.locator(".note").inner_text()
        assert not page.get_by_role("heading", name="Nearest data").is_visible()
        assert page.get_by_role("button", name="Neighbours").count() == 0
        page.get_by_label("number").fill("123")
        page.get_by_label("number").press("Enter")
        page.get_by_role("button", name="Use as start").wait_for()
        assert page.get_by_role("img", name="Reconstruction by blobs-vae").count() == 1
        assert page.get_by_role("img", name="Datum 123").count() == 0


def run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, list(map(str, args)), obj=list(args))
    return result.exit_code, result.stdout, repr(result.exception)


def test_commands_take_names_and_lists_of_them() -> None:
    both = ",".join(NAMES)
    for args in (["decode", both], ["plot", "latent", both], ["sample", NAMES[0]]):
        code, out, error = run(*args)
        assert code == 0, error
        assert Path(out.strip()).is_file()
    ends = ("--start", "0,0", "--end", "1,1")
    assert run("plot", "paths", *NAMES, *ends)[0] == 0


def test_models_are_listed_with_their_figures() -> None:
    code, out, _ = run("models")
    assert code == 0
    assert re.fullmatch(
        r"blobs-vae +blobs  vae +-51\.25 ± 0\.50  0\.900 ± 0\.010 +[\d.]+ (kB|MB)",
        out.splitlines()[2],
    )
    rows = json.loads(run("models", "--json")[1])
    assert [row["name"] for row in rows] == NAMES
    assert run("models", "blobs-vae")[1] == shipped.card("blobs-vae")
    assert json.loads(run("models", "blobs-vae", "--json")[1])["origin"] == ORIGIN


def test_the_shell_completes_names() -> None:
    def offered(given: str) -> list[str]:
        return [item.value for item in completion.models(None, None, given)]  # type: ignore[arg-type]

    assert offered("blobs-v") == ["blobs-vae", "blobs-v"]
    assert offered("blobs-vae,b") == ["blobs-vae,blobs-fixed-variance"]


# --- what really ships -----------------------------------------------------------------------

REAL = Path(shipped.__file__).parent


def test_what_ships_is_small() -> None:
    assert sum(path.stat().st_size for path in REAL.rglob("*")) < LARGEST


def test_what_ships_loads_and_its_card_tells_its_figures() -> None:
    """Of every model folder that is there, and nothing else is there but the module's files."""
    for folder in sorted(path for path in REAL.iterdir() if path.is_dir()):
        if folder.name == "__pycache__":
            continue
        saved = storage.load(folder)
        origin = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        card = (folder / shipped.CARD).read_text(encoding="utf-8")
        assert card == card_of({**config, "name": folder.name}, origin)
        for called, value in figure_rows(saved.figures):
            assert f"| {called} | {value} |" in card
        known = shipped._maps.read_map(folder)
        assert known.fingerprint == saved.data["fingerprint"]
        assert len(known.train) == saved.data["count"]
        assert not re.search(r"/(home|tmp|work|root)/", json.dumps(config) + card)
