"""What was converted once and is then mapped: arrays on disk, each in a folder of its own.

The cache is `folders/<key>` below `root()`: `images.npy`, the data that could be read, and
`meta.json`, what they are of and which could not be read. What is in a key is decided by the
reader, so that other data never have the same. Beside it, `computed/<name>` holds what is long in
the computing. `clean` removes what is there; anyone else may too, at any time: it is then converted
or computed again.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vaelab import checks, files
from vaelab.data import arrays
from vaelab.data.rows import told

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ARRAY", "Cached", "Converted", "clean", "computed", "converted", "kept", "root"]

ARRAY, META = "images.npy", "meta.json"
COMPUTED = "computed"


class Converted(NamedTuple):
    """What became of the data: a reason for each that could not be read; what is to be told."""

    reasons: list[str | None]
    notes: list[str]


@dataclass(frozen=True)
class Cached:
    """Data in the cache.

    Attributes:
        source: What they were converted from.
        size: Bytes on the disk.
        path: The folder or file in the cache.
    """

    source: str
    size: int
    path: Path


def root() -> Path:
    """Where vaelab keeps what can be had again: `$VAELAB_CACHE`, or the user's cache."""
    folder = os.environ.get("VAELAB_CACHE")
    if not folder:
        import pooch

        folder = pooch.os_cache("vaelab")
    return Path(folder).expanduser()


def kept(
    key: str, count: int, job: Callable[[Path], Converted], source: str
) -> tuple[np.ndarray, Converted]:
    """The data of a key as a memory map, converted if they are not there yet.

    Arguments:
        key: What tells these data from all others, as a name of a folder.
        count: How many data there are, those that cannot be read included.
        job: Writes all that can be read to a `.npy` file, and says what became of each.
        source: What they are converted from, for those who look into the cache.

    Raises:
        checks.DataError: The cache cannot be written, or was removed meanwhile; or as `job` does.
    """
    folder = root() / "folders" / key
    known = _opened(folder, count)
    if known is not None:
        return known
    try:
        _fill(folder, count, job, source)
    except OSError as error:
        raise checks.DataError(
            f"{told(folder)}: cannot be written ({error.strerror or error}); "
            "set VAELAB_CACHE to a folder that can."
        ) from error
    known = _opened(folder, count)
    if known is None:
        raise checks.DataError(f"{told(folder)}: was removed or damaged just now; try again.")
    return known


def _fill(folder: Path, count: int, job: Callable[[Path], Converted], source: str) -> None:
    """Converts into a folder of its own, which then gets its name: whole, or not at all."""
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_lock(folder)):
        if _opened(folder, count) is not None:  # by another process, meanwhile
            return
        _remove_parts(folder)
        part = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.part"
        part.mkdir()
        try:
            done = job(part / ARRAY)
            bad = {str(k): reason for k, reason in enumerate(done.reasons) if reason is not None}
            meta = {"unreadable": bad, "notes": done.notes, "source": source}
            files.write_json(part / META, meta)
            shutil.rmtree(folder, ignore_errors=True)  # damaged, or it would have been opened
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _lock(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.lock"


def _remove_parts(folder: Path) -> None:
    """Removes what a process that was killed left of the same data."""
    for left in folder.parent.glob(f".{folder.name}.*.part"):
        shutil.rmtree(left, ignore_errors=True)


def _opened(folder: Path, count: int) -> tuple[np.ndarray, Converted] | None:
    """`count` data as a memory map, or `None` if they are not there, whole."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        reasons = [meta["unreadable"].get(str(k)) for k in range(count)]
        done = Converted(reasons, [str(note) for note in meta["notes"]])
        data = arrays.mapped(folder / ARRAY)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    usual = data.dtype in ("uint8", "float32") and data.ndim in (2, 4)
    return (data, done) if usual and len(data) == reasons.count(None) else None


def computed(name: str, compute: Callable[[], bytes], whole: Callable[[bytes], bool]) -> bytes:
    """The content of a file of the cache that holds what is long in the computing.

    One process computes it while others that want it wait. A cache that cannot be written is told
    in a `VaelabWarning`.

    Arguments:
        name: Name of the file: what tells this content from all other.
        compute: Gives the content.
        whole: Whether a content is whole; what is not is computed again.
    """
    from filelock import FileLock

    path = root() / COMPUTED / name
    lock = FileLock(_lock(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        _tell_unkept(path, error)
        return compute()
    with lock:
        content = path.read_bytes() if path.is_file() else b""
        if content and whole(content):
            return content
        content = compute()
        try:
            files.write_atomically(path, content)
        except OSError as error:
            _tell_unkept(path, error)
        return content


def _tell_unkept(path: Path, error: OSError) -> None:
    warnings.warn(
        f"{told(path.parent)}: cannot be written ({error.strerror or error}), so what was computed "
        "is not kept; set VAELAB_CACHE to a folder that can.",
        checks.VaelabWarning,
        stacklevel=4,
    )


def converted() -> list[Cached]:
    """What the cache holds of one's own data, and what was computed of any, the largest first.

    >>> all(one.size >= 0 for one in converted())
    True
    """
    found = []
    for folder in (root() / "folders").glob("[!.]*"):
        if folder.is_dir():
            size = sum(path.stat().st_size for path in folder.iterdir())
            found.append(Cached(_source(folder), size, folder))
    for path in (root() / COMPUTED).glob("[!.]*"):
        what, _, _ = path.stem.rpartition("-")
        found.append(Cached(f"data: {what.replace('-', ' ')}", path.stat().st_size, path))
    return sorted(found, key=lambda one: (-one.size, one.source, one.path.name))


def _source(folder: Path) -> str:
    try:
        return told(str(json.loads((folder / META).read_text(encoding="utf-8"))["source"]))
    except (OSError, ValueError, LookupError, TypeError):
        return "of an older version, or damaged"


def clean() -> list[Cached]:
    """Removes all that `converted` tells, and what killed processes left; returns what it was.

    What another process converts at this moment stays. One that has data open keeps them until it
    ends, where the system allows that, as Linux and macOS do.

    Raises:
        OSError: A folder or file cannot be removed.
    """
    from filelock import FileLock, Timeout

    removed = []
    for one in converted():
        try:
            with FileLock(_lock(one.path), timeout=0):
                _remove_parts(one.path)
                if one.path.is_dir():
                    shutil.rmtree(one.path)
                else:
                    one.path.unlink()
                removed.append(one)
        except Timeout:
            continue
    return removed
