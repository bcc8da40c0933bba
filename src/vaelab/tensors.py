"""Floor 1: data as tensors: `uint8` or `float32` at rest, `float32` in computation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab import checks

__all__ = [
    "STATIC_SEED",
    "UNITS",
    "as_array",
    "as_tensor",
    "batches",
    "binarized",
    "blank_unit",
    "check_data",
    "span",
    "to_float",
    "unit_of",
]

SCAN_BYTES = 16 * 1024**2
"""How much is looked at once for the row of a NaN: little beside any window or batch."""


STATIC_SEED = 0
"""Seed of the bits of `Training.binarize = "static"`, and of those that models are judged on."""

DRAWN = 4096
"""Rows that are made bits of at once; which bits they are depends on it."""

SHOWN = 5
"""How many rows and columns an error names."""

UNITS = ("none", "shared", "per-dimension")
"""In which units a part computes with data; see `unit_of`."""

ROUNDING = 8 * torch.finfo(torch.float32).eps
"""An element that varies by less than this share of its size is constant but for rounding."""


class _NoNumberError(checks.DataError, TypeError):
    """Data hold an object that is no number."""


def as_tensor(x: Any, names: Sequence[str] = ()) -> Tensor:
    """Data of any kind as a tensor at rest, without a copy where none is needed.

    Arguments:
        x: An array, tensor, data frame or nested list of numbers: vectors `(N, D)`, images
            `(N, C, H, W)`, or grey images `(N, H, W)`.
        names: What the columns of vectors are called, for errors that name one.

    Returns:
        `(N, D)` or `(N, C, H, W)`, in `uint8` if `x` is, else in `float32`. It shares its memory
        with arrays and tensors of these types, read-only ones included, so nothing may write to
        it. A memory-mapped file (`np.load(path, mmap_mode="r")`) in `uint8` or `float32`, in C
        order, therefore stays on disk, whatever its size; one of another type or order is
        converted, which needs memory for all of it.

    Raises:
        checks.DataError: Not numbers, sparse, another number of dimensions, no data, NaN or
            infinity; the first rows and columns with such values are named.

    >>> as_tensor([[1.0, 2.0]]).dtype
    torch.float32
    >>> as_tensor(np.zeros((5, 28, 28), np.uint8)).shape
    torch.Size([5, 1, 28, 28])
    """
    tensor: Tensor = x.detach() if isinstance(x, Tensor) else _shared(as_array(x), names)
    if tensor.is_complex():
        raise _complex(tensor.dtype)
    if tensor.dtype != torch.uint8:
        tensor = tensor.to(torch.float32)
    if tensor.dim() == 3:
        tensor = tensor.unsqueeze(1)
    _check_shape(tuple(tensor.shape))
    _check_finite(tensor, names)
    return tensor


def as_array(x: Any) -> np.ndarray:
    """What was given as an array, without a copy where none is needed.

    What a data frame says is missing becomes NaN.

    Raises:
        checks.DataError: It is sparse, or of no regular shape.
    """
    if type(x).__module__.startswith("scipy.sparse"):
        raise _NoNumberError(
            f"data are a sparse {type(x).__name__}, but sparse data are not supported; "
            "give x.toarray()."
        )
    try:
        array = np.asarray(x)
    except ValueError as error:  # lists of different lengths
        raise checks.DataError(f"data are no array: {error}.") from error
    if array.dtype.kind == "O" and hasattr(x, "isna"):  # pandas, with types of its own
        array = x.astype(object).where(x.notna(), np.nan).to_numpy()
    return array


def _complex(kind: object) -> checks.DataError:
    return checks.DataError(
        f"Complex data not supported: data have type {kind}, but they must be real numbers; "
        "give real and imaginary parts as elements of their own."
    )


def _shared(array: np.ndarray, names: Sequence[str]) -> Tensor:
    """The array's numbers as a tensor, in the array's own memory where its type and order allow."""
    if array.dtype.kind == "c":
        raise _complex(array.dtype)
    if array.dtype.kind == "O":
        array = _numbers(array, names)
    if array.dtype.kind not in "buif":
        raise checks.DataError(f"data have type {array.dtype}, but they must be real numbers.")
    if array.dtype != np.uint8:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told
            array = array.astype(np.float32, copy=False)
    array = np.ascontiguousarray(array)
    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():  # torch warns that it could write there; vaelab never does
        warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)
        return torch.from_numpy(array)


def _numbers(array: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """An array of Python objects as one of numbers; the first that is none is named."""
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        for place in np.ndindex(array.shape):
            try:
                float(array[place])
            except (TypeError, ValueError) as error:
                kind = _NoNumberError if isinstance(error, TypeError) else checks.DataError
                raise kind(f"data hold no number {_where(place, names)}: {error}.") from error
        raise


def _where(place: Sequence[int], names: Sequence[str]) -> str:
    """A place in words: `"in row 3, column 5 ('age')"`."""
    if len(place) != 2:
        return f"in row {place[0]}"
    return f"in row {place[0]}, column {_column(place[1], names)}"


def _column(index: int, names: Sequence[str]) -> str:
    return f"{index} ({names[index]!r})" if index < len(names) else str(index)


def _check_shape(shape: tuple[int, ...]) -> None:
    """Refuses data that are neither vectors nor images, or none at all."""
    if len(shape) in (2, 4) and math.prod(shape) > 0:
        return
    if len(shape) == 2 and shape[0] > 0:
        raise checks.DataError(
            f"0 feature(s) (shape={shape}) while a minimum of 1 is required; give vectors (N, D) "
            "with at least one element."
        )
    advice = (
        " Reshape your data: x[None] makes one datum of them, x[:, None] data of one element."
        if len(shape) == 1
        else ""
    )
    raise checks.DataError(
        f"data have shape {shape}, but vectors (N, D) or images (N, C, H, W) "
        f"with at least one datum are needed.{advice}"
    )


def _check_finite(tensor: Tensor, names: Sequence[str]) -> None:
    if tensor.dtype == torch.uint8 or all(map(math.isfinite, span(tensor))):
        return
    rows: list[int] = []
    columns: set[int] = set()
    count, first = 0, (0, 0)
    size = max(1, SCAN_BYTES // (tensor[0].numel() * tensor.element_size()))
    for start, part in zip(range(0, len(tensor), size), torch.split(tensor, size), strict=True):
        places = (~torch.isfinite(part)).flatten(1).nonzero()
        if len(places) and not count:
            first = (start + int(places[0, 0]), int(places[0, 1]))
        count += len(places)
        columns.update(places[:, 1].tolist())
        rows += [start + row for row in sorted(set(places[:, 0].tolist()))[: SHOWN + 1]]
    if tensor.dim() > 2:
        raise checks.DataError(
            f"data hold NaN or infinity, first in row {first[0]}; remove or fill such values."
        )
    found = "one value"
    if count > 1:
        told = [_column(column, names) for column in sorted(columns)]
        found = f"{count:,} values, in rows {_listed(map(str, rows))}; columns {_listed(told)}"
    raise checks.DataError(
        f"data hold NaN or infinity, first {_where(first, names)} ({found}); remove or fill such "
        "values, by sklearn.impute.SimpleImputer say."
    )


def _listed(words: Iterable[str]) -> str:
    some = list(words)
    return ", ".join(some[:SHOWN]) + (", …" if len(some) > SHOWN else "")


def span(x: Tensor) -> tuple[float, float]:
    """The least and greatest value, NaN if there is one, read in one pass that keeps nothing."""
    least, most = torch.aminmax(x)
    return float(least), float(most)


def check_data(x: Tensor, shape: tuple[int, ...], value_range: tuple[float, float]) -> Tensor:
    """Returns data at rest if a model of `shape` and `value_range` can score them.

    Raises:
        checks.DataError: Another shape, or values outside the likelihood's range.
    """
    if tuple(x.shape[1:]) != tuple(shape):
        raise checks.DataError(
            f"each datum has shape {tuple(x.shape[1:])}, but the model was made for {tuple(shape)}."
        )
    low, high = value_range
    if x.dtype != torch.uint8:
        least, most = span(x)
        if least < low or most > high:
            raise checks.DataError(
                f"data range from {least:g} to {most:g}, but the likelihood needs values in "
                f"[{low:g}, {high:g}]; rescale them, or use a Gaussian likelihood "
                "(recipe 'gaussian')."
            )
    return x


def to_float(x: Tensor) -> Tensor:
    """Data in computation: `uint8` grey levels 0 to 255 become `float32` in [0, 1].

    `float32` data are returned as they are, not as a copy: nothing may write to them.
    """
    return x.float().div_(255) if x.dtype == torch.uint8 else x


def binarized(x: Tensor, seed: int) -> Tensor:
    """Bits drawn once with the grey levels of data at rest as their probabilities.

    Arguments:
        x: Data at rest, `(N, *shape)`: `uint8`, or `float32` in [0, 1].
        seed: The same seed gives the same bits.

    Returns:
        `(N, *shape)` in `uint8`: 0 and 255, which `to_float` makes 0 and 1.

    Raises:
        checks.DataError: A value lies outside [0, 1].

    >>> binarized(torch.tensor([[0, 255, 0]], dtype=torch.uint8), seed=0)
    tensor([[  0, 255,   0]], dtype=torch.uint8)
    """
    check_data(x, tuple(x.shape[1:]), (0.0, 1.0))
    generator = torch.Generator().manual_seed(checks.seed(seed))
    bits = torch.empty(x.shape, dtype=torch.uint8)
    for rows in torch.split(torch.arange(len(x)), DRAWN):
        part = x[rows[0] : rows[-1] + 1]
        bits[rows[0] : rows[-1] + 1] = torch.bernoulli(to_float(part.cpu()), generator=generator)
    return bits.mul_(255)


def batches(x: Tensor, size: int, device: torch.device | None = None) -> Iterator[Tensor]:
    """Consecutive batches of data at rest, in computation's form, on `device`."""
    for part in torch.split(x, size):
        yield to_float(part.to(device, non_blocking=True) if device is not None else part)


def unit_of(x: Tensor, units: str) -> Tensor:
    """The units in which a part computes with data, so that data of any size are alike to it.

    Arguments:
        x: Data in computation's form, `(N, *shape)`.
        units: `"per-dimension"`: the standard deviation of each element over the data, 1 where it
            is constant but for rounding. `"shared"`: the root of the mean of their squares; 1 if
            all are constant, and for grey levels, that is images within [0, 1].

    Returns:
        `(*shape)`, or `()` if shared, above 0.

    >>> unit_of(torch.tensor([[0.0, 5.0, -3.0], [2.0, 5.0, 3.0]]), "per-dimension")
    tensor([1., 1., 3.])
    """
    least, most = torch.aminmax(x, dim=0)
    if units == "shared" and x.dim() > 2 and float(least.min()) >= 0 and float(most.max()) <= 1:
        return x.new_ones(())
    constant = most - least <= ROUNDING * torch.maximum(least.abs(), most.abs())
    unit = x.std(0, correction=0).masked_fill(constant, 0)
    if units == "shared":
        unit = unit.double().square().mean().sqrt().float()
    return torch.where(unit > 0, unit, 1.0)


def blank_unit(units: str, shape: tuple[int, ...]) -> Tensor | None:
    """Units of 1, of the shape that `unit_of` gives, to begin with; `None` for `"none"`."""
    if units == "none":
        return None
    return torch.ones(() if units == "shared" else shape)
