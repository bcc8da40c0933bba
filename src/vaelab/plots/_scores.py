"""One figure of an evaluation: what `vaelab.evaluate` found, a colour a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaelab.plots import _arrays
from vaelab.plots._canvas import NOTE, heading, model_colours, panels, settled, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["scores"]

Figures = Mapping[str, Mapping[str, Any]]

SIGMAS = 1.96
"""Standard errors that a bar reaches to either side: 95 % of a normal distribution."""

MAP = {
    "trustworthiness": "trustworthiness",
    "continuity": "continuity",
    "distance_correlation": "distance corr.",
    "knn_accuracy": "15 neighbours",
    "knn_accuracy_sampled": "… sampled z",
    "linear_probe_accuracy": "linear probe",
    "linear_probe_accuracy_sampled": "… sampled z",
    "silhouette": "silhouette",
}
SAMPLES = {
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}
FACTORS = {
    "mig": "MIG",
    "sap": "SAP",
    "dci_disentanglement": "DCI disent.",
    "dci_completeness": "DCI compl.",
    "dci_informativeness": "DCI inform.",
    "factor_vae": "FactorVAE",
}
COLUMNS = 3

MARKS: dict[str, dict[str, Any]] = {
    "elbo": {"marker": "o", "markerfacecolor": "white"},
    "log_likelihood": {"marker": "D"},
}
EQUAL: dict[str, Any] = {"color": NOTE, "linewidth": 0.6, "linestyle": (0, (4, 3))}
HATCH = "////"
PARTS = ("mutual_information", "marginal_kl")


def scores(figures: Figures) -> Figure:
    """Draws what models were found to be worth: bounds, information, classes, samples, factors.

    There is a panel for each group of figures that at least one model has; bars are 95 %
    intervals over data.

    Arguments:
        figures: What `vaelab.evaluate` gives, by model; energies in nats per datum.

    >>> row = {"elbo": -140.0, "elbo_se": 0.4, "rate": 8.0, "distortion": 132.0}
    >>> figure = scores({"vae": row, "conv": row | {"elbo": -138.0, "distortion": 130.0}})
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['Bounds', 'Rate and distortion']
    """
    named = _arrays.entries("figures", figures)
    shown = {
        title: draw
        for title, (needed, draw) in PANELS.items()
        if any(row.get(key) is not None for row in named.values() for key in needed)
    }
    palette = model_colours(list(named))
    with style():
        columns = min(COLUMNS, len(shown)) or 1
        figure, axes = panels(list(shown), width=3.1, height=2.5, columns=columns)
        figure.set_layout_engine("compressed", w_pad=0.08, h_pad=0.08)
        for ax, draw in zip(axes, shown.values(), strict=True):
            draw(ax, named, palette)
        _legend(figure, palette)
        return settled(figure)


def _bounds(ax: Axes, figures: Figures, palette: Mapping[str, str]) -> None:
    """ELBO and the importance-weighted bound of each model, a row a model."""
    names = list(figures)[::-1]
    for row, name in enumerate(names):
        found = figures[name]
        for lift, (key, look) in zip((0.13, -0.13), MARKS.items(), strict=True):
            if found.get(key) is not None:
                error = SIGMAS * float(found.get(f"{key}_se") or 0)
                whole: dict[str, Any] = {"color": palette[name], "capsize": 2, "markersize": 4.5}
                ax.errorbar(found[key], row + lift, xerr=error, **whole | look)
    _name_rows(ax, names)
    ax.set_xlabel("nats per datum")
    ax.margins(x=0.12)


def _plane(ax: Axes, figures: Figures, palette: Mapping[str, str]) -> None:
    """The rate-distortion plane, where models of one ELBO lie on a line."""
    points = {
        name: (float(row["rate"]), float(row["distortion"]))
        for name, row in figures.items()
        if row.get("rate") is not None and row.get("distortion") is not None
    }
    for name, (rate, distortion) in points.items():
        ax.plot(rate, distortion, "o", color=palette[name], markersize=5.5)
    rates, distortions = np.array(list(points.values())).T
    for values, limits in ((rates, ax.set_xlim), (distortions, ax.set_ylim)):
        room = max(1.0, 0.25 * float(np.ptp(values)))
        limits(float(values.min()) - room, float(values.max()) + room)
    for total in sorted({round(r + d, 6) for r, d in points.values()}):
        ax.axline((0, total), slope=-1, zorder=0, **EQUAL)
    ax.set_xlabel("rate (nats)")
    ax.set_ylabel("distortion (nats)")


def _dimensions(ax: Axes, figures: Figures, palette: Mapping[str, str]) -> None:
    """The rate of each latent dimension, the largest first."""
    sizes = {name: sorted(row.get("kl_per_dimension") or [], reverse=True)
             for name, row in figures.items()}  # fmt: skip
    for name, values in sizes.items():
        ax.plot(range(1, len(values) + 1), values, marker="o", markersize=3, color=palette[name])
    ax.set_xlim(0.5, max(map(len, sizes.values())) + 0.5)
    ax.set_ylim(0, 1.1 * max(max(values, default=0.0) for values in sizes.values()) or 1.0)
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("latent dimension, by its rate")
    ax.set_ylabel("rate (nats)")


def _information(ax: Axes, figures: Figures, palette: Mapping[str, str]) -> None:
    """The rate as mutual information and what the aggregate posterior is from the prior."""
    names = list(figures)[::-1]
    for row, name in enumerate(names):
        found = figures[name]
        first, second = (
            float(found.get(key) or 0) for key in ("mutual_information", "marginal_kl")
        )
        look: dict[str, Any] = {"height": 0.5, "edgecolor": palette[name], "linewidth": 0.8}
        ax.barh(row, first, color=palette[name], **look)
        ax.barh(row, second, left=first, color="white", hatch=HATCH, **look)
    _name_rows(ax, names)
    ax.set_xlabel("nats")


def _dots(labels: Mapping[str, str], *, least: float = 0.0) -> Callable[..., None]:
    """Draws figures between 0 and 1, a row a figure."""

    def draw(ax: Axes, figures: Figures, palette: Mapping[str, str]) -> None:
        keys = [key for key in labels if any(row.get(key) is not None for row in figures.values())]
        spread = np.linspace(0.2, -0.2, len(figures)) if len(figures) > 1 else [0.0]
        for shift, (name, row) in zip(spread, figures.items(), strict=True):
            for place, key in enumerate(keys[::-1]):
                if row.get(key) is not None:
                    ax.plot(row[key], place + shift, "o", color=palette[name], markersize=4.5)
        ax.set_yticks(range(len(keys)), [labels[key] for key in keys[::-1]])
        ax.set_ylim(-0.6, len(keys) - 0.4)
        ax.set_xlim(min(least, ax.get_xlim()[0]), max(1.0, math.ceil(10 * ax.get_xlim()[1]) / 10))
        for place in range(len(keys) - 1):
            ax.axhline(place + 0.5, color=NOTE, linewidth=0.3)

    return draw


Panel = tuple[Sequence[str], Callable[[Any, Figures, Mapping[str, str]], None]]

PANELS: dict[str, Panel] = {
    "Bounds": (("elbo", "log_likelihood"), _bounds),
    "Rate and distortion": (("rate",), _plane),
    "Rate of each dimension": (("kl_per_dimension",), _dimensions),
    "Parts of the rate": (("mutual_information",), _information),
    "The code as a map": (tuple(MAP), _dots(MAP)),
    "Samples": (tuple(SAMPLES), _dots(SAMPLES)),
    "Factors in the code": (tuple(FACTORS), _dots(FACTORS)),
}
"""The panels in their order: which figures each needs, and how it is drawn."""


def _name_rows(ax: Axes, names: Sequence[str]) -> None:
    """A row a model, of which there is room for three at least."""
    ax.set_yticks(range(len(names)), [heading(name, 1.3, 7.5) for name in names])
    room = max(0.6, 1.6 - len(names) / 2)
    ax.set_ylim(-room, len(names) - 1 + room)


def _legend(figure: Figure, palette: Mapping[str, str]) -> None:
    """One legend for the figure: a colour a model, then what marks, lines and bars mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=colour, marker="o", linestyle="", label=heading(name, 1.3, 8.0))
        for name, colour in palette.items()
    ]
    told: dict[str, list[Any]] = {
        "Bounds": [
            Line2D([], [], color=NOTE, linestyle="", label=label, **MARKS[key])
            for key, label in (("elbo", "ELBO"), ("log_likelihood", "log p(x)"))
        ],
        "Rate and distortion": [Line2D([], [], label="equal ELBO", **EQUAL)],
        "Parts of the rate": [
            Patch(facecolor=NOTE, label="I(x; z)"),
            Patch(facecolor="white", edgecolor=NOTE, hatch=HATCH, label="KL(q(z) ‖ p(z))"),
        ],
    }
    titles = {ax.get_title(loc="left") for ax in figure.axes}
    handles += [handle for title, some in told.items() if title in titles for handle in some]
    figure.legend(handles=handles, loc="outside right center")
