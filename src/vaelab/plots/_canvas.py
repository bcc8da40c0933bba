"""What all figures share: style, colours, panels, headings, and the way out to bytes."""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaelab import checks, files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patheffects import AbstractPathEffect

__all__ = [
    "CLASS_COLOURS",
    "INK",
    "MODEL_COLOURS",
    "NOTE",
    "SMALL",
    "TICKS",
    "breadth",
    "colours",
    "halo",
    "heading",
    "model_colours",
    "note",
    "panels",
    "plain",
    "png_bytes",
    "save",
    "settled",
    "show",
    "style",
    "thinned",
]

INK = "#262626"  # texts, ticks and frames
NOTE = "#6b6b6b"  # remarks that must not compete with the data
TITLE, SMALL = 9.0, 7.5  # font sizes in points

# Okabe & Ito (2008), https://jfly.uni-koeln.de/color/, without their yellow, which is lost on
# white; a grey is added as the eighth.
MODEL_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c8c",
)  # fmt: skip
# Ten colours found by a search for the greatest least distance in Oklab, over normal vision and
# complete protanopia, deuteranopia and tritanopia (Machado, Oliveira & Fernandes 2009): 10.6 (of
# 100), against 6.1 for Petroff (2021), 3.9 for Tol's muted scheme with grey and 0.7 for tab10.
CLASS_COLOURS = (
    "#4b67fa", "#f27636", "#196632", "#d71f75", "#5edada",
    "#5f130b", "#d5c918", "#8003a6", "#b889cd", "#1e2b6a",
)  # fmt: skip

STYLE = {
    "font.size": 8.0,
    "axes.titlesize": TITLE,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "legend.title_fontsize": 8.0,
    "lines.linewidth": 1.4,
    "svg.hashsalt": "vaelab",
}
TICKS: dict[str, Any] = {
    "labelsize": SMALL,
    "length": 2.5,
    "width": 0.7,
    "color": INK,
    "labelcolor": INK,
}

FORMATS: dict[str, dict[str, None]] = {  # what is left out, so that equal figures give equal bytes
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}


@contextmanager
def style() -> Iterator[None]:
    """The library's look, whatever the person's settings are, and for the time of a block only."""
    from matplotlib.style import context

    with context(["default", STYLE]):
        yield


def colours(count: int, palette: Sequence[str]) -> list[str]:
    """Returns `count` colours: the palette's first, or a perceptual map where it is too short."""
    if count <= len(palette):
        return list(palette[:count])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colour) for colour in colormaps["viridis"](np.linspace(0.0, 0.95, count))]


def model_colours(names: Sequence[str]) -> dict[str, str]:
    """Returns the colour of each model, by its place in `names`.

    The first eight can be told apart by the colour-blind; beyond eight, a perceptual map is used.

    >>> model_colours(["vae", "conv"])
    {'vae': '#0072b2', 'conv': '#d55e00'}
    """
    return dict(zip(names, colours(len(names), MODEL_COLOURS), strict=True))


def plain(text: str) -> str:
    """Returns `text` so that matplotlib draws its dollar signs rather than read a formula."""
    return text.replace("$", r"\$")


def heading(text: str, inches: float, size: float = TITLE, lines: int = 2) -> str:
    """Returns a name broken into at most two lines of a width, and cut where it is longer still."""
    letters = max(4, int(inches * 72 / (0.62 * size)))  # DejaVu Sans: about 0.6 em a letter
    return plain("\n".join(textwrap.wrap(text, letters, max_lines=lines, placeholder="…")))


def breadth(texts: Sequence[str], size: float = SMALL) -> float:
    """Returns the width in inches that the longest line of some texts takes, about."""
    return max((len(line) for text in texts for line in text.split("\n")), default=0) * size / 118


def thinned(count: int, most: int) -> list[int]:
    """Returns at most `most` positions in `range(count)`, as evenly spaced as they can be.

    The first and the last are among them, and they lie symmetrically.

    >>> thinned(5, 9), thinned(11, 7), thinned(20, 7)
    ([0, 1, 2, 3, 4], [0, 2, 4, 6, 8, 10], [0, 4, 8, 11, 15, 19])
    """
    if count <= most:
        return list(range(count))
    even = [kept for kept in range(most, most // 2, -1) if (count - 1) % (kept - 1) == 0]
    kept = even[0] if even else most - (most - count) % 2  # an even number of an even number
    return [round(place) for place in np.linspace(0, count - 1, kept)]


def halo(width: float = 2.2) -> list[AbstractPathEffect]:
    """A white outline that keeps texts and lines readable on a crowd of points."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="white")]


def note(ax: Axes, text: str) -> None:
    """Writes a remark above the right end of a panel, where it covers no data."""
    ax.set_title(text, loc="right", fontsize=6.5, color=NOTE)


def panels(
    titles: Sequence[str],
    *,
    width: float,
    height: float,
    columns: int | None = None,
    margin: float = 0.0,
    sharex: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with one panel a title, in rows of at most four, and none left empty.

    Arguments:
        titles: Written above the panels, to the left; an empty one is left out.
        width: Width of a panel, in inches.
        height: Height of a panel, in inches.
        columns: Panels in a row; chosen where it is not given.
        margin: Width of what stands beside the panels: a legend, say, in inches.
        sharex: Whether all panels have the same horizontal limits.
    """
    from matplotlib.figure import Figure

    rows = math.ceil(len(titles) / (columns or 4))
    columns = columns or math.ceil(len(titles) / rows)
    figure = Figure(figsize=(columns * width + margin, rows * height), layout="compressed")
    grid = figure.add_gridspec(rows, columns)
    axes: list[Axes] = []
    for position, title in enumerate(titles):
        first = axes[0] if sharex and axes else None
        ax = figure.add_subplot(grid[divmod(position, columns)], sharex=first)
        ax.tick_params(axis="both", **TICKS)
        ax.set_axisbelow(True)
        if title:
            ax.set_title(heading(title, width - 0.9), loc="left", fontweight="bold")
        axes.append(ax)
    return figure, axes


def settled(figure: Figure) -> Figure:
    """Returns a figure whose layout is done, and done once: it does not move from save to save."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def png_bytes(figure: Figure, *, dpi: float = 160) -> bytes:
    """Returns a figure as a PNG file: the same arrays give the same bytes.

    >>> from vaelab import plots
    >>> png_bytes(plots.image_grid(np.zeros((4, 1, 8, 8))))[1:4]
    b'PNG'
    """
    return _rendered(figure, "png", dpi)


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: float = 160) -> Path:
    """Writes a figure, whole or not at all, in the format that the path's suffix names.

    Arguments:
        figure: What any function of this package returns.
        path: Ends in `.png`, `.pdf` or `.svg`; missing folders are made.
        dpi: Dots an inch, for PNG and for the dense clouds of points in the others.

    Raises:
        ArgumentError: The suffix is another one.
        OSError: The file cannot be written.
    """
    form = checks.choice("suffix", Path(path).suffix.lower().lstrip("."), FORMATS)
    return files.write_atomically(path, _rendered(figure, form, dpi))


def show(figures: Sequence[Figure]) -> None:
    """Opens a window a figure, and returns when the last one is closed.

    Raises:
        ArgumentError: There is no screen to show them on.
    """
    from matplotlib import pyplot
    from matplotlib._pylab_helpers import Gcf

    advice = "there is no screen to show figures on; use --save DIR, or plots.save."
    try:
        window = pyplot.figure()
    except ImportError as error:  # a window system was asked for by name, and cannot be had
        raise checks.ArgumentError(advice) from error
    canvas = type(window.canvas)
    pyplot.close(window)
    if canvas.required_interactive_framework is None:
        raise checks.ArgumentError(advice)
    for number, figure in enumerate(figures, start=max(pyplot.get_fignums(), default=0) + 1):
        manager = canvas.new_manager(figure, number)
        Gcf._set_new_active_manager(manager)  # as pyplot itself does
    pyplot.show()


def _rendered(figure: Figure, form: str, dpi: float) -> bytes:
    dpi = checks.number("dpi", dpi, least=10, most=1200)
    file = io.BytesIO()
    with style():  # ticks are made when they are drawn, so the look is needed here as well
        figure.savefig(file, format=form, dpi=dpi, metadata=FORMATS[form], facecolor="white")
    return file.getvalue()
