"""Floor 3: mini-batches of data in shards, of which a window at a time is in memory.

What would need all data at once (what the weights start from, which likelihood suits them, on which
rows training is validated) is taken from a sample of them. The windows are read in the background,
each while the one before is trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaelab import checks
from vaelab.data.shards import ShardError, Shards
from vaelab.ranks import Ranks
from vaelab.records import Dataset
from vaelab.shuffling import WINDOW_BYTES
from vaelab.tensors import check_data

__all__ = ["Piece", "Stream", "Windows", "sample", "sampled", "window_rows"]

SAMPLED = 20_000
"""Rows that a sample has where there are as many: as many as are validated on and started from."""

SPREAD = 8
"""Shards that a sample comes from, at least, where there are as many."""


class Piece(NamedTuple):
    """Rows of data in memory.

    Attributes:
        x: The data at rest, `(N, *shape)`.
        y: Numbers of their classes, `(N,)` in `int64`; `None` where there are no labels.
    """

    x: Tensor
    y: Tensor | None

    def at(self, rows: Tensor) -> Piece:
        """Some of the rows, copied."""
        y = None if self.y is None else self.y.index_select(0, rows)
        return Piece(self.x.index_select(0, rows), y)

    def before(self, other: Piece) -> Piece:
        """These rows and then others."""
        y = None if self.y is None or other.y is None else torch.cat([self.y, other.y])
        return Piece(torch.cat([self.x, other.x]), y)


def sample(shards: Shards, seed: int = 0) -> tuple[Piece, Tensor]:
    """Some rows of data in shards, in memory: those that stand for all where all would be needed.

    Shards are drawn from the seed until there are 20,000 rows, of at least 8 shards. Of a shard
    that takes more than an eighth of 256 MiB, so many rows are drawn that they take no more. So
    the sample never takes more than 256 MiB, or 8 rows.

    Returns:
        The rows, and their numbers `(S,)` in `int64`, ascending within each shard, where the rows
        of all shards are counted one after the other.

    Raises:
        checks.DataError: A shard cannot be read.

    >>> import fsspec
    >>> from vaelab.data import shards
    >>> for k in range(3):
    ...     with fsspec.open(f"memory://tens/{k}.npy", "wb") as file:
    ...         np.save(file, 10 * k + np.arange(4.0)[:, None])
    >>> piece, rows = sample(shards("memory://tens"))
    >>> piece.x.flatten().tolist(), rows.tolist()
    ([20.0, 21.0, 22.0, 23.0, 10.0, ...], [8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3])
    """
    # The stream of RandomState is frozen; that of default_rng may change with NumPy (NEP 19).
    random = np.random.RandomState(checks.seed(seed))
    starts = _starts(shards)
    room = max(SPREAD, WINDOW_BYTES // _row_bytes(shards))
    parts: list[Piece] = []
    rows: list[np.ndarray] = []
    count = 0
    for place, k in enumerate(random.permutation(len(shards.names))):
        found = shards.rows(k)
        kept = np.sort(random.permutation(len(found.x))[: room // SPREAD])
        if place >= SPREAD and (count >= SAMPLED or count + len(kept) > room):
            break
        y = None if found.y is None else torch.from_numpy(found.y[kept])
        parts.append(Piece(torch.from_numpy(found.x[kept]), y))
        rows.append(starts[k] + kept)
        count += len(kept)
    labels = [part.y for part in parts if part.y is not None]
    whole = Piece(torch.cat([part.x for part in parts]), torch.cat(labels) if labels else None)
    return whole, torch.from_numpy(np.concatenate(rows))


def sampled(shards: Shards, split: str = "train", seed: int = 0) -> Dataset:
    """The rows of `sample` as a data set in memory, to judge a model on, say.

    Raises:
        checks.DataError: A shard cannot be read.
    """
    (x, y), _ = sample(shards, seed)
    return Dataset(
        x=x.numpy(),
        y=None if y is None else y.numpy(),
        name=shards.name,
        split=split,
        source=shards.location,
        class_names=shards.class_names,
    )


class Stream:
    """Data in shards, with a sample that stands for them where all would be needed.

    Arguments:
        shards: The data.
        seed: Of the sample; see `sample`.

    Attributes:
        shards: The data.
        sample: Some rows.
        rows: Their numbers, `(S,)`.
        like: A tensor as all the data would be, `(N, *shape)`, which takes the memory of one row:
            for what follows from number, shape and type alone.

    Raises:
        checks.DataError: A shard cannot be read.
    """

    def __init__(self, shards: Shards, seed: int = 0) -> None:
        self.shards = shards
        self.sample, self.rows = sample(shards, seed)
        row = torch.from_numpy(np.zeros((1, *shards.shape), shards.dtype))
        self.like = row.expand(len(shards), *shards.shape)

    def __len__(self) -> int:
        return len(self.shards)


def window_rows(shards: Shards) -> int:
    """How many rows of data in shards to shuffle at once: as many as 256 MiB hold."""
    return max(1, WINDOW_BYTES // _row_bytes(shards))


class Windows:
    r"""Mini-batches of data in shards, in a new order each epoch.

    The M shards are permuted and dealt out evenly to windows of at most B shards, as many as have
    `window` rows or fewer (at least one shard); a window is read and its rows are permuted
    uniformly. The next is read in the background, so memory holds two windows and a shard, however
    many shards there are. A window is a sample of B shards without replacement, so the share in it
    of a class of frequency p has mean p and standard deviation

        sd ≤ √(p(1 − p) / B · (M − B) / (M − 1))

    (for shards of equal size; equal where each shard is of one class), as for blocks in
    `vaelab.shuffling.Shuffle`. Shards whose rows are themselves in random order do better, by the
    root of their rows; with B = M, an epoch is a uniform permutation. So shards should be many, or
    be shuffled when they are written: from shards of one class each, with B = 1, every window is of
    one class.

    The order is a function of the generator's state alone. In a group of processes each reads all
    shards of a window, and all end where one cannot.

    Arguments:
        shards: The data.
        held: Numbers of rows that are never given, `(H,)` in `int64`, as `sample` counts them.
        batch_size: Rows a batch.
        window: Rows that are shuffled at once; see `window_rows`.
        generator: Gives each epoch's order.
        value_range: Least and greatest value that the data may have.
        ranks: The processes that share each batch.

    Attributes:
        count: Rows that an epoch gives, N − H.
        steps: Batches an epoch, ⌈count / batch_size⌉.

    Raises:
        checks.ArgumentError: A size below 1, or no rows are left.

    >>> import fsspec
    >>> from vaelab.data import shards
    >>> for k in range(4):
    ...     with fsspec.open(f"memory://two/{k}.npy", "wb") as file:
    ...         np.save(file, np.array([[2.0 * k], [2 * k + 1]]))
    >>> windows = Windows(
    ...     shards("memory://two"), torch.tensor([5]), batch_size=3, window=4,
    ...     generator=torch.Generator().manual_seed(0), value_range=(0, 7),
    ... )
    >>> batches = [windows.at(rows).x.flatten().tolist() for rows in windows.rows()]
    >>> [len(batch) for batch in batches], sorted(sum(batches, []))
    ([3, 3, 1], [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0])
    """

    def __init__(
        self,
        shards: Shards,
        held: Tensor,
        *,
        batch_size: int,
        window: int,
        generator: torch.Generator,
        value_range: tuple[float, float],
        ranks: Ranks | None = None,
    ) -> None:
        self.shards, self.generator, self.ranks = shards, generator, ranks or Ranks()
        self.batch_size = checks.integer("batch_size", batch_size)
        self.together = max(1, checks.integer("window", window) // max(shards.counts))
        self.value_range, self.starts = value_range, _starts(shards)
        self.held = np.sort(held.cpu().numpy())
        self.count = len(shards) - len(self.held)
        self.steps = math.ceil(self.count / self.batch_size)
        self._now: Piece | None = None
        if self.count <= 0:
            raise checks.ArgumentError(
                f"held = {len(held)} rows, but at least one of the {len(shards)} rows must be "
                "left; hold out fewer."
            )

    def rows(self, skip: int = 0) -> Iterator[Tensor]:
        """Draws a new order, at once, and returns what `at` wants for each batch, `(B,)`, all full
        but the last.

        Arguments:
            skip: How many batches to pass over. Windows of which nothing is wanted are not read.
                From the same state of the generator, `rows(k)` gives exactly what `rows()` gives
                from batch k on.

        Raises:
            checks.ArgumentError: `skip` is negative.
            ShardError: When a batch is asked for: a shard cannot be read, or holds other values
                than are allowed, or another process of the group found that.
        """
        passed = self.batch_size * checks.integer("skip", skip, least=0)
        windows = math.ceil(len(self.shards.names) / self.together)
        order = torch.randperm(len(self.shards.names), generator=self.generator)
        seeds = torch.randint(2**32, (windows,), generator=self.generator).tolist()
        dealt = [sorted(part.tolist()) for part in order.tensor_split(windows)]
        while dealt and passed >= (rows := sum(len(self._free(k)) for k in dealt[0])):
            passed -= rows
            del dealt[0], seeds[0]
        return self._batches(dealt, seeds, passed)

    def at(self, rows: Tensor) -> Piece:
        """The data of rows of the batch that `rows` gave last, or of a part of it.

        Raises:
            RuntimeError: There is no such batch.
        """
        if self._now is None:
            raise RuntimeError("no batch was asked for; rows() gives them")
        return self._now.at(rows)

    def _batches(
        self, dealt: Sequence[Sequence[int]], seeds: Sequence[int], passed: int
    ) -> Iterator[Tensor]:
        """Cuts batches; what is left over of a window begins the next, so batches stay full."""
        size, left, drawn = self.batch_size, None, iter(seeds)
        for window in self._read_ahead(dealt):  # zip would hold a window for too long
            generator = torch.Generator().manual_seed(next(drawn))
            order = torch.randperm(len(window.x), generator=generator)
            order, passed = order[passed:], 0
            if left is not None:
                fill = size - len(left.x)
                left = left.before(window.at(order[:fill]))
                order = order[fill:]
                if len(left.x) < size:
                    continue
                self._now = left
                yield torch.arange(size)
            self._now = window
            full = len(order) - len(order) % size
            for start in range(0, full, size):
                yield order[start : start + size]
            left = window.at(order[full:]) if full < len(order) else None
            self._now = None
            del window  # the one after the next is read now, and memory is for two
        self._now = left
        if left is not None:
            yield torch.arange(len(left.x))

    def _read_ahead(self, dealt: Sequence[Sequence[int]]) -> Iterator[Piece]:
        """The windows, each of which is read while the one before is used."""
        stop, pool = Event(), ThreadPoolExecutor(1, thread_name_prefix="vaelab-shards")
        try:
            ahead = pool.submit(self._window, dealt[0], stop) if dealt else None
            for following in (*dealt[1:], None):
                if ahead is None:
                    return
                window = self._agreed(ahead)
                ahead = None if following is None else pool.submit(self._window, following, stop)
                yield window
                del window
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _agreed(self, ahead: Future[Piece]) -> Piece:
        """A window, once it was read by all processes; it raises on all where one failed."""
        error = ahead.exception()
        if self.ranks.any(error is not None) and error is None:
            raise ShardError(f"{self.shards.location}: another process could not read a shard.")
        return ahead.result()

    def _window(self, shards: Sequence[int], stop: Event) -> Piece:
        """The free rows of some shards, one shard after the other."""
        free = [self._free(k) for k in shards]
        count = sum(map(len, free))
        x = np.empty((count, *self.shards.shape), self.shards.dtype)
        y = np.empty(count, np.int64) if self.shards.class_names else None
        at = 0
        for k, rows in zip(shards, free, strict=True):
            if stop.is_set():
                break
            found = self.shards.rows(k)
            self._check(k, found.x)
            x[at : at + len(rows)] = found.x[rows]
            if y is not None:
                y[at : at + len(rows)] = found.y[rows]  # type: ignore[index]
            at += len(rows)
        return Piece(torch.from_numpy(x), None if y is None else torch.from_numpy(y))

    def _check(self, k: int, x: np.ndarray) -> None:
        try:
            check_data(torch.from_numpy(x), self.shards.shape, self.value_range)
        except checks.DataError as error:
            name = self.shards.names[k]
            raise ShardError(f"{self.shards.location}: shard {name}: {error}") from error

    def _free(self, k: int) -> np.ndarray:
        """The rows of a shard that are not held, as the shard counts them."""
        start, stop = self.starts[k], self.starts[k] + self.shards.counts[k]
        first, last = np.searchsorted(self.held, [start, stop])
        return np.delete(np.arange(self.shards.counts[k]), self.held[first:last] - start)


def _starts(shards: Shards) -> np.ndarray:
    """The number of the first row of each shard, `(M,)`."""
    return np.concatenate([[0], np.cumsum(shards.counts)[:-1]]).astype(np.int64)


def _row_bytes(shards: Shards) -> int:
    return math.prod(shards.shape) * shards.dtype.itemsize
