"""The shapes are what their factors say, measured from the pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vaelab import checks
from vaelab.data.factors import shapes
from vaelab.records import Dataset

SIZES = (3, 4, 8, 8, 8)
RADII = np.array([4.5, 5.5, 6.5, 7.5])
PLACES = np.linspace(8, 20, 8)


@pytest.fixture(scope="module")
def splits() -> tuple[Dataset, Dataset]:
    return shapes()


@pytest.fixture(scope="module")
def images(splits: tuple[Dataset, Dataset]) -> np.ndarray:
    """All images, in order of their factors: `(3, 4, 8, 8, 8, 28, 28)`, from 0 to 1."""
    factors = np.concatenate([split.factors for split in splits])
    x = np.concatenate([split.x for split in splits])
    return x[np.lexsort(factors.T[::-1])].reshape(*SIZES, 28, 28) / 255


def moments(images: np.ndarray) -> tuple[np.ndarray, ...]:
    """Area, centre and second central moments of images `(..., 28, 28)`, `(...)` each."""
    pixels = np.arange(28) + 0.5
    area = images.sum((-1, -2))
    x = (images.sum(-2) * pixels).sum(-1) / area
    y = (images.sum(-1) * pixels).sum(-1) / area
    right, down = pixels - x[..., None], pixels - y[..., None]
    xx = (images.sum(-2) * right**2).sum(-1) / area
    yy = (images.sum(-1) * down**2).sum(-1) / area
    xy = np.einsum("...ij,...i,...j->...", images, down, right) / area
    return area, x, y, xx, yy, xy


def test_the_records_say_what_they_hold(splits: tuple[Dataset, Dataset]) -> None:
    for split, name, count in zip(splits, ("train", "test"), (5120, 1024), strict=True):
        assert (split.name, split.split, len(split)) == ("shapes", name, count)
        assert (split.shape, split.x.dtype) == ((1, 28, 28), np.uint8)
        assert (split.factors.shape, split.factors.dtype) == ((count, 5), np.int64)
        assert (split.y == split.factors[:, 0]).all()
        assert split.y.dtype == np.int64
        assert split.class_names == ("ellipse", "bar", "triangle")
        assert split.factor_names == ("shape", "scale", "orientation", "x", "y")
        assert (split.source, split.licence) == ("made by vaelab", "Apache-2.0")


def test_every_combination_is_there_once(splits: tuple[Dataset, Dataset]) -> None:
    factors = np.concatenate([split.factors for split in splits])
    order = np.ravel_multi_index(tuple(factors.T), SIZES)
    assert sorted(order) == list(range(math.prod(SIZES)))
    for split in splits:
        for k, size in enumerate(SIZES):
            share = np.bincount(split.factors[:, k], minlength=size) / len(split)
            np.testing.assert_allclose(share, 1 / size, atol=0.05, err_msg="no split is lopsided")


def test_no_two_images_are_alike_and_all_use_the_full_range(images: np.ndarray) -> None:
    flat = images.reshape(-1, 28 * 28)
    assert len(np.unique(flat, axis=0)) == len(flat)
    assert (flat.min(1) == 0).all()
    assert (flat.max(1) == 1).all()
    flat = flat.astype(np.float32)
    norms = (flat**2).sum(1)
    for start in range(0, len(flat), 1024):  # in blocks, for the memory
        block = slice(start, start + 1024)
        squared = norms[block, None] + norms - 2 * flat[block] @ flat.T
        squared[np.arange(len(squared)), start + np.arange(len(squared))] = np.inf
        assert squared.min() > 1, "any two differ by more than one whole pixel"


@pytest.mark.parametrize("axis", [1, 2, 3, 4])
def test_neighbours_differ_less_than_others(images: np.ndarray, axis: int) -> None:
    along = np.moveaxis(images, axis, 0)
    step = ((along[1:] - along[:-1]) ** 2).sum((-1, -2))
    stride = ((along[2:] - along[:-2]) ** 2).sum((-1, -2))
    assert step.mean() < 0.75 * stride.mean()
    assert step.min() > 1


def test_places_are_where_the_factors_say(images: np.ndarray) -> None:
    _, x, y, *_ = moments(images)
    np.testing.assert_allclose(x, np.broadcast_to(PLACES[:, None], SIZES), atol=0.25)
    np.testing.assert_allclose(y, np.broadcast_to(PLACES, SIZES), atol=0.25)


def test_areas_are_those_of_the_shapes(images: np.ndarray) -> None:
    area = moments(images)[0].mean((2, 3, 4))
    half = RADII / math.sqrt(1.09)
    exact = [math.pi * RADII**2 / 2, 4 * 0.3 * half**2, 0.5 * 0.9 * 1.5 * RADII**2]
    np.testing.assert_allclose(area, exact, rtol=0.05)


def test_orientations_are_those_of_the_principal_axis(images: np.ndarray) -> None:
    *_, xx, yy, xy = moments(images)
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    expected = (math.pi * np.arange(8) / 8)[:, None, None]
    error = (angle - expected + math.pi / 2) % math.pi - math.pi / 2
    assert np.abs(error).max() < math.radians(22.5 / 3)


def test_triangles_point_along_their_orientation_and_the_others_nowhere(
    images: np.ndarray,
) -> None:
    _, x, y, *_ = moments(images)
    pixels = np.arange(28) + 0.5
    angle = (math.pi * np.arange(8) / 8)[:, None, None, None, None]
    right = (pixels - x[..., None])[..., None, :]
    down = (pixels - y[..., None])[..., :, None]
    along = np.cos(angle) * right + np.sin(angle) * down
    lean = (images * along**3).sum((-1, -2)) / (images * np.abs(along) ** 3).sum((-1, -2))
    assert (lean[2] > 0.2).all()
    assert np.abs(lean[:2]).max() < 0.05


def test_the_seed_decides_the_split_and_nothing_else(splits: tuple[Dataset, Dataset]) -> None:
    again, other = shapes(seed=0), shapes(seed=1)
    for split, same, different in zip(splits, again, other, strict=True):
        assert same.fingerprint == split.fingerprint
        assert (same.factors == split.factors).all()
        assert different.fingerprint != split.fingerprint

    def ordered(parts: tuple[Dataset, Dataset]) -> np.ndarray:
        factors = np.concatenate([part.factors for part in parts])
        return np.concatenate([part.x for part in parts])[np.lexsort(factors.T[::-1])]

    assert (ordered(splits) == ordered(other)).all()
    with pytest.raises(checks.ArgumentError, match="seed = -1"):
        shapes(seed=-1)


def test_the_data_are_the_same_on_every_machine(splits: tuple[Dataset, Dataset]) -> None:
    prints = [split.fingerprint[:16] for split in splits]
    assert prints == ["1c4715f4eaafcb3f", "b98c63daf76c42db"]


def test_the_global_random_state_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()
    shapes(seed=3)
    assert (np.random.get_state()[1] == before).all()
