"""Data that no machine holds: shards in a folder, on this machine or behind an address.

A shard is read whole, when it is wanted, and kept nowhere. What lies where is known from names and
headers alone.
"""

from __future__ import annotations

import copy
import hashlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from vaelab import checks
from vaelab.data.pictures import FITS, sides
from vaelab.data.remote import MAGIC, file_system, listing, persistent
from vaelab.data.rows import Rows, brief, listed, numbered, told
from vaelab.data.shard_kinds import Arrays, Form, Kind, Pictures, Place, Tables, kind_of

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ShardError", "Shards", "called", "meant", "shards"]

LOOKERS = 8
"""Threads that look at headers: most of their time they wait."""

FILES = (".npy", ".parquet")
KINDS = ".npy or .parquet files, or folders of pictures"

T = TypeVar("T")


class ShardError(checks.DataError):
    """A shard cannot be read now, though it could be looked at: its message names it."""


class Shards:
    """Data in shards, none of which is in memory; made by `shards`.

    Attributes:
        name: A short name of the data.
        location: Where they are, as it was given.
        names: The shards, as paths below the location, `/` between their parts, sorted.
        counts: Rows of each shard, from its header.
        shape: Shape of one datum: `(C, H, W)` or `(D,)`.
        dtype: Type at rest: `uint8` or `float32`.
        class_names: What class `k` is called, at position `k`; empty where there are no labels.
        loaded: The keywords with which `shards` gives these data again, plain values;
            `storage_options`, which may be secret, are not among them.
        chosen: Which of the shards that `loaded` gives these are, by their places; `None` for all.
    """

    def __init__(
        self, location: str, kind: Kind, places: Mapping[str, Place], sizes: Mapping[str, object]
    ) -> None:
        self.location, self._kind = location, kind
        self.name = called(location)
        self.names = tuple(sorted(places))
        self._places = [places[name] for name in self.names]
        self.loaded: Mapping[str, Any] = {}
        self.chosen: tuple[int, ...] | None = None
        with ThreadPoolExecutor(LOOKERS) as pool:
            forms = _alike(self.names, pool.map(self._looked, range(len(self.names))), self)
            labels = [x for found in pool.map(self._classes, range(len(self.names))) for x in found]
        if isinstance(kind, Pictures):
            forms = _coloured(forms)
        self._sizes = [sizes[name] for name in self.names]
        first = forms[0]
        for name, form in zip(self.names, forms, strict=True):
            if (form.shape, form.dtype) != (first.shape, first.dtype):
                raise checks.DataError(
                    f"{self._origin(name)}: holds data of shape {form.shape} in {form.dtype}, but "
                    f"{told(self.names[0])} of {first.shape} in {first.dtype}; all must be alike."
                )
        self._forms = forms
        self.counts = tuple(form.rows for form in forms)
        self.shape, self.dtype = tuple(first.shape), first.dtype
        self.class_names = numbered(sorted(set(labels)))[1]

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over names, sizes, and the first and last 64 KiB of each shard
        (of pictures, all names and sizes, and the first picture), and how they are read.

        Times of change are not in it, so that a shard can be mended.
        """
        lines = [repr(self._kind)]
        for name, size, form in zip(self.names, self._sizes, self._forms, strict=True):
            lines.append(f"{name}\0{size}\0{form.digest}")
        return hashlib.sha256(os.fsencode("\0".join(lines))).hexdigest()

    def split(self, fraction: float = 0.1, seed: int = 0) -> tuple[Shards, Shards]:
        """Training and test data: whole shards are drawn from the seed for the test.

        Where data were sorted before they were cut into shards, by class say, so are the test data
        other than the training data: shuffle before, or give test data of your own.

        Arguments:
            fraction: Share of the shards that are for the test, in (0, 0.9]; at least one is.
            seed: Of the draw.

        Raises:
            checks.DataError: There is only one shard.
        """
        import numpy as np

        count = len(self.names)
        if count < 2:
            raise checks.DataError(
                f"{told(self.location)}: holds 1 shard, but at least 2 are needed: one to train "
                "on, one to test on."
            )
        share = checks.number("test_fraction", fraction, above=0, most=0.9)
        tested = min(max(1, round(share * count)), count - 1)
        order = np.random.RandomState(checks.seed(seed)).permutation(count).tolist()
        return self.some(sorted(order[tested:])), self.some(sorted(order[:tested]))

    def some(self, wanted: Sequence[int]) -> Shards:
        """Some of the shards, with the classes of all.

        Arguments:
            wanted: Their places in `names`.
        """
        part = copy.copy(self)
        part.chosen = tuple(wanted if self.chosen is None else (self.chosen[k] for k in wanted))
        part.names = tuple(self.names[k] for k in wanted)
        part.counts = tuple(self.counts[k] for k in wanted)
        part._places = [self._places[k] for k in wanted]
        part._forms = [self._forms[k] for k in wanted]
        part._sizes = [self._sizes[k] for k in wanted]
        return part

    def __len__(self) -> int:
        """The number of data, in all shards."""
        return sum(self.counts)

    def __repr__(self) -> str:
        return (
            f"Shards({self.location!r}): {len(self):,} data of shape {self.shape} in {self.dtype}, "
            f"in {len(self.names):,} shards"
        )

    def read(self, k: int) -> np.ndarray:
        """The data of shard `k`, `(counts[k], *shape)`, in `dtype`; see `rows`."""
        return self.rows(k).x

    def rows(self, k: int) -> Rows:
        """The data of shard `k`, and the number of the class of each, if there are labels.

        What fails is tried again after half a second, and after two more.

        Arguments:
            k: Which shard, in [0, len(names)).

        Returns:
            `x`, `(counts[k], *shape)` in `dtype`; and `y`, `(counts[k],)` in `int64`, or `None`.

        Raises:
            checks.ArgumentError: There is no such shard.
            ShardError: It cannot be read, is damaged, or is not what it was when the shards were
                opened.
        """
        checks.integer("k", k, least=0, most=len(self.names) - 1)
        form = self._forms[k]

        def read(place: Place) -> Rows:
            return self._kind.read(place, form, self.class_names)

        rows = self._tried(k, read)
        if (rows.x.shape, rows.x.dtype) != ((form.rows, *self.shape), self.dtype):
            raise ShardError(
                f"{self._origin(self.names[k])}: holds {len(rows.x):,} data of shape "
                f"{rows.x.shape[1:]} in {rows.x.dtype}, but held {form.rows:,} of {self.shape} in "
                f"{self.dtype} when it was first looked at; put the old one back."
            )
        return rows

    def _looked(self, k: int) -> Form:
        return self._tried(k, self._kind.look)

    def _classes(self, k: int) -> list[str]:
        return self._tried(k, self._kind.classes)

    def _tried(self, k: int, job: Callable[[Place], T]) -> T:
        """What a job gives for a shard; should it fail, it is tried again."""
        place = self._places[k]
        try:
            return persistent(place.fs, lambda: job(place), place.origin)
        except checks.DataError as error:
            raise ShardError(str(error)) from error

    def _origin(self, name: str) -> str:
        """What errors call a shard."""
        return told(f"{self.location}: shard {name}")


def shards(
    location: str | os.PathLike[str],
    *,
    labels: str | None = None,
    scale: float | None = None,
    size: int | tuple[int, int] | None = None,
    fit: str = "crop",
    storage_options: Mapping[str, Any] | None = None,
) -> Shards:
    """Opens data that lie in shards, of which each is read only when it is wanted.

    A shard is a `.npy` file, a `.parquet` file (a row a datum, a column a feature; this needs the
    package pyarrow), or a folder of pictures. All shards are of one kind, and their data of one
    shape and type, as `vaelab.data.load` has them at rest: `uint8` stays so, whatever else becomes
    `float32`; images are `(C, H, W)`. Files whose names, or folders, begin with `.` or `_`, and
    those of other kinds, are passed over.

    Of each shard the header is read now, and its first and last 64 KiB; with `labels`, their
    column too. A shard takes at most 2 GiB of memory when it is read.

    Arguments:
        location: A folder whose files, at any depth, are the shards, or one such file: a path, or
            an address that fsspec knows: `"s3://bucket/faces"`, `"memory://faces"`. In the last
            part of an address, or more, `*`, `?`, `[...]` and `**` make a pattern:
            `"s3://bucket/faces/train-*.parquet"`. See
            https://filesystem-spec.readthedocs.io/en/latest/api.html
        labels: The column of Parquet files that holds labels, numbers or text.
        scale: What the data of Parquet files, grey levels from 0 to `scale`, are divided by.
        size: Height and width, or both in one number, that pictures are brought to; without it,
            all must have the size of the first.
        fit: How: `"crop"`, `"pad"` or `"stretch"`, see `vaelab.data.load`. Pictures are grey if the
            first of each shard is, else RGB.
        storage_options: What the file system needs, by its names for it: `{"anon": True}` for S3,
            say.

    Raises:
        checks.ArgumentError: An option that is not allowed, or means nothing for these shards; or
            no such kind of address, or its package is not installed.
        checks.DataError: There are no shards, one cannot be read, or one differs from the others,
            which is named.

    >>> import fsspec, numpy as np
    >>> for k in range(3):
    ...     with fsspec.open(f"memory://numbers/{k}.npy", "wb") as file:
    ...         np.save(file, np.full((4, 2), k, np.float32))
    >>> numbers = shards("memory://numbers")
    >>> numbers
    Shards('memory://numbers'): 12 data of shape (2,) in float32, in 3 shards
    >>> numbers.names, numbers.counts, numbers.read(2)[0]
    (('0.npy', '1.npy', '2.npy'), (4, 4, 4), array([2., 2.], dtype=float32))
    """
    text = os.fspath(location)
    options = {"labels": labels, "scale": scale, "size": sides(size), "fit": fit}
    checks.choice("fit", fit, FITS)
    if scale is not None:
        checks.number("scale", scale, above=0)
    fs, path = file_system(text, storage_options or {})
    root, files = persistent(fs, lambda: listing(fs, path), told(text))
    kind, groups = _grouped(root, files, told(text))
    places, sizes = {}, {}
    for name, members in groups.items():
        places[name] = Place(fs, tuple(members), told(f"{text}: shard {name}"))
        sizes[name] = [(PurePosixPath(file).name, files[file].get("size")) for file in members]
    opened = Shards(text, _kind(kind, options, told(text)), places, sizes)
    usual = {"labels": None, "scale": None, "size": None, "fit": "crop"}
    given = {name: value for name, value in options.items() if value != usual[name]}
    where = text if "://" in text else str(PurePosixPath(path))
    opened.loaded = {"location": where, **given}
    return opened


def meant(name: str) -> bool:
    """Whether shards are meant by a name: an address, or a local folder that directly holds `.npy`
    or `.parquet` files, and nothing else but hidden files.

    >>> meant("s3://bucket/faces"), meant("./faces.npy")
    (True, False)
    """
    if "://" in name:
        return True
    try:
        found = [
            path
            for path in Path(name).expanduser().iterdir()
            if not path.name.startswith((".", "_"))
        ]
        return bool(found) and all(
            path.suffix.lower() in FILES and path.is_file() for path in found
        )
    except (OSError, RuntimeError):  # no folder, or one that cannot be listed; or no such user
        return False


def called(location: str) -> str:
    """A short name: the last part of a location that is no pattern, without its suffix.

    >>> called("s3://bucket/faces/*.npy")
    'faces'
    """
    parts = [part for part in location.split("://")[-1].split("/") if part not in ("", ".", "..")]
    plain = [part for part in parts if not MAGIC.search(part)]
    short = plain[-1] if plain else "data"
    return told(PurePosixPath(short).stem if kind_of(short) else short) or "data"


def _grouped(
    root: str, files: Mapping[str, object], origin: str
) -> tuple[type[Arrays | Tables | Pictures], dict[str, list[str]]]:
    """Which files make each shard, and what kind they all are."""
    groups: dict[str, list[str]] = {}
    kinds: dict[type[Arrays | Tables | Pictures], str] = {}
    for path in sorted(files):
        name = path.removeprefix(root).lstrip("/")
        kind = kind_of(name)
        if kind is None or any(part.startswith((".", "_")) for part in name.split("/")):
            continue
        kinds.setdefault(kind, name)
        shard = name if kind is not Pictures else str(PurePosixPath(name).parent)
        groups.setdefault(shard, []).append(path)
    if not groups:
        raise checks.DataError(f"{origin}: holds no shards; {KINDS} are needed.")
    if len(kinds) > 1:
        raise checks.DataError(
            f"{origin}: holds {listed([told(name) for name in kinds.values()])}, but all shards "
            f"must be of one kind: {KINDS}; give a pattern, such as '*.npy'."
        )
    return next(iter(kinds)), groups


def _kind(kind: type[Arrays | Tables | Pictures], options: Mapping[str, Any], origin: str) -> Kind:
    """How shards are read; refuses options that mean nothing for them."""
    for names, wanted, what in (
        (("labels", "scale"), Tables, "tables with named columns"),
        (("size",), Pictures, "folders of pictures"),
    ):
        for name in names:
            if options[name] is not None and kind is not wanted:
                raise checks.ArgumentError(
                    f"{name} = {options[name]!r}, but the shards of {origin} are no {what}; leave "
                    "it out."
                )
    if kind is Tables:
        return Tables(options["labels"], options["scale"])
    return Pictures(options["size"], options["fit"]) if kind is Pictures else Arrays()


def _alike(names: Sequence[str], looks: Any, opened: Shards) -> list[Form]:
    """The forms of all shards, without the names of columns, which must be the same in all."""
    forms: list[Form] = []
    columns: tuple[str, ...] = ()
    for name, form in zip(names, looks, strict=True):
        if not forms:
            columns = form.columns
            for note in form.notes:
                warnings.warn(note, checks.VaelabWarning, stacklevel=4)
        elif form.columns != columns:
            odd = sorted(set(form.columns) ^ set(columns)) or ["their order"]
            raise checks.DataError(
                f"{told(opened.location)}: shard {told(name)} has other columns than "
                f"{told(names[0])} ({listed([brief(one) for one in odd])}); all must be alike."
            )
        forms.append(form._replace(columns=(), notes=()))
    return forms


def _coloured(forms: Sequence[Form]) -> list[Form]:
    """Forms of pictures: grey if all are, else RGB."""
    channels = max(form.shape[0] for form in forms)
    return [form._replace(shape=(channels, *form.shape[1:])) for form in forms]
