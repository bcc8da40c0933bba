"""Floor 12: the report: one self-contained HTML file with live maps, and its figures as PNG."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaelab import files, plots
from vaelab.comparison import DOUBTED, Comparison, rows
from vaelab.estimator import VAE
from vaelab.exhibits import Exhibits
from vaelab.explorer import portable
from vaelab.report.figures import FIGURES, kl_figure, kl_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "PAGE", "draw", "write"]

PAGE = "report.html"

LARGEST = 13_500_000
"""Characters that the page takes at most, about, so that it can be sent."""


@dataclass(frozen=True)
class _Picture:
    """A figure of the page: its PNG as text, its width, what a reader without eyes is told."""

    source: str
    inches: float
    alt: str


def draw(exhibits: Exhibits, comparison: Comparison) -> dict[str, Figure]:
    """All figures that suit the data, by name: vectors have no pictures of data."""
    shape = next(iter(exhibits.models.values())).model_.shape
    wanted = FIGURES if len(shape) == 3 else ("latent", "paths", "history")
    figures = {name: FIGURES[name](exhibits) for name in wanted}
    return {"scores": plots.scores(comparison.figures), **figures, "kl": kl_figure()}


def write(
    folder: str | os.PathLike[str],
    comparison: Comparison,
    exhibits: Exhibits,
    *,
    command: str = "",
    figures: Mapping[str, Figure] | None = None,
) -> Path:
    """Writes `report.html` and `figures/*.png` into a folder; returns the page's path.

    Arguments:
        folder: The folder of the comparison.
        comparison: The models and their figures.
        exhibits: What is shown of them.
        command: How to repeat it; shown on the page.
        figures: What `draw` made of the exhibits, if that is at hand.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    folder = Path(folder)
    pictures = {}
    for name, figure in (figures or draw(exhibits, comparison)).items():
        png = plots.png_bytes(figure)
        files.write_atomically(folder / "figures" / f"{name}.png", png)
        source = "data:image/png;base64," + base64.b64encode(png).decode()
        pictures[name] = _Picture(source, float(figure.get_figwidth()), _ALT[name])
    page = _render(comparison, exhibits, pictures, command)
    return files.write_atomically(folder / PAGE, page)


def _render(
    comparison: Comparison, exhibits: Exhibits, pictures: Mapping[str, _Picture], command: str
) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["number"] = _number
    template = (resources("vaelab.report") / "page.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        comparison=comparison,
        models=comparison.figures,
        rows=[row for row in rows(list(comparison.figures.values())) if row.name not in _ABOVE],
        settings={name: vae.training_ for name, vae in comparison.models.items()},
        objectives={name: vae.recipe_.objective.name for name, vae in comparison.models.items()},
        separations={name: _separation(vae) for name, vae in comparison.models.items()},
        pictures=pictures,
        doubted=_doubted(comparison),
        point=", ".join(_number(c, "g") for c in next(iter(exhibits.points.values()))),
        ends=_ends(exhibits) if "interpolation" in pictures else {},
        by_data=exhibits.ends is None,
        names=exhibits.strips.names,
        explorer=Markup(_maps(exhibits, pictures)),
        kl_rows=kl_rows(),
        command=command,
        date=time.strftime("%Y-%m-%d"),
    )


def _number(value: float, form: str = ".2f") -> str:
    """A number in a page: with the sign of mathematics, not a hyphen."""
    return format(value, form).replace("-", "−")


def _doubted(comparison: Comparison) -> dict[str, float]:
    """The models whose log p(x) cannot be trusted, with the share of data that tell it."""
    shares = {name: row.get("unreliable") for name, row in comparison.figures.items()}
    return {name: share for name, share in shares.items() if share and share > DOUBTED}


def _separation(vae: VAE) -> str:
    """What a model's separation was, and where its term ended, beside the objective."""
    separation, last = vae.recipe_.separation, vae.history_[-1]
    if separation is None:
        return ""
    return (
        f" with a separation of weight {separation.weight:g} (its term: "
        f"{last['train_separation']:.2f} nats a datum at the end)"
    )


def _maps(exhibits: Exhibits, pictures: Mapping[str, _Picture]) -> str:
    """The live maps of the models; a conditional one, which needs labels, has none.

    They can show lines between neighbours where a model was to keep these together.
    """
    models = {name: vae for name, vae in exhibits.models.items() if not vae.model_.classes}
    if not models:
        return ""
    lines = any(vae.recipe_.separation is not None for vae in models.values())
    return portable.part(models, exhibits.sets, lines=lines, budget=_left(pictures))


def _left(pictures: Mapping[str, _Picture]) -> int:
    """How many characters the maps may take beside the figures."""
    return max(2_000_000, LARGEST - sum(len(picture.source) for picture in pictures.values()))


def _ends(exhibits: Exhibits) -> dict[str, tuple[str, str]]:
    def text(point: Any) -> str:
        return "(" + ", ".join(map(_number, point)) + ")"

    return {name: (text(p[0]), text(p[-1])) for name, p in exhibits.strips.paths.items()}


_ABOVE = {
    "elbo",
    "rate",
    "distortion",
    "log_likelihood",
    "knn_accuracy",
    "knn_accuracy_sampled",
    "active_units",
    "parameters",
    "seconds",
}
"""Figures that stand in the page's first table."""

_ALT = {
    "scores": "Panels of bounds, rate and distortion, classes and samples, a colour a model",
    "latent": "Scatter plots of the latent coordinates of every datum, a panel a model, by class",
    "reconstructions": "Grid of pictures: an example of each class and its reconstructions",
    "decode": "Pictures that the models decode the same latent point to, side by side",
    "interpolation": "Rows of pictures from one latent point to another, a row a model",
    "paths": "The latent maps again with the path of the interpolation drawn on them",
    "manifold": "Mosaics of pictures decoded from a grid of latent points, one a model",
    "history": "Curves of ELBO, rate and distortion during training",
    "kl": "Curves of the KL divergence in closed form with quadrature's values on them",
}
