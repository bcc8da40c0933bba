"""What every reader gives, and the checks that all share: numbers, labels, words for messages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vaelab import checks

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "MOST_BYTES",
    "Found",
    "Rows",
    "brief",
    "channels_last",
    "classes",
    "likely_labels",
    "listed",
    "numbered",
    "numbers",
    "passed_over",
    "told",
]

MOST_BYTES = 2 * 2**30
"""The most bytes of data that are taken into memory; a memory map has no limit."""

SLICE_BYTES = 16 * 2**20
"""How much is converted and looked at once."""

EXACT = 2**24
"""`float32` holds every whole number up to this one."""

CHANNELS = (1, 3, 4)
"""An array `(N, a, b, c)` is channels last if c is one of these and a is not."""

LIKELY = ("label", "labels", "class", "target")
"""What columns of labels are often called; one that is read as data is told."""

NAMED = 3
"""How many unreadable data a message names."""

SHOWN = 8
"""How many names an error lists."""


class Rows(NamedTuple):
    """Data `(N, ...)` and the labels `(N,)` that belong to them, if there are any."""

    x: np.ndarray
    y: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """What a reader found in one place.

    Attributes:
        train: All data, or those to train on where the source tells test data apart.
        test: The test data, or `None` where `train` is still to be split.
        class_names: What class `k` is called, at position `k`.
        notes: What the person should be told, a line each.
    """

    train: Rows
    test: Rows | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def told(name: str | os.PathLike[str]) -> str:
    """A name from a file system or a file, in one line that can be printed.

    >>> told("a\\nb")
    'a?b'
    """
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "?" for char in text)


def brief(what: object, most: int = 60) -> str:
    """Words for a message, shortened; of an error, its first line."""
    line = told(str(what).strip().split("\n")[0].rstrip("."))
    return line if len(line) <= most else f"{line[:most]}..."


def listed(names: Sequence[str]) -> str:
    """The first few of several: `x, y, ...`."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def numbers(x: np.ndarray, origin: str, *, start: int = 0) -> np.ndarray:
    """Checks data, and brings them to the shape and type they have at rest.

    Arguments:
        x: Vectors `(N, D)`, grey images `(N, H, W)`, or images `(N, C, H, W)` or `(N, H, W, C)`;
            channels are last if C is 1, 3 or 4 and H is not. Of any type.
        origin: What errors call them.
        start: The number of the first row, for errors that name one.

    Returns:
        `(N, D)` or `(N, C, H, W)`, in `uint8` if `x` is, else in `float32`, which may be written
        to. It shares the memory of `x` if that is so already, in C order, without channels last.

    Raises:
        checks.DataError: Another shape; not real numbers; NaN or infinity; a whole number beyond
            ±2²⁴, which `float32` would round; a number beyond the range of `float32`; or a copy of
            more than `MOST_BYTES`.
    """
    import numpy as np

    if x.dtype.kind not in "buif":
        raise checks.DataError(
            f"{origin}: holds values of type {brief(x.dtype)}, but only real numbers can be read."
        )
    x = _shaped(x, origin)
    dtype = np.dtype(np.uint8 if x.dtype == np.uint8 else np.float32)
    copied = x.dtype != dtype or not (x.flags.carray and x.dtype.isnative)
    if copied and x.size * dtype.itemsize > MOST_BYTES:
        raise checks.DataError(
            f"{origin}: takes {x.size * dtype.itemsize:,} bytes in memory as {dtype}; at most "
            f"{MOST_BYTES:,} are read; save it as a .npy file in uint8 or float32, (N, C, H, W) "
            "or (N, D) in C order, which stays on disk."
        )
    result = np.empty(x.shape, dtype) if copied else x
    if not copied and dtype == np.uint8:
        return result
    rows = max(1, SLICE_BYTES // max(1, x[:1].nbytes))
    for at in range(0, len(x), rows):
        part = x[at : at + rows]
        with np.errstate(over="ignore", invalid="ignore"):
            piece = part.astype(dtype, copy=False)
        if dtype != np.uint8:
            _check(part, piece, origin, start + at)
        if copied:
            result[at : at + rows] = piece
    return result


def classes(
    origin: str, *labels: np.ndarray | None
) -> tuple[list[np.ndarray | None], tuple[str, ...]]:
    """Numbers classes from 0 in the order of their labels, over all arrays of labels together.

    Arguments:
        origin: What errors call the labels.
        labels: `(N,)` or `(N, 1)` each: whole numbers of any type, truth values, or text; `None`
            where there are none.

    Returns:
        For each array its classes `(N,)` in `int64`; and what class `k` is called, at position `k`.

    Raises:
        checks.DataError: Other labels, or labels for some of the data only.

    >>> import numpy as np
    >>> classes("pets", np.array(["cat", "dog", "cat"]))
    ([array([0, 1, 0])], ('cat', 'dog'))
    >>> classes("digits", np.array([7.0, 3.0]))
    ([array([1, 0])], ('3', '7'))
    """
    import numpy as np

    given = [_labels(array, origin) for array in labels if array is not None]
    if not given:
        return [None for _ in labels], ()
    values, found = np.unique(np.concatenate(given), return_inverse=True)
    place, names = numbered([told(str(value)) for value in values])
    parts = iter(np.split(place[found], np.cumsum([len(array) for array in given])[:-1]))
    return [None if array is None else next(parts) for array in labels], names


def numbered(names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The class of each name, `(K,)`, and the names in the order of the classes.

    The order is by number if all are whole numbers, else as text.

    >>> numbered(["10", "9"]), numbered(["10", "9", "a"])[1]
    ((array([1, 0]), ('9', '10')), ('10', '9', 'a'))
    """
    import numpy as np

    whole = all(name.removeprefix("-").isdecimal() and len(name) < 20 for name in names)
    order = sorted(range(len(names)), key=lambda k: (int(names[k]) if whole else 0, names[k]))
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    return place, tuple(names[k] for k in order)


def likely_labels(columns: Iterable[str], origin: str) -> list[str]:
    """What to tell of columns of data that are called as labels often are: one line, or none."""
    found = [name for name in columns if name.lower() in LIKELY]
    if not found:
        return []
    name = brief(found[0])
    return [f"{origin}: column {name!r} is read as data; labels={name!r} makes it classes."]


def passed_over(bad: Sequence[str], count: int, what: str, most: float, origin: str) -> list[str]:
    """What is to be told of data that cannot be read.

    Arguments:
        bad: Which these are and why, each in words.
        count: How many data there are in all.
        what: What they are called, `"image files"` say.
        most: Largest share that may be passed over.
        origin: What messages call their source.

    Raises:
        checks.DataError: There are more of them.
    """
    if not bad:
        return []
    named = "; ".join(bad[:NAMED]) + ("; ..." if len(bad) > NAMED else "")
    line = f"{origin}: {len(bad):,} of {count:,} {what} cannot be read ({named})"
    if len(bad) > most * count:
        raise checks.DataError(
            f"{line}, but at most a share of {most:g} may be passed over; mend or remove them, or "
            "set unreadable to a larger share."
        )
    return [f"{line}; they are passed over."]


def channels_last(shape: Sequence[int]) -> bool:
    """Whether data of a shape are images `(N, H, W, C)`; where C could be either, they are not.

    >>> channels_last((5, 8, 9, 3)), channels_last((5, 3, 8, 3)), channels_last((5, 4))
    (True, False, False)
    """
    return len(shape) == 4 and shape[3] in CHANNELS and shape[1] not in CHANNELS


def _shaped(x: np.ndarray, origin: str) -> np.ndarray:
    """A view as vectors `(N, D)` or images `(N, C, H, W)`; as they are, or with channels last."""
    import numpy as np

    shape = x.shape
    if x.ndim == 3:
        x = x[:, None]
    elif channels_last(shape):
        x = np.moveaxis(x, 3, 1)
    if x.ndim not in (2, 4):
        raise checks.DataError(
            f"{origin}: has shape {shape}, but vectors (N, D), grey images (N, H, W), or images "
            "(N, C, H, W) or (N, H, W, C) can be read."
        )
    return x


def _check(part: np.ndarray, piece: np.ndarray, origin: str, start: int) -> None:
    """Refuses rows that are not finite, or that `float32` does not hold; `piece` is in it."""
    import numpy as np

    if part.dtype.kind == "f":
        if np.isfinite(piece).all():
            return
        wrong, what = ~np.isfinite(part), "NaN or infinity; remove or fill such values"
        if not wrong.any():
            wrong, what = ~np.isfinite(piece), "a number beyond the range of float32; scale it"
    else:
        wrong = part > EXACT if part.dtype.kind != "i" else (part > EXACT) | (part < -EXACT)
        what = f"a whole number beyond ±{EXACT:,}, which float32 would round; scale it"
    if wrong.any():
        row = start + int(np.flatnonzero(wrong.reshape(len(wrong), -1).any(1))[0])
        raise checks.DataError(f"{origin}: row {row} (they count from 0) holds {what}.")


def _labels(array: np.ndarray, origin: str) -> np.ndarray:
    """Labels `(N,)` as whole numbers, truth values or text."""
    import numpy as np

    y = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if y.ndim != 1:
        raise checks.DataError(
            f"{origin}: its labels have shape {array.shape}, but one for each datum is needed."
        )
    if y.dtype.kind == "f":
        wrong = ~(np.abs(y) < 2**53) | (np.floor(y) != y)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise checks.DataError(
                f"{origin}: the label of row {row} (they count from 0) is {y[row]}, but labels "
                "must be whole numbers or text."
            )
        return y.astype(np.int64)
    if y.dtype.kind == "S":
        return np.char.decode(y, "utf-8", "replace")
    if y.dtype.kind not in "biuU":
        raise checks.DataError(
            f"{origin}: its labels are of type {brief(y.dtype)}, but they must be whole numbers "
            "or text."
        )
    return y
