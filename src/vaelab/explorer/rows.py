"""Training and test data as one: rows by index, their range, and their classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab import checks
from vaelab.plots._canvas import CLASS_COLOURS, colours
from vaelab.records import Dataset
from vaelab.tensors import as_tensor, span, to_float

__all__ = ["NO_CLASS", "Rows", "pieces"]

NO_CLASS = 65_535
"""What stands for no class in 16 bits."""

SUMMED = 4096
"""How many data are summed at once."""


class Rows:
    """Training data, then test data, each datum named by its index in [0, N).

    Nothing is copied: a memory map stays on disk.

    Arguments:
        sets: The training data and, where there are any, the test data.
        at_hand: Whether the data themselves are there; else only their labels and number are.

    Raises:
        checks.DataError: The two are of different shape or type.

    >>> rows = Rows([Dataset(np.zeros((5, 3), np.float32), None, "a")])
    >>> rows.at(np.array([4, 0])).shape, rows.where(4)
    (torch.Size([2, 3]), ('train', 4))
    """

    def __init__(self, sets: Sequence[Dataset], *, at_hand: bool = True) -> None:
        self.sets, self.at_hand = list(sets), at_hand
        self.count = sum(map(len, self.sets))
        first = as_tensor(self.sets[0].x[:1])
        self.shape, self.dtype = tuple(first.shape[1:]), first.dtype
        for part in self.sets:
            one = as_tensor(part.x[:1])
            if tuple(one.shape[1:]) != self.shape or one.dtype != self.dtype:
                raise checks.DataError(
                    f"{part.name}: test data are {_said(one)}, but training data {_said(first)}; "
                    "give data that are alike."
                )

    def at(self, indices: np.ndarray) -> Tensor:
        """Data at rest, in the order of the indices, `(K, *shape)`.

        Raises:
            checks.DataError: They are not at hand.
        """
        if not self.at_hand:
            raise checks.DataError(self.note)
        x = torch.empty((len(indices), *self.shape), dtype=self.dtype)
        before = 0
        for part in self.sets:
            here = (indices >= before) & (indices < before + len(part))
            if here.any():
                x[torch.from_numpy(here)] = as_tensor(part.x[indices[here] - before])
            before += len(part)
        return x

    @property
    def note(self) -> str:
        """What is missing where the data are not at hand, in a sentence; else nothing."""
        name = self.sets[0].name
        return (
            ""
            if self.at_hand
            else f"{name} is not on this machine, so there are points without pictures, figures of "
            f"each and neighbours; --data {name} downloads it."
        )

    def where(self, index: int) -> tuple[str, int]:
        """The split of a datum, and its row there."""
        first = len(self.sets[0])
        part, row = (self.sets[0], index) if index < first else (self.sets[1], index - first)
        return part.split, row

    def mean(self, indices: np.ndarray) -> np.ndarray:
        """The mean of any number of data, `(1, *shape)`, in `float64`."""
        total = np.zeros(self.shape)
        for some in pieces(len(indices), SUMMED):
            total += to_float(self.at(indices[some])).sum(0, dtype=torch.float64).numpy()
        return np.asarray(total[None] / len(indices))

    def pixels(self, x: np.ndarray) -> np.ndarray:
        """Data in computation's form as they are shown.

        Images become `uint8`, 0 and 255 at the ends of `range`; vectors stay, in `float32`.
        """
        if len(self.shape) == 1:
            return np.asarray(x, np.float32)
        low, high = self.range
        scaled = np.nan_to_num((np.asarray(x, np.float32) - low) * (255 / (high - low)))
        return np.asarray(scaled.round().clip(0, 255).astype(np.uint8))

    @cached_property
    def range(self) -> tuple[float, float]:
        """The data's smallest and largest value; of grey levels, and images in [0, 1], 0 and 1."""
        if self.dtype == torch.uint8:
            return 0.0, 1.0
        lows, highs = zip(*(span(as_tensor(part.x)) for part in self.sets), strict=True)
        low, high = min(lows), max(highs)
        if len(self.shape) == 3 and low >= 0 and high <= 1:
            return 0.0, 1.0
        return (low, high) if low < high else (low, low + 1)

    @cached_property
    def classes(self) -> list[dict[str, Any]]:
        """Each class in plain values: `label`, `name`, `count` and `colour`."""
        if self.labels is None:
            return []
        counts = np.bincount(self.labels, minlength=len(self._values))
        names, palette = self._class_names, colours(len(self._values), CLASS_COLOURS)
        return [
            {
                "label": int(value),
                "name": names[value] if 0 <= value < len(names) else str(value),
                "count": int(counts[place]),
                "colour": palette[place],
            }
            for place, value in enumerate(self._values)
        ]

    @cached_property
    def labels(self) -> np.ndarray | None:
        """The place of each datum's class in `classes`, `(N,)` in `uint16`, or `NO_CLASS`."""
        if all(part.y is None for part in self.sets):
            return None
        places = np.full(self.count, NO_CLASS, np.uint16)
        before = 0
        for part in self.sets:
            if part.y is not None:
                found = np.searchsorted(self._values, part.y).clip(0, len(self._values) - 1)
                known = self._values[found] == part.y
                places[before : before + len(part)] = np.where(known, found, NO_CLASS)
            before += len(part)
        return places

    @property
    def _class_names(self) -> tuple[str, ...]:
        return next((part.class_names for part in self.sets if part.class_names), ())

    @cached_property
    def _values(self) -> np.ndarray:
        """The labels that are classes, in order; what is beyond 16 bits is none."""
        seen = [np.unique(part.y) for part in self.sets if part.y is not None]
        named = np.arange(len(self._class_names))
        return np.unique(np.concatenate([*seen, named]))[:NO_CLASS].astype(np.int64)


def pieces(count: int, size: int) -> list[slice]:
    """The numbers from 0 to `count` − 1 in pieces of `size`.

    >>> [list(range(5))[piece] for piece in pieces(5, 2)]
    [[0, 1], [2, 3], [4]]
    """
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _said(one: Tensor) -> str:
    return f"{str(one.dtype).removeprefix('torch.')} of shape {tuple(one.shape[1:])}"
