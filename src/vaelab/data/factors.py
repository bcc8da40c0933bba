"""Pictures of one shape whose every factor of variation is known, made here, exactly.

The idea is that of dSprites (Matthey et al. 2017, https://github.com/google-deepmind/dsprites-dataset):
all combinations of a few factors, one image each. The shapes are chosen so that each factor shows
in each image: none looks the same after less than half a turn.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vaelab import checks
from vaelab.records import Dataset

if TYPE_CHECKING:
    import numpy as np

__all__ = ["shapes"]

SIDE = 28
SHAPES = ("ellipse", "bar", "triangle")
FACTORS = {"shape": 3, "scale": 4, "orientation": 8, "x": 8, "y": 8}
TEST = 1024
SMALLEST, LARGEST = 4.5, 7.5  # from the centre to the farthest point of a shape, in pixels


def shapes(*, seed: int = 0) -> tuple[Dataset, Dataset]:
    """White shapes on black, of known shape, scale, orientation and place.

    There is one image for each combination, 3 · 4 · 8 · 8 · 8 = 6,144 in all, no two alike:

    - `shape`: an ellipse, a bar, or an isosceles triangle;
    - `scale`: 4.5, 5.5, 6.5 or 7.5 pixels from the centre to the farthest point;
    - `orientation`: k / 8 of half a turn, clockwise from pointing right. An ellipse or a bar is
      back where it was after half a turn, so for these the last orientation is next to the first;
    - `x` and `y`: the centre, in 8 equal steps from left to right and from top to bottom; every
      shape lies wholly within the image.

    The grey level of a pixel is the share of it that the shape covers, to a good approximation.

    Arguments:
        seed: Decides which images are in which split, not what they show.

    Returns:
        5,120 training data and 1,024 test data in random order: `x` `(N, 1, 28, 28)` in `uint8`,
        `factors` `(N, 5)` in `int64` in the order above, and `y` `(N,)`, the shape.

    Raises:
        checks.ArgumentError: The seed is not one.

    >>> train, test = shapes()
    >>> train.x.shape, test.x.shape
    ((5120, 1, 28, 28), (1024, 1, 28, 28))
    >>> train.factor_names
    ('shape', 'scale', 'orientation', 'x', 'y')
    """
    import numpy as np

    factors = np.indices(tuple(FACTORS.values()), dtype=np.int64).reshape(len(FACTORS), -1).T
    images = np.concatenate([_images(factors[factors[:, 0] == k]) for k in range(len(SHAPES))])
    # The stream of RandomState is frozen; that of default_rng may change with NumPy (NEP 19).
    order = np.random.RandomState(checks.seed(seed)).permutation(len(factors))

    def record(rows: np.ndarray, split: str) -> Dataset:
        return Dataset(
            x=images[rows, None],
            y=factors[rows, 0],
            name="shapes",
            split=split,
            source="made by vaelab",
            licence="Apache-2.0",
            class_names=SHAPES,
            factors=factors[rows],
            factor_names=tuple(FACTORS),
        )

    return record(order[:-TEST], "train"), record(order[-TEST:], "test")


def _images(factors: np.ndarray) -> np.ndarray:
    """Images `(N, 28, 28)` in `uint8` of factors `(N, 5)` that share one shape."""
    import numpy as np

    shape, scale, orientation, x, y = factors.T
    angles = [math.pi * k / FACTORS["orientation"] for k in range(FACTORS["orientation"])]
    # Rounded, and below only + − × ÷ √, which are exact: the same bytes on every machine.
    cos = np.array([round(math.cos(angle), 12) for angle in angles])[orientation, None, None]
    sin = np.array([round(math.sin(angle), 12) for angle in angles])[orientation, None, None]
    places = np.linspace(LARGEST + 0.5, SIDE - LARGEST - 0.5, FACTORS["x"])
    pixels = np.arange(SIDE) + 0.5
    right = pixels - places[x][:, None, None]
    down = pixels[:, None] - places[y][:, None, None]
    size = np.linspace(SMALLEST, LARGEST, FACTORS["scale"])[scale, None, None]
    distance = (_ellipse, _bar, _triangle)[shape[0]]
    outside = distance(cos * right + sin * down, cos * down - sin * right, size)
    return np.round(255 * np.clip(0.5 - outside, 0, 1)).astype(np.uint8)


# Each gives the distance from the edge, negative inside, of points with coordinates u along the
# shape and v across it; the shape's centre is at 0 and its farthest point `size` away.


def _ellipse(u: np.ndarray, v: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Half as wide as long; to first order at the edge: f / |∇f| of f = √(u²/a² + v²/b²) − 1."""
    import numpy as np

    a, b = size, size / 2
    radius = np.sqrt((u / a) ** 2 + (v / b) ** 2)
    slope = np.sqrt((u / a**2) ** 2 + (v / b**2) ** 2)
    return np.asarray((radius - 1) * radius / np.maximum(slope, 1e-9))


def _bar(u: np.ndarray, v: np.ndarray, size: np.ndarray) -> np.ndarray:
    """A rectangle whose diagonal is 2 · size long, three tenths as wide as long."""
    import numpy as np

    half = size / math.sqrt(1 + 0.3**2)
    return np.asarray(np.maximum(np.abs(u) - half, np.abs(v) - 0.3 * half))


def _triangle(u: np.ndarray, v: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Isosceles, its tip along u, its base six tenths of its height; the centroid is its centre."""
    import numpy as np

    base = -u - size / 2
    sides = (np.abs(v) + 0.3 * (u - size)) / math.sqrt(1 + 0.3**2)
    return np.asarray(np.maximum(base, sides))
