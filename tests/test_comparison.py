"""Comparisons and their reports: complete, the same bits however they are run, told apart."""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaelab import checks, comparison, latent, plots, recipes, report
from vaelab.comparison import Comparison, compare
from vaelab.exhibits import Exhibits
from vaelab.records import Dataset

pytestmark = pytest.mark.usefixtures("brief_classifier")

NAMES = ["vae", "fixed-variance", "conv"]
CONTRACT = {
    "elbo", "elbo_se", "rate", "distortion", "log_likelihood", "log_likelihood_se", "particles",
    "active_units", "knn_accuracy", "knn_accuracy_sampled", "seconds", "parameters",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs") / "blobs"


@pytest.fixture(scope="module")
def run(train: Dataset, test: Dataset, folder: Path) -> Comparison:
    return compare(NAMES, train, test, out=folder, epochs=2, particles=8)


@pytest.fixture(scope="module")
def exhibits(run: Comparison, train: Dataset, test: Dataset) -> Exhibits:
    return Exhibits(run.models, train, test, latents=run.latents)


@pytest.fixture(scope="module")
def page(run: Comparison, exhibits: Exhibits, folder: Path) -> str:
    return report.write(folder, run, exhibits, command="vaelab compare <blobs>").read_text()


def test_metrics_hold_what_the_contract_names(run: Comparison, folder: Path) -> None:
    document = json.loads((folder / "metrics.json").read_text())
    assert list(document["models"]) == NAMES
    for figures in document["models"].values():
        assert set(figures) >= CONTRACT
        assert figures["elbo"] == pytest.approx(-(figures["rate"] + figures["distortion"]))
    assert document["dataset"]["name"] == "blobs"
    assert document["seed"] == 0
    assert document == json.loads(json.dumps(run.document()))


def test_each_model_has_a_folder_that_loads(run: Comparison, folder: Path, test: Dataset) -> None:
    again = comparison.read(folder)
    assert again.document() == json.loads(json.dumps(run.document()))
    for name in NAMES:
        assert np.array_equal(again.models[name].transform(test), run.models[name].transform(test))


def test_side_by_side_gives_the_same_bits_as_alone(train: Dataset, test: Dataset) -> None:
    """With the same `jobs`, that is with the same share of the cores."""
    names = ["vae", "linear"]
    together = compare(names, train, test, epochs=1, particles=2, jobs=2)
    for name in names:
        alone = compare([name], train, test, epochs=1, particles=2, jobs=2)
        assert np.array_equal(
            together.models[name].transform(test), alone.models[name].transform(test)
        )
        first, second = (run.figures[name] | {"seconds": 0} for run in (together, alone))
        assert first == second


def test_a_comparison_computes_with_its_share_of_the_cores(
    train: Dataset, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelab.machine.cores", lambda: 3)
    seen: set[int] = set()

    def watched(name: str, position: int) -> Any:
        return lambda event, values: seen.add(torch.get_num_threads())

    few = {"training": {"steps": 2}, "particles": 2, "progress": watched}
    compare(["linear"], train, test, **few)  # type: ignore[arg-type]
    assert seen == {3}


def test_a_worker_that_dies_is_told_in_one_line(train: Dataset, test: Dataset) -> None:
    def die(name: str, position: int) -> Any:
        os._exit(9)

    with pytest.raises(checks.TrainingError, match="a process that trained a recipe died") as error:
        compare(["vae", "linear"], train, test, epochs=1, jobs=2, progress=die)
    assert "\n" not in str(error.value)


def test_latents_are_those_of_the_whole_data_set(
    run: Comparison, exhibits: Exhibits, train: Dataset, test: Dataset
) -> None:
    for name, z in exhibits.latents.items():
        assert z.shape == (len(train) + len(test), 2)
        assert np.array_equal(z[len(train) :], run.models[name].transform(test))
    assert exhibits.labels is not None
    assert np.array_equal(exhibits.labels, np.concatenate([train.y, test.y]))


def test_one_example_of_each_class_in_their_order(exhibits: Exhibits, test: Dataset) -> None:
    examples = exhibits.examples
    assert test.y[examples.rows].tolist() == [0, 1, 2]
    assert examples.names == test.class_names
    for name, vae in exhibits.models.items():
        expected = vae.reconstruct(test.x[examples.rows])
        assert np.array_equal(exhibits.reconstructed[name], expected)


def test_decoded_point_and_strips_are_inverse_transforms(exhibits: Exhibits, test: Dataset) -> None:
    strips = exhibits.strips
    for name, vae in exhibits.models.items():
        expected = vae.inverse_transform([[0.5, 0.2]])[0]
        np.testing.assert_allclose(exhibits.decoded[name], expected, atol=1e-6)
        path = strips.paths[name]
        np.testing.assert_allclose(path[0], vae.transform(test.x[:1])[0], atol=1e-5)
        np.testing.assert_allclose(strips.images[name], vae.inverse_transform(path), atol=1e-6)
    assert len(set(strips.names)) == 2, "the ends are of different classes"


def test_ends_and_point_can_be_given(run: Comparison) -> None:
    given = Exhibits(run.models, point=(-1.0, 2.0), ends=((0, 0), (1, -1)), steps=5)
    assert (
        given.strips.paths["vae"].tolist()
        == latent.path(np.array([0, 0]), np.array([1, -1]), 5).tolist()
    )
    assert given.points["vae"].tolist() == [-1.0, 2.0]
    with pytest.raises(checks.ArgumentError, match="point = 1,2,3 has 3 coordinates, but model"):
        Exhibits(run.models, point=(1, 2, 3))
    with pytest.raises(checks.ArgumentError, match="is not finite"):
        Exhibits(run.models, ends=((0, 0), (np.inf, 0)))
    with pytest.raises(checks.ArgumentError, match="name a data set"):
        _ = Exhibits(run.models).latents


class Page(HTMLParser):
    """What a page holds: headings, pictures, links, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.pictures: list[dict[str, str]] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.outside: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {key: value or "" for key, value in attrs}
        self.inside = tag
        self.ids += [named["id"]] if "id" in named else []
        if tag == "img":
            self.pictures.append(named)
        if tag == "a":
            self.links.append(named["href"])
        for key in ("src", "href"):
            if not named.get(key, "#").startswith(("#", "data:")):
                self.outside.append(named[key])

    def handle_data(self, data: str) -> None:
        if self.inside == "h2" and data.strip():
            self.headings.append(data.strip())


def test_the_page_has_all_sections_in_order(page: str) -> None:
    assert Page(page).headings == [
        "Figures of the models",
        "Explore the latent maps",
        "The latent map",
        "Examples, reconstructed",
        "One latent point, decoded",
        "Between two points",
        "The decoded manifold",
        "Training",
        "The KL divergence",
        "How to repeat it",
    ]


def test_the_page_is_one_file_that_needs_nothing_else(page: str, folder: Path) -> None:
    parsed = Page(page)
    assert parsed.outside == []
    assert "http://" not in page
    assert "https://" not in page
    assert len(parsed.pictures) == 9
    for picture in parsed.pictures:
        assert len(picture["alt"]) > 20
        png = base64.b64decode(picture["src"].removeprefix("data:image/png;base64,"))
        assert png == (folder / "figures" / f"{picture['id']}.png").read_bytes()
    for link in parsed.links:
        assert link.removeprefix("#") in parsed.ids
    assert len(set(parsed.ids)) == len(parsed.ids)


def test_the_page_renders_the_figures_of_metrics_json(page: str, run: Comparison) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for name, figures in run.figures.items():
        cells = (
            f"{figures['elbo']:.2f} ± {figures['elbo_se']:.2f}",
            f"{figures['rate']:.2f} ± {figures['rate_se']:.2f}",
            f"{figures['distortion']:.2f} ± {figures['distortion_se']:.2f}",
        )
        for cell in cells:
            assert cell.replace("-", "−") in text, name
        assert f"{figures['parameters']:,}" in text
        assert f"{figures['knn_accuracy_sampled']:.3f}" in text


def test_the_page_escapes_what_it_is_given(page: str) -> None:
    assert "vaelab compare &lt;blobs&gt;" in page


def test_the_page_tells_the_source_first_and_marks_what_cannot_be_trusted(
    run: Comparison, exhibits: Exhibits, page: str, tmp_path: Path
) -> None:
    assert "†" not in page, "8 particles are too few to tell"
    figures = {name: dict(row, unreliable=0.1) for name, row in run.figures.items()}
    figures["conv"]["unreliable"] = 0.571
    told = replace(
        run,
        figures=figures,
        dataset={**run.dataset, "source": "a <stand-in> 1.0"},
        differences=[{"models": ["conv", "vae"], "elbo": 1.24, "elbo_se": 0.1}],
    )
    page = report.write(tmp_path, told, exhibits).read_text()
    header = page.split("</header>")[0]
    assert "source: a &lt;stand-in&gt; 1.0" in header
    rows = [row for row in page.split("<tr>") if "†" in row]
    assert len(rows) == 1
    assert rows[0].startswith('<th scope="row">conv</th>')
    assert "57&nbsp;% of the data (conv)" in page
    assert "conv − vae: +1.24 ± 0.10" in page
    assert not re.search(r">-\d|\de-\d", page.split('id="divergence"')[1].split("</table>")[0])


def test_the_page_says_how_to_repeat_it(page: str, run: Comparison) -> None:
    for fact in (run.machine, run.versions["torch"], run.dataset["train_fingerprint"]):
        assert fact in page


def test_vectors_get_a_report_without_pictures_of_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = [
        Dataset(rng.normal(size=(n, 5)).astype(np.float32), None, "vectors", split=split)
        for n, split in ((300, "train"), (80, "test"))
    ]
    result = compare(["gaussian", "linear"], *parts, out=tmp_path / "v", epochs=1, particles=4)
    page = report.write(tmp_path / "v", result, Exhibits(result.models, *parts)).read_text()
    assert [picture["id"] for picture in Page(page).pictures] == [
        "scores", "latent", "history", "kl",
    ]  # fmt: skip


def test_recipes_of_ones_own_are_compared(train: Dataset, test: Dataset) -> None:
    mine = replace(recipes.vae(train.shape), name="mine")
    result = compare([mine, "vae"], train, test, epochs=1, particles=2)
    assert list(result.models) == ["mine", "vae"]
    assert np.array_equal(
        result.models["mine"].transform(test), result.models["vae"].transform(test)
    ), "the same parts and the same seed"


def test_the_likelihood_can_be_asked_for(train: Dataset, test: Dataset) -> None:
    figures = compare(["vae"], train, test, epochs=1, particles=2, likelihood="gaussian")
    assert figures.models["vae"].likelihood_.endswith(
        "as likelihood='gaussian' asks: values are grey levels in uint8"
    )


def test_every_figure_is_drawn(exhibits: Exhibits, run: Comparison) -> None:
    figures = report.draw(exhibits, run)
    assert list(figures) == ["scores", *report.FIGURES, "kl"]
    assert all(plots.png_bytes(figure)[:4] == b"\x89PNG" for figure in figures.values())


@pytest.mark.parametrize("names", [[], ["vae", "vae"]])
def test_recipes_must_differ(names: list[str], train: Dataset, test: Dataset) -> None:
    with pytest.raises(checks.ArgumentError, match="but different ones are needed"):
        compare(names, train, test)


def test_a_recipe_that_cannot_be_made_is_refused_before_any_is_trained(
    train: Dataset, test: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(checks.ArgumentError, match="did you mean 'conv'"):
        compare(["vae", "covn"], train, test, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_folders_that_are_no_comparison_are_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(checks.StorageError, match="holds no comparison"):
        comparison.read(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(checks.StorageError, match=r"metrics.json is damaged"):
        comparison.read(tmp_path)
