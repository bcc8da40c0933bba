"""Figures made of curves: training, and the KL divergence of two normal distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaelab import checks
from vaelab.plots import _arrays
from vaelab.plots._canvas import (
    INK,
    MODEL_COLOURS,
    NOTE,
    heading,
    model_colours,
    note,
    panels,
    plain,
    settled,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["history", "kl_comparison", "kl_densities"]

TERMS = {"elbo": "ELBO (nats)", "rate": "rate (nats)", "distortion": "distortion (nats)"}
TIMES = {"epoch": "epoch", "seconds": "training time (s)"}
SPLITS: dict[str, dict[str, Any]] = {
    "valid": {"label": "validation", "linestyle": "-"},
    "train": {"label": "training", "linestyle": (0, (3, 2)), "markerfacecolor": "white"},
}
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
FLOOR = 1e-17  # zero has no place on a logarithmic axis


def history(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draws the training curves: ELBO, rate and distortion against epochs and against seconds.

    The limits are those of the epochs after the first 5 % (one at least), so that the start does
    not flatten the rest; where that cuts something off, it is said above the panel.

    Arguments:
        histories: One mapping an epoch, by model, with the keys `epoch`, `seconds`, `train_elbo`,
            `train_rate`, `train_distortion`, `valid_elbo`, `valid_rate`, `valid_distortion`; nats
            per datum, where ELBO = −(rate + distortion).

    >>> epoch = {"epoch": 1, "seconds": 2.0}
    >>> for split in ("train", "valid"):
    ...     epoch |= {f"{split}_elbo": -150, f"{split}_rate": 7, f"{split}_distortion": 143}
    >>> figure = history({"vae": [epoch]})
    >>> [ax.get_ylabel() for ax in figure.axes[::2]]
    ['ELBO (nats)', 'rate (nats)', 'distortion (nats)']
    """
    columns = {
        name: _columns(name, value)
        for name, value in _arrays.entries("histories", histories).items()
    }
    palette = model_colours(list(columns))
    few = all(len(data["epoch"]) <= 30 for data in columns.values())
    marker = {"marker": "o", "markersize": 2.4} if few else {}
    looks = {split: {**look, **marker} for split, look in SPLITS.items()}
    with style():
        figure, axes = panels([""] * 6, width=3.6, height=2.0, columns=2)
        for position, ax in enumerate(axes):
            term, time = list(TERMS)[position // 2], list(TIMES)[position % 2]
            for name, data in columns.items():
                for split, look in looks.items():
                    ax.plot(data[time], data[f"{split}_{term}"], color=palette[name], **look)
            _zoom(ax, [data[f"{split}_{term}"] for data in columns.values() for split in SPLITS])
            ax.set_xlabel(TIMES[time] if position >= 4 else "")
            ax.set_ylabel(TERMS[term] if position % 2 == 0 else "")
            ax.set_xlim(left=0)
            ax.locator_params(axis="x", integer=time == "epoch")
            ax.label_outer()
        figure.align_ylabels()
        _legend(figure, palette, list(looks.values()))
        return settled(figure)


def kl_densities(p: tuple[float, float], q: tuple[float, float], *, kl: float) -> Figure:
    """Draws two normal densities, and p(x) log(p(x)/q(x)), whose area is KL(p ‖ q).

    Where the two differ too much in place or scale for one linear picture, the first panel has the
    logarithms of the densities, where p has its mass: that is all that the divergence weighs.

    Arguments:
        p: Mean and standard deviation of p.
        q: Mean and standard deviation of q.
        kl: KL(p ‖ q) in nats; it must agree with the area.

    >>> figure = kl_densities((0.0, 1.0), (0.0, 2.0), kl=0.3181)
    >>> figure.axes[1].get_title(loc="left")
    'signed area = KL(p ‖ q) = 0.3181 nats'
    """
    kl = checks.number("kl", kl)
    (loc_p, scale_p), (loc_q, scale_q) = _normal("p", p), _normal("q", q)
    u, log_p, log_q, linear = _log_densities(loc_p, scale_p, loc_q, scale_q)
    integrand = np.exp(log_p) * (log_p - log_q)
    area = float(integrand.sum() * (u[1] - u[0]) * scale_p)
    if abs(area - kl) > 1e-3 * abs(area) + 1e-9:
        raise checks.ArgumentError(
            f"kl = {kl:.6g}, but the area under p(x) log(p(x)/q(x)) is {area:.6g} nats."
        )
    shift = loc_p if abs(loc_p) > 1e3 * scale_p * np.ptp(u) else 0.0  # ticks that can be told apart
    x = (loc_p - shift) + scale_p * u
    names = [
        f"{name}: mean {_figure(loc)}, scale {_figure(scale)}"
        for name, loc, scale in (("p", loc_p, scale_p), ("q", loc_q, scale_q))
    ]
    with style():
        figure, (above, below) = panels([""] * 2, width=5.4, height=2.3, columns=1, sharex=True)
        for name, log, colour in zip(names, (log_p, log_q), MODEL_COLOURS[:2], strict=True):
            dashes = "-" if log is log_p else "--"  # so that both are seen where they are equal
            above.plot(
                x, np.exp(log) if linear else log, color=colour, label=name, linestyle=dashes
            )
        above.set_ylabel("density" if linear else "log density (nats)")
        above.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.1)
        below.plot(x, integrand, color=INK, linewidth=1.0)
        for side, colour in (
            (integrand.clip(0.0), "#8fbbda"),
            (integrand.clip(None, 0.0), "#e8a87c"),
        ):
            below.fill_between(x, side, color=colour, linewidth=0)
        below.axhline(0.0, color=INK, linewidth=0.6)
        below.set_title(f"signed area = KL(p ‖ q) = {_figure(kl, 4)} nats", loc="left")
        below.set(ylabel="p(x) log(p(x)/q(x))", xlim=(x[0], x[-1]))
        below.set_xlabel("x − mean of p" if shift else "x")
        above.label_outer()
        return settled(figure)


def kl_comparison(
    x: np.ndarray, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], *, xlabel: str
) -> Figure:
    """Draws KL divergences in closed form (lines) and by quadrature (markers), and the differences.

    The second panel has their absolute difference on a logarithmic axis; zeros are drawn at 1e-17,
    which is then said above it.

    Arguments:
        x: What is varied, `(n,)`.
        curves: The closed form and the quadrature, `(n,)` each, in nats, by name.
        xlabel: What `x` is.

    >>> x = np.linspace(1.0, 2.0, 5)
    >>> figure = kl_comparison(x, {"KL": (x**2, x**2)}, xlabel="scale of q")
    >>> figure.axes[1].get_title(loc="right")
    'zeros drawn at 1e−17'
    """
    sizes: dict[str, int] = {}
    across = _arrays.array("x", x, "n", sizes)
    pairs = {}
    for name, pair in _arrays.entries("curves", curves).items():
        pairs[name] = _arrays.array(f"curves[{name!r}]", pair, "2n", {"2": 2, **sizes})
    palette = model_colours(list(pairs))
    every = max(1, len(across) // 40)
    marks: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 4, "fillstyle": "none"}
    with style():
        figure, (above, below) = panels([""] * 2, width=5.4, height=2.4, columns=1, sharex=True)
        for name, (closed, quadrature) in pairs.items():
            above.plot(across, closed, color=palette[name])
            above.plot(across, quadrature, color=palette[name], markevery=every, **marks)
            apart = np.abs(closed - quadrature)
            below.plot(across, apart.clip(FLOOR), color=palette[name], marker=".", linestyle="")
            if (apart < FLOOR).any():
                note(below, "zeros drawn at 1e−17")
        above.set(xscale=_scale(across), yscale=_scale(np.stack(list(pairs.values()))))
        above.set_ylabel("KL (nats)")
        below.set(yscale="log", xlabel=plain(xlabel), ylabel="|difference| (nats)")
        above.label_outer()
        _legend(figure, palette, [{"label": "closed form"}, {"label": "quadrature", **marks}])
        return settled(figure)


def _columns(name: str, entries: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """One array `(epochs,)` a key, of the history of one model."""
    keys = [*TIMES, *(f"{split}_{term}" for split in SPLITS for term in TERMS)]
    missing = [key for key in keys if any(key not in entry for entry in entries)]
    if missing:
        raise checks.ArgumentError(
            f"histories[{name!r}] lacks {', '.join(missing)}, but each epoch needs "
            f"{', '.join(keys)}."
        )
    return {
        key: _arrays.array(f"histories[{name!r}] {key}", [entry[key] for entry in entries], "N")
        for key in keys
    }


def _zoom(ax: Axes, curves: Sequence[np.ndarray]) -> None:
    """Limits that hold all but the start of the curves, where the start would flatten the rest."""
    whole = np.concatenate(curves)
    later = np.concatenate([curve[len(curve) // 20 + 1 :] for curve in curves])
    if not len(later) or np.ptp(whole) <= 2.5 * np.ptp(later) or np.ptp(later) == 0:
        return
    margin = 0.06 * np.ptp(later)
    ax.set_ylim(later.min() - margin, later.max() + margin)
    note(ax, "start cut off")


def _log_densities(
    loc_p: float, scale_p: float, loc_q: float, scale_q: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Logarithms of two densities where p has its mass, and q too if one linear picture has both.

    Returns the distance from the mean of p in its standard deviations, log p, log q, and whether
    a linear picture will do.
    """
    low = min(loc_p - 6 * scale_p, loc_q - 4 * scale_q)
    high = max(loc_p + 6 * scale_p, loc_q + 4 * scale_q)
    linear = high - low <= 60 * min(scale_p, scale_q)
    span = ((low - loc_p) / scale_p, (high - loc_p) / scale_p) if linear else (-6.0, 6.0)
    u = np.linspace(*span, 6001)
    log_p = -0.5 * u**2 - np.log(scale_p * np.sqrt(2 * np.pi))
    away = (loc_p - loc_q) / scale_q + u * (scale_p / scale_q)
    log_q = -0.5 * away**2 - np.log(scale_q * np.sqrt(2 * np.pi))
    return u, log_p, log_q, linear


def _normal(name: str, values: tuple[float, float]) -> tuple[float, float]:
    if len(values) != 2:
        raise checks.ArgumentError(
            f"{name} = {values!r}, but it must be a mean and a standard deviation."
        )
    return (
        checks.number(f"{name}'s mean", values[0]),
        checks.number(f"{name}'s standard deviation", values[1], above=0),
    )


def _figure(value: float, digits: int = 7) -> str:
    """A number as it is printed: `1.2×10⁻⁵` rather than `1.2e-05`, and a true minus sign.

    >>> _figure(-1000.0), _figure(1e6), _figure(1.25e-9)
    ('−1000', '1000000', '1.25×10⁻⁹')
    """
    number, _, power = f"{value:.{digits}g}".replace("-", "−").partition("e")
    if not power:
        return number
    sign = "⁻" if power[0] == "−" else ""
    return f"{number}×10{sign}{power[1:].lstrip('0').translate(SUPERSCRIPTS)}"


def _scale(values: np.ndarray) -> str:
    """Logarithmic where positive values span more than three decades."""
    return "log" if values.min() > 0 and values.max() > 1e3 * values.min() else "linear"


def _legend(figure: Figure, palette: Mapping[str, str], looks: Sequence[Mapping[str, Any]]) -> None:
    """One legend for the figure: a colour a model, then what the kinds of line mean."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, linewidth=2.2, label=heading(name, 1.3, 8.0))
        for name, colour in palette.items()
    ]
    handles += [Line2D([], [], **{"color": NOTE, **look}) for look in looks]
    labels = [str(handle.get_label()) for handle in handles]
    figure.legend(handles, labels, loc="outside right center")
