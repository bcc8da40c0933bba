"""One image file at a time: what it is, and its pixels in 8 bits at a given size.

What becomes of an image, whatever the format: EXIF's orientation is applied; of several frames or
pages the first is taken; 16 bits become 8 by their upper 8 bits; a palette becomes the colours it
stands for; what is transparent lies on black. A file that cannot be read, whatever a decoder says
to it, gives a reason in words and never an exception.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vaelab import checks
from vaelab.data.rows import brief

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["FITS", "SUFFIXES", "Look", "Piece", "decode", "look", "sides"]

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")  # no other decoder ever sees a file
MODES = {1: "L", 3: "RGB"}
"""What Pillow calls images of one and three channels."""

GREY = ("1", "L", "LA", "La", "I", "F")  # and all that begin with I;16
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
"""The tag of EXIF, and those of its values that exchange height and width."""

LARGEST_SIDE = 4096

FITS = ("crop", "pad", "stretch")
"""How an image is brought to another size: so that the shorter side fits and the middle is cut
out; so that the longer side fits, on black; or each side for itself."""


class Look(NamedTuple):
    """What the header of an image file says: grey or colour, and its size as it is to be seen."""

    grey: bool
    height: int
    width: int


class Piece(NamedTuple):
    """Images `(M, C, H, W)` in `uint8` of the files that can be read; why not, of the others."""

    images: np.ndarray
    reasons: list[str | None]


def look(files: Sequence[str | bytes]) -> list[Look | str]:
    """Reads headers: what each file is, or the reason why it cannot be read."""
    seen: list[Look | str] = []
    with warnings.catch_warnings():
        _strict()
        for file in files:
            try:
                with _open(file) as image:
                    seen.append(_look(image))
            except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged files
                seen.append(_reason(error))
    return seen


def decode(files: Sequence[str | bytes], channels: int, size: tuple[int, int], fit: str) -> Piece:
    """Reads images.

    Arguments:
        files: The path of each, or what is in it.
        channels: 1 for grey, 3 for RGB.
        size: Height and width of the result; an image of this size is not resampled, others by
            Pillow's bicubic filter, which does not alias.
        fit: One of `FITS`.
    """
    import numpy as np

    images = np.zeros((len(files), channels, *size), np.uint8)
    reasons: list[str | None] = []
    with warnings.catch_warnings():
        _strict()
        for file in files:
            done = reasons.count(None)
            try:
                with _open(file) as image:
                    pixels = np.asarray(_fitted(_plain(image, channels, size), size, fit))
                images[done] = pixels if channels == 1 else np.moveaxis(pixels, 2, 0)
                reasons.append(None)
            except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged files
                reasons.append(_reason(error))
    return Piece(images[: reasons.count(None)], reasons)


def sides(size: object) -> tuple[int, int] | None:
    """Height and width from a number or two; `None` stays so.

    Raises:
        checks.ArgumentError: They are no whole numbers, or too large.
    """
    if size is None:
        return None
    if isinstance(size, tuple | list):
        if len(size) != 2:
            raise checks.ArgumentError(
                f"size = {size!r}, but it must be a number, or height and width."
            )
        height, width = size
    else:
        height = width = size
    return (
        checks.integer("size", height, most=LARGEST_SIDE),
        checks.integer("size", width, most=LARGEST_SIDE),
    )


@contextmanager
def _open(file: str | bytes) -> Iterator[Image]:
    """An image, of which only the header is read; as a stream, not by its name.

    Given a name, Pillow maps TIFF files that are not packed into memory, and reads those that are
    to be turned by a quarter with the height and width exchanged (seen in 13.0).
    """
    from PIL import Image as Pillow

    content = Path(file).open("rb") if isinstance(file, str) else io.BytesIO(file)  # noqa: SIM115
    with content, Pillow.open(content, formats=FORMATS) as image:
        yield image


def _strict() -> None:
    """Pillow's warning of a decompression bomb becomes an error, and its other ones are dropped."""
    from PIL.Image import DecompressionBombWarning

    warnings.simplefilter("ignore")
    warnings.simplefilter("error", DecompressionBombWarning)


def _look(image: Image) -> Look:
    width, height = image.size
    if width != height and _orientation(image) in SIDEWAYS:
        if image.format == "TIFF":  # which Pillow itself turns, then or before
            image.load()
            width, height = image.size
        else:
            width, height = height, width
    return Look(image.mode in GREY or image.mode.startswith("I;16"), height, width)


def _orientation(image: Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - damage there is no damage to the pixels
        return 1
    return value if isinstance(value, int) else 1


def _plain(image: Image, channels: int, size: tuple[int, int]) -> Image:
    """Upright, in 8 bits, grey or RGB, nothing transparent."""
    import numpy as np
    from PIL import Image as Pillow
    from PIL import ImageOps

    image.draft(None, (2 * max(size), 2 * max(size)))  # a JPEG far larger is decoded smaller
    image.load()
    with suppress(Exception):  # damage of EXIF is no damage of the pixels
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F":
        raise ValueError("holds real numbers, not 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() >= 2**16:
            raise ValueError("holds more than 16 bits")
        return Pillow.fromarray((values >> 8).astype(np.uint8)).convert(MODES[channels])
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Pillow.alpha_composite(Pillow.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert(MODES[channels])


def _fitted(image: Image, size: tuple[int, int], fit: str) -> Image:
    """An image of `size`, height and width, as it is where it has that size."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    height, width = size
    if image.size == (width, height):
        return image
    bicubic = Pillow.Resampling.BICUBIC
    if fit == "crop":
        return ImageOps.fit(image, (width, height), bicubic)
    if fit == "stretch":
        return image.resize((width, height), bicubic)
    scale = min(width / image.width, height / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    black = Pillow.new(image.mode, (width, height))
    black.paste(image.resize(inner, bicubic), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return black


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "is no image of a kind that is read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return brief(error, 80) or type(error).__name__
