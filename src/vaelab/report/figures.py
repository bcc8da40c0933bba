"""Floor 12: the figures of a report, each made from the exhibits by one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from vaelab import checks, plots
from vaelab.divergences import kl_normal, kl_normal_quadrature
from vaelab.exhibits import Exhibits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "KL_CASES", "kl_figure", "kl_rows"]


ACROSS = 12
"""Examples that fit side by side on a page."""


def latent(exhibits: Exhibits) -> Figure:
    """The latent coordinates of the whole data set, a panel a model."""
    return _map(exhibits)


def reconstructions(exhibits: Exhibits) -> Figure:
    """One example of each class and its reconstructions, a row a model where classes are few."""
    examples = exhibits.examples
    return plots.reconstructions(
        _drawable(examples.images),
        {name: _drawable(images) for name, images in exhibits.reconstructed.items()},
        row_labels=examples.names,
        across=len(examples.names) <= ACROSS,
    )


def decode(exhibits: Exhibits) -> Figure:
    """What each model decodes one latent point to."""
    images = {name: _drawable(image) for name, image in exhibits.decoded.items()}
    return plots.decoded(images, point=next(iter(exhibits.points.values())).tolist())


def interpolation(exhibits: Exhibits) -> Figure:
    """The path between two latent points in the decoded space, a row a model."""
    strips = exhibits.strips
    originals = None
    if strips.originals is not None:
        first, last = _drawable(strips.originals)
        originals = (first, last)
    return plots.interpolation(
        {name: _drawable(images) for name, images in strips.images.items()},
        starts={name: path[0].tolist() for name, path in strips.paths.items()},
        ends={name: path[-1].tolist() for name, path in strips.paths.items()},
        originals=originals,
    )


def paths(exhibits: Exhibits) -> Figure:
    """The same path on the latent map."""
    return _map(exhibits, exhibits.strips.paths)


def manifold(exhibits: Exhibits) -> Figure:
    """What each model decodes a grid over the prior's quantiles to."""
    grids = {name: _drawable(grid) for name, grid in exhibits.manifolds.items()}
    return plots.manifold(grids, coordinates=exhibits.coordinates)


def history(exhibits: Exhibits) -> Figure:
    """ELBO, rate and distortion during training, against epochs and seconds."""
    return plots.history(exhibits.histories)


FIGURES: dict[str, Callable[[Exhibits], Figure]] = {
    "latent": latent,
    "reconstructions": reconstructions,
    "decode": decode,
    "interpolation": interpolation,
    "paths": paths,
    "manifold": manifold,
    "history": history,
}

KL_CASES = (
    (0.0, 1.0, 0.0, 1.0),
    (0.0, 1.0, 1.0, 2.0),
    (1.0, 2.0, 0.0, 1.0),
    (0.5, 0.1, 0.0, 1.0),
    (-3.0, 0.01, 0.0, 1.0),
    (0.0, 1e-3, 0.0, 1e3),
    (2.0, 1e3, -1.0, 1e3),
)


def kl_rows() -> list[dict[str, float]]:
    """The closed form and quadrature side by side, over a range of parameters."""
    rows = []
    for case in KL_CASES:
        closed, quadrature = kl_normal(*case), kl_normal_quadrature(*case)
        names = ("p_loc", "p_scale", "q_loc", "q_scale")
        rows.append(
            dict(zip(names, case, strict=True))
            | {"closed": closed, "quadrature": quadrature.value}
            | {"difference": abs(closed - quadrature.value)}
        )
    return rows


def kl_figure() -> Figure:
    """KL(N(m, s²) ‖ N(0, 1)) against s for three m, in closed form and by quadrature."""
    scales = np.linspace(0.1, 3.0, 30)
    curves = {
        f"m = {loc:g}": (
            np.asarray(kl_normal(loc, scales, 0.0, 1.0)),
            np.array([kl_normal_quadrature(loc, float(s), 0.0, 1.0).value for s in scales]),
        )
        for loc in (0.0, 1.0, 2.0)
    }
    return plots.kl_comparison(scales, curves, xlabel="scale s of N(m, s²)")


def _map(exhibits: Exhibits, paths: Mapping[str, np.ndarray] | None = None) -> Figure:
    return plots.latent_map(
        exhibits.latents,
        exhibits.labels,
        class_names=exhibits.data.class_names,
        prior_circles=exhibits.standard,
        paths=paths,
    )


def _drawable(images: np.ndarray) -> np.ndarray:
    """Images `(..., C, H, W)` as they are; vectors cannot be drawn as images."""
    if images.ndim < 3:
        raise checks.ArgumentError(
            "data are vectors, but this figure draws images; choose 'latent' or 'history'."
        )
    return images
