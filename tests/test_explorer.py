"""The explorer: what it shows is what the models say, and its server serves no one else."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from conftest import blobs
from vaelab import VAE, checks, metrics
from vaelab.cli.explore import explore as command
from vaelab.explorer import Explorer, assets, explore, maps, protocol, serve
from vaelab.explorer.rows import Rows
from vaelab.explorer.scene import Scene
from vaelab.explorer.server import MOST_ASKED, MOST_UPLOADED, bind
from vaelab.latent import Codes
from vaelab.objectives import ELBO
from vaelab.plots._canvas import CLASS_COLOURS
from vaelab.records import Dataset
from vaelab.tensors import as_tensor, binarized

DIMS = (2, 5, 1)


@pytest.fixture(scope="module")
def models(train: Dataset) -> dict[str, VAE]:
    with torch.random.fork_rng():
        return {f"d{d}": VAE(latent_dim=d, epochs=4).fit(train) for d in DIMS}


@pytest.fixture(scope="module")
def scene(models: dict[str, VAE], train: Dataset, test: Dataset) -> Scene:
    return Scene(models, train, test)


@pytest.fixture(scope="module")
def real() -> Dataset:
    """Vectors, without labels."""
    x = np.random.default_rng(0).normal(3, 2, (300, 6)).astype(np.float32)
    return Dataset(x, None, "real")


@pytest.fixture(scope="module")
def vectors(real: Dataset) -> Scene:
    return Scene({"vae": VAE(epochs=1).fit(real)}, real)


@contextmanager
def refused(wanted: str, kind: type[Exception] = checks.ArgumentError) -> Iterator[None]:
    with pytest.raises(kind) as error:
        yield
    assert str(error.value) == wanted
    assert "\n" not in wanted


# --- what is shown ---------------------------------------------------------------------------


def test_codes_are_those_of_all_data_training_then_test(
    models: dict[str, VAE], train: Dataset, test: Dataset
) -> None:
    told = []
    scene = Scene(models, train, test, progress=lambda done, total: told.append((done, total)))
    for vae, codes in zip(models.values(), scene.codes, strict=True):
        for part, rows in ((train, slice(0, 600)), (test, slice(600, 800))):
            wanted = vae.encode(part)
            np.testing.assert_allclose(codes.loc[rows], wanted.loc, atol=1e-5)
            np.testing.assert_allclose(codes.scale[rows], wanted.scale, atol=1e-5)
    assert told == [(800, 2400), (1600, 2400), (2400, 2400)]


def test_codes_that_are_known_are_taken_as_they_are(models: dict[str, VAE], train: Dataset) -> None:
    known = Codes(np.full((600, 2), 7, np.float32), np.ones((600, 2), np.float32))
    scene = Scene({"d2": models["d2"]}, train, codes={"d2": known})
    assert scene.codes_of(0, [3]).loc.tolist() == [[7, 7]]
    with refused("codes of 'd2' have shape (600, 2), but they must have (800, 2)."):
        Scene({"d2": models["d2"]}, train, blobs(200, seed=1), codes={"d2": known})


def test_facts(scene: Scene, vectors: Scene) -> None:
    facts = scene.facts
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["title"], facts["count"], facts["shape"]) == ("blobs", 800, [1, 12, 12])
    assert facts["range"] == [0, 1]
    assert facts["splits"] == [{"name": "train", "count": 600}, {"name": "test", "count": 200}]
    assert [model["latent_dim"] for model in facts["models"]] == list(DIMS)
    assert all(model["standard_prior"] for model in facts["models"])
    assert facts["can"]["upload"]
    assert facts["can"]["gif"]
    other = vectors.facts
    assert (other["classes"], other["shape"], other["can"]["upload"]) == ([], [6], False)
    low, high = other["range"]
    assert (low, high) == (vectors.rows.sets[0].x.min(), vectors.rows.sets[0].x.max())


def test_a_prior_that_is_not_standard_is_told(train: Dataset) -> None:
    scene = Scene({"vamp": VAE("vamp", epochs=1).fit(train)}, train)
    assert scene.facts["models"][0]["standard_prior"] is False


def test_classes_have_the_names_counts_and_colours_of_the_figures(
    scene: Scene, train: Dataset, test: Dataset
) -> None:
    y = np.concatenate([train.y, test.y])
    assert scene.labels().tolist() == y.tolist()
    assert scene.labels().dtype == np.uint16
    assert scene.facts["classes"] == [
        {
            "label": k,
            "name": train.class_names[k],
            "count": int((y == k).sum()),
            "colour": CLASS_COLOURS[k],
        }
        for k in range(3)
    ]


def test_labels_without_names_may_be_any_whole_numbers_and_may_be_missing(
    models: dict[str, VAE], train: Dataset, test: Dataset
) -> None:
    y = np.where(train.y == 2, -1, 40 * train.y)
    known = Codes(*np.zeros((2, 800, 2), np.float32))
    scene = Scene(
        {"d2": models["d2"]},
        replace(train, y=y, class_names=()),
        replace(test, y=None, class_names=()),
        codes={"d2": known},
    )
    assert [(c["label"], c["name"]) for c in scene.facts["classes"]] == [
        (-1, "-1"),
        (0, "0"),
        (40, "40"),
    ]
    assert (scene.labels()[600:] == 65535).all()
    values = np.array([c["label"] for c in scene.facts["classes"]])
    assert (values[scene.labels()[:600]] == y).all()
    assert scene.datum(650).label is None
    assert [scene.datum(row).label for row in range(9)] == y[:9].tolist()


def test_classes_beyond_what_there_is_room_for_are_none(
    train: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelab.explorer.rows.NO_CLASS", 2)
    rows = Rows([train])
    assert (rows.labels == train.y).all()  # the third, 2, is none
    assert [known["label"] for known in rows.classes] == [0, 1]


# --- the map ---------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [("z1", "z2"), ("z5", "z2"), ("pc1", "pc2"), ("pc4", "pc1")])
def test_points_are_the_codes_in_an_orthonormal_basis(scene: Scene, axes: tuple[str, str]) -> None:
    view, loc = scene.view(1, axes), scene.codes[1].loc
    assert view.names == axes
    assert view.points.dtype == view.basis.dtype == view.origin.dtype == np.float32
    np.testing.assert_allclose(view.basis @ view.basis.T, np.eye(2), atol=1e-6)
    np.testing.assert_allclose(view.points, (loc - view.origin) @ view.basis.T, atol=1e-5)
    if axes[0].startswith("z"):
        columns = [int(axis[1:]) - 1 for axis in axes]
        assert (view.points == loc[:, columns]).all()


def test_principal_components_are_uncorrelated_and_the_first_vary_most(scene: Scene) -> None:
    points = np.hstack(
        [scene.view(1, pair).points for pair in (("pc1", "pc2"), ("pc3", "pc4"), ("pc5", "pc1"))]
    )[:, :5]
    covariance = np.cov(points.T)
    assert (np.diff(np.diag(covariance)) <= 0).all()
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-4)
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-4)
    basis = maps.principal(scene.codes[1].loc).basis
    largest = np.take_along_axis(basis, abs(basis).argmax(1)[:, None], 1)
    assert (largest > 0).all()


def test_principal_components_of_a_million_codes_do_not_depend_on_the_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loc = np.random.default_rng(0).normal(100, [3, 1, 2], (1000, 3)).astype(np.float32)
    whole = maps.principal(loc).basis
    monkeypatch.setattr(maps, "PROJECTED", 7)
    np.testing.assert_allclose(maps.principal(loc).basis, whole, atol=1e-5)
    np.testing.assert_allclose(abs(whole[0]), [1, 0, 0], atol=0.1)


def test_one_dimension_is_spread_out_the_same_way_each_time(scene: Scene) -> None:
    view = scene.view(2, ("z1", "z2"))
    assert view.names == ("z1", "spread")
    assert (view.points[:, 0] == scene.codes[2].loc[:, 0]).all()
    assert (view.basis[1] == 0).all()
    assert abs(view.points[:, 1]).max() <= 1
    assert view.points[:, 1].std() > 0.5
    assert (scene.view(2, ("z1", "z2")).points == view.points).all()


@pytest.mark.parametrize(
    "axes", [["z1"], ["z1", "z1"], ["z1", "pc2"], ["z0", "z1"], ["z1", "z6"], ["", "z1"], []]
)
def test_other_axes_are_refused(scene: Scene, axes: list[str]) -> None:
    told = ",".join(axes)
    with refused(f"axes = {told!r}, but they must be two of z1 to z5, or two of pc1 to pc5."):
        scene.view(1, axes)


# --- decoding --------------------------------------------------------------------------------


def test_images_are_what_the_model_decodes_in_eight_bits(
    scene: Scene, models: dict[str, VAE]
) -> None:
    z = np.random.default_rng(0).normal(size=(7, 5))
    wanted = models["d5"].inverse_transform(z)
    found = scene.decode(1, z)
    assert (found.dtype, found.shape) == (np.uint8, (7, 1, 12, 12))
    assert abs(found / 255 - wanted).max() <= 0.5001 / 255
    assert (scene.decode(1, z.ravel().tolist()) == found).all()


def test_images_in_other_units_span_the_range_of_the_data() -> None:
    x = np.random.default_rng(0).uniform(-3, 5, (80, 3, 6, 6)).astype(np.float32)
    x.flat[:2] = -3, 5
    scene = Scene({"vae": VAE(epochs=1, likelihood="gaussian").fit(x)}, Dataset(x, None, "mine"))
    assert scene.facts["range"] == [-3, 5]
    shown = scene.images(np.arange(80))
    assert shown.shape == x.shape
    assert shown.flat[:2].tolist() == [0, 255]
    assert abs(shown / 255 * 8 - 3 - x).max() <= 0.5001 * 8 / 255


def test_vectors_stay_as_they_are(vectors: Scene, real: Dataset) -> None:
    assert (vectors.images([5, 0]) == real.x[[5, 0]]).all()
    assert vectors.decode(0, [0.0, 0.0]).dtype == np.float32


def test_images_and_mean_are_those_of_the_data(
    scene: Scene, train: Dataset, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.concatenate([train.x, test.x])
    rows = [799, 0, 600, 599, 0]
    assert (scene.images(rows) == x[rows]).all()
    monkeypatch.setattr("vaelab.explorer.rows.SUMMED", 64)
    for some in ([4], rows, range(300, 800)):
        mean = scene.mean(list(some))
        assert mean.shape == (1, 1, 12, 12)
        assert abs(mean[0] - x[list(some)].mean(0)).max() <= 0.501


@pytest.mark.parametrize(
    ("z", "wanted"),
    [
        ([0, 0, 0], "z has shape (3,), but model 'd2' has latent_dim = 2: give 2 numbers a point."),
        (
            [[0, 0, 0], [1, 1, 1]],
            "z has shape (2, 3), but model 'd2' has latent_dim = 2: give 2 numbers a point.",
        ),
        ([], "points in z = 0, but it must be a whole number from 1 to 1024."),
        ([0] * 2050, "points in z = 1025, but it must be a whole number from 1 to 1024."),
        ([0, np.nan], "z holds NaN, infinity, or what is beyond ±1,000,000; give smaller numbers."),
        ([0, -2e6], "z holds NaN, infinity, or what is beyond ±1,000,000; give smaller numbers."),
        (["0", "1"], "z must be a list of numbers."),
        ([[0, 1], [0]], "z must be a list of numbers."),
        ([10**30, 0], "z must be a list of numbers."),
    ],
)
def test_points_that_are_none_are_refused(scene: Scene, z: list[object], wanted: str) -> None:
    with refused(wanted):
        scene.decode(0, z)


@pytest.mark.parametrize(
    ("indices", "wanted"),
    [
        ([-1], "indices must be a list of whole numbers from 0 to 799."),
        ([800], "indices must be a list of whole numbers from 0 to 799."),
        ([[1]], "indices must be a list of whole numbers from 0 to 799."),
        ([0.5], "indices must be a list of whole numbers."),
        ([], "number of indices = 0, but it must be a whole number from 1 to 1024."),
        ([0] * 1025, "number of indices = 1025, but it must be a whole number from 1 to 1024."),
    ],
)
def test_data_that_are_none_are_refused(scene: Scene, indices: object, wanted: str) -> None:
    with refused(wanted):
        scene.images(indices)


def test_large_images_are_decoded_in_fewer_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelab.explorer.scene.MOST_ELEMENTS", 144 * 5)
    assert len(scene.decode(0, np.zeros((5, 2)))) == 5
    with refused("points in z = 6, but it must be a whole number from 1 to 5."):
        scene.decode(0, np.zeros((6, 2)))


def test_there_are_so_many_models(scene: Scene) -> None:
    for ask in (lambda: scene.decode(3, [0]), lambda: scene.figure(-1, "elbo")):
        with pytest.raises(checks.ArgumentError, match=r"^model = -?\d, but it must be a whole"):
            ask()


# --- data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 300, 599, 600, 799])
def test_a_datum_is_told_with_what_each_model_makes_of_it(
    scene: Scene, models: dict[str, VAE], train: Dataset, test: Dataset, index: int
) -> None:
    split, row, part = ("train", index, train) if index < 600 else ("test", index - 600, test)
    datum = scene.datum(index)
    assert (datum.split, datum.row, datum.label) == (split, row, part.y[row])
    assert (datum.image == part.x[row]).all()
    for place, (vae, placed) in enumerate(zip(models.values(), datum.models, strict=True)):
        np.testing.assert_allclose(placed.z, vae.encode(part.x[row : row + 1]).loc[0], atol=1e-5)
        wanted = vae.reconstruct(part.x[row : row + 1])[0]
        assert abs(placed.image / 255 - wanted).max() <= 0.51 / 255
        for name in ("elbo", "rate", "distortion"):
            assert getattr(placed, name) == pytest.approx(scene.figure(place, name)[index])


def test_figures_are_those_of_the_metrics_and_do_not_depend_on_what_is_asked_first(
    models: dict[str, VAE], train: Dataset, test: Dataset
) -> None:
    one, other = (Scene({"d2": models["d2"]}, train, test) for _ in range(2))
    datum = other.datum(700)
    for name in ("elbo", "rate", "distortion"):
        assert (one.figure(0, name) == other.figure(0, name)).all()
    assert one.figure(0, "elbo")[700] == np.float32(datum.models[0].elbo)
    found = metrics.per_datum(models["d2"].model_, ELBO(), as_tensor(train.x[:256]), seed=0)
    np.testing.assert_allclose(one.figure(0, "rate")[:256], found.rate, rtol=1e-6)
    np.testing.assert_allclose(one.figure(0, "distortion")[:256], found.distortion, rtol=1e-6)
    assert one.figure(0, "elbo").mean() == pytest.approx(models["d2"].score(train), abs=0.5)
    with pytest.raises(checks.ArgumentError, match="name = 'elbow' is not known; did you mean"):
        one.figure(0, "elbow")


def test_blocks_have_noise_of_their_own(models: dict[str, VAE], train: Dataset) -> None:
    twice = replace(train, x=np.repeat(train.x[:1], 512, 0), y=None)
    figure = Scene({"d2": models["d2"]}, twice).figure(0, "distortion")
    assert not (figure[:256] == figure[256:]).any()


def test_a_model_of_bits_is_judged_on_bits(train: Dataset) -> None:
    vae = VAE(epochs=1, training={"binarize": "dynamic"}).fit(train)
    few = replace(train, x=train.x[:100], y=None)
    figure = Scene({"bits": vae}, few).figure(0, "distortion")
    x = as_tensor(few.x)
    bits = metrics.per_datum(vae.model_, ELBO(), binarized(x, 0), seed=0).distortion
    np.testing.assert_allclose(figure, bits, rtol=1e-6)
    assert abs(bits - metrics.per_datum(vae.model_, ELBO(), x, seed=0).distortion).max() > 1


@pytest.mark.parametrize("size", [1, 2, 5, 50])
def test_the_nearest_are_those_of_all_distances(models: dict[str, VAE], size: int) -> None:
    data = blobs(400, seed=3)
    vae = VAE(latent_dim=size, epochs=1).fit(replace(data, x=data.x[:64], y=None))
    rng = np.random.default_rng(size)
    codes = Codes(*rng.normal(size=(2, 400, size)).astype(np.float32))
    scene = Scene({"vae": vae}, data, codes={"vae": codes})
    for z in rng.normal(size=(5, size)):
        distances = np.linalg.norm(codes.loc - z.astype(np.float32), axis=1)
        found = scene.nearest(0, z, 12)
        assert found.indices.tolist() == np.argsort(distances)[:12].tolist()
        np.testing.assert_allclose(found.distances, np.sort(distances)[:12], rtol=1e-5)
    assert scene.nearest(0, codes.loc[7], 1).indices.tolist() == [7]
    assert sorted(scene.nearest(0, z, 1000).indices.tolist()) == list(range(400))


def test_paths_lead_from_end_to_end_and_the_shortest_is_not_longer(
    scene: Scene, models: dict[str, VAE]
) -> None:
    start, end = [-1.5, 0.5], [1.5, -1.0]
    straight = scene.path(0, start, end, steps=9)
    shortest = scene.path(0, start, end, steps=9, kind="geodesic")
    for path in (straight, shortest):
        assert path.points.shape == (9, 2)
        assert path.points[[0, -1]].tolist() == [start, end]
        assert path.straight == pytest.approx(straight.length, rel=1e-4)
    np.testing.assert_allclose(straight.points, np.linspace(start, end, 9), atol=1e-6)
    assert shortest.length <= shortest.straight
    fine = models["d2"].inverse_transform(np.linspace(start, end, 2000))
    steps = np.linalg.norm(np.diff(fine.reshape(2000, -1), axis=0), axis=1)
    assert straight.length == pytest.approx(steps.sum(), rel=1e-3)


def test_nothing_random_is_left_changed(scene: Scene) -> None:
    before, state = torch.get_rng_state(), np.random.get_state()[1].copy()
    scene.datum(3)
    scene.view(2, ("z1", "z2"))
    scene.path(0, [0, 0], [1, 1], kind="geodesic")
    scene.place(png(scene.rows.sets[1].x[0, 0]))
    assert torch.equal(before, torch.get_rng_state())
    assert (np.random.get_state()[1] == state).all()


def test_data_and_models_must_fit(models: dict[str, VAE], train: Dataset, real: Dataset) -> None:
    with refused(
        "model 'd2' was made for data of shape (1, 12, 12), but real has (6,); give data of the "
        "same shape.",
        checks.DataError,
    ):
        Scene(models, real)
    with refused(
        "real: test data are float32 of shape (6,), but training data uint8 of shape (1, 12, 12); "
        "give data that are alike.",
        checks.DataError,
    ):
        Scene(models, train, real)
    with refused("models = none, but there must be at least one."):
        Scene({}, train)


def test_data_on_disk_stay_there(models: dict[str, VAE], train: Dataset, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", train.x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    scene = Scene({"d2": models["d2"]}, replace(train, x=mapped))
    assert scene.rows.sets[0].x is mapped
    assert (scene.images([5]) == train.x[5]).all()


# --- pictures --------------------------------------------------------------------------------


def png(pixels: np.ndarray, form: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def test_a_picture_of_a_datum_lands_where_the_datum_is(scene: Scene, test: Dataset) -> None:
    placed, datum = scene.place(png(test.x[3, 0])), scene.datum(603)
    assert (placed.image == test.x[3]).all()
    for mine, its in zip(placed.models, datum.models, strict=True):
        np.testing.assert_allclose(mine.z, its.z, atol=1e-5)
        np.testing.assert_allclose(mine.scale, its.scale, atol=1e-5)
        assert abs(mine.image.astype(int) - its.image).max() <= 1
        assert mine.elbo == pytest.approx(its.elbo, abs=10)  # another draw
        assert mine.log_p > mine.elbo - 3
        assert mine.elbo == pytest.approx(-(mine.rate + mine.distortion), rel=1e-6)


def test_ranks_tell_a_datum_from_noise(scene: Scene, test: Dataset) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (12, 12)).astype(np.uint8)
    for placed in scene.place(png(noise)).models:
        assert placed.elbo_rank == placed.log_p_rank == 0
    log_p = [scene.place(png(test.x[row, 0])).models[0].log_p_rank for row in range(12)]
    assert 0.25 < np.mean(log_p) < 0.75
    assert max(log_p) > 0.7


def test_the_rank_is_the_share_of_the_sample_that_is_lower(
    scene: Scene, models: dict[str, VAE], test: Dataset
) -> None:
    lower = models["d2"].score_samples(test)
    placed = scene.place(png(test.x[7, 0])).models[0]
    assert placed.log_p == pytest.approx(lower[7], abs=1e-3)
    assert np.array_equal(placed.reference, np.sort(placed.reference))
    assert (placed.reference < placed.log_p).mean() == pytest.approx(placed.log_p_rank, abs=0.01)
    assert placed.log_p_rank == pytest.approx((lower < lower[7]).mean(), abs=1.01 / 200)  # a tie


def test_a_picture_keeps_its_aspect_in_the_middle_on_black_inverted_too(scene: Scene) -> None:
    wide = np.full((6, 24), 40, np.uint8)
    image = scene.place(png(wide)).image[0]
    assert (image[:4] == 0).all()
    assert (image[-5:] == 0).all()
    assert (image[4:7] == 40).all()
    inverted = scene.place(png(255 - wide), invert=True).image[0]
    assert (inverted == image).all()
    tall = scene.place(png(wide.T.copy())).image[0]
    assert (tall == image.T).all()


def test_a_picture_in_colour_or_of_another_format_is_read(scene: Scene, test: Dataset) -> None:
    colour = np.repeat(test.x[0, 0][..., None], 3, 2)
    assert (scene.place(png(colour)).image == test.x[0]).all()
    assert (scene.place(png(colour, "bmp")).image == test.x[0]).all()


def test_pictures_for_data_in_other_units_and_colour() -> None:
    x = np.random.default_rng(0).uniform(-3, 5, (60, 3, 6, 6)).astype(np.float32)
    scene = Scene({"vae": VAE(epochs=1, likelihood="gaussian").fit(x)}, Dataset(x, None, "mine"))
    pixels = np.random.default_rng(1).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    placed = scene.place(png(pixels))
    assert (placed.image == np.moveaxis(pixels, 2, 0)).all()
    low, high = scene.rows.range
    given = low + (high - low) * np.moveaxis(pixels, 2, 0)[None] / np.float32(255)
    wanted = scene.models["vae"].encode(given.astype(np.float32)).loc[0]
    np.testing.assert_allclose(placed.models[0].z, wanted, atol=1e-4)


def test_pictures_that_cannot_be_placed(scene: Scene, vectors: Scene) -> None:
    with refused(
        "picture is no image of a kind that is read; give a PNG, JPEG, TIFF, WebP or BMP file.",
        checks.DataError,
    ):
        scene.place(b"GIF89a or so")
    with pytest.raises(
        checks.DataError, match=r"^picture cannot be read: .*; give another file\.$"
    ):
        scene.place(png(np.random.default_rng(0).integers(0, 255, (99, 99)).astype(np.uint8))[:900])
    file = io.BytesIO()
    Image.new("1", (8000, 5000)).save(file, "png")
    with refused(
        "picture has 8,000 × 5,000 pixels, but at most 33,554,432 are read; make it smaller.",
        checks.DataError,
    ):
        scene.place(file.getvalue())
    with refused("data have shape (6,), but a picture needs images in grey or RGB."):
        vectors.place(png(np.zeros((6, 6), np.uint8)))


def test_a_gif_runs_forth_and_back_through_the_strip(scene: Scene, vectors: Scene) -> None:
    z = np.linspace([-2, -1], [2, 1], 5)
    content = scene.gif(0, z)
    assert content == scene.gif(0, z)
    frames, images = Image.open(io.BytesIO(content)), scene.decode(0, z)
    assert frames.n_frames == 8
    assert frames.info["loop"] == 0
    for number, place in enumerate((0, 1, 2, 3, 4, 3, 2, 1)):
        frames.seek(number)
        shown = np.asarray(frames.convert("L"))
        assert shown.shape == (228, 228)
        assert abs(shown[::19, ::19].astype(int) - images[place, 0]).max() <= 1
    with refused("points of a GIF = 1, but it must be a whole number from 2 to 256."):
        scene.gif(0, z[:1])
    with refused("data have shape (6,), but a GIF needs images in grey or RGB."):
        vectors.gif(0, z)


# --- the page and its files ------------------------------------------------------------------


@pytest.fixture(scope="module")
def explorer(models: dict[str, VAE], train: Dataset, test: Dataset) -> Iterator[Explorer]:
    with explore(models, (train, test), open_browser=False) as explorer:
        yield explorer


Answer = tuple[int, dict[str, str], bytes]


def fetch(
    explorer: Explorer, path: str, method: str = "GET", body: object = None, **headers: str
) -> Answer:
    line = http.client.HTTPConnection(urlsplit(explorer.url).netloc, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        line.request(method, path, body=body, headers=named)
        response = line.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        line.close()


def unframe(message: bytes) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    length = int.from_bytes(message[:4], "little")
    assert length % 4 == 0
    header, start, arrays = json.loads(message[4 : 4 + length]), 4 + length, {}
    for entry in header.pop("arrays"):
        array = np.frombuffer(message, entry["dtype"], int(np.prod(entry["shape"])), start)
        arrays[entry["name"]] = array.reshape(entry["shape"])
        start += -(-array.nbytes // 4) * 4
    assert start == len(message)
    return header, arrays


def test_the_page_runs_its_own_scripts_and_no_others(explorer: Explorer) -> None:
    status, headers, body = fetch(explorer, "/")
    text, policy = body.decode(), headers["content-security-policy"]
    imports = re.search('<script type="importmap">(.*?)</script>', text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(imports.encode()).digest()).decode()
    host = urlsplit(explorer.url).netloc
    assert status == 200
    assert "default-src 'none'" in policy
    assert f"script-src 'self' 'sha256-{digest}'" in policy
    assert f"connect-src 'self' ws://{host}" in policy
    assert "unsafe" not in policy
    assert "<title>blobs: " in text
    assert '<html lang="en">' in text
    assert '<meta name="viewport"' in text
    assert "<noscript>" in text
    assert not re.search(r"(src|href)=\"?(https?:)?//", text)
    for address in json.loads(imports)["imports"].values():
        assert fetch(explorer, address)[0] == 200


def test_each_answer_is_safe_in_a_browser(explorer: Explorer) -> None:
    for path in ("/", "/page/live.js", "/scene.json", "/nothing", "/view?model=9&axes=z1,z2"):
        _, headers, _ = fetch(explorer, path)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


def test_files_of_the_page_and_no_others(explorer: Explorer) -> None:
    for name, text in assets.files().items():
        status, headers, body = fetch(explorer, f"/page/{name}")
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        assert (status, body.decode()) == (200, text)
        assert headers["content-type"].startswith(kind)
    for path in ("/page/../scene.py", "/page/%2e%2e%2fscene.py", "/page/scene.py", "/page/"):
        assert fetch(explorer, path)[0] == 404
    assert fetch(explorer, "/favicon.ico")[0] == 204
    assert fetch(explorer, "/scene.json", "DELETE")[0] == 405


def test_modules_import_only_what_there_is() -> None:
    for name, text in assets.modules().items():
        for wanted in re.findall(r'from "([^"]+)"', text):
            assert wanted in assets.modules(), f"{name} imports {wanted}"


def test_an_import_map_with_the_modules_in_it() -> None:
    inline = json.loads(assets.import_map(inline=True))["imports"]
    for name, text in assets.modules().items():
        head, _, content = inline[name].partition(",")
        assert head == "data:text/javascript;base64"
        assert base64.b64decode(content).decode() == text


def test_a_title_is_text() -> None:
    assert "<title>&lt;b&gt; &amp; co</title>" in assets.live_page("<b> & co")


# --- data over HTTP --------------------------------------------------------------------------


def test_what_is_fetched_is_what_the_scene_has(explorer: Explorer) -> None:
    scene = explorer.scene
    assert json.loads(fetch(explorer, "/scene.json")[2]) == scene.facts
    labels = np.frombuffer(fetch(explorer, "/labels")[2], "<u2")
    assert (labels == scene.labels()).all()
    for name in ("elbo", "rate", "distortion"):
        body = fetch(explorer, f"/figure?model=1&name={name}")[2]
        assert (np.frombuffer(body, "<f4") == scene.figure(1, name)).all()
    header, arrays = unframe(fetch(explorer, "/view?model=1&axes=pc1,pc2")[2])
    wanted = scene.view(1, ("pc1", "pc2"))
    assert header == {"names": ["pc1", "pc2"]}
    for name in ("origin", "basis", "points"):
        assert (arrays[name] == getattr(wanted, name)).all()


def test_a_picture_that_is_uploaded(explorer: Explorer, test: Dataset) -> None:
    content = png(255 - test.x[5, 0])
    status, _, body = fetch(explorer, "/place?invert=1", "POST", content)
    header, arrays = unframe(body)
    wanted = explorer.scene.place(content, invert=True)
    assert status == 200
    assert (arrays["image"] == test.x[5]).all()
    for place, placed in enumerate(wanted.models):
        assert header["models"][place]["log_p"] == placed.log_p
        assert (arrays[f"models.{place}.z"] == placed.z).all()
        assert (arrays[f"models.{place}.image"] == placed.image).all()


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/view?model=0", "/view takes model, axes, each once."),
        ("/view?model=0&axes=z1,z2&more=1", "/view takes model, axes, each once."),
        ("/view?model=0&model=1&axes=z1,z2", "/view takes model, axes, each once."),
        ("/view?model=one&axes=z1,z2", "model must be a whole number."),
        ("/view?model=7&axes=z1,z2", "model = 7, but it must be a whole number from 0 to 2."),
        (
            "/view?model=0&axes=z1,z3",
            "axes = 'z1,z3', but they must be two of z1 to z2, or two of pc1 to pc2.",
        ),
        (
            "/figure?model=0&name=x",
            "name = 'x' is not known. Known: elbo, rate, distortion.",
        ),
    ],
)
def test_addresses_that_ask_for_nothing(explorer: Explorer, path: str, wanted: str) -> None:
    status, _, body = fetch(explorer, path)
    assert (status, json.loads(body)) == (400, {"error": wanted})


def test_data_without_labels_and_of_vectors(vectors: Scene, real: Dataset) -> None:
    with explore(vectors.models, real, open_browser=False) as explorer:
        assert fetch(explorer, "/labels")[0] == 204
        status, _, body = fetch(explorer, "/place?invert=0", "POST", b"x")
        told = "data have shape (6,), but a picture needs images in grey or RGB."
        assert (status, json.loads(body)) == (400, {"error": told})


# --- the websocket ---------------------------------------------------------------------------


@contextmanager
def line(explorer: Explorer, **options: object) -> Iterator[ClientConnection]:
    address = explorer.url.replace("http", "ws", 1) + "ws"
    with connect(address, max_size=None, compression=None, **options) as socket:
        yield socket


def ask(socket: ClientConnection, **request: object) -> tuple[dict, dict[str, np.ndarray]]:
    socket.send(json.dumps({"id": 7, **request}))
    header, arrays = unframe(socket.recv(timeout=20))
    assert header.pop("id") == 7
    return header, arrays


def test_the_websocket_answers_what_the_scene_has(explorer: Explorer) -> None:
    scene, z = explorer.scene, [0.5, 0.2, -1.0, 0.3]
    with line(explorer) as socket:
        _, found = ask(socket, do="decode", model=0, z=z)
        assert (found["image"] == scene.decode(0, z)).all()
        _, found = ask(socket, do="codes", model=1, indices=[3, 700])
        assert (found["loc"] == scene.codes_of(1, [3, 700]).loc).all()
        assert (found["scale"] == scene.codes_of(1, [3, 700]).scale).all()
        _, found = ask(socket, do="images", indices=[3, 700])
        assert (found["image"] == scene.images([3, 700])).all()
        _, found = ask(socket, do="mean", indices=list(range(800)))
        assert (found["image"] == scene.mean(range(800))).all()
        _, found = ask(socket, do="nearest", model=0, z=z[:2], count=5)
        assert (found["indices"] == scene.nearest(0, z[:2], 5).indices).all()
        assert found["indices"].dtype == np.int32
        assert (found["distances"] == scene.nearest(0, z[:2], 5).distances).all()
        _, found = ask(socket, do="gif", model=0, z=z)
        assert found["gif"].tobytes() == scene.gif(0, z)


def test_the_websocket_answers_of_data_and_paths(explorer: Explorer) -> None:
    scene = explorer.scene
    with line(explorer) as socket:
        header, found = ask(socket, do="datum", index=650)
        wanted = scene.datum(650)
        assert (header["split"], header["row"], header["label"]) == wanted[:3]
        assert (found["image"] == wanted.image).all()
        for place, placed in enumerate(wanted.models):
            assert header["models"][place]["elbo"] == placed.elbo
            assert header["models"][place]["log_p"] is None
            for name in ("z", "scale", "image"):
                assert (found[f"models.{place}.{name}"] == getattr(placed, name)).all()
        for kind in ("straight", "geodesic"):
            way = {"model": 0, "start": [0, 0], "end": [1, 1], "steps": 5, "kind": kind}
            header, found = ask(socket, do="path", **way)
            path = scene.path(**way)
            assert (found["z"] == path.points).all()
            assert header == {"length": path.length, "straight": path.straight}


KNOWN = "do must be one of decode, codes, images, mean, nearest, datum, path, gif."
NUMBERS = "model must be a whole number."
OBJECT = "request must be a JSON object in a text message."


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (b"\x00\x01", OBJECT),
        ("", OBJECT),
        ("[1]", OBJECT),
        ("{", OBJECT),
        ("[" * 100_000, OBJECT),
        ('{"id": 7, "do": "decode", "model": 0, "z": [NaN, 0]}', OBJECT),
        ('{"do": "decode"}', "id must be a whole number, by which the answer is known."),
        ('{"id": true}', "id must be a whole number, by which the answer is known."),
        ('{"id": 1e400}', "id must be a whole number, by which the answer is known."),
    ],
)
def test_messages_that_are_no_requests(
    explorer: Explorer, message: str | bytes, wanted: str
) -> None:
    with line(explorer) as socket:
        socket.send(message)
        header, arrays = unframe(socket.recv(timeout=20))
        assert header["error"] == wanted
        assert not arrays
        assert ask(socket, do="decode", model=0, z=[0, 0])[1]


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ({"do": "eval"}, KNOWN),
        ({"do": ["decode"]}, KNOWN),
        ({"do": "decode", "model": 0}, "decode takes model, z, all and no others."),
        ({"do": "datum", "index": 0, "x": 1}, "datum takes index, all and no others."),
        ({"do": "datum", "index": True}, "index must be a whole number."),
        ({"do": "datum", "index": 800},
         "index = 800, but it must be a whole number from 0 to 799."),
        ({"do": "decode", "model": "0", "z": []}, NUMBERS),
        ({"do": "decode", "model": 0, "z": "0,0"}, "z must be a list of numbers."),
        ({"do": "decode", "model": 0, "z": [[[0]], 1]}, "z must be a list of numbers."),
        ({"do": "decode", "model": 0, "z": [1e300, 0]},
         "z holds NaN, infinity, or what is beyond ±1,000,000; give smaller numbers."),
        ({"do": "decode", "model": 1, "z": [0] * 65540},
         "points in z = 13108, but it must be a whole number from 1 to 1024."),
        ({"do": "nearest", "model": 0, "z": [0, 0], "count": 10**9},
         "count = 1000000000, but it must be a whole number from 1 to 1024."),
        ({"do": "path", "model": 0, "start": [0, 0], "end": [1, 1], "steps": 10**9,
          "kind": "straight"},
         "steps = 1000000000, but it must be a whole number from 2 to 256."),
        ({"do": "path", "model": 0, "start": [0, 0], "end": [1, 1], "steps": 5, "kind": "round"},
         "kind = 'round' is not known. Known: straight, geodesic."),
        ({"do": "path", "model": 0, "start": [0, 0], "end": [1, 1], "steps": 5, "kind": "x" * 99},
         "kind must be a short text."),
    ],
)  # fmt: skip
def test_requests_that_cannot_be_done(
    explorer: Explorer, request_: dict[str, object], wanted: str
) -> None:
    with line(explorer) as socket:
        header, arrays = ask(socket, **request_)
        assert header == {"error": wanted}
        assert not arrays
        assert ask(socket, do="decode", model=0, z=[0, 0])[1]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
PLAIN = {"model": 0, "z": [0, 0, 1, 1], "indices": [1], "index": 5, "count": 3}
PLAIN |= {"start": [0, 0], "end": [1, 1], "steps": 3, "kind": "straight"}


@settings(max_examples=100)
@given(st.sampled_from(sorted(protocol.DO)), st.integers(0, 5), anything)
def test_whatever_is_asked_is_answered_or_refused_in_a_line(
    scene: Scene, do: str, place: int, value: object
) -> None:
    given_ = {name: PLAIN[name] for name in protocol.DO[do].fields}
    given_[[*given_, "other", "do"][place % (len(given_) + 2)]] = value
    try:
        message = protocol.read(json.dumps({"id": 1, "do": do} | given_))
        unframe(protocol.answer(scene, protocol.understood(message)))
    except checks.VaelabError as error:
        told = protocol.line(error)
        assert "\n" not in told
        assert len(told) <= 300


def test_what_goes_wrong_unexpectedly_is_one_line_and_the_line_lives_on(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(explorer.scene, "images", broken)
    with line(explorer) as socket:
        told = "unexpected error: RuntimeError; the program's log has more."
        assert ask(socket, do="images", indices=[1])[0] == {"error": told}
        assert "first\nsecond" in caplog.text
        assert ask(socket, do="mean", indices=[1])[1]


def test_figures_that_are_not_finite_become_null() -> None:
    header, arrays = unframe(protocol.frame({"a": [{"b": float("nan"), "c": np.ones(3, "u1")}]}))
    assert header == {"a": [{"b": None}]}
    assert arrays["a.0.c"].tolist() == [1, 1, 1]


def test_decoding_does_not_wait_for_what_is_slow(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    slow = explorer.scene.datum

    def blocked(index: int) -> object:
        begun.set()
        assert go_on.wait(20)
        return slow(index)

    monkeypatch.setattr(explorer.scene, "datum", blocked)
    with line(explorer) as socket:
        socket.send(json.dumps({"id": 1, "do": "datum", "index": 3}))
        assert begun.wait(20)
        for number in range(2, 40):  # more than are worked on at once
            socket.send(json.dumps({"id": number, "do": "decode", "model": 0, "z": [0, number]}))
        for number in range(2, 40):
            header, arrays = unframe(socket.recv(timeout=20))
            assert header["id"] == number
            assert (arrays["image"] == explorer.scene.decode(0, [0, number])).all()
        go_on.set()
        assert unframe(socket.recv(timeout=20))[0]["id"] == 1


def test_figures_let_others_have_their_turn(
    models: dict[str, VAE], train: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with explore(models["d2"], train, open_browser=False) as explorer:
        judge, order = explorer.scene.judge, []
        whole = judge._judge

        def slowly(model: int, block: int) -> None:
            time.sleep(0.3)
            whole(model, block)
            order.append(block)

        monkeypatch.setattr(judge, "_judge", slowly)
        asked = threading.Thread(target=fetch, args=(explorer, "/figure?model=0&name=elbo"))
        asked.start()
        time.sleep(0.15)
        with line(explorer) as socket:
            ask(socket, do="gif", model=0, z=[0, 0, 1, 1])
            assert len(order) < 3
        asked.join()
        assert sorted(order) == [0, 1, 2]


# --- whom it serves --------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST:9000"])
def test_a_name_of_this_machine_is_served_through_a_tunnel_too(
    explorer: Explorer, host: str
) -> None:
    assert fetch(explorer, "/scene.json", Host=host, Origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "192.168.1.5", "", "localhost@evil", "a b"]
)
def test_a_foreign_name_is_refused(explorer: Explorer, host: str) -> None:
    status, _, body = fetch(explorer, "/scene.json", Host=host)
    told = "Host is not a name of this server; open the address that it printed."
    assert (status, json.loads(body)) == (403, {"error": told})


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://"])
def test_another_page_is_refused(explorer: Explorer, origin: str, test: Dataset) -> None:
    told = {"error": "Origin is another page; open the address that the server printed."}
    content = png(test.x[0, 0])
    status, _, body = fetch(explorer, "/place?invert=0", "POST", content, Origin=origin)
    assert (status, json.loads(body)) == (403, told)
    with pytest.raises(InvalidStatus) as error, line(explorer, origin=origin):
        pass
    assert error.value.response.status_code == 403
    assert json.loads(error.value.response.body) == told


def test_the_page_itself_and_a_program_are_served(explorer: Explorer, test: Dataset) -> None:
    own = explorer.url.rstrip("/")
    with line(explorer, origin=own) as socket:
        assert ask(socket, do="images", indices=[1])[1]
    content = png(test.x[0, 0])
    assert fetch(explorer, "/place?invert=0", "POST", content, Origin=own)[0] == 200
    assert fetch(explorer, "/place?invert=0", "POST", content)[0] == 200


def alive(explorer: Explorer) -> None:
    with line(explorer) as socket:
        assert ask(socket, do="decode", model=0, z=[0, 0])[1]


def test_an_upload_is_refused_before_it_is_read(explorer: Explorer) -> None:
    host = urlsplit(explorer.url)
    told = {"error": "picture takes more than 8 MB; make it smaller."}
    with socket.create_connection((host.hostname, host.port), timeout=20) as plain:
        head = f"POST /place?invert=0 HTTP/1.1\r\nHost: {host.netloc}\r\n"
        plain.sendall((head + f"Content-Length: {10**12}\r\n\r\n").encode())
        answer = plain.recv(65536).decode()  # though nothing of it was sent
    assert answer.startswith("HTTP/1.1 413")
    parts = (bytes(2**20) for _ in range(MOST_UPLOADED // 2**20 + 1))
    status, _, body = fetch(explorer, "/place?invert=0", "POST", parts)
    assert (status, json.loads(body)) == (413, told)
    alive(explorer)


def test_a_message_that_is_too_long_ends_its_connection_alone(explorer: Explorer) -> None:
    with line(explorer) as socket, line(explorer) as other:
        with suppress(ConnectionClosed):  # it may be closed while it is still being sent
            socket.send("x" * (MOST_ASKED + 1))
        with pytest.raises(ConnectionClosed) as error:
            socket.recv(timeout=20)
        assert error.value.rcvd is None or error.value.rcvd.code == 1009
        assert ask(other, do="images", indices=[1])[1]


def test_noise_on_the_line_harms_nobody(explorer: Explorer) -> None:
    host = urlsplit(explorer.url)
    rng = np.random.default_rng(0)
    upgrade = (
        f"GET /ws HTTP/1.1\r\nHost: {host.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    for head in ("", "GET / HTTP/1.1\r\n", upgrade, "\x16\x03\x01"):
        with socket.create_connection((host.hostname, host.port), timeout=20) as plain:
            plain.sendall(head.encode() + rng.bytes(4000))
    alive(explorer)


def test_many_come_and_go(explorer: Explorer) -> None:
    for _ in range(20):
        with line(explorer) as socket:
            socket.send(json.dumps({"id": 1, "do": "datum", "index": 3}))
    alive(explorer)


# --- beginning and end -----------------------------------------------------------------------


def test_it_ends_at_once_with_open_pages_and_gives_its_port_back(
    models: dict[str, VAE], train: Dataset
) -> None:
    explorer = explore(models["d2"], train, open_browser=False)
    port = urlsplit(explorer.url).port
    with line(explorer) as socket:
        ask(socket, do="images", indices=[1])
        began = time.monotonic()
        explorer.close()
        assert time.monotonic() - began < 4
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=5)
    assert not explorer._thread.is_alive()
    again = explore(models["d2"], train, port=port, open_browser=False)
    assert urlsplit(again.url).port == port
    again.close()


def test_it_ends_although_something_slow_is_asked_for(
    models: dict[str, VAE], train: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    explorer = explore(models["d2"], train, open_browser=False)
    monkeypatch.setattr(explorer.scene.judge, "_judge", lambda *_: time.sleep(0.5))
    with line(explorer) as socket:
        for number in range(40):
            socket.send(json.dumps({"id": number, "do": "datum", "index": number}))
        time.sleep(0.2)
        began = time.monotonic()
        explorer.close()
        assert time.monotonic() - began < 4


def test_a_port_in_use_is_one_line_before_anything_is_computed(
    models: dict[str, VAE], train: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelab.latent.encode", lambda *_: pytest.fail("computed too early"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with refused(
            f"port = {port} on 127.0.0.1 cannot be had: address already in use; give another, or "
            "none for one that is free."
        ):
            explore(models, train, port=port, open_browser=False)


def test_hosts_and_ports_that_cannot_be() -> None:
    with refused(
        "host = 'no such host', but it must be a name or an address of this machine, such as "
        "127.0.0.1."
    ):
        bind("no such host", None)
    with refused("port = 70000, but it must be a whole number from 1 to 65535."):
        bind("127.0.0.1", 70_000)
    with refused("port = 0, but it must be a whole number from 1 to 65535."):
        bind("127.0.0.1", 0)


def test_listening_to_others_is_told_and_any_address_of_the_machine_serves(
    models: dict[str, VAE], train: Dataset
) -> None:
    told = "host = 0.0.0.0: whoever can reach this machine can see the data and the models."
    with pytest.warns(checks.VaelabWarning, match=f"^{re.escape(told)}$"):
        explorer = explore(models["d2"], train, host="0.0.0.0", open_browser=False)
    with explorer:
        assert explorer.url.startswith("http://127.0.0.1:")
        assert fetch(explorer, "/scene.json", Host="192.168.1.5:80")[0] == 200
        assert fetch(explorer, "/scene.json", Host=socket.gethostname())[0] == 200
        assert fetch(explorer, "/scene.json", Host="evil.example")[0] == 403


def test_a_page_that_cannot_be_made_gives_its_port_back(
    models: dict[str, VAE], real: Dataset
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for _ in range(2):
        with pytest.raises(checks.DataError, match="was made for data of shape"):
            explore(models, real, port=port, open_browser=False)
    bind("127.0.0.1", port).close()


def test_ctrl_c_ends_serving_quietly_and_a_termination_is_told(
    models: dict[str, VAE], train: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def soon(_: str) -> None:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job may ignore it
    try:
        serve(models, train, open_browser=False, ready=soon)
    finally:
        signal.signal(signal.SIGINT, before)

    def terminated(self: Explorer) -> None:
        raise checks.Interrupted("terminated", 15)

    monkeypatch.setattr(Explorer, "wait", terminated)
    with pytest.raises(checks.Interrupted):
        serve(models, train, open_browser=False)


def test_the_browser_is_opened_where_there_is_a_screen(
    models: dict[str, VAE], train: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for display, wanted, count in ((":0", True, 1), (":0", False, 0), ("", True, 0)):
        monkeypatch.setenv("DISPLAY", display)
        opened.clear()
        with explore(models["d2"], train, open_browser=wanted) as explorer:
            assert opened == [explorer.url] * count
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    with explore(models["d2"], train):
        assert opened == []


def test_in_a_notebook_it_is_a_frame(explorer: Explorer) -> None:
    shown = explorer._repr_html_()
    assert shown.startswith(f'<iframe src="{explorer.url}"')
    assert repr(explorer) == f"Explorer({explorer.url!r})"


# --- what people give ------------------------------------------------------------------------


def test_models_are_named_by_their_recipes(models: dict[str, VAE], train: Dataset) -> None:
    one = models["d2"]
    with explore([one, one, one], train, open_browser=False) as explorer:
        assert list(explorer.scene.models) == ["vae", "vae-2", "vae-3"]
    with explore(one, train.x, open_browser=False) as explorer:
        assert list(explorer.scene.models) == ["vae"]
        assert explorer.scene.facts["count"] == 600


def test_data_are_those_of_the_model_where_none_are_given(
    train: Dataset, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = replace(train, loaded={"name": "blobs", "seed": 3})
    asked: list[dict[str, object]] = []

    def load(**given: object) -> tuple[Dataset, Dataset]:
        asked.append(given)
        return train, test

    monkeypatch.setattr("vaelab.data.load", load)
    vae = VAE(epochs=1).fit(own)
    with explore(vae, open_browser=False) as explorer:
        assert explorer.scene.facts["count"] == 800
    assert asked == [{"name": "blobs", "seed": 3}]
    vae = VAE(epochs=1).fit(train.x)
    with refused("data = None, but model 'vae' was trained on data from memory; give the data."):
        explore(vae, open_browser=False)


def test_a_package_that_is_missing_is_one_line(
    models: dict[str, VAE], train: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "websockets", None)
    with refused(
        "the explorer needs the package websockets, which is not installed; install it with: "
        "pip install 'vaelab[explorer]'."
    ):
        explore(models, train, open_browser=False)


def test_the_command(
    models: dict[str, VAE],
    train: Dataset,
    test: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = [str(models[name].save(tmp_path / name)) for name in ("d2", "d5")]
    monkeypatch.setattr("vaelab.data.load", lambda **_: (train, test))
    monkeypatch.setattr(Explorer, "wait", lambda self: answers.append(fetch(self, "/scene.json")))
    answers: list[Answer] = []
    options = ["--no-open", "--limit", "50", "--quiet", "--data", "blobs"]
    monkeypatch.setenv("VAELAB_QUIET", "")
    done = CliRunner().invoke(command, [*folders, *options], catch_exceptions=False)
    assert done.exit_code == 0
    assert re.fullmatch(r"exploring at http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)\n", done.stdout)
    facts = json.loads(answers[0][2])
    assert facts["count"] == 100
    assert [model["name"] for model in facts["models"]] == ["d2", "d5"]


def test_importing_the_package_loads_no_server() -> None:
    code = (
        "import vaelab.explorer, sys; print({'torch', 'starlette', 'uvicorn'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "set()"


def test_conditional_models_are_refused(train: Dataset) -> None:
    vae = VAE("conditional", epochs=1).fit(train, train.y)
    wanted = (
        "model 'labelled' is conditional, but the explorer decodes points without labels; leave it "
        "out."
    )
    with refused(wanted):
        Scene({"labelled": vae}, train)
