"""A person's own data: which reader for which path, and the split into training and test data."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaelab import checks
from vaelab.data import arrays, folders, huggingface, idx, tables
from vaelab.data.pictures import FITS, sides
from vaelab.data.rows import Found, Rows, brief, told
from vaelab.data.shards import meant
from vaelab.records import Dataset

if TYPE_CHECKING:
    import numpy as np

    from vaelab.data.download import Progress

__all__ = ["Options", "called", "is_path", "load"]

SPLIT_BYTES = 512 * 2**20
"""The most memory that a split may take of data that are larger."""

PAGE = 4096
"""What a row that is moved within a memory map takes at least."""

TABLES: dict[str, Callable[[Path, str | None, float | None], Found]] = {
    ".csv": tables.read_csv,
    ".parquet": tables.read_parquet,
}
FILES: dict[str, Callable[[Path], Found]] = {
    ".npy": arrays.read_npy,
    ".npz": arrays.read_npz,
    ".idx": idx.read_file,
}
"""Readers by the suffix of a file; those of tables take a column of labels and a scale."""


@dataclass(frozen=True)
class Options:
    """How a person's own data are read; see `vaelab.data.load`."""

    test_fraction: float = 0.1
    seed: int = 0
    size: int | tuple[int, int] | None = None
    fit: str = "crop"
    labels: str | None = None
    unreadable: float = 0.01
    column: str | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        checks.number("test_fraction", self.test_fraction, above=0, most=0.9)
        checks.seed(self.seed)
        checks.choice("fit", self.fit, FITS)
        checks.number("unreadable", self.unreadable, least=0, most=1)
        if self.scale is not None:
            checks.number("scale", self.scale, above=0)
        for option, name in (("labels", self.labels), ("column", self.column)):
            if name is not None and not isinstance(name, str):
                raise checks.ArgumentError(f"{option} = {name!r}, but it must be a column's name.")
        sides(self.size)


def is_path(name: str) -> bool:
    """Whether data are meant by a path: it exists, has a separator, or ends as a data file does.

    >>> is_path("faces/"), is_path("digits.npy"), is_path("mnist")
    (True, True, False)
    """
    separated = "/" in name or os.sep in name
    return separated or os.path.exists(name) or _kind_of_file(name) is not None  # noqa: PTH110


def called(name: str) -> str:
    """A short name of the data of a path, without the folders above and the suffix.

    >>> called("../pets/faces/"), called("digits.npy")
    ('faces', 'digits')
    """
    path = Path(name).expanduser().resolve()
    whole = path.is_dir() or _kind_of_file(path.name) is None
    short = path.name if whole else Path(path.name.removesuffix(".gz")).stem
    return told(short) or "data"


def load(
    name: Any, options: Options, progress: Progress | None = None
) -> tuple[Dataset, Dataset, tuple[str, ...]]:
    """Reads a person's own data, by their path, or a Hugging Face data set.

    Returns:
        The training and the test data, and what the person should be told, a line each.

    Raises:
        checks.ArgumentError: An option that means nothing for this source.
        checks.DataError: There is no such file, none that is known, or its reader refuses it.
    """
    if huggingface.is_given(name):
        short = origin = huggingface.called(name)
        place = "memory"
        found = _huggingface(name, origin, options, progress)
    else:
        found, place = _of_path(name, options, progress)
        short, origin = called(name), told(Path(name).expanduser())
    train, test, notes = found.train, found.test, found.notes
    for rows in (train, test):
        if rows is not None and rows.y is not None and len(rows.y) != len(rows.x):
            raise checks.DataError(
                f"{origin}: has {len(rows.y):,} labels for {len(rows.x):,} data; there must be one "
                "for each datum."
            )
    if test is None:
        train, test, told_split = split(train, options.test_fraction, options.seed, origin)
        notes += told_split
    _check_alike(train.x, test.x, origin)

    def record(rows: Rows, part: str) -> Dataset:
        return Dataset(rows.x, rows.y, short, part, place, "", found.class_names)

    return record(train, "train"), record(test, "test"), notes


def _of_path(name: str, options: Options, progress: Progress | None) -> tuple[Found, str]:
    """What a path holds, and the whole path."""
    if meant(name):
        raise checks.DataError(
            f"{told(name)}: is data in shards, which are not loaded into memory; train or encode "
            "them, or open them in Python with vaelab.data.shards."
        )
    try:
        path = Path(name).expanduser()
        return _reader(path, options, progress)(), told(path.resolve())
    except OSError as error:
        where, why = error.filename or name, error.strerror or error
        raise checks.DataError(f"{told(where)}: cannot be read ({why}).") from error
    except RuntimeError as error:  # of pathlib: there is no such user
        raise checks.DataError(f"{told(name)}: cannot be read ({brief(error)}).") from error


def _huggingface(data: Any, origin: str, options: Options, progress: Progress | None) -> Found:
    if options.scale is not None:
        raise _needless("scale", options.scale, f"{origin} is no table")
    return huggingface.read(
        data,
        origin,
        column=options.column,
        labels=options.labels,
        size=sides(options.size),
        fit=options.fit,
        unreadable=options.unreadable,
        progress=progress,
    )


def _needless(option: str, value: object, why: str) -> checks.ArgumentError:
    return checks.ArgumentError(f"{option} = {value!r}, but {why}; leave it out.")


def split(
    rows: Rows, fraction: float, seed: int, origin: str
) -> tuple[Rows, Rows, tuple[str, ...]]:
    """Takes a random sample out of the data, for the test; `rows.x` and `rows.y` are changed.

    The test rows are copied, in their order. The last training rows are then put into the gaps
    among the first, so that what is left lies in one piece: nothing else is moved or read, and of
    a memory map all but the changed pages stay on disk. The same numbers are split alike whatever
    file they come from. Data beyond `SPLIT_BYTES` have fewer test rows if they would take more.

    Arguments:
        rows: N data and their labels, in memory that may be written to.
        fraction: Share of the test data, in (0, 1); at least one row is in each part.
        seed: Of the sample.
        origin: What messages call the data.

    Returns:
        Training data, test data, and what is to be told.

    Raises:
        checks.DataError: There are fewer than 2 rows.

    >>> import numpy as np
    >>> train, test, _ = split(Rows(np.arange(6)[:, None]), 0.34, 0, "numbers")
    >>> test.x.ravel(), train.x.ravel()
    (array([2, 5]), array([0, 1, 4, 3]))
    """
    import numpy as np

    x, y = rows
    if len(x) < 2:
        raise checks.DataError(
            f"{origin}: holds {len(x)} data, but at least 2 are needed: one to train on, one to "
            "test on."
        )
    wanted = min(max(1, round(fraction * len(x))), len(x) - 1)
    count = wanted
    notes: tuple[str, ...] = ()
    if wanted * (x[0].nbytes + PAGE) > SPLIT_BYTES < x.nbytes:
        count = max(1, SPLIT_BYTES // (x[0].nbytes + PAGE))
        line = f"{origin}: the test data are {count:,} rows, not {wanted:,}, to save memory."
        notes = (line,)
    # The stream of RandomState is frozen; that of default_rng may change with NumPy (NEP 19).
    tested = np.sort(np.random.RandomState(seed).permutation(len(x))[:count])
    left = len(x) - count
    gaps = tested[tested < left]
    fillers = np.setdiff1d(np.arange(left, len(x)), tested, assume_unique=True)

    def divided(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        test = array[tested]
        array[gaps] = array[fillers]
        return array[:left], test

    train_x, test_x = divided(x)
    train_y, test_y = (None, None) if y is None else divided(y)
    return Rows(train_x, train_y), Rows(test_x, test_y), notes


def _reader(path: Path, options: Options, progress: Progress | None) -> Callable[[], Found]:
    """What is to be called for the data of a path; refuses options that mean nothing for it."""
    origin = told(path)
    if not path.exists():
        raise checks.DataError(f"{origin}: there is no such file or folder.")
    kind = "folder" if path.is_dir() else _kind_of_file(path.name)
    if kind is None or not (path.is_dir() or path.is_file()):
        raise checks.DataError(
            f"{origin}: is not known by its suffix; a folder of images, or a file that ends in "
            f"{', '.join((*FILES, *TABLES))} or -ubyte can be read."
        )
    if kind == "folder" and huggingface.holds(path):
        return lambda: _huggingface(huggingface.saved(path), origin, options, progress)
    images = kind == "folder" and not idx.holds(path)
    if options.size is not None and not images:
        raise _needless("size", options.size, f"{origin} is no folder of images")
    if options.column is not None:
        raise _needless("column", options.column, f"{origin} is no Hugging Face data set")
    for option, value in (("labels", options.labels), ("scale", options.scale)):
        if value is not None and kind not in TABLES:
            raise _needless(option, value, f"{origin} is no table with named columns")
    if images:
        return partial(
            folders.read,
            path,
            size=sides(options.size),
            fit=options.fit,
            unreadable=options.unreadable,
            progress=progress,
        )
    if kind in TABLES:
        return partial(TABLES[kind], path, options.labels, options.scale)
    return partial({**FILES, "folder": idx.read_folder}[kind], path)


def _check_alike(train: np.ndarray, test: np.ndarray, origin: str) -> None:
    """Refuses parts that differ in form, or an empty one."""
    forms = [f"{part.shape[1:]} in {part.dtype}" for part in (train, test)]
    if forms[0] != forms[1]:
        raise checks.DataError(
            f"{origin}: its training data have shape {forms[0]}, its test data {forms[1]}; they "
            "must be alike."
        )
    if not len(train) or not len(test):
        raise checks.DataError(
            f"{origin}: holds {len(train):,} training and {len(test):,} test data, but at least 1 "
            "of each is needed."
        )


def _kind_of_file(name: str) -> str | None:
    if idx.is_named(name):
        return ".idx"
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a name need be no path
    return suffix if suffix in FILES or suffix in TABLES else None
