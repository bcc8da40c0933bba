"""Many image files to one array on disk, in several processes, never all in memory."""

from __future__ import annotations

import io
import math
import os
import shutil
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vaelab import checks, machine
from vaelab.data import pictures
from vaelab.data.cache import Converted
from vaelab.data.pictures import Look, Piece
from vaelab.data.rows import told

if TYPE_CHECKING:
    import numpy as np

    from vaelab.data.download import Progress

__all__ = ["Images", "convert", "write"]

FILES, BYTES = 1_000, 2**25
"""One process more is worth its start for so many files, or bytes of files."""

PIECE_FILES, PIECE_BYTES = 256, 2**24
"""What is done at once, so that little waits in memory: files, and bytes of images."""

DEFAULT_SIDE = 64
"""Images of several sizes become squares of the median of their shorter sides, but no larger."""

Over = Callable[[Callable[..., Any], Iterable[Any]], Iterator[Any]]
"""As `map`: results in order."""


class Images(Protocol):
    """Images as files: the path of each, or what is in it."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Sequence[str | bytes]: ...


def convert(
    images: Images,
    out: Path,
    *,
    weights: Sequence[int],
    origin: str,
    what: str = "image files",
    at_once: int | None = None,
    size: tuple[int, int] | None,
    fit: str,
    progress: Progress | None = None,
) -> Converted:
    """Writes the images of all files that can be read to a `.npy` file, in the files' order.

    The array is `(M, C, H, W)` in `uint8`: C = 1 if all images are grey, else 3.

    Arguments:
        images: The image files.
        out: The `.npy` file.
        weights: Bytes of each image file, for progress and the number of processes.
        origin: What messages call where the images are from.
        what: What messages call the images.
        at_once: How many are asked for at once, at most; by default `PIECE_FILES`.
        size: Height and width; `None` takes that of the images if all have the same, else the
            square that `DEFAULT_SIDE` tells.
        fit: One of `pictures.FITS`.
        progress: Called as `progress(what, done, total)`, in bytes of files.

    Raises:
        checks.DataError: No file can be read, the disk has too little room, or the system ended
            a process.
        OSError: The file cannot be written.
    """
    tell = _teller(progress, weights)
    at_once = min(at_once or PIECE_FILES, PIECE_FILES)
    try:
        with _processes(_workers(len(images), sum(weights))) as over:
            seen = _looked(over, _chunks(images, at_once), tell)
            _check_any(seen, images, what, origin)
            looks = [look for look in seen if isinstance(look, Look)]
            channels, (height, width), notes = _form(looks, size, fit, origin)
            shape = (len(looks), channels, height, width)
            _check_room(out.parent, math.prod(shape), origin)
            read = partial(pictures.decode, channels=channels, size=(height, width), fit=fit)
            rows = max(1, min(at_once, PIECE_BYTES // math.prod(shape[1:])))
            reasons = _written(out, shape, over(read, _chunks(images, rows)), tell)
    except BrokenProcessPool as error:
        raise checks.DataError(
            f"{origin}: the system ended a process that read images, most likely for lack of "
            "memory; remove very large images, or free memory."
        ) from error
    _check_any(reasons, images, what, origin)
    return Converted(reasons, notes)


def _check_any(outcomes: Sequence[object], images: Images, what: str, origin: str) -> None:
    """Refuses files of which each has a reason not to be read."""
    if all(isinstance(outcome, str) for outcome in outcomes):
        first = images[:1][0]
        name = told(Path(first).name) if isinstance(first, str) else "row 0"
        raise checks.DataError(
            f"{origin}: none of its {len(images):,} {what} can be read; {name}: {outcomes[0]}."
        )


def _teller(progress: Progress | None, weights: Sequence[int]) -> Callable[[str, int], None]:
    """Tells progress in bytes, from a number of files."""
    bytes_before = [0, *accumulate(weights)]

    def tell(what: str, done: int) -> None:
        if progress is not None:
            progress(what, bytes_before[done], bytes_before[-1])

    return tell


def _looked(
    over: Over, chunks: Iterable[Sequence[str | bytes]], tell: Callable[[str, int], None]
) -> list[Look | str]:
    seen: list[Look | str] = []
    for part in over(pictures.look, chunks):
        seen += part
        tell("headers", len(seen))
    return seen


def _form(
    looks: Sequence[Look], size: tuple[int, int] | None, fit: str, origin: str
) -> tuple[int, tuple[int, int], list[str]]:
    """Channels, height and width for all images, and what is to be told of that."""
    notes = []
    grey = sum(look.grey for look in looks)
    if 0 < grey < len(looks):
        notes.append(
            f"{origin}: {grey:,} of {len(looks):,} images are grey; all are read as RGB, as the "
            "others are."
        )
    sizes = {(look.height, look.width) for look in looks}
    if size is None and len(sizes) > 1:
        side = min(
            DEFAULT_SIDE, statistics.median_low(min(look.height, look.width) for look in looks)
        )
        size = (side, side)
        notes.append(
            f"{origin}: images are of {len(sizes):,} sizes, from {min(sizes)[0]} × {min(sizes)[1]} "
            f"to {max(sizes)[0]} × {max(sizes)[1]} pixels; all are brought to {side} × {side} "
            f"(fit={fit!r}); set size for another."
        )
    return 1 if grey == len(looks) else 3, size or min(sizes), notes


def _check_room(folder: Path, needed: int, origin: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise checks.DataError(
            f"{origin}: its data take {needed:,} bytes, but the cache has room for {free:,} "
            "only; set a smaller size, or VAELAB_CACHE to a folder with more room."
        )


def write(
    out: Path, shape: tuple[int, ...], dtype: np.dtype, pieces: Iterable[np.ndarray], origin: str
) -> None:
    """Writes data that come in pieces to a `.npy` file.

    Arguments:
        out: The file.
        shape: Of all data together.
        dtype: Of the data, in the machine's order of bytes.
        pieces: The data, in their order.
        origin: What messages call them.

    Raises:
        checks.DataError: The disk has too little room.
        OSError: The file cannot be written.
    """
    _check_room(out.parent, math.prod(shape) * dtype.itemsize, origin)
    done = (Piece(piece, [None] * len(piece)) for piece in pieces)
    _written(out, shape, done, lambda what, count: None, dtype.str)


def _written(
    out: Path,
    shape: tuple[int, ...],
    pieces: Iterable[Piece],
    tell: Callable[[str, int], None],
    kind: str = "|u1",
) -> list[str | None]:
    """Writes the data, at most `shape[0]`, of NumPy's type `kind`; returns the reasons of all."""
    import numpy as np

    reasons: list[str | None] = []
    with out.open("xb") as file:
        file.write(_head(shape, kind))
        for piece in pieces:
            file.write(np.ascontiguousarray(piece.images).data)
            reasons += piece.reasons
            tell("images", len(reasons))
        file.seek(0)
        file.write(_head((reasons.count(None), *shape[1:]), kind))
        file.flush()
        os.fsync(file.fileno())
    return reasons


def _head(shape: tuple[int, ...], kind: str) -> bytes:
    """The header of a `.npy` file; NumPy makes it of one length for any number of rows."""
    from numpy.lib import format as npy

    head = io.BytesIO()
    npy.write_array_header_1_0(head, {"descr": kind, "fortran_order": False, "shape": shape})
    return head.getvalue()


def _chunks(items: Images, length: int) -> Iterator[Sequence[str | bytes]]:
    return (items[start : start + length] for start in range(0, len(items), length))


def _workers(count: int, size: int) -> int:
    from loky import cpu_count

    return min(int(cpu_count()), max(1, count // FILES, size // BYTES))


@contextmanager
def _processes(count: int) -> Iterator[Over]:
    """A `map` that is done by processes, which end with the block; one needs none."""
    if count == 1:
        yield map
        return
    with machine.processes(count, threads=1) as pool:
        yield partial(_in_order, pool, 2 * count)


def _in_order(
    pool: Any, ahead: int, function: Callable[..., Any], items: Iterable[Any]
) -> Iterator[Any]:
    """As `pool.map`, but no more than `ahead` results can wait in memory."""
    running: deque[Future[Any]] = deque()
    for item in items:
        running.append(pool.submit(function, item))
        if len(running) == ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()
