"""IDX files, gzipped or plain, read without trusting what they claim.

The format (http://yann.lecun.com/exdb/mnist/): two zero bytes, the element type, the number of
dimensions, each length as a big-endian `uint32`, then the elements, big-endian. Memory grows with
the content that is really there, never with what a header claims.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vaelab import checks
from vaelab.data.rows import Found, Rows, classes, numbers, told

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Stream",
    "decode",
    "holds",
    "is_named",
    "read",
    "read_file",
    "read_folder",
    "take",
    "unpacked",
]

ELEMENTS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_BYTES = 2**30
MOST_DIMENSIONS = 32  # what every NumPy can hold
CHUNK = 2**20

NAMES = ("{}-images-idx3-ubyte", "{}-images.idx3-ubyte")
"""What MNIST and its successors call images; their labels are `labels` and `idx1`."""


class Stream(Protocol):
    """What bytes are read from: a file, or its content as it is unpacked."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


def read(path: str | os.PathLike[str], *, most: int = MOST_BYTES) -> np.ndarray:
    """Reads one IDX file, gzipped or plain, whatever its name ends in.

    Arguments:
        path: The file.
        most: The most bytes of elements to read; a header that claims more is refused.

    Returns:
        An array that owns its memory, in native byte order, of the shape in the header.

    Raises:
        DataError: The file cannot be opened, is empty, is no IDX file, is a damaged gzip file, or
            holds fewer or more elements than its header claims.
    """
    try:
        with Path(path).open("rb") as file:
            return decode(unpacked(file), str(path), most=most)
    except OSError as error:
        raise checks.DataError(f"{path}: cannot be read ({error.strerror or error}).") from error


def is_named(name: str) -> bool:
    """Whether a file is an IDX file by its name.

    >>> is_named("train-images-idx3-ubyte.gz"), is_named("digits.idx"), is_named("digits.gz")
    (True, True, False)
    """
    return re.search(r"([-.]idx\d?|ubyte)(\.gz)?$", name, re.IGNORECASE) is not None


def holds(folder: Path) -> bool:
    """Whether a folder has training images under the name that MNIST's have."""
    return _images(folder, "train") is not None


def read_file(path: Path) -> Found:
    """The data of one IDX file, and their labels if those lie beside it under the usual name.

    Raises:
        checks.DataError: As for `read`, or values that `numbers` refuses.
    """
    rows, names = _rows([path])
    return Found(rows[0], class_names=names)


def read_folder(folder: Path) -> Found:
    """The files of a folder that are named as MNIST's are, gzipped or plain.

    `train-images` must be there, `t10k-images` may be: the test data. Labels may be missing.

    Raises:
        checks.DataError: As for `read_file`, or labels for one of the two alone.
    """
    there = [path for part in ("train", "t10k") if (path := _images(folder, part)) is not None]
    rows, names = _rows(there)
    if len({one.y is None for one in rows}) > 1:
        raise checks.DataError(
            f"{told(folder)}: has labels for one of train and t10k alone; add the others, or "
            "remove these."
        )
    return Found(rows[0], rows[1] if len(rows) > 1 else None, names)


def decode(stream: Stream, origin: str, *, most: int = MOST_BYTES) -> np.ndarray:
    """Reads one IDX array from a stream of uncompressed bytes, up to its very end.

    Arguments:
        stream: The bytes, at the beginning of the file.
        origin: What errors call the stream: a path or an address.
        most: As for `read`.

    Raises:
        DataError: As for `read`.

    >>> decode(io.BytesIO(bytes([0, 0, 0x0B, 1, 0, 0, 0, 2, 0, 7, 1, 0])), "two.idx")
    array([  7, 256], dtype=int16)
    >>> decode(io.BytesIO(b"PNG"), "cat.idx")
    Traceback (most recent call last):
    ...
    vaelab.checks.DataError: cat.idx: begins with 50 4e 47, so it is not an IDX file.
    """
    import numpy as np

    code, shape = _header(stream, origin)
    dtype = np.dtype(code)
    size = math.prod(shape) * dtype.itemsize
    if size > most:
        raise checks.DataError(
            f"{origin}: its header claims {size:,} bytes of data; at most {most:,} are read."
        )
    body = take(stream, size + 1, origin)
    if len(body) != size:
        found = "more" if len(body) > size else f"only {len(body):,}"
        raise checks.DataError(
            f"{origin}: its header claims {size:,} bytes of data, but the file holds {found}."
        )
    array = np.frombuffer(body, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _images(folder: Path, part: str) -> Path | None:
    return _either(*(folder / name.format(part) for name in NAMES))


def _either(*paths: Path) -> Path | None:
    """The first of several files that is there, plain or gzipped."""
    packed = [path.with_name(f"{path.name}.gz") for path in paths]
    return next((path for path in (*paths, *packed) if path.is_file()), None)


def _rows(paths: list[Path]) -> tuple[list[Rows], tuple[str, ...]]:
    """Data, and the labels that lie beside them, of some IDX files; and the classes' names."""
    data = [numbers(read(path), told(path)) for path in paths]
    labels = [None if beside is None else read(beside) for beside in map(_labels, paths)]
    numbered, names = classes(told(paths[0].parent), *labels)
    return [Rows(x, y) for x, y in zip(data, numbered, strict=True)], names


def _labels(path: Path) -> Path | None:
    """The labels of an image file, which are called as it is but for two words."""
    name = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    return None if name == path.name.removesuffix(".gz") else _either(path.with_name(name))


def unpacked(file: io.BufferedReader) -> Stream:
    """The content of a file, decompressed as it is read if it begins as gzip does."""
    return gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == b"\x1f\x8b" else file


def take(stream: Stream, most: int, origin: str) -> bytearray:
    """Reads up to `most` bytes, in pieces, so that memory is taken for what is there.

    Raises:
        DataError: The stream is a damaged gzip file, or the disk fails.
    """
    content = bytearray()
    try:
        while len(content) < most and (piece := stream.read(min(CHUNK, most - len(content)))):
            content += piece
    except EOFError as error:
        raise checks.DataError(f"{origin}: is a truncated gzip file.") from error
    except (OSError, zlib.error) as error:
        raise checks.DataError(f"{origin}: cannot be read ({error}).") from error
    return content


def _header(stream: Stream, origin: str) -> tuple[str, tuple[int, ...]]:
    """Element type and shape, both valid."""
    magic = take(stream, 4, origin)
    if not magic:
        raise checks.DataError(f"{origin}: is empty.")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in ELEMENTS:
        raise checks.DataError(f"{origin}: begins with {magic.hex(' ')}, so it is not an IDX file.")
    dimensions = magic[3]
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise checks.DataError(
            f"{origin}: its header claims {dimensions} dimensions; "
            f"there must be 1 to {MOST_DIMENSIONS}."
        )
    lengths = take(stream, 4 * dimensions, origin)
    if len(lengths) < 4 * dimensions:
        raise checks.DataError(f"{origin}: ends within its header.")
    shape = struct.unpack(f">{dimensions}I", lengths)
    if 0 in shape:
        raise checks.DataError(f"{origin}: holds no data: its header claims the shape {shape}.")
    return ELEMENTS[magic[2]], shape
