"""Arrays in `.npy` and `.npz` files, read without trusting what they claim.

Nothing is unpickled. A header is believed only where it agrees with the size of its file, so
memory is taken for what is there, and at most `MOST_BYTES` of it; `.npy` files of `uint8` or
`float32` stay on disk, whatever their size.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import sys
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from vaelab import checks
from vaelab.data.rows import MOST_BYTES, Found, Rows, brief, classes, listed, numbers, told

if TYPE_CHECKING:
    import numpy as np

__all__ = ["claimed", "loaded", "mapped", "read_npy", "read_npz"]

DATA = ("x", "X", "data", "images", "imgs", "features")
LABELS = ("y", "Y", "labels", "label", "target", "targets")
PATTERNS = ("{}_train", "train_{}")
"""What the arrays of a `.npz` file may be called; `x_test` or `test_x` are the test data."""

MOST_DIMENSIONS = 4

NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
"""Without it Linux refuses a private map of a file larger than memory; Python knows it late."""

BROKEN = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    SyntaxError,
    RecursionError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
    zipfile.BadZipFile,
)
"""What NumPy and zipfile raise for a damaged file."""


class _Header(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool
    length: int

    @property
    def size(self) -> int:
        """Bytes of the elements."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: Path) -> Found:
    """Reads a `.npy` file with one array of data.

    In `uint8` or `float32`, in C order, it is mapped and not read; of `float32`, every value is
    looked at once. Another type or order is converted in memory, up to `MOST_BYTES`.

    Raises:
        checks.DataError: No such array, a size other than the header's, Python objects, or
            values that `numbers` refuses.
    """
    origin = told(path)
    return Found(Rows(numbers(mapped(path), origin)))


def read_npz(path: Path) -> Found:
    """Reads a `.npz` file: data, and labels if there are any, by the names of its arrays.

    Looked for are data called as in `DATA` and labels called as in `LABELS`, with `_train` behind
    or `train_` before the name (and `test` likewise, if there are test data), then without. A
    single array is the data, whatever its name. Other arrays are not read, which is told.

    Raises:
        checks.DataError: No such file, names that are not known or ambiguous, sizes that are not
            those of the headers, more than `MOST_BYTES`, or values that `numbers` refuses.
    """
    origin = told(path)
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("ignore", UserWarning)  # of headers that Python 2 wrote
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            picked = _picked(list(members), origin)
            _check_sizes(archive, [members[key] for key in picked if key is not None], origin)
            arrays = [None if key is None else _member(archive, members[key]) for key in picked]
    except BROKEN as error:
        if isinstance(error, checks.VaelabError):
            raise
        raise checks.DataError(f"{origin}: is a damaged .npz file ({_reason(error)}).") from error
    x, y, test_x, test_y = arrays
    labels, names = classes(origin, y, test_y)
    left = [told(key) for key in members if key not in picked]
    notes = (f"{origin}: not used are its arrays {listed(left)}.",) if left else ()
    return Found(
        Rows(numbers(x, origin), labels[0]),  # type: ignore[arg-type]
        None if test_x is None else Rows(numbers(test_x, origin), labels[1]),
        names,
        notes,
    )


def mapped(path: Path) -> np.ndarray:
    """The array of a `.npy` file as a memory map, of which rows are read when they are used.

    In the form of data at rest the map is private: writing to it changes no file. A page that is
    written to becomes memory of the process, the rest stays on disk; `sources.split` can so put
    rows into the places of those that it takes out.

    Raises:
        checks.DataError: As for `read_npy`.
        OSError: The file cannot be read.
    """
    import numpy as np

    with path.open("rb") as file:
        header = _header(file, told(path), os.fstat(file.fileno()).st_size)
        if not _plain(header):
            order = "F" if header.fortran else "C"
            return np.memmap(file, header.dtype, "r", header.length, header.shape, order)  # type: ignore[call-overload, no-any-return]
        if sys.platform == "win32":
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        else:
            flags, use = mmap.MAP_PRIVATE | NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
            content = mmap.mmap(file.fileno(), 0, flags=flags, prot=use)
    return np.ndarray(header.shape, header.dtype, content, header.length)


def claimed(stream: IO[bytes], origin: str) -> tuple[tuple[int, ...], np.dtype]:
    """What the header of a `.npy` file says of its array, shape and type; the rest is not read.

    Arguments:
        stream: The file, which can be read from any place.
        origin: What errors call it.

    Raises:
        checks.DataError: No such array, Python objects, or another size than the header's.
    """
    length = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    header = _header(stream, origin, length)
    return header.shape, header.dtype


def loaded(stream: IO[bytes], origin: str) -> np.ndarray:
    """The array of a `.npy` file in memory, as it is there; see `claimed`.

    Raises:
        checks.DataError: As for `claimed`, or it takes more than `MOST_BYTES`.
        ValueError: The file ends before its array does.
    """
    from numpy.lib import format as npy

    shape, dtype = claimed(stream, origin)
    size = math.prod(shape) * dtype.itemsize
    if size > MOST_BYTES:
        raise checks.DataError(
            f"{origin}: takes {size:,} bytes; at most {MOST_BYTES:,} are read into memory at once; "
            "write it as several smaller ones."
        )
    stream.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of headers that Python 2 wrote
        array: np.ndarray = npy.read_array(stream, allow_pickle=False)
    return array


def _header(stream: IO[bytes], origin: str, length: int) -> _Header:
    """What the header of a `.npy` file claims, if it agrees with the file's `length`."""
    from numpy.lib import format as npy

    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of headers that Python 2 wrote
            version = npy.read_magic(stream)
            shape, fortran, dtype = readers[version](stream)
    except BROKEN as error:
        raise checks.DataError(f"{origin}: is no .npy file ({_reason(error)}).") from error
    header = _Header(dtype, shape, fortran, stream.tell())
    if dtype.hasobject:
        raise checks.DataError(
            f"{origin}: holds Python objects, which are never unpickled; save it as numbers."
        )
    if not all(0 <= side < 2**63 for side in shape):
        raise checks.DataError(f"{origin}: its header claims a shape that no array can have.")
    if len(shape) > MOST_DIMENSIONS or header.size == 0:
        raise checks.DataError(
            f"{origin}: holds no data that can be read: its header claims the shape "
            f"{brief(shape)} of {brief(dtype)}; at least 2 data are needed."
        )
    if header.length + header.size != length:
        raise checks.DataError(
            f"{origin}: its header claims {header.size:,} bytes of data, but the file holds "
            f"{length - header.length:,}."
        )
    return header


def _plain(header: _Header) -> bool:
    """Whether a file has the form of data at rest, so that it can be mapped as it is."""
    import numpy as np

    form = header.dtype == np.uint8 or (header.dtype == np.float32 and header.dtype.isnative)
    aligned = header.length % header.dtype.itemsize == 0 if form else False
    return form and aligned and not header.fortran


def _check_sizes(archive: zipfile.ZipFile, members: Iterable[zipfile.ZipInfo], origin: str) -> None:
    """Reads headers only: nothing is unpacked before its size is known to be allowed."""
    total = 0
    for info in members:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise checks.DataError(
                f"{origin}: is packed in a way that NumPy never does; write it with "
                "np.savez_compressed."
            )
        with archive.open(info) as stream:
            inside = f"{origin}: {told(info.filename)}"
            total += _header(stream, inside, info.file_size).size
    if total > MOST_BYTES:
        raise checks.DataError(
            f"{origin}: takes {total:,} bytes unpacked; at most {MOST_BYTES:,} are read into "
            "memory; save the data as a .npy file, which stays on disk."
        )


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    from numpy.lib import format as npy

    with archive.open(info) as stream:
        array: np.ndarray = npy.read_array(stream, allow_pickle=False)
    return array


def _picked(keys: list[str], origin: str) -> tuple[str | None, ...]:
    """Names of the data, labels, test data and test labels among the arrays of a file."""
    for pattern in (*PATTERNS, "{}"):
        data, labels = _one(keys, DATA, pattern, origin), _one(keys, LABELS, pattern, origin)
        if data is None:
            continue
        other = pattern.replace("train", "test")
        if other == pattern or (test := _one(keys, DATA, other, origin)) is None:
            return data, labels, None, None
        test_labels = _one(keys, LABELS, other, origin)
        if (labels is None) != (test_labels is None):
            raise checks.DataError(
                f"{origin}: has labels {labels or test_labels}, but none for its other data; "
                "add them, or leave these out."
            )
        return data, labels, test, test_labels
    if len(keys) == 1:
        return keys[0], None, None, None
    raise checks.DataError(
        f"{origin}: holds the arrays {listed([told(key) for key in keys]) or '(none)'}; call the "
        "data x, or x_train and x_test, and their labels y, or y_train and y_test."
    )


def _one(keys: list[str], words: Sequence[str], pattern: str, origin: str) -> str | None:
    there = [name for word in words if (name := pattern.format(word)) in keys]
    if len(there) > 1:
        raise checks.DataError(
            f"{origin}: holds {' and '.join(there)}, but one of them alone can be read; "
            "leave the other out."
        )
    return there[0] if there else None


def _reason(error: BaseException) -> str:
    return brief(error, 120) or type(error).__name__
