"""The latent map: where each model puts the data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaelab import checks
from vaelab.plots import _arrays
from vaelab.plots._arrays import Classes
from vaelab.plots._canvas import (
    CLASS_COLOURS,
    INK,
    SMALL,
    breadth,
    colours,
    halo,
    heading,
    note,
    panels,
    plain,
    settled,
    style,
    thinned,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["latent_map"]

SIDE = 3.3  # inches of a panel
SIGMAS = (1, 2, 3)
# Behind the name of a circle: neither its dashes nor points may be read as a part of it.
PATCH: dict[str, Any] = {"boxstyle": "round,pad=0.2", "facecolor": "white", "linewidth": 0}


def latent_map(
    latents: Mapping[str, np.ndarray],
    y: np.ndarray | None = None,
    *,
    class_names: Sequence[str] = (),
    prior_circles: bool | Collection[str] = True,
    paths: Mapping[str, np.ndarray] | None = None,
    dims: tuple[int, int] = (0, 1),
    shares_axes: bool = False,
) -> Figure:
    """Draws where each model puts the data: one panel a model, one colour a class.

    Points are drawn in one random order, so that no class hides another. Limits hold the prior's
    3σ circle and all but the last 0.05 % of the points at each end of an axis; how many points lie
    outside is said above the panel. Up to ten classes are named at their medians, by their numbers
    where a name is long, unless the medians are too close. Where D is 1, the panel has the density
    of each class, in a row of its own.

    Arguments:
        latents: The latent means of each model, `(N, D)`; D may differ.
        y: Class of each datum, `(N,)`, whole numbers; `None` where there are no labels.
        class_names: What class k is called, at position k; by default its number.
        prior_circles: Whether to draw 1, 2 and 3 standard deviations of the prior N(0, I), or the
            names of the models that have this prior.
        paths: Paths to draw over the data, `(S, D)`, by the model's name.
        dims: The two dimensions shown where D is greater than 2, counted from 0.
        shares_axes: Whether all panels have the same limits.

    >>> z = np.random.default_rng(0).normal(size=(100, 2))
    >>> figure = latent_map({"vae": z, "conv": 2 * z}, np.arange(100) % 10)
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['vae', 'conv']
    """
    sizes: dict[str, int] = {}
    clouds, lines, shown = {}, {}, {}
    for name, value in _arrays.entries("latents", latents).items():
        sizes.pop("D", None)
        cloud = _arrays.array(f"latents[{name!r}]", value, "ND", sizes)
        shown[name] = _shown(name, cloud.shape[1], dims)
        clouds[name] = cloud[:, shown[name]]
        path = None if paths is None else paths.get(name)
        if path is not None:
            whole = _arrays.array(f"paths[{name!r}]", path, "SD", {"D": cloud.shape[1]})
            lines[name] = whole[:, shown[name]]
    for name in paths or ():
        checks.choice("paths", name, clouds)
    known = _arrays.classes(y, class_names, sizes["N"])
    circled = prior_circles
    if isinstance(circled, bool):
        circled = list(clouds) if circled else []
    boxes = [_limits(cloud, lines.get(name), name in circled) for name, cloud in clouds.items()]
    if shares_axes and len({box.shape for box in boxes}) == 1:
        boxes = [_square(np.array([np.min(boxes, 0)[0], np.max(boxes, 0)[1]]))] * len(boxes)
    margin = 0.5 + breadth([heading(name, 1.3, 8.0) for name in known.names], 8.0)
    with style():
        figure, axes = panels(list(clouds), width=SIDE, height=SIDE, margin=margin)
        for ax, (name, cloud), box in zip(axes, clouds.items(), boxes, strict=True):
            names = [_subscript(dim) for dim in shown[name]]
            draw = _draw_map if cloud.shape[1] == 2 else _draw_rows
            draw(ax, cloud, known, box, names, name in circled)
            _draw_path(ax, lines.get(name))
            outside = np.count_nonzero(((cloud < box[0]) | (cloud > box[1])).any(axis=1))
            if outside:
                note(ax, f"{outside:,} of {len(cloud):,} outside")
        flat = all(cloud.shape[1] == 1 for cloud in clouds.values())  # rows are named beside them
        _draw_key(figure, axes, Classes(known.codes, ()) if flat else known, bool(lines))
        return settled(figure)


def _shown(name: str, latent_dim: int, dims: Sequence[int]) -> list[int]:
    """The dimensions that are drawn: one or two."""
    if latent_dim <= 2:
        return list(range(latent_dim))
    if len(set(dims)) != 2 or not all(0 <= dim < latent_dim for dim in dims):
        raise checks.ArgumentError(
            f"dims = {dims!r}, but it must be two different whole numbers from 0 to "
            f"{latent_dim - 1} for {name!r}."
        )
    return list(dims)


def _subscript(dim: int) -> str:
    return "z" + str(dim + 1).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _limits(cloud: np.ndarray, path: np.ndarray | None, prior: bool) -> np.ndarray:
    """Limits `(2, D)`, from and to, that a few far points do not stretch."""
    held = [np.quantile(cloud, [0.0005, 0.9995], axis=0)]
    if prior:
        held.append(np.full((2, cloud.shape[1]), [[-1.1], [1.1]]) * SIGMAS[-1])
    if path is not None:
        held.append(path)
    corners = np.concatenate(held)
    return _square(np.array([corners.min(axis=0), corners.max(axis=0)]))


def _square(box: np.ndarray) -> np.ndarray:
    """The same limits with equal lengths and a margin of 3 % at each end."""
    half = 0.53 * (np.ptp(box, axis=0).max() or 1.0)
    return np.asarray(box.mean(axis=0) + half * np.array([[-1.0], [1.0]]))


def _draw_map(
    ax: Axes, cloud: np.ndarray, known: Classes, box: np.ndarray, names: list[str], prior: bool
) -> None:
    from matplotlib.colors import to_rgba_array

    count = len(cloud)
    order = np.random.default_rng(0).permutation(count)
    order = order[((cloud >= box[0]) & (cloud <= box[1])).all(axis=1)[order]]
    alpha = float(0.8 if known.names else np.clip(12 / count**0.3, 0.2, 0.8))
    palette = to_rgba_array(colours(max(1, len(known.names)), CLASS_COLOURS), alpha)
    area = float(np.clip(9000 / count, 1.1, 14.0))
    x, y = cloud[order].T
    points = ax.scatter(x, y, area, palette[known.codes[order]], linewidths=0, rasterized=True)
    points.set_in_layout(False)
    taken = _draw_circles(ax, box) if prior else []
    if 0 < len(known.names) <= len(CLASS_COLOURS):
        _draw_class_names(ax, cloud, known, box, taken)
    ax.set(xlim=box[:, 0], ylim=box[:, 1], xlabel=names[0], ylabel=names[1], aspect="equal")
    ax.locator_params(nbins=7)


def _draw_circles(ax: Axes, box: np.ndarray) -> list[list[float]]:
    """Draws the prior's circles, and returns the boxes of their labels."""
    from matplotlib.patches import Circle

    taken = []
    inches = (SIDE - 0.8) / (box[1, 0] - box[0, 0])
    for sigma in SIGMAS:
        look: dict[str, Any] = {"fill": False, "linestyle": (0, (4, 3)), "linewidth": 0.8}
        ax.add_patch(Circle((0.0, 0.0), sigma, edgecolor=INK, path_effects=halo(1.6), **look))
        if inches > 0.16 or sigma == SIGMAS[-1]:  # where circles are small, only the last is named
            _label(ax, (0.0, -sigma), f"{sigma}σ", 6.5, bbox=PATCH)
            taken.append([0.0, -sigma, 0.12 / inches, 0.08 / inches])
    return taken


def _draw_class_names(
    ax: Axes, cloud: np.ndarray, known: Classes, box: np.ndarray, taken: list[list[float]]
) -> None:
    """Writes each class at its median, moved a little where it would cover another text.

    Where that is not enough, as the classes are not apart at all, none is written.
    """
    counts = np.bincount(known.codes, minlength=len(known.names))
    present = [int(code) for code in np.flatnonzero(counts >= 5)]  # a text would hide fewer
    if not present:
        return
    inches = (SIDE - 0.8) / (box[1, 0] - box[0, 0])
    places = np.array([np.median(cloud[known.codes == code], axis=0) for code in present])
    halves = np.array([(0.045 * len(known.short(code)) + 0.02, 0.075) for code in present])
    moved = _apart(places, halves / inches, taken, box)
    if np.hypot(*(moved - places).T).max() * inches < 0.35:
        for code, place in zip(present, moved, strict=True):
            _label(ax, place, plain(known.short(code)), 8.5, fontweight="bold")


def _label(
    ax: Axes, place: Sequence[float] | np.ndarray, text: str, size: float, **look: Any
) -> None:
    """Writes a text on the points: above them and the path, with a halo."""
    middle: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 7, **look}
    ax.text(place[0], place[1], text, fontsize=size, path_effects=halo(2.6), **middle)


def _apart(
    places: np.ndarray, halves: np.ndarray, taken: list[list[float]], box: np.ndarray
) -> np.ndarray:
    """Moves boxes `(K, 2)` of half sizes `(K, 2)` as little as parts them from each other."""
    fixed = np.array(taken).reshape(-1, 4)
    sizes = np.concatenate([halves, fixed[:, 2:]])
    centres = np.concatenate([places, fixed[:, :2]])
    free = len(places)
    for _ in range(200):
        moved = False
        for i in range(free):
            for j in range(i + 1, len(centres)):
                gap = centres[i] - centres[j]
                overlap = sizes[i] + sizes[j] - np.abs(gap)
                if (overlap <= 0).any():
                    continue
                axis = int(np.argmin(overlap))
                step = (overlap[axis] + 1e-6 * sizes[i, axis]) * (1.0 if gap[axis] >= 0 else -1.0)
                both = j < free
                centres[i, axis] += step / 2 if both else step
                centres[j, axis] -= step / 2 if both else 0.0
                moved = True
        centres[:free] = centres[:free].clip(box[0] + halves, box[1] - halves)
        if not moved:
            break
    return np.asarray(centres[:free])


def _draw_rows(
    ax: Axes, cloud: np.ndarray, known: Classes, box: np.ndarray, names: list[str], prior: bool
) -> None:
    """One latent dimension: the density of each class, in a row of its own."""
    rows = max(1, len(known.names))
    edges = np.linspace(box[0, 0], box[1, 0], 101)
    heights = np.array(
        [np.histogram(cloud[known.codes == row, 0], edges)[0] for row in range(rows)], dtype=float
    )
    heights /= np.maximum(heights.sum(axis=1, keepdims=True), 1.0)  # each class has the same area
    heights *= 0.9 / max(heights.max(), 1e-12)
    for row, colour in enumerate(colours(rows, CLASS_COLOURS)):
        ax.stairs(heights[row] + row, edges, baseline=row, fill=True, color=colour, alpha=0.85)
        ax.axhline(row, color=colour, linewidth=0.6)
    if prior:
        for sigma in [-3, -2, -1, 1, 2, 3]:
            ax.axvline(sigma, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0.5)
            _label(ax, (sigma, 1.05 * rows), f"{sigma}σ".replace("-", "−"), 6.5)
    ax.set(xlim=box[:, 0], ylim=(-0.08 * rows, 1.1 * rows), xlabel=names[0])
    ticks = thinned(rows, 25) if known.names else []
    labels = [heading(known.names[row], 0.9, SMALL) for row in ticks]
    ax.set_yticks([row + 0.3 for row in ticks], labels)
    ax.tick_params(axis="y", length=0)
    ax.set_ylabel("density of each class" if known.names else "density")


def _draw_path(ax: Axes, path: np.ndarray | None) -> None:
    if path is None:
        return
    x, y = path[:, 0], path[:, 1] if path.shape[1] == 2 else np.full(len(path), -0.3)
    ax.plot(x, y, color="black", linewidth=1.5, path_effects=halo(3.5), zorder=5)
    for end, (marker, face) in ((0, ("o", "white")), (-1, ("s", "black"))):
        ax.plot(x[end], y[end], marker, **_marker(face), path_effects=halo(3.0), zorder=6)


def _marker(face: str) -> dict[str, Any]:
    return {"color": face, "markeredgecolor": "black", "markersize": 5.5, "markeredgewidth": 1.3}


def _draw_key(figure: Figure, axes: list[Axes], known: Classes, has_paths: bool) -> None:
    """The legend of classes and path ends, or a colour bar where the classes are many."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap
    from matplotlib.lines import Line2D

    count = len(known.names)
    handles, labels = [], []
    if count > len(CLASS_COLOURS):
        ramp = ListedColormap(colours(count, CLASS_COLOURS))
        shown = ScalarMappable(cmap=ramp)
        bar = figure.colorbar(shown, ax=axes, aspect=30, pad=0.02, label="class")
        ticks = thinned(count, 25)
        names = [heading(known.names[code], 1.0, SMALL) for code in ticks]
        bar.set_ticks([(code + 0.5) / count for code in ticks], labels=names)
        bar.ax.tick_params(labelsize=SMALL, length=2)
    else:
        for code, colour in enumerate(colours(count, CLASS_COLOURS)):
            name = known.names[code]
            handles.append(Line2D([], [], marker="o", linestyle="", color=colour, markersize=5.5))
            labels.append(
                heading(name if known.short(code) == name else f"{code}  {name}", 1.3, 8.0)
            )
    if has_paths:
        for end, marker, face in (("start", "o", "white"), ("end", "s", "black")):
            handles.append(Line2D([], [], marker=marker, linestyle="", **_marker(face)))
            labels.append(plain(f"path {end}"))
    if handles:
        figure.legend(handles, labels, loc="outside right center", handletextpad=0.3)
