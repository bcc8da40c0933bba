"""Floor 2: mini-batches in a new order each epoch, of data that may be larger than memory.

Data that fit in memory are permuted as a whole. A memory-mapped file that does not is shuffled in
two stages, so that a disk reads it forward in pieces worth its while: its blocks of contiguous
rows are permuted, and the rows of as many blocks as make a window are read and then shuffled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from vaelab import checks
from vaelab.ranks import Ranks

__all__ = ["Shuffle", "window_rows"]

BLOCK_BYTES = 64 * 1024
"""Size of a block: large enough for a disk, which reads ahead by 128 KiB, small enough that a
window of `WINDOW_BYTES` mixes thousands of places of the file."""

WHOLE_BYTES = 2 * 1024**3
"""Data up to this size are permuted as a whole: they stay in the memory of an ordinary machine
once read, and then nothing is gained by windows."""

WINDOW_BYTES = 256 * 1024**2
"""Memory for a window: little beside a model's training, and enough for a good shuffle."""

ORDER_BYTES = 32
"""Memory that the order of a window takes for each row: four numbers of 64 bits."""


def window_rows(x: Tensor) -> int:
    """How many rows of data at rest to shuffle at once, from their shape and type alone.

    Returns:
        All rows if the data take at most 2 GiB, else as many as 256 MiB hold with their order.

    >>> window_rows(torch.zeros(70_000, 1, 28, 28, dtype=torch.uint8))
    70000
    >>> window_rows(torch.zeros(1, 1, 28, 28, dtype=torch.uint8).expand(10_000_000, 1, 28, 28))
    328965
    """
    row = x[0].numel() * x.element_size()
    if len(x) * row <= WHOLE_BYTES:
        return len(x)
    return max(1, WINDOW_BYTES // (row + ORDER_BYTES))


class Shuffle:
    r"""Mini-batches of data in a new order each epoch.

    If `window` is the number of rows or more, an epoch is a uniform permutation. Otherwise the M
    blocks of contiguous rows, of about `BLOCK_BYTES` each, are permuted and dealt out evenly to
    windows of at most `window` rows; each window is read in the order of the file and its rows are
    permuted uniformly. A window is a sample of B blocks without replacement (Cochran, Sampling
    Techniques, 1977, chapter 9), so the share in it of a class of frequency p, however the file is
    sorted, has mean p and standard deviation

        sd ≤ √(p(1 − p) / B · (M − B) / (M − 1)) ≤ √(p(1 − p) / B)

    (for blocks of equal size without held rows; equal where each block is of one class). For 10
    equal classes and rows of 100 bytes to 64 KiB, of which a window of `window_rows` has at least
    2,000 blocks, that is at most 0.007, where chance makes √(p(1 − p) / 128) = 0.027 in a batch of
    128 from any order.

    A window of a memory map lies in the system's page cache, from where its batches are copied;
    where other programs claim that memory too soon, batches come from the disk, slower but the
    same. Memory beside `x`: a byte a row; for a whole permutation 24 bytes a row; for windows 8
    bytes a block, and `ORDER_BYTES` for each row of one window.

    Arguments:
        x: Data at rest, `(N, *shape)`, on any device; they are never written to.
        held: Rows that are never yielded, `(H,)` in `int64`, each in [0, N).
        batch_size: Rows a batch.
        window: Rows that are shuffled at once; see `window_rows`.
        generator: Gives each epoch's order; on the processor.
        ranks: The processes that share each batch. The batches are the same for each, but of a
            window it reads only the rows of its shares.

    Attributes:
        count: Rows that an epoch yields, N − H.
        steps: Batches an epoch, ⌈count / batch_size⌉.

    Raises:
        checks.ArgumentError: A size below 1, or no rows are left.

    >>> x = torch.arange(10.0)[:, None]
    >>> generator = torch.Generator().manual_seed(0)
    >>> shuffle = Shuffle(x, torch.tensor([0]), batch_size=4, window=10, generator=generator)
    >>> [batch.shape for batch in shuffle.epoch()]
    [torch.Size([4, 1]), torch.Size([4, 1]), torch.Size([1, 1])]
    >>> sorted(torch.cat(list(shuffle.epoch())).flatten().tolist())
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    """

    def __init__(
        self,
        x: Tensor,
        held: Tensor,
        *,
        batch_size: int,
        window: int,
        generator: torch.Generator,
        ranks: Ranks | None = None,
    ) -> None:
        self.x, self.generator, self.ranks = x, generator, ranks or Ranks()
        self.batch_size = checks.integer("batch_size", batch_size)
        self.window = checks.integer("window", window)
        self.free = torch.ones(len(x), dtype=torch.bool)
        self.free[held.cpu()] = False
        self.count = int(self.free.sum())
        self.steps = math.ceil(self.count / self.batch_size)
        if self.count == 0:
            raise checks.ArgumentError(
                f"held = {len(held)} rows, but at least one of the {len(x)} rows must be left; "
                "hold out fewer."
            )

    def epoch(self, skip: int = 0) -> Iterator[Tensor]:
        """The batches `(B, *shape)` of the rows that `rows` gives."""
        return (self.x.index_select(0, rows) for rows in self.rows(skip))

    def rows(self, skip: int = 0) -> Iterator[Tensor]:
        """Draws a new order, at once, and returns the rows of its batches, `(B,)` in `int64`, on
        the data's device, all full but the last.

        Arguments:
            skip: How many batches to pass over without reading them. The draws are the same for
                every `skip`: from the same state of the generator, `rows(k)` gives exactly what
                `rows()` gives from batch k on.

        Raises:
            checks.ArgumentError: `skip` is negative.
        """
        passed = self.batch_size * checks.integer("skip", skip, least=0)
        if self.window < len(self.x):
            return self._batches(self._windows(passed))
        rows = self.free.nonzero()[:, 0]
        order = rows[torch.randperm(self.count, generator=self.generator)]
        return self._batches([order[passed:].to(self.x.device)])

    def _batches(self, orders: Iterable[Tensor]) -> Iterator[Tensor]:
        """Cuts batches; what is left over of an order begins the next, so batches stay full."""
        left = torch.zeros(0, dtype=torch.int64, device=self.x.device)
        for order in orders:
            rows = torch.cat([left, order]) if len(left) else order
            full = len(rows) - len(rows) % self.batch_size
            for start in range(0, full, self.batch_size):
                yield rows[start : start + self.batch_size]
            left = rows[full:]
        if len(left):
            yield left

    def _windows(self, passed: int) -> Iterator[Tensor]:
        """Draws an epoch's windows, at once; gives the order of each, from row `passed` on."""
        size = max(1, BLOCK_BYTES // (self.x[0].numel() * self.x.element_size()))
        size = min(size, self.window)
        blocks = math.ceil(len(self.x) / size)
        windows = math.ceil(blocks / (self.window // size))
        order = torch.randperm(blocks, generator=self.generator)
        seeds = torch.randint(2**32, (windows,), generator=self.generator)
        return self._orders(order.tensor_split(windows), size, seeds.tolist(), passed)

    def _orders(
        self, windows: tuple[Tensor, ...], size: int, seeds: list[int], passed: int
    ) -> Iterator[Tensor]:
        at = passed
        for blocks, seed in zip(windows, seeds, strict=True):
            rows = ((blocks.sort().values * size)[:, None] + torch.arange(size)).flatten()
            rows = rows[: int((rows < len(self.x)).sum())]  # the file's last block may be short
            rows = rows[self.free[rows]]
            if passed >= len(rows):
                passed -= len(rows)
                continue
            order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
            if passed or not self.ranks.alone:
                order, passed = order[passed:], 0
                rows = order[self._shared(at, len(order))].sort().values
            at += len(order)
            self._read(rows.to(self.x.device))
            yield order.to(self.x.device)

    def _shared(self, at: int, count: int) -> Tensor:
        """Which of `count` rows are in this process's shares, the first being row `at` of an
        epoch: `(count,)`, bits.
        """
        rows = torch.arange(at, at + count)
        place, full = rows % self.batch_size, self.count - self.count % self.batch_size
        start, stop = self.ranks.bounds(self.batch_size)
        first, end = self.ranks.bounds(self.count - full)
        start_of, stop_of = (
            torch.where(rows < full, start, first),
            torch.where(rows < full, stop, end),
        )
        return (start_of <= place) & (place < stop_of)

    def _read(self, rows: Tensor) -> None:
        """Reads ascending rows of a memory map into the page cache: one element of each suffices.

        A copy in memory would cost a quarter of the speed (measured on cached images of 784 bytes).
        """
        column = self.x
        while column.dim() > 1:
            column = column[:, 0]
        column.index_select(0, rows)
