"""Figures made of images: a picture is laid out in tiles, one unit wide each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vaelab import checks
from vaelab.plots import _arrays
from vaelab.plots._canvas import SMALL, TICKS, breadth, heading, panels, settled, style, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["decoded", "image_grid", "interpolation", "manifold", "reconstructions"]

LINES = 0.32  # inches that two lines of text take
APART = 0.2  # tiles between what is data and what a model made


def reconstructions(
    originals: np.ndarray,
    reconstructed: Mapping[str, np.ndarray],
    *,
    row_labels: Sequence[str] = (),
    across: bool = False,
) -> Figure:
    """Draws originals beside each model's reconstructions: a row an example, a column a model.

    Arguments:
        originals: The data, `(R, C, H, W)`.
        reconstructed: The mean of p(x | z) at each posterior mean, `(R, C, H, W)`, by model.
        row_labels: R texts for the left of the rows, or none.
        across: Whether rows and columns change places: a column an example, a row a model.

    >>> x = np.zeros((3, 1, 28, 28))
    >>> figure = reconstructions(x, {"vae": x, "conv": x}, row_labels=["0", "1", "2"])
    >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
    ['original', 'vae', 'conv']
    """
    sizes: dict[str, int] = {}
    left = _arrays.images("originals", originals, "RCHW", sizes)
    columns = _stack("reconstructed", reconstructed, "RCHW", sizes).swapaxes(0, 1)
    if len(row_labels) not in (0, len(left)):
        raise checks.ArgumentError(
            f"row_labels has {len(row_labels)} texts, but it must have {len(left)}, one a row."
        )
    if across:
        return _reconstructed_across(left, columns, ("original", *reconstructed), row_labels, sizes)
    rows, models = columns.shape[:2]
    tall = _aspect(sizes)
    side = _side(models + 1.2, rows * tall, least=0.75)
    names = [heading(name, side - 0.08, 8.0) for name in ("original", *reconstructed)]
    texts = [heading(text, 1.0, SMALL) for text in row_labels]
    with style():
        width = side * (models + 1 + APART) + breadth(texts) + 0.15
        figure, ax = _sheet(width, side * rows * tall + 0.4)
        _tiles(ax, left[:, None], tall)
        _tiles(ax, columns, tall, start=1 + APART)
        _frame(ax, 0.0, models + 1 + APART, rows * tall)
        ax.xaxis.tick_top()
        ax.set_xticks([0.5, *(np.arange(models) + 1.5 + APART)], names, fontsize=8)
        ticks = [(row + 0.5) * tall for row in range(len(row_labels))]
        ax.set_yticks(ticks, texts)
        return settled(figure)


def _reconstructed_across(
    originals: np.ndarray,
    columns: np.ndarray,
    names: Sequence[str],
    texts: Sequence[str],
    sizes: Mapping[str, int],
) -> Figure:
    """Originals `(R, C, H, W)` in a row, and below them those of each model, `(R, M, C, H, W)`."""
    examples, models = columns.shape[:2]
    tall = _aspect(sizes)
    side = _side(examples, (models + 1.2) * tall, least=0.75)
    names = [heading(name, 1.0, SMALL) for name in names]
    texts = [heading(text, side - 0.08, 8.0) for text in texts]
    high = (models + 1 + APART) * tall
    with style():
        width = side * examples + breadth(names) + 0.15
        figure, ax = _sheet(width, side * high + 0.4)
        _tiles(ax, originals[None], tall)
        _tiles(ax, columns.swapaxes(0, 1), tall, top=(1 + APART) * tall)
        _frame(ax, 0.0, examples, high)
        ax.xaxis.tick_top()
        ax.set_xticks(np.arange(len(texts)) + 0.5, texts, fontsize=8)
        rows = np.array([0.5, *(np.arange(models) + 1.5 + APART)])
        ax.set_yticks(rows * tall, names)
        return settled(figure)


def decoded(images: Mapping[str, np.ndarray], *, point: Sequence[float]) -> Figure:
    """Draws what each model makes of one latent point, side by side.

    Arguments:
        images: The mean of p(x | z), `(C, H, W)`, by model.
        point: The latent point z, `(D,)`.

    >>> figure = decoded({"vae": np.zeros((1, 28, 28))}, point=[0.5, 0.2])
    >>> figure.get_suptitle()
    'decoded from z = (0.50, 0.20)'
    """
    sizes: dict[str, int] = {}
    stack = _stack("images", images, "CHW", sizes)
    tall = _aspect(sizes)
    side = 1.6 if tall <= 1 else 1.6 / tall
    title = f"decoded from z = {_arrays.point('point', point)}"
    width = max(side + 0.15, (breadth([title], 9.5) + 0.2) / min(4, len(stack)))
    with style():
        figure, axes = panels(list(images), width=width, height=side * tall + 0.45)
        for ax, image in zip(axes, stack, strict=True):
            _tiles(ax, image[None, None], tall, gap=False)
            _frame(ax, 0.0, 1.0, tall)
        figure.suptitle(title, fontsize=9.5)
        return settled(figure)


def interpolation(
    strips: Mapping[str, np.ndarray],
    *,
    starts: Mapping[str, Sequence[float]],
    ends: Mapping[str, Sequence[float]],
    originals: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """Draws each model's decoded path from one latent point to another, a row a model.

    Arguments:
        strips: The decoded points at t = 0 … 1, `(S, C, H, W)` with S ≥ 2, by model.
        starts: The latent point at t = 0, `(D,)`, by model.
        ends: The latent point at t = 1, `(D,)`, by model.
        originals: The two data between which the path leads, `(C, H, W)` each, if it is between
            data; they are drawn at both ends.

    >>> strip, origin, end = np.zeros((5, 1, 28, 28)), [0.0, 0.0], [1.0, 1.0]
    >>> figure = interpolation({"vae": strip}, starts={"vae": origin}, ends={"vae": end})
    >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
    ['0', '0.25', '0.5', '0.75', '1']
    """
    sizes: dict[str, int] = {}
    stack = _stack("strips", strips, "SCHW", sizes)
    rows, steps = stack.shape[:2]
    if steps < 2:
        raise checks.ArgumentError(f"strips has {steps} step, but there must be at least 2.")
    names = [heading(name, 1.6, SMALL, lines=1) for name in strips]
    starting = [f"z = {_end('starts', starts, name)}" for name in strips]
    left = [f"{name}\n{text}" for name, text in zip(names, starting, strict=True)]
    right = [f"z = {_end('ends', ends, name)}" for name in strips]
    beside = 0.0 if originals is None else 1 + APART
    span = steps + 2 * beside
    side = _side(span, rows * _aspect(sizes), least=LINES)
    tall = max(_aspect(sizes), LINES / side)
    with style():
        width = side * span + breadth(left) + breadth(right) + 0.35
        figure, ax = _sheet(width, side * tall * rows + 0.45)
        _tiles(ax, stack, tall)
        for place, image in zip((-beside, steps + APART), originals or (), strict=False):
            shown = _arrays.images("originals", image, "CHW", sizes)
            _tiles(ax, np.repeat(shown[None, None], rows, axis=0), tall, start=place)
        _frame(ax, -beside, steps + beside, rows * tall)
        kept = thinned(steps, max(2, min(11, int(side * steps / 0.35))))
        labels = [f"{step / (steps - 1):.2f}".rstrip("0").rstrip(".") for step in kept]
        places = [step + 0.5 for step in kept]
        if originals is not None:
            places = [-beside + 0.5, *places, steps + beside - 0.5]
            labels = ["original", *labels, "original"]
        ax.set_xticks(places, labels)
        ax.set_xlabel("t", labelpad=1)
        ticks = [(row + 0.5) * tall for row in range(rows)]
        ax.set_yticks(ticks, left)
        other = ax.secondary_yaxis("right")
        other.set_yticks(ticks, right)
        other.tick_params(axis="y", **{**TICKS, "length": 0})
        other.spines[:].set_visible(False)
        return settled(figure)


def manifold(grids: Mapping[str, np.ndarray], *, coordinates: np.ndarray) -> Figure:
    """Draws the decoded grid of latent points over the prior's quantiles, one mosaic a model.

    Arguments:
        grids: The decoded points, `(R, R, C, H, W)`, by model. `grid[row, column]` is decoded
            from z₁ = `coordinates[column]` and z₂ = `coordinates[R − 1 − row]`: row 0 is the top,
            and thus has the largest z₂.
        coordinates: The values that both latent coordinates take, `(R,)`, ascending.

    >>> figure = manifold({"vae": np.zeros((3, 3, 1, 28, 28))}, coordinates=[-1.0, 0.0, 1.0])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['−1.00', '0.00', '1.00']
    """
    sizes: dict[str, int] = {}
    stack = _stack("grids", grids, "RRCHW", sizes)
    values = _arrays.array("coordinates", coordinates, "R", sizes)
    if not (np.diff(values) > 0).all():
        raise checks.ArgumentError("coordinates is not ascending, but it must be.")
    count, tall = sizes["R"], _aspect(sizes)
    side = 3.3 if tall <= 1 else 3.3 / tall
    kept = thinned(count, 7)
    labels = [f"{values[position]:.2f}".replace("-", "−") for position in kept]
    with style():
        figure, axes = panels(list(grids), width=side + 0.7, height=side * tall + 0.6)
        for ax, grid in zip(axes, stack, strict=True):
            _tiles(ax, grid, tall, gap=False)
            _frame(ax, 0.0, count, count * tall)
            ax.tick_params(length=2.5)
            ax.set_xticks([column + 0.5 for column in kept], labels)
            ax.set_yticks([(count - 0.5 - row) * tall for row in kept], labels)
            ax.set(xlabel="z₁", ylabel="z₂")
        return settled(figure)


def image_grid(images: np.ndarray, *, columns: int | None = None) -> Figure:
    """Draws images in rows, from left to right and top to bottom: samples, say.

    Arguments:
        images: `(N, C, H, W)`.
        columns: Images in a row; by default the grid is about square.

    >>> image_grid(np.zeros((64, 1, 28, 28))).axes[0].get_xlim() == (0.0, 8.0)
    True
    """
    sizes: dict[str, int] = {}
    stack = _arrays.images("images", images, "NCHW", sizes)
    count, tall = len(stack), _aspect(sizes)
    if columns is None:
        columns = math.ceil(math.sqrt(count * tall))
    columns = min(count, checks.integer("columns", columns))
    rows = math.ceil(count / columns)
    blank = np.ones((rows * columns - count, *stack.shape[1:]))
    grid = np.concatenate([stack, blank]).reshape(rows, columns, *stack.shape[1:])
    side = _side(columns, rows * tall, least=0.1)
    with style():
        figure, ax = _sheet(side * columns + 0.1, side * rows * tall + 0.1)
        _tiles(ax, grid, tall)
        _frame(ax, 0.0, columns, rows * tall)
        return settled(figure)


def _stack(
    name: str, mapping: Mapping[str, np.ndarray], axes: str, sizes: dict[str, int]
) -> np.ndarray:
    """The images of all models in one array, `(M, ...)`."""
    return np.stack(
        [
            _arrays.images(f"{name}[{model!r}]", value, axes, sizes)
            for model, value in _arrays.entries(name, mapping).items()
        ]
    )


def _end(name: str, points: Mapping[str, Sequence[float]], model: str) -> str:
    if model not in points:
        raise checks.ArgumentError(f"{name} has no point for {model!r}, but each model needs one.")
    return _arrays.point(f"{name}[{model!r}]", points[model])


def _aspect(sizes: Mapping[str, int]) -> float:
    """Height of a tile of width 1; very long images are stretched so that they can be seen."""
    return float(np.clip(sizes["H"] / sizes["W"], 0.25, 4.0))


def _side(columns: float, rows: float, *, least: float) -> float:
    """Width of a tile in inches, so that all of them fit a page where they can."""
    return max(least, min(0.85, 9.0 / columns, 8.0 / rows))


def _sheet(width: float, height: float) -> tuple[Figure, Axes]:
    figure, (ax,) = panels([""], width=width, height=height)
    return figure, ax


def _tiles(
    ax: Axes,
    grid: np.ndarray,
    tall: float,
    *,
    start: float = 0.0,
    top: float = 0.0,
    gap: bool = True,
) -> None:
    """Draws images `(R, K, C, H, W)` as one picture of tiles 1 wide and `tall` high."""
    rows, columns = grid.shape[:2]
    ax.imshow(
        _mosaic(grid, gap),
        cmap="gray",
        vmin=0.0,
        vmax=1.0,
        extent=(start, start + columns, top + rows * tall, top),
        aspect="equal",
    )


def _mosaic(grid: np.ndarray, gap: bool) -> np.ndarray:
    """One picture of images `(R, K, C, H, W)`, `(rows, columns)` if grey, else `(..., 3)`.

    With a gap, each image gets a white border of about 3 % of its shorter side; images of a few
    pixels are enlarged first, since a border is at least one pixel wide.
    """
    rows, columns, channels, height, width = grid.shape
    if gap:
        larger = math.ceil(16 / min(height, width))
        border = max(1, round(min(height, width) * larger / 36))
        grid = grid.repeat(larger, axis=3).repeat(larger, axis=4)
        around = ((0, 0), (0, 0), (0, 0), (border, border), (border, border))
        grid = np.pad(grid, around, constant_values=1.0)
    height, width = grid.shape[-2:]
    picture = grid.transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    return picture[..., 0] if channels == 1 else picture


def _frame(ax: Axes, left: float, right: float, bottom: float) -> None:
    """Limits in tiles, with neither frame nor ticks: the images are the frame."""
    ax.set(xlim=(left, right), ylim=(bottom, 0.0), xticks=[], yticks=[])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
