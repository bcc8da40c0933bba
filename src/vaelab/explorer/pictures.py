"""Pictures that come and go: an image file made a datum, and a strip made a GIF."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vaelab import checks
from vaelab.data import pictures

__all__ = ["MOST_PIXELS", "gif", "read"]

MOST_PIXELS = 2**25
"""Larger pictures are refused by their header: decoded, they would take hundreds of megabytes."""
SIDE, TIME = 224, 80
"""The least longer side of a GIF, in pixels, and how long an image of it is shown, in ms."""


def read(content: bytes, shape: tuple[int, ...], *, invert: bool = False) -> np.ndarray:
    """An image file as a datum: it keeps its aspect, and lies in the middle, on black.

    Arguments:
        content: A PNG, JPEG, TIFF, WebP or BMP file.
        shape: `(C, H, W)` of a datum, with C = 1 for grey or 3 for RGB.
        invert: Whether black becomes white, as for a dark drawing on paper.

    Returns:
        `(1, C, H, W)` in `uint8`.

    Raises:
        checks.DataError: It is no such file, damaged, or has more than 33 million pixels.

    >>> import PIL.Image
    >>> file = io.BytesIO()
    >>> PIL.Image.new("L", (20, 10), 200).save(file, "png")
    >>> read(file.getvalue(), (1, 4, 4))[0, 0, :, 0].tolist()
    [0, 200, 200, 0]
    """
    channels, height, width = shape
    with TemporaryDirectory(prefix="vaelab-") as folder:  # what reads pictures reads files
        path = Path(folder) / "picture"
        path.write_bytes(content)
        (seen,) = pictures.look([str(path)])
        if isinstance(seen, str):
            raise checks.DataError(f"picture {seen}; give a PNG, JPEG, TIFF, WebP or BMP file.")
        if seen.height * seen.width > MOST_PIXELS:
            raise checks.DataError(
                f"picture has {seen.width:,} × {seen.height:,} pixels, but at most "
                f"{MOST_PIXELS:,} are read; make it smaller."
            )
        scale = min(width / seen.width, height / seen.height)
        inner = (max(1, round(seen.height * scale)), max(1, round(seen.width * scale)))
        piece = pictures.decode([str(path)], channels, inner, "stretch")
    if piece.reasons[0] is not None:
        raise checks.DataError(f"picture cannot be read: {piece.reasons[0]}; give another file.")
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    x = np.zeros((1, *shape), np.uint8)
    x[..., top : top + inner[0], left : left + inner[1]] = piece.images ^ (255 if invert else 0)
    return x


def gif(images: np.ndarray) -> bytes:
    """Images `(K, C, H, W)` in `uint8`, C = 1 or 3, as a GIF that runs forth and back for ever.

    Small images are enlarged by a whole number, pixel by pixel. The same images give the same
    bytes.

    >>> gif(np.zeros((2, 1, 8, 8), np.uint8))[:6]
    b'GIF89a'
    """
    from PIL import Image

    times = -(-SIDE // max(images.shape[2:]))
    frames = []
    for image in [*images, *images[-2:0:-1]]:
        large = image.repeat(times, 1).repeat(times, 2)
        frames.append(Image.fromarray(large[0] if len(large) == 1 else np.moveaxis(large, 0, 2)))
    file = io.BytesIO()
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=TIME, loop=0, optimize=False
    )
    return file.getvalue()
