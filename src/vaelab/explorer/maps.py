"""Latent codes laid on a map: two coordinates, or two principal components, of any number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vaelab import checks
from vaelab.explorer.rows import pieces

__all__ = ["Components", "View", "principal", "view"]

PROJECTED = 65_536
"""How many data are laid on the map at once."""


class View(NamedTuple):
    """How a model's codes are laid on the map: u_k = ⟨z − origin, basis_k⟩.

    Attributes:
        names: Of the two axes.
        origin: `(D,)`, `float32`.
        basis: `(2, D)`, `float32`, orthonormal; for D = 1 the second row is zero.
        points: `(N, 2)`, `float32`; for D = 1 the second column is a fixed spread in [-1, 1].
    """

    names: tuple[str, str]
    origin: np.ndarray
    basis: np.ndarray
    points: np.ndarray


class Components(NamedTuple):
    """The mean code `(D,)`, and the principal components `(D, D)`, most variance first."""

    mean: np.ndarray
    basis: np.ndarray


def view(loc: np.ndarray, axes: Sequence[str], components: Components | None = None) -> View:
    """Lays codes on a map.

    Arguments:
        loc: Posterior means, `(N, D)`.
        axes: Two of `"z1"` to `"zD"`, or two of `"pc1"` to `"pcD"`. For D = 1 the second is a
            spread, whatever it is called.
        components: What `principal` gave, if it is known.

    Raises:
        checks.ArgumentError: Other axes.

    >>> codes = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> view(codes, ("z3", "z1")).points
    array([[3., 1.],
           [6., 4.]], dtype=float32)
    """
    size = loc.shape[1]
    kind, places = _read(axes, size)
    origin, every = np.zeros(size, np.float32), np.eye(size, dtype=np.float32)
    if kind == "pc":
        origin, every = components or principal(loc)
    basis = np.zeros((2, size), np.float32)
    basis[: len(places)] = every[places]
    points = np.empty((len(loc), 2), np.float32)
    for rows in pieces(len(loc), PROJECTED):
        points[rows] = (loc[rows] - origin) @ basis.T
    if size == 1:
        points[:, 1] = np.random.default_rng(0).uniform(-1, 1, len(loc))
    return View((str(axes[0]), str(axes[1]) if size > 1 else "spread"), origin, basis, points)


def principal(loc: np.ndarray) -> Components:
    """The principal components of codes `(N, D)`; of each, the largest element is positive."""
    mean = loc.mean(0, dtype=np.float64)
    scatter = np.zeros((len(mean), len(mean)))
    for rows in pieces(len(loc), PROJECTED):
        centred = loc[rows] - mean
        scatter += centred.T @ centred
    basis = np.linalg.eigh(scatter)[1].T[::-1]
    largest = np.take_along_axis(basis, abs(basis).argmax(1)[:, None], 1)
    basis = basis * np.sign(largest)  # or else the sign would be the machine's
    return Components(mean.astype(np.float32), basis.astype(np.float32))


def _read(axes: Sequence[str], size: int) -> tuple[str, list[int]]:
    """The kind of two axes, `"z"` or `"pc"`, and their places, one for D = 1."""
    shown = min(size, 2)
    found = [re.fullmatch(r"(z|pc)([1-9]\d{0,5})", str(axis)) for axis in axes[:shown]]
    places = [int(match[2]) - 1 for match in found if match]
    kinds = {match[1] for match in found if match}
    if len(axes) != 2 or len(kinds) != 1 or len(set(places)) < shown or max(places) >= size:
        last = max(size, 2)
        raise checks.ArgumentError(
            f"axes = {','.join(map(str, axes))[:40]!r}, but they must be two of z1 to z{last}, "
            f"or two of pc1 to pc{last}."
        )
    return kinds.pop(), places
