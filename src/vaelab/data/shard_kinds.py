"""The kinds of shards, and how one is looked at and read: `.npy`, `.parquet`, folders of pictures.

A shard is opened through fsspec, so all that lies on a disk, in memory or behind an address is
read alike; nothing is copied to a temporary file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

from vaelab import checks
from vaelab.data import arrays, pictures, tables
from vaelab.data.rows import MOST_BYTES, Rows, brief, numbers

if TYPE_CHECKING:
    import numpy as np

__all__ = ["KINDS", "Arrays", "Form", "Kind", "Pictures", "Place", "Tables", "kind_of"]

SAMPLED = 64 * 1024
"""Bytes at the beginning and at the end of a file that its fingerprint is taken from."""

PIECE = 256
"""Pictures that are fetched at once."""


class Place(NamedTuple):
    """Where a shard lies.

    Attributes:
        fs: Its file system, of fsspec.
        files: Its files there: one, or all its pictures.
        origin: What errors call it.
    """

    fs: Any
    files: tuple[str, ...]
    origin: str


class Form(NamedTuple):
    """What is known of a shard before it is read.

    Attributes:
        rows: How many it has.
        shape: Of one datum.
        dtype: At rest: `uint8` or `float32`.
        columns: What its columns are called, if it is a table.
        digest: SHA-256 over what was looked at.
        notes: What the person should be told.
    """

    rows: int
    shape: tuple[int, ...]
    dtype: np.dtype
    columns: tuple[str, ...]
    digest: str
    notes: tuple[str, ...] = ()


class Kind(Protocol):
    """How shards of a kind are looked at and read."""

    def look(self, place: Place) -> Form:
        """What a shard is, from its header."""

    def classes(self, place: Place) -> list[str]:
        """The different labels in a shard; none where it has no labels."""

    def read(self, place: Place, form: Form, class_names: Sequence[str]) -> Rows:
        """The rows of a shard, which is to have a form, and the numbers of their classes."""


@dataclass(frozen=True)
class Arrays:
    """`.npy` files of one array each."""

    def look(self, place: Place) -> Form:
        """What the header says; see `Kind`."""
        import numpy as np

        with _opened(place) as stream:
            shape, kind = arrays.claimed(stream, place.origin)
            row = numbers(np.zeros((1, *shape[1:]), kind), place.origin)
            return Form(shape[0], row.shape[1:], row.dtype, (), _digest(stream))

    def classes(self, place: Place) -> list[str]:
        """None; see `Kind`."""
        return []

    def read(self, place: Place, form: Form, class_names: Sequence[str]) -> Rows:
        """The array; see `Kind`."""
        with place.fs.open(place.files[0], "rb") as stream:
            return Rows(numbers(arrays.loaded(stream, place.origin), place.origin))


@dataclass(frozen=True)
class Tables:
    """Parquet files: a row a datum, a column a feature.

    Attributes:
        labels: The column that holds labels.
        scale: What the data are divided by.
    """

    labels: str | None = None
    scale: float | None = None

    def look(self, place: Place) -> Form:
        """What the footer says; see `Kind`."""
        import numpy as np

        with _opened(place) as stream:
            count, kinds, notes = tables.columns(stream, place.origin, self.labels)
            bytes_ = self.scale is None and all(kind == np.uint8 for kind in kinds.values())
            dtype = np.dtype(np.uint8 if bytes_ else np.float32)
            return Form(count, (len(kinds),), dtype, tuple(kinds), _digest(stream), notes)

    def classes(self, place: Place) -> list[str]:
        """The different values of the column of labels; see `Kind`."""
        if self.labels is None:
            return []
        with place.fs.open(place.files[0], "rb") as stream:
            return tables.texts(stream, place.origin, self.labels)

    def read(self, place: Place, form: Form, class_names: Sequence[str]) -> Rows:
        """The numbers, and the classes as they are numbered over all shards; see `Kind`."""
        import numpy as np

        with place.fs.open(place.files[0], "rb") as stream:
            found = tables.of_parquet(stream, place.origin, self.labels, self.scale)
        if found.train.y is None:
            return found.train
        unknown = sorted(set(found.class_names) - set(class_names))
        if unknown:
            raise checks.DataError(
                f"{place.origin}: has the label {unknown[0]!r}, which it had not when it was first "
                "looked at; open the shards again."
            )
        place_of = np.array([class_names.index(name) for name in found.class_names], np.int64)
        return Rows(found.train.x, place_of[found.train.y])


@dataclass(frozen=True)
class Pictures:
    """Folders of PNG, JPEG, TIFF, WebP and BMP files, each a picture.

    Attributes:
        size: Height and width that pictures are brought to; `None` where all are alike.
        fit: How: one of `pictures.FITS`.
    """

    size: tuple[int, int] | None = None
    fit: str = "crop"

    def look(self, place: Place) -> Form:
        """What the first picture's header says; see `Kind`."""
        import numpy as np

        first = place.fs.cat_file(place.files[0])
        (seen,) = pictures.look([first])
        if isinstance(seen, str):
            raise _unreadable(place, place.files[0], seen)
        shape = (1 if seen.grey else 3, *(self.size or (seen.height, seen.width)))
        digest = hashlib.sha256(first).hexdigest()
        return Form(len(place.files), shape, np.dtype(np.uint8), (), digest)

    def classes(self, place: Place) -> list[str]:
        """None; see `Kind`."""
        return []

    def read(self, place: Place, form: Form, class_names: Sequence[str]) -> Rows:
        """All pictures in the order of their names; see `Kind`."""
        import numpy as np

        channels, height, width = form.shape
        size = form.rows * channels * height * width
        if size > MOST_BYTES:
            raise checks.DataError(
                f"{place.origin}: takes {size:,} bytes; at most {MOST_BYTES:,} are read at "
                "once; put its pictures into several folders."
            )
        x = np.empty((form.rows, *form.shape), np.uint8)
        for start in range(0, form.rows, PIECE):
            names = place.files[start : start + PIECE]
            contents = [place.fs.cat_file(name) for name in names]
            self._check(place, names, contents, form)
            piece = pictures.decode(contents, channels, (height, width), self.fit)
            for name, reason in zip(names, piece.reasons, strict=True):
                if reason is not None:
                    raise _unreadable(place, name, reason)
            x[start : start + PIECE] = piece.images
        return Rows(x)

    def _check(
        self, place: Place, names: Sequence[str], contents: Sequence[bytes], form: Form
    ) -> None:
        """Refuses a picture that would lose its colours, or that is not as large as the others."""
        channels, height, width = form.shape
        for name, seen in zip(names, pictures.look(contents), strict=True):
            if isinstance(seen, str):
                raise _unreadable(place, name, seen)
            called = PurePosixPath(name).name
            if channels == 1 and not seen.grey:
                raise checks.DataError(
                    f"{place.origin}: {called} is in colour, but the first picture of each shard "
                    "is grey; save all as grey, or the first in colour."
                )
            if self.size is None and (seen.height, seen.width) != (height, width):
                raise checks.DataError(
                    f"{place.origin}: {called} has {seen.height} × {seen.width} pixels, but the "
                    f"first picture has {height} × {width}; give size."
                )


KINDS = {".npy": Arrays, ".parquet": Tables} | dict.fromkeys(pictures.SUFFIXES, Pictures)
"""The kind of shards that files make, by their suffix."""


def kind_of(name: str) -> type[Arrays | Tables | Pictures] | None:
    """The kind of shard that a file belongs to; `None` where it is none, or hidden."""
    path = PurePosixPath(name)
    return None if path.name.startswith((".", "_")) else KINDS.get(path.suffix.lower())


def _opened(place: Place) -> Any:
    """A file of which little is read."""
    return place.fs.open(place.files[0], "rb", block_size=SAMPLED)


def _digest(stream: IO[bytes]) -> str:
    """SHA-256 over the length, the beginning and the end of a file."""
    length = stream.seek(0, os.SEEK_END)
    digest = hashlib.sha256(str(length).encode())
    for start in (0, max(0, length - SAMPLED)):
        stream.seek(start)
        digest.update(stream.read(SAMPLED))
    return digest.hexdigest()


def _unreadable(place: Place, name: str, reason: str) -> checks.DataError:
    return checks.DataError(
        f"{place.origin}: {brief(PurePosixPath(name).name)} cannot be read ({reason}); mend or "
        "remove it."
    )
