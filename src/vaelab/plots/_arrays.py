"""Checks that arrays can be drawn, with errors that name the argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaelab import checks

__all__ = ["Classes", "array", "classes", "entries", "images", "point"]


def array(name: str, value: object, axes: str, sizes: dict[str, int] | None = None) -> np.ndarray:
    """Returns `value` as an array of finite floats with one axis a letter of `axes`.

    A letter stands for one size: the first array that has it sets it in `sizes`, and every later
    use must agree.

    >>> sizes = {}
    >>> array("x", [[1, 2, 3]], "ND", sizes).shape, sizes
    ((1, 3), {'N': 1, 'D': 3})
    >>> array("z", [[1, 2]], "ND", sizes)
    Traceback (most recent call last):
    ...
    vaelab.checks.ArgumentError: z has shape (1, 2), but it must be (1, 3).
    """
    sizes = {} if sizes is None else sizes
    found = np.asarray(value)
    wanted = _shape([sizes.get(letter, letter) for letter in axes])
    fits = found.ndim == len(axes) and found.size > 0
    bound = dict(sizes)
    for letter, size in zip(axes, found.shape, strict=False):
        fits = fits and bound.setdefault(letter, size) == size
    if not fits:
        some = "" if found.size else " and not empty"
        raise checks.ArgumentError(
            f"{name} has shape {_shape(found.shape)}, but it must be {wanted}{some}."
        )
    if found.dtype.kind not in "fiub":
        raise checks.ArgumentError(f"{name} has type {found.dtype}, but it must hold numbers.")
    if not np.isfinite(found).all():
        raise checks.ArgumentError(
            f"{name} has {np.count_nonzero(~np.isfinite(found)):,} values that are NaN or infinite,"
            " but it must be finite."
        )
    sizes.update(bound)
    return found if found.dtype.kind == "f" else found.astype(np.float64)


def images(name: str, value: object, axes: str, sizes: dict[str, int] | None = None) -> np.ndarray:
    """Returns `value` as images in [0, 1] whose last axes are C, H, W, with C = 1 or 3."""
    kind = np.asarray(value).dtype
    if kind.kind in "iu":
        raise checks.ArgumentError(
            f"{name} has type {kind}, but images must be floats in [0, 1]; divide by 255."
        )
    found = array(name, value, axes, sizes)
    if found.shape[-3] not in (1, 3):
        raise checks.ArgumentError(
            f"{name} has shape {_shape(found.shape)}, but C, the third axis from the end, "
            "must be 1 or 3."
        )
    return found.clip(0.0, 1.0)


def entries(name: str, mapping: object) -> dict[str, Any]:
    """Returns a mapping with one entry a model as a `dict`; it must not be empty."""
    if not isinstance(mapping, Mapping) or not mapping:
        found = "empty" if isinstance(mapping, Mapping) else f"a {type(mapping).__name__}"
        raise checks.ArgumentError(
            f"{name} is {found}, but it must map at least one model's name to its values."
        )
    return {str(key): value for key, value in mapping.items()}


def point(name: str, value: object) -> str:
    """Returns a latent point as text: at most four coordinates, with true minus signs.

    >>> point("point", [0.5, -0.2])
    '(0.50, −0.20)'
    """
    values = array(name, value, "D")
    shown = ", ".join(f"{number:.2f}".replace("-", "−") for number in values[:4])
    return f"({shown}{', …' if len(values) > 4 else ''})"


@dataclass(frozen=True, eq=False)
class Classes:
    """The class of each datum, as a position in the list of their names.

    Attributes:
        codes: Position of each datum's class in `names`, `(N,)`; zeros where there are no labels.
        names: What the classes are called; empty where there are no labels.
    """

    codes: np.ndarray
    names: tuple[str, ...]

    def short(self, code: int) -> str:
        """What a class is called where there is little room: its number if some name is long."""
        brief = all(len(name) <= 3 for name in self.names)
        return self.names[code] if brief else str(code)


def classes(y: object, class_names: Sequence[str], count: int) -> Classes:
    """Returns the classes of `count` data; without names they are called by their numbers."""
    if y is None:
        return Classes(np.zeros(count, dtype=np.int64), ())
    if np.asarray(y).dtype.kind not in "iub":
        raise checks.ArgumentError(
            f"y has type {np.asarray(y).dtype}, but it must hold whole numbers, one class a datum."
        )
    labels = array("y", y, "N", {"N": count}).astype(np.int64)
    if not len(class_names):
        values, codes = np.unique(labels, return_inverse=True)
        return Classes(codes.reshape(-1), tuple(str(value) for value in values))
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise checks.ArgumentError(
            f"y has classes from {labels.min()} to {labels.max()}, but class_names "
            f"has {len(class_names)} names, for 0 to {len(class_names) - 1}."
        )
    return Classes(labels, tuple(str(name) for name in class_names))


def _shape(sizes: Sequence[object]) -> str:
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"
