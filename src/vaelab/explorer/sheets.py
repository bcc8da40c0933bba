"""Pictures side by side on WebP sheets, in the way that changes them least and fits."""

from __future__ import annotations

import io
import math
from typing import NamedTuple

import numpy as np
import torch

__all__ = ["Kind", "Layout", "best", "sheet"]

SIDE, MOST = 512, 32
"""A sheet has about at most so many pixels, and so many pictures, along each side."""
ELEMENTS = 2**24
"""Pictures of a sheet have about at most so many elements before they are shrunk."""
TEXT = 4 / 3
"""Characters of base64 a byte."""


class Kind(NamedTuple):
    """How pictures are stored.

    Attributes:
        shrink: By how much height and width are divided.
        levels: How many values a pixel may have, which are kept exactly; 0 is lossy instead.
        quality: Of lossy WebP, from 0 to 100.
    """

    shrink: int
    levels: int
    quality: int = 75


WAYS = (*((levels, 75) for levels in (256, 16, 8, 6, 5, 4, 3, 2)), (0, 75), (0, 50), (0, 25))
"""Levels and quality that are tried."""
ROUGH = 16
"""Pictures may differ from what they were by so much, of 255, in the root of the mean square."""


class Layout(NamedTuple):
    """Where pictures lie on a sheet: row by row, each in a cell.

    Attributes:
        height, width: Of a stored picture.
        channels: Of a picture; three are the colours of a cell, others lie below each other in it.
        columns, rows: Cells of a whole sheet.
    """

    height: int
    width: int
    channels: int
    columns: int
    rows: int

    @classmethod
    def of(cls, shape: tuple[int, ...], kind: Kind) -> Layout:
        """Of pictures of a shape `(C, H, W)`.

        >>> Layout.of((1, 28, 28), Kind(1, 8))
        Layout(height=28, width=28, channels=1, columns=18, rows=18)
        """
        channels, height, width = shape
        height, width = (max(1, round(size / kind.shrink)) for size in (height, width))
        tall = height if channels == 3 else channels * height
        most = min(MOST, math.isqrt(ELEMENTS // math.prod(shape)))
        rows, columns = (max(1, min(most, SIDE // size)) for size in (tall, width))
        return cls(height, width, channels, columns, rows)

    @property
    def whole(self) -> int:
        """How many pictures a whole sheet holds."""
        return self.columns * self.rows

    def joined(self, images: np.ndarray) -> np.ndarray:
        """Stored pictures `(N, C, h, w)`, N at most `whole`, as a sheet `(H, W, 3)`."""
        cells = np.moveaxis(images, 1, -1)
        if self.channels != 3:
            cells = images.reshape(len(images), -1, self.width, 1).repeat(3, -1)
        rows = -(-len(images) // self.columns)
        full = np.zeros((rows * self.columns, *cells.shape[1:]), np.uint8)
        full[: len(images)] = cells
        grid = full.reshape(rows, self.columns, *cells.shape[1:]).transpose(0, 2, 1, 3, 4)
        return grid.reshape(rows * cells.shape[1], -1, 3)

    def parted(self, sheet: np.ndarray, count: int) -> np.ndarray:
        """The inverse of `joined`: the first `count` pictures of a sheet.

        >>> layout, images = Layout.of((2, 3, 4), Kind(1, 256)), np.arange(120).reshape(5, 2, 3, 4)
        >>> bool((layout.parted(layout.joined(images), 5) == images).all())
        True
        """
        tall = self.height if self.channels == 3 else self.channels * self.height
        grid = sheet.reshape(-1, tall, self.columns, self.width, 3).transpose(0, 2, 1, 3, 4)
        cells = grid.reshape(-1, tall, self.width, 3)[:count]
        if self.channels == 3:
            return np.moveaxis(cells, -1, 1)
        return cells[..., 0].reshape(count, self.channels, self.height, self.width)


def sheet(images: np.ndarray, kind: Kind) -> bytes:
    """Pictures `(N, C, H, W)` in `uint8`, as many as a sheet holds at most, as a WebP file."""
    from PIL import Image

    layout = Layout.of(images.shape[1:], kind)
    small = images
    if kind.shrink > 1:
        size = (layout.height, layout.width)
        pooled = torch.nn.functional.interpolate(
            torch.from_numpy(images).float(), size, mode="area"
        )
        small = pooled.round().numpy().astype(np.uint8)
    if kind.levels:
        step = 255 / (kind.levels - 1)
        small = np.rint(np.rint(small / step) * step).astype(np.uint8)
    file = io.BytesIO()
    picture = Image.fromarray(layout.joined(small))
    picture.save(file, "WEBP", lossless=kind.levels > 0, quality=kind.quality, method=4)
    return file.getvalue()


def best(images: np.ndarray, count: int, most: float, *, each: float = 0.0) -> tuple[Kind, int]:
    """The kind that changes pictures least of those in which all fit, and how many are carried.

    Kinds that change them much are left out. Where they fit in no other, it is the smallest of the
    others, and as many as fit in it.

    Arguments:
        images: A sample, `(N, C, H, W)` in `uint8`.
        count: How many there are.
        most: How many characters of base64 they may take.
        each: How many characters each takes beside its picture.

    >>> images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    >>> best(images, 1000, 1e6)
    (Kind(shrink=1, levels=256, quality=75), 1000)
    """
    least = -(-max(images.shape[2:]) // SIDE)
    tried = []
    for kind in (Kind(least * times, *way) for times in (1, 2, 4) for way in WAYS):
        some = images[: Layout.of(images.shape[1:], kind).whole]
        file = sheet(some, kind)
        cost = each + TEXT * len(file) / len(some)
        tried.append((_change(some, file, kind), cost, kind))
    least_changed = min(tried)[0]
    fine = [found for found in tried if found[0] <= max(ROUGH, least_changed)]
    fitting = [found for found in fine if found[1] * count <= most]
    if fitting:
        return min(fitting)[2], count
    _, cost, kind = min(fine, key=lambda found: found[1])
    return kind, int(most / cost)


def _change(images: np.ndarray, file: bytes, kind: Kind) -> float:
    """The root mean square by which pictures differ when they come back from a sheet."""
    from PIL import Image

    layout = Layout.of(images.shape[1:], kind)
    with Image.open(io.BytesIO(file)) as picture:
        back = layout.parted(np.asarray(picture.convert("RGB")), len(images))
    large = torch.from_numpy(back.copy()).float()
    if kind.shrink > 1:
        large = torch.nn.functional.interpolate(large, images.shape[2:], mode="bilinear")
    return float(np.sqrt(np.mean(np.square(large.numpy() - images))))
