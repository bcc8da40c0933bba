"""Folders of images: their sub-folders are the labels; converted once, then mapped from a cache.

The key in the cache is a SHA-256 over the folder's path; the relative path, size and time of change
of every image file; and what the images are brought to. So a folder that has changed is converted
anew.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vaelab import checks
from vaelab.data import cache
from vaelab.data.cache import Converted
from vaelab.data.conversion import convert
from vaelab.data.pictures import SUFFIXES
from vaelab.data.rows import Found, Rows, classes, listed, passed_over, told

if TYPE_CHECKING:
    import numpy as np

    from vaelab.data.download import Progress

__all__ = ["read"]

VERSION = 1
"""Of the cache's content; it is part of the key."""

TESTS = ("test", "val", "valid", "validation")
"""Sub-folders of test data beside `train`; the first of these that is there."""


class _File(NamedTuple):
    """An image file: its path below the folder, in parts; bytes, and time of change in ns."""

    parts: tuple[str, ...]
    size: int
    changed: int


class _Placed(NamedTuple):
    """An image file, its split and its label, the name of its sub-folder."""

    file: _File
    test: bool
    label: str | None


def read(
    folder: Path,
    *,
    size: tuple[int, int] | None = None,
    fit: str = "crop",
    unreadable: float = 0.01,
    progress: Progress | None = None,
) -> Found:
    """Reads a folder of PNG, JPEG, TIFF, WebP and BMP images.

    Either it holds images and nothing else: they have no labels. Or its sub-folders are classes,
    and all images at any depth below have their label; a single sub-folder is no label. Or it has
    a sub-folder `train`, and perhaps one of test data, each of which is as above; no other
    sub-folders but `test`, `val`, `valid` and `validation` may then hold images. Hidden files and
    files that are no images by their suffix are passed over; links are followed, each folder once.

    Images are grey, `(1, H, W)`, if all files are, else RGB, `(3, H, W)`; WebP files are always
    RGB. See `pictures` for what becomes of each, `conversion` for the size.

    Arguments:
        folder: The folder.
        size: Height and width that images are brought to.
        fit: How: one of `pictures.FITS`.
        unreadable: Largest share of image files that may be passed over as unreadable, which is
            told.
        progress: Called during a conversion as `progress(what, done, total)`, in bytes.

    Raises:
        checks.DataError: No images, images beside classes, too many unreadable ones, or the cache
            cannot be written.
        OSError: A folder cannot be listed.
    """
    origin = told(folder)
    found, others = _listing(folder)
    if not found:
        raise checks.DataError(
            f"{origin}: holds no image ({', '.join(SUFFIXES)}), but {others:,} other files."
        )
    placed, notes = _placed(found, origin)
    images, converted = _converted(folder, placed, size, fit, progress)
    notes += converted.notes + _unreadable(placed, converted.reasons, unreadable, origin)
    reasons = converted.reasons
    kept = [one for one, reason in zip(placed, reasons, strict=True) if reason is None]
    labels, names = _labels(kept, origin)
    train = sum(not one.test for one in kept)
    y, test_y = (None, None) if labels is None else (labels[:train], labels[train:])
    tested = any(one.test for one in placed)
    test = Rows(images[train:], test_y) if tested else None
    return Found(Rows(images[:train], y), test, names, tuple(notes))


def _listing(root: Path) -> tuple[list[_File], int]:
    """All image files below a folder, in the order of their paths, and the number of others."""
    found: list[_File] = []
    others = 0
    seen: set[tuple[int, int]] = set()
    todo: list[tuple[str, tuple[str, ...]]] = [(str(root), ())]
    while todo:
        path, parts = todo.pop()
        here = Path(path).stat()
        if (here.st_dev, here.st_ino) in seen:  # a link led back
            continue
        seen.add((here.st_dev, here.st_ino))
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                inner = (*parts, entry.name)
                if entry.name.startswith("."):
                    others += 1
                elif _is_folder(entry):
                    todo.append((entry.path, inner))
                elif (file := _image_file(entry, inner)) is not None:
                    found.append(file)
                else:
                    others += 1
    return sorted(found), others


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _image_file(entry: os.DirEntry[str], parts: tuple[str, ...]) -> _File | None:
    """An image file by its suffix; a link that leads nowhere is one too, which cannot be read."""
    if not entry.name.lower().endswith(SUFFIXES):
        return None
    try:
        status = entry.stat()
    except OSError:
        return _File(parts, 0, 0)
    return (
        _File(parts, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None
    )


def _placed(found: Sequence[_File], origin: str) -> tuple[list[_Placed], list[str]]:
    """The split and label of each file that is used, training data first, and what is to tell."""
    tops = {one.parts[0] for one in found if len(one.parts) > 1}
    if not ("train" in tops and tops <= {"train", *TESTS}):
        return _labelled(found, 0, test=False, origin=origin), []
    _check_alike([one.parts[0] in tops for one in found], found, origin)
    test = next((name for name in TESTS if name in tops), None)
    placed = [
        placed
        for name in ("train", test)
        for placed in _labelled(
            [one for one in found if one.parts[0] == name],
            1,
            test=name == test,
            origin=f"{origin}/{name}",
        )
    ]
    if len({one.label is None for one in placed}) > 1:
        raise checks.DataError(
            f"{origin}: of train and {test}, one has sub-folders and the other has none; both must "
            "have the same classes, or none."
        )
    left = sorted(tops - {"train", test})
    notes = [f"{origin}: not used are its sub-folders {listed(left)}."] if left else []
    return placed, notes


def _labelled(found: Sequence[_File], depth: int, *, test: bool, origin: str) -> list[_Placed]:
    """Files with the names of their sub-folders at `depth` as labels, or without labels."""
    inside = [len(one.parts) > depth + 1 for one in found]
    _check_alike(inside, found, origin)
    return [
        _Placed(one, test, one.parts[depth] if deep else None)
        for one, deep in zip(found, inside, strict=True)
    ]


def _check_alike(inside: Sequence[bool], found: Sequence[_File], origin: str) -> None:
    """Refuses a folder with images both in sub-folders and beside them."""
    if any(inside) and not all(inside):
        beside = told(found[inside.index(False)].parts[-1])
        raise checks.DataError(
            f"{origin}: holds {beside} beside sub-folders with images; put all images into "
            "sub-folders, one a class, or none."
        )


def _labels(kept: Sequence[_Placed], origin: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Classes `(N,)` and their names; none where there are no sub-folders, or a single one."""
    import numpy as np

    labels = [one.label for one in kept if one.label is not None]
    if len(set(labels)) < 2:
        return None, ()
    (y,), names = classes(origin, np.array(labels))
    return y, names


def _unreadable(
    placed: Sequence[_Placed], reasons: Sequence[str | None], most: float, origin: str
) -> list[str]:
    """What is to be told of files that cannot be read, of which there may be a share of `most`."""
    bad = [
        f"{told('/'.join(one.file.parts))}: {reason}"
        for one, reason in zip(placed, reasons, strict=True)
        if reason is not None
    ]
    return passed_over(bad, len(placed), "image files", most, origin)


def _converted(
    folder: Path,
    placed: Sequence[_Placed],
    size: tuple[int, int] | None,
    fit: str,
    progress: Progress | None,
) -> tuple[np.ndarray, Converted]:
    """The images, from the cache, which is filled if need be."""
    paths = [os.path.join(folder, *one.file.parts) for one in placed]  # noqa: PTH118 - many
    job = partial(
        convert,
        paths,
        weights=[one.file.size for one in placed],
        origin=told(folder),
        size=size,
        fit=fit,
        progress=progress,
    )
    key = _key(folder, placed, size, fit)
    return cache.kept(key, len(placed), job, told(folder.resolve()))


def _key(folder: Path, placed: Sequence[_Placed], size: tuple[int, int] | None, fit: str) -> str:
    """Two folders have the same key only if they are the same, and brought to the same form."""
    lines = [repr((VERSION, size, fit)), str(folder.resolve())]
    lines += [f"{'/'.join(parts)}\0{size} {changed}" for (parts, size, changed), _, _ in placed]
    return hashlib.sha256(os.fsencode("\0".join(lines))).hexdigest()[:32]
