"""Hugging Face data sets, in memory or saved to disk, read with their package `datasets`.

One column of images is the data, or one of arrays or lists of numbers, or all columns of numbers
together; one column may hold labels. Which they are is told by their features (`Image`, `Array2D`,
`ClassLabel` and so on) or by name. A data set is read in pieces: images, and numbers that would
take more than `MOST_BYTES`, are converted once into the cache and mapped from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vaelab import checks
from vaelab.data import arrow, cache
from vaelab.data.conversion import convert, write
from vaelab.data.rows import (
    MOST_BYTES,
    Found,
    Rows,
    brief,
    classes,
    likely_labels,
    listed,
    numbers,
    passed_over,
    told,
)

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

    from vaelab.data.download import Progress

__all__ = ["called", "holds", "is_given", "read", "saved"]

VERSION = 1
"""Of what is made of a data set; it is part of the key in the cache."""

TESTS = ("test", "val", "valid", "validation")
"""Splits of test data; the first of these that is there beside `train`."""

PIECE = 2**20
"""How many numbers are read at once."""

PIECE_BYTES, LOOKED_AT = 2**24, 16
"""How much of encoded images is read at once, by the mean size of the first few."""


class _Columns(NamedTuple):
    """The columns that are read: of data, whether they are images, and of labels."""

    data: tuple[str, ...]
    images: bool
    labels: str | None


class _Encoded:
    """The images of a column as files, encoded: what is in them, or where they are."""

    def __init__(self, data: Dataset, column: str) -> None:
        self.data, self.column = data, column

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, rows: slice) -> list[str | bytes]:
        found = _table(self.data, rows, [self.column]).column(0).to_pylist()
        files = [one or {} for one in found]
        return [file.get("bytes") or file.get("path") or b"" for file in files]


def is_given(data: object) -> bool:
    """Whether something is a Hugging Face data set, or several; `datasets` is not imported for it.

    >>> is_given([1.0])
    False
    """
    return any(kind.__module__.partition(".")[0] == "datasets" for kind in type(data).__mro__)


def holds(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    one = ("state.json", "dataset_info.json")
    return (folder / "dataset_dict.json").is_file() or all((folder / n).is_file() for n in one)


def called(data: Any) -> str:
    """A short name of a data set, or of the first of several."""
    one = next(iter(data.values()), None) if isinstance(data, dict) else data
    name = getattr(getattr(one, "info", None), "dataset_name", None)
    return told(name or "dataset")


def saved(folder: Path) -> Any:
    """What `save_to_disk` wrote into a folder, mapped and not read.

    Raises:
        checks.ArgumentError: The package is not installed.
        checks.DataError: The folder is damaged.
    """
    origin = told(folder)
    instead = "save its images as files in a folder"
    checks.needs(origin, "datasets", extra="huggingface", otherwise=instead)
    from datasets import load_from_disk

    try:
        return load_from_disk(str(folder.resolve()))
    except Exception as error:  # it raises anything on damaged files
        raise checks.DataError(
            f"{origin}: is a damaged Hugging Face data set ({brief(error, 120)})."
        ) from error


def read(
    data: Any,
    origin: str,
    *,
    column: str | None = None,
    labels: str | None = None,
    size: tuple[int, int] | None = None,
    fit: str = "crop",
    unreadable: float = 0.01,
    progress: Progress | None = None,
) -> Found:
    """Reads a `Dataset`, or the training and test data of a `DatasetDict`.

    Test data are the split `test`, `val`, `valid` or `validation` beside `train`. A column of
    class labels is taken for labels where there is one, unless another is named. Rows whose label
    is -1 have none, and then no labels are read.

    Arguments:
        data: The data set or sets.
        origin: What messages call them.
        column: The column of data; by default the one of images, else the one of arrays or lists
            of numbers, else all that hold numbers.
        labels: The column of labels.
        size, fit: As for `folders.read`, for images.
        unreadable: Largest share of images that may be passed over as unreadable, which is told.
        progress: Called during a conversion as `progress(what, done, total)`.

    Raises:
        checks.ArgumentError: There is no such column, or `size` is given for no images.
        checks.DataError: Nothing that can be read, rows of different lengths, values that
            `numbers` refuses, too many unreadable images, or the cache cannot be written.
    """
    train, test, notes = _splits(data, origin)
    columns, more = _chosen(train, column, labels, origin)
    if size is not None and not columns.images:
        raise checks.ArgumentError(
            f"size = {size!r}, but {origin} holds numbers, not images; leave it out."
        )
    whole = train if test is None else _joined(train, test, origin)
    reasons: list[str | None] = [None] * len(whole)
    if columns.images:
        image = columns.data[0]
        job = partial(_images, whole, image, size=size, fit=fit, origin=origin, progress=progress)
        key = _key(whole, columns.data, size, fit)
        x, done = cache.kept(key, len(whole), job, origin)
        reasons = done.reasons
        bad = [f"row {k}: {reason}" for k, reason in enumerate(reasons) if reason is not None]
        more += done.notes + passed_over(bad, len(whole), "images", unreadable, origin)
    else:
        x = _numbers(whole, columns.data, origin)
    y, names, odd = _labels(whole, columns.labels, origin)
    count = reasons[: len(train)].count(None)
    parts = [Rows(x[:count]), Rows(x[count:])]
    if y is not None:
        y = y[[reason is None for reason in reasons]]
        parts = [Rows(x[:count], y[:count]), Rows(x[count:], y[count:])]
    return Found(parts[0], None if test is None else parts[1], names, tuple(notes + more + odd))


def _splits(data: Any, origin: str) -> tuple[Any, Any, list[str]]:
    """Training data, test data or `None`, and what is to be told."""
    if not isinstance(data, dict):
        if not hasattr(data, "with_format") or not hasattr(data, "__len__"):
            raise checks.DataError(
                f"{origin}: is a stream, a {type(data).__name__}, of which the rows are not there "
                "yet; load it without streaming=True."
            )
        return data, None, []
    names = list(map(str, data))
    if len(names) == 1:
        return _splits(data[names[0]], origin)
    if "train" not in names:
        raise checks.DataError(
            f"{origin}: has the splits {listed(names)}, but one of them must be called 'train'; "
            "give one alone, or name them so."
        )
    test = next((name for name in TESTS if name in names), None)
    left = [name for name in names if name not in ("train", test)]
    notes = [f"{origin}: not used are its splits {listed(left)}."] if left else []
    train = _splits(data["train"], origin)[0]
    return train, None if test is None else _splits(data[test], origin)[0], notes


def _joined(train: Any, test: Any, origin: str) -> Any:
    """Training data followed by test data."""
    from datasets import concatenate_datasets

    if train.features != test.features:
        raise checks.DataError(
            f"{origin}: its training data have the columns {listed(list(train.features))}, its "
            f"test data {listed(list(test.features))}; they must be alike, in their types too."
        )
    return concatenate_datasets([train, test])


def _chosen(
    data: Any, column: str | None, labels: str | None, origin: str
) -> tuple[_Columns, list[str]]:
    """Which columns are read, and what is to be told of the others."""
    from datasets import ClassLabel, Image

    features = data.features
    for option, name in (("column", column), ("labels", labels)):
        if name is not None:
            checks.choice(option, name, features)
    if labels is None:
        known = [name for name, one in features.items() if isinstance(one, ClassLabel)]
        labels = known[0] if len(known) == 1 and known[0] != column else None
    depth = {field.name: arrow.depth(field.type) for field in data.features.arrow_schema}
    kinds = {
        "images": [name for name, one in features.items() if isinstance(one, Image)],
        "arrays of numbers": [name for name in features if (depth[name] or 0) > 0],
        "numbers": [name for name in features if depth[name] == 0],
    }
    for kind, names in kinds.items():
        found = [name for name in names if name != labels and column in (None, name)]
        if len(found) > 1 and kind != "numbers":
            raise checks.DataError(
                f"{origin}: has the columns of {kind} {listed(found)}; name one: "
                f"column={found[0]!r}."
            )
        if found:
            columns = _Columns(tuple(found), kind == "images", labels)
            return columns, _told(list(features), columns, origin)
    raise checks.DataError(
        f"{origin}: has no column of images or numbers to read among {listed(list(features))}."
    )


def _told(names: Sequence[str], columns: _Columns, origin: str) -> list[str]:
    """What to tell of columns that are not used, or that are read as data but may be labels."""
    left = [name for name in names if name not in (*columns.data, columns.labels)]
    notes = likely_labels(columns.data, origin) if columns.labels is None else []
    if left:
        way = (
            "" if columns.labels is not None else f"; labels={left[0]!r} makes one of them classes"
        )
        notes.append(f"{origin}: not used are its columns {listed(list(map(told, left)))}{way}.")
    return notes


def _table(data: Any, rows: slice, columns: Sequence[str]) -> Any:
    """Rows of some columns as an Arrow table, each of whose offsets was checked."""
    table = data.with_format("arrow", columns=list(columns))[rows].select(list(columns))
    table.validate(full=True)
    return table


def _images(data: Any, column: str, out: Path, **options: Any) -> cache.Converted:
    """Converts a column of images, as many at once as take little memory as they lie there."""
    images = _Encoded(data, column)
    first = [len(one) for one in images[:LOOKED_AT] if isinstance(one, bytes)]
    mean = 1 + sum(first) // max(1, len(first))
    return convert(
        images,
        out,
        weights=[mean] * len(data),
        what="images",
        at_once=max(1, PIECE_BYTES // mean),
        **options,
    )


def _numbers(data: Any, columns: Sequence[str], origin: str) -> np.ndarray:
    """Data in memory, or mapped from the cache where they would take too much of it."""
    import numpy as np

    if len(data) == 0:
        return np.empty((0, 1), np.float32)
    first = _piece(data, 0, 1, columns, origin)
    rows = max(1, PIECE // first[0].size)
    pieces = _pieces(data, rows, first.shape[1:], columns, origin)
    if len(data) * first.nbytes <= MOST_BYTES:
        return np.concatenate(list(pieces))

    def job(out: Path) -> cache.Converted:
        write(out, (len(data), *first.shape[1:]), first.dtype, pieces, origin)
        return cache.Converted([None] * len(data), [])

    return cache.kept(_key(data, columns), len(data), job, origin)[0]


def _pieces(
    data: Any, rows: int, shape: tuple[int, ...], columns: Sequence[str], origin: str
) -> Iterator[np.ndarray]:
    for start in range(0, len(data), rows):
        piece = _piece(data, start, start + rows, columns, origin)
        if piece.shape[1:] != shape:
            raise checks.DataError(
                f"{origin}: row {start} (they count from 0) has shape {piece.shape[1:]}, but row 0 "
                f"has {shape}; make them alike."
            )
        yield piece


def _piece(data: Any, start: int, stop: int, columns: Sequence[str], origin: str) -> np.ndarray:
    """Some rows as an array, in `uint8` if all columns are, else in `float32`."""
    import numpy as np

    table = _table(data, slice(start, stop), columns)
    parts = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        where = f"{origin}: column {brief(name)!r}"
        found = arrow.values(column.combine_chunks(), where, start)
        parts.append(numbers(found if found.ndim > 1 else found[:, None], where, start=start))
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def _labels(
    data: Any, column: str | None, origin: str
) -> tuple[np.ndarray | None, tuple[str, ...], list[str]]:
    """Classes `(N,)`, their names, and what is to be told."""
    import numpy as np
    import pyarrow.compute as pc
    from datasets import ClassLabel

    if column is None:
        return None, (), []
    found = _table(data, slice(None), [column]).column(0).combine_chunks()
    feature = data.features[column]
    if found.null_count:
        row = pc.index(found.is_null(), True).as_py()
        raise checks.DataError(
            f"{origin}: column {brief(column)!r} has no label in row {row} (they count from 0); "
            "fill it, or remove the row."
        )
    values = found.to_numpy(zero_copy_only=False)
    if not isinstance(feature, ClassLabel):
        (y,), names = classes(origin, values.astype(str) if values.dtype == object else values)
        return y, names, []
    missing = int((values < 0).sum())
    if missing:
        line = f"{origin}: {missing:,} of {len(values):,} data have no label; labels are not read."
        return None, (), [line]
    if values.max(initial=0) >= len(feature.names):
        raise checks.DataError(
            f"{origin}: column {brief(column)!r} holds the class {values.max()}, but has only "
            f"{len(feature.names)} names."
        )
    return values.astype(np.int64), tuple(map(told, feature.names)), []


def _key(data: Any, columns: Sequence[str], *form: object) -> str:
    """Two data sets have the same key only if they are the same, and brought to the same form."""
    files = [Path(file["filename"]) for file in data.cache_files]
    there = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    about = (VERSION, "huggingface", data._fingerprint, len(data), list(columns), there, form)
    return hashlib.sha256(repr(about).encode("utf-8", "surrogateescape")).hexdigest()[:32]
