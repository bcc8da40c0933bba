"""Floor 1: data as tensors: `uint8` or `float32` at rest, `float32` in computation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab import checks

__all__ = ["STATIC_SEED", "as_tensor", "batches", "binarized", "check_data", "to_float"]

SCAN_BYTES = 16 * 1024**2
"""How much is looked at once for the row of a NaN: little beside any window or batch."""


STATIC_SEED = 0
"""Seed of the bits of `Training.binarize = "static"`, and of those that models are judged on."""

DRAWN = 4096
"""Rows that are made bits of at once; which bits they are depends on it."""


def as_tensor(x: Any) -> Tensor:
    """Data of any kind as a tensor at rest, without a copy where none is needed.

    Arguments:
        x: An array, tensor, data frame or nested list of numbers: vectors `(N, D)`, images
            `(N, C, H, W)`, or grey images `(N, H, W)`.

    Returns:
        `(N, D)` or `(N, C, H, W)`, in `uint8` if `x` is, else in `float32`. It shares its memory
        with arrays and tensors of these types, read-only ones included, so nothing may write to
        it. A memory-mapped file (`np.load(path, mmap_mode="r")`) in `uint8` or `float32`, in C
        order, therefore stays on disk, whatever its size; one of another type or order is
        converted, which needs memory for all of it.

    Raises:
        checks.DataError: Not numbers, another number of dimensions, no data, NaN or infinity.

    >>> as_tensor([[1.0, 2.0]]).dtype
    torch.float32
    >>> as_tensor(np.zeros((5, 28, 28), np.uint8)).shape
    torch.Size([5, 1, 28, 28])
    """
    tensor: Tensor = x.detach() if isinstance(x, Tensor) else _shared(np.asarray(x))
    if tensor.is_complex():
        raise checks.DataError("data are complex, but they must be real numbers.")
    if tensor.dtype != torch.uint8:
        tensor = tensor.to(torch.float32)
    if tensor.dim() == 3:
        tensor = tensor.unsqueeze(1)
    if tensor.dim() not in (2, 4) or tensor.numel() == 0:
        raise checks.DataError(
            f"data have shape {tuple(tensor.shape)}, but vectors (N, D) or images (N, C, H, W) "
            "with at least one datum are needed."
        )
    _check_finite(tensor)
    return tensor


def _shared(array: np.ndarray) -> Tensor:
    """The array's numbers as a tensor, in the array's own memory where its type and order allow."""
    if array.dtype.kind not in "buif":
        raise checks.DataError(f"data have type {array.dtype}, but they must be real numbers.")
    if array.dtype != np.uint8:
        array = array.astype(np.float32, copy=False)
    array = np.ascontiguousarray(array)
    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():  # torch warns that it could write there; vaelab never does
        warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)
        return torch.from_numpy(array)


def _check_finite(tensor: Tensor) -> None:
    if tensor.dtype == torch.uint8:
        return
    if all(map(math.isfinite, _range(tensor))):
        return
    rows = max(1, SCAN_BYTES // (tensor[0].numel() * tensor.element_size()))
    for start, part in zip(range(0, len(tensor), rows), torch.split(tensor, rows), strict=True):
        wrong = ~torch.isfinite(part).flatten(1).all(1)
        if wrong.any():
            row = start + int(wrong.nonzero()[0])
            raise checks.DataError(
                f"data hold NaN or infinity, first in row {row}; remove or fill such values."
            )


def _range(x: Tensor) -> tuple[float, float]:
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
        least, most = _range(x)
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
