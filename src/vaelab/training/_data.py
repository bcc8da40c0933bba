"""What a run trains on: data that are a tensor, or lie in shards, and those of them held out."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vaelab import checks
from vaelab.ranks import Ranks
from vaelab.records import Dataset, Training
from vaelab.separation import Separation
from vaelab.shuffling import Shuffle
from vaelab.streaming import Piece, Stream, Windows, window_rows
from vaelab.tensors import STATIC_SEED, binarized, check_data
from vaelab.training._settings import held_out

__all__ = ["Data", "Streamed", "Whole", "of"]

START = 10_000
"""How many of the training data the parts' starting weights are taken from."""


class Data(Protocol):
    """What a run trains on.

    Attributes:
        like: A tensor as all the data are, if not these themselves.
        seen: Data at rest that can be looked at: all, or a sample.
        held: Numbers of the rows that are held out, `(H,)`.
    """

    like: Tensor
    seen: Tensor
    held: Tensor

    @property
    def valid(self) -> Piece:
        """The rows that are held out."""

    @property
    def first(self) -> Tensor:
        """Data at rest that the parts' starting weights are taken from."""

    @property
    def fingerprint(self) -> str:
        """What tells the data from others."""

    def settled(self, settings: Training, separation: Separation | None) -> Training:
        """The settings, with what follows from how the data lie."""

    def prepared(self, settings: Training, value_range: tuple[float, float]) -> Data:
        """The data as they are trained on, by resolved settings."""

    def batches(
        self, settings: Training, generator: torch.Generator, ranks: Ranks
    ) -> Shuffle | Windows:
        """Batches in a new order each epoch."""

    def at(self, rows: Tensor) -> Piece:
        """The data of rows that the batches gave last."""


def of(
    x: Tensor | Stream, y: Tensor | None, settings: Training, seed: int, *, labelled: bool
) -> Data:
    """The data of a run; which of them are held out, or started from, is drawn from the seed.

    Of shards, both come from their sample, of which at most half is held out; their labels are
    used if they are to be `labelled`.
    """
    there = len(x.rows) if isinstance(x, Stream) else len(x)
    count = held_out(settings, len(x))
    if isinstance(x, Stream):
        count = min(count, there // 2)
    some = np.random.default_rng(seed).choice(there, min(there, count + START), replace=False)
    held, rest = torch.from_numpy(some[:count]), torch.from_numpy(some[count:])
    if isinstance(x, Stream):
        return Streamed(x, held, rest, labelled=labelled)
    return Whole(x, y, held, rest)


class Whole:
    """Data that are a tensor, in memory or mapped; see `Data`.

    Arguments:
        x: Data at rest, `(N, *shape)`.
        y: Numbers of their classes, `(N,)`.
        held: Rows that are held out.
        rest: Rows that are started from.
    """

    def __init__(self, x: Tensor, y: Tensor | None, held: Tensor, rest: Tensor) -> None:
        self.like, self.seen, self.held, self._rest = x, x, held, rest
        self._all = Piece(x, None if y is None else y.to(x.device))

    @property
    def first(self) -> Tensor:
        """See `Data`."""
        return self.like[self._rest]

    @property
    def valid(self) -> Piece:
        """See `Data`."""
        return self._all.at(self.held.to(self.like.device))

    @property
    def fingerprint(self) -> str:
        """See `Data`."""
        labels = None if self._all.y is None else self._all.y.cpu().numpy()
        return Dataset(self.like.cpu().numpy(), labels, "array").fingerprint

    def settled(self, settings: Training, separation: Separation | None) -> Training:
        """As they are."""
        return settings

    def prepared(self, settings: Training, value_range: tuple[float, float]) -> Whole:
        """On the device, if they take less than half of the memory that is free there."""
        x, device = self.like, torch.device(str(settings.device))
        if settings.binarize == "static":
            x = binarized(x, STATIC_SEED)
        elif settings.binarize == "dynamic":
            check_data(x, tuple(x.shape[1:]), (0.0, 1.0))
        if device.type == "cuda" and x.nbytes < 0.5 * torch.cuda.mem_get_info(device)[0]:
            x = x.to(device)
        return Whole(x, self._all.y, self.held, self._rest)

    def batches(self, settings: Training, generator: torch.Generator, ranks: Ranks) -> Shuffle:
        """See `Data`."""
        return Shuffle(
            self.like,
            self.held,
            batch_size=settings.batch_size or len(self.like),
            window=settings.window or len(self.like),
            generator=generator,
            ranks=ranks,
        )

    def at(self, rows: Tensor) -> Piece:
        """See `Data`."""
        return self._all.at(rows)


class Streamed:
    """Data in shards; see `Data`.

    Arguments:
        stream: The shards, and their sample.
        held: Rows of the sample that are held out.
        rest: Rows of the sample that are started from.
        labelled: Whether their labels are used.
    """

    def __init__(self, stream: Stream, held: Tensor, rest: Tensor, *, labelled: bool) -> None:
        self.like, self.seen, self.held = stream.like, stream.sample.x, stream.rows[held]
        self.labelled, self._rest = labelled, rest
        self.valid = self._known(stream.sample.at(held))
        self._shards = stream.shards
        self._range = (-float("inf"), float("inf"))
        self._windows: Windows | None = None

    @property
    def first(self) -> Tensor:
        """See `Data`."""
        return self.seen[self._rest]

    @property
    def fingerprint(self) -> str:
        """See `Data`."""
        return self._shards.fingerprint

    def settled(self, settings: Training, separation: Separation | None) -> Training:
        """The settings with a window; what needs all data at once is refused."""
        if separation is not None and separation.weight:
            raise checks.ArgumentError(
                f"separation = {separation.weight:g}, but it needs the neighbours among all data, "
                "and these lie in shards; set it to 0."
            )
        if settings.binarize == "static":
            raise checks.ArgumentError(
                "binarize = 'static', but its bits are drawn for all data at once, and these lie "
                "in shards; use 'dynamic', or write shards of bits."
            )
        return replace(settings, window=settings.window or window_rows(self._shards))

    def prepared(self, settings: Training, value_range: tuple[float, float]) -> Streamed:
        """As they are: each shard is looked at when it is read."""
        self._range = (0.0, 1.0) if settings.binarize == "dynamic" else value_range
        return self

    def batches(self, settings: Training, generator: torch.Generator, ranks: Ranks) -> Windows:
        """See `Data`."""
        self._windows = Windows(
            self._shards,
            self.held,
            batch_size=settings.batch_size or 1,
            window=settings.window or 1,
            generator=generator,
            value_range=self._range,
            ranks=ranks,
        )
        return self._windows

    def at(self, rows: Tensor) -> Piece:
        """See `Data`."""
        if self._windows is None:
            raise RuntimeError("no batches were asked for; batches() gives them")
        return self._known(self._windows.at(rows))

    def _known(self, piece: Piece) -> Piece:
        return piece if self.labelled else Piece(piece.x, None)
