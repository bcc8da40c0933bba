"""What a separation costs and brings on MNIST as its weight grows: mean ± sd over seeds."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

import vaelab
from common import HERE, Row, Settings, seconds
from vaelab import machine, metrics, plots
from vaelab.files import write_atomically, write_json
from vaelab.graphs import kept_graph
from vaelab.plots._canvas import INK, MODEL_COLOURS, NOTE, SMALL, halo, panels, settled, style
from vaelab.preservation import preservation
from vaelab.separation import Separation
from vaelab.shuffling import Shuffle
from vaelab.training import _data, resolve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = True
"""The results are one table, a line a weight."""

WEIGHTS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
SEEDS = (0, 1, 2)
DEFAULT = Separation().weight
"""The weight that recipe `neighbours` has."""

BY_DEGREE = ", by degree"
"""What ends the name of a line whose pairs were drawn along edges."""

PLAIN = "vae"
"""A line without a separation and with a standard normal prior, to set the others beside."""

KEPT = HERE / ".kept" / "separation"
PICTURE = HERE.parent / "docs" / "images" / "separation.png"
LARGEST = 200_000
"""Bytes of the picture."""

UMAP = 0.957
"""kNN accuracy of UMAP's map, one run of umap-learn 0.5.12, where `maps` has not been run."""

FIGURES = {
    "test ELBO": "nats",
    "rate": "nats",
    "kNN accuracy": "",
    "trustworthiness": "",
}
"""The columns of the table, and their units; seconds are kept too, but parts slow each other."""

AXES = ("kNN accuracy", "test ELBO")
"""What the picture sets against each other."""

LIFT, SIDES = 11.0, 16
"""Points between a mark and its label, and on how many sides of it there may be room."""

LABEL: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL, "path_effects": halo()}

LOOKS: dict[str, dict[str, Any]] = {
    "weight": {"color": MODEL_COLOURS[0], "marker": "o", "markersize": 4.5},
    "default": {"color": MODEL_COLOURS[0], "marker": "D", "markersize": 7, "markeredgecolor": INK},
    "vae": {"color": MODEL_COLOURS[1], "marker": "s", "markersize": 5, "linestyle": ""},
    "UMAP": {"color": NOTE, "linestyle": (0, (4, 3)), "linewidth": 0.9, "zorder": 0},
}
LEGEND = {
    "weight": "neighbours, by weight",
    "default": "the default",
    "vae": "vae",
    "UMAP": "UMAP (no ELBO)",
}

Point = tuple[np.ndarray, np.ndarray]
"""Mean and standard deviation over seeds of kNN accuracy and ELBO, `(2,)` each."""

Results = Mapping[str, Sequence[Mapping[str, Any]]]
"""What was found, a record a seed, by line of the table."""


@dataclass(frozen=True)
class Fit:
    """One training: recipe `neighbours` with a weight, or `vae` where there is none.

    With `by_degree`, the first of each pair is drawn as the ends of edges are: in proportion to
    the weights it has in the graph, with replacement. Recipes draw each datum once an epoch.
    """

    weight: float | None
    seed: int
    by_degree: bool = False

    @property
    def line(self) -> str:
        """The line of the table that it belongs to."""
        if self.weight is None:
            return PLAIN
        return f"weight {self.weight:g}" + (BY_DEGREE if self.by_degree else "")

    @property
    def file(self) -> str:
        """The file that keeps what was found."""
        return f"{self.line.replace(', ', '-').replace(' ', '-')}-seed-{self.seed}.json"

    def model(self, epochs: int) -> vaelab.VAE:
        """What is trained: all defaults but for the weight and the seed, and as long as others."""
        if self.weight is None:
            return vaelab.VAE(PLAIN, epochs=epochs, seed=self.seed)
        return vaelab.VAE("neighbours", separation=self.weight, epochs=epochs, seed=self.seed)


FITS = (
    *(Fit(weight, seed) for seed in SEEDS for weight in (None, *WEIGHTS)),
    *(Fit(DEFAULT, seed, by_degree=True) for seed in SEEDS),
)
"""All, in rounds: a seed each."""


def run(settings: Settings) -> list[Row]:
    """What was kept of each fit, and those of which nothing was, one after another."""
    with ExitStack() as opened:
        folder = KEPT
        if settings.quick:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        fits = [fit for fit in FITS if not settings.quick or fit.seed == SEEDS[0]]
        found = measured(fits, settings, folder)
        results: dict[str, list[Mapping[str, Any]]] = {}
        for fit, record in zip(fits, found, strict=True):
            results.setdefault(fit.line, []).append(record)
        content = picture(results)
        if not settings.quick:
            write_atomically(PICTURE, content)
    return [row for line, records in results.items() for row in _rows(line, records)]


def measured(fits: Sequence[Fit], settings: Settings, folder: Path) -> list[dict[str, Any]]:
    """The record of each fit: the one kept, or a new one, which is kept at once."""
    train, test = (part.limited(200 if settings.quick else None) for part in _loaded(settings))
    epochs = _epochs(train)
    told = {
        "vaelab": vaelab.__version__,
        "threads": settings.threads,
        "data": train.fingerprint,
        "epochs": epochs,
    }
    records: list[dict[str, Any]] = []
    warm = False
    for number, fit in enumerate(fits, start=1):
        record = _kept(folder / fit.file, told)
        if record is None:
            if not warm:  # the neighbour graph is computed, and kept in the cache
                vaelab.VAE("neighbours", training={"steps": 1}).fit(train)
                warm = True
            began = os.getloadavg()[0]
            figures = _figures(fit, epochs, train, test)
            date = datetime.now(UTC).date().isoformat()
            record = {"told": told, "date": date, "load_before": began, "figures": figures}
            write_json(folder / fit.file, record)
            found = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
            print(f"{number}/{len(fits)}, {fit.line}, seed {fit.seed}: {found}", flush=True)
        records.append(record)
    return records


def _loaded(settings: Settings) -> tuple[vaelab.Dataset, vaelab.Dataset]:
    train, test = vaelab.data.load("mnist")
    if len(train) != 60_000 and not settings.quick:
        raise SystemExit("The whole of MNIST is needed: set VAELAB_DATA, or go online once.")
    return train, test


def _kept(path: Path, told: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was found in the same circumstances before, if anything was."""
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record if record["told"] == told else None


def _epochs(train: vaelab.Dataset) -> int:
    """How many the default recipe takes for the data, which without a separation would be fewer."""
    recipe = vaelab.recipes.build("neighbours", train.shape)
    epochs = resolve(recipe.training, torch.from_numpy(train.x), recipe.separation).epochs
    assert epochs is not None
    return epochs


def _figures(
    fit: Fit, epochs: int, train: vaelab.Dataset, test: vaelab.Dataset
) -> dict[str, float]:
    """Trains and judges."""
    assert train.y is not None
    assert test.y is not None
    vae = fit.model(epochs)
    with _drawn_by_degree(train) if fit.by_degree else nullcontext():
        taken = seconds(lambda: vae.fit(train))
    among, placed, terms = vae.transform(train), vae.transform(test), vae.terms(test, seed=0)
    return {
        "test ELBO": float(terms.elbo.mean()),
        "rate": float(terms.rate.mean()),
        "kNN accuracy": metrics.knn_accuracy(among, train.y, placed, test.y),
        "trustworthiness": float(preservation(test.x, placed).trustworthiness.mean()),
        "fit": taken,
    }


@contextmanager
def _drawn_by_degree(train: vaelab.Dataset) -> Iterator[None]:
    """Within, training draws as many data an epoch, but those with more edges more often."""
    graph = kept_graph(torch.from_numpy(train.x))
    ends = np.concatenate([graph.rows, graph.columns])
    degree = torch.from_numpy(np.bincount(ends, np.tile(graph.weights, 2), len(train)))

    class ByDegree(Shuffle):
        def rows(self, skip: int = 0) -> Iterator[torch.Tensor]:
            chances = degree * self.free
            drawn = torch.multinomial(chances, self.count, True, generator=self.generator)
            return iter(torch.split(drawn[skip * self.batch_size :], self.batch_size))

    with mock.patch.object(_data, "Shuffle", ByDegree):
        yield


def _rows(line: str, records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A line of the table; it says when it was measured, and how busy the machine was."""
    note = _note(records)
    values = {name: tuple(record["figures"][name] for record in records) for name in FIGURES}
    return [Row(f"{line}: {name}", values[name], unit, note=note) for name, unit in FIGURES.items()]


def _note(records: Sequence[Mapping[str, Any]]) -> str:
    dates, loads = ([r[key] for r in records] for key in ("date", "load_before"))
    when = " to ".join(sorted({min(dates), max(dates)}))
    return f"{when}, load {min(loads):.1f} to {max(loads):.1f}"


def picture(results: Results) -> bytes:
    """The ELBO against kNN accuracy as the weight grows, as PNG; bars are standard deviations.

    Raises:
        SystemExit: It is larger than `LARGEST`.
    """
    drawn = {line: records for line, records in results.items() if BY_DEGREE not in line}
    points = {line: _point(records) for line, records in drawn.items()}
    plain = points.pop(PLAIN)
    with style():
        figure, (ax,) = panels([""], width=5.2, height=3.6)
        path = np.array([mean for mean, _ in points.values()])
        ax.plot(*path.T, color=MODEL_COLOURS[0], linewidth=1, zorder=1)
        for line, point in points.items():
            _mark(ax, point, "default" if line == Fit(DEFAULT, 0).line else "weight")
        _mark(ax, plain, PLAIN)
        ax.axvline(_umap(), **LOOKS["UMAP"])
        ax.set(xlabel="kNN accuracy on the map (15 neighbours)", ylabel="test ELBO (nats)")
        ax.margins(0.1)
        handles = [Line2D([], [], label=label, **LOOKS[look]) for look, label in LEGEND.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        settled(figure)  # points have their places now, and labels go where there is room
        texts = {line.split()[-1]: mean for line, (mean, _) in points.items()}
        _label(ax, texts, _drawn(list(points.values()), plain))
    content = plots.png_bytes(figure, dpi=200)
    if len(content) > LARGEST:
        raise SystemExit(f"The picture has {len(content):,} bytes, but {LARGEST:,} are allowed.")
    return content


def _point(records: Sequence[Mapping[str, Any]]) -> Point:
    values = np.array([[r["figures"][name] for name in AXES] for r in records])
    spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(len(AXES))
    return values.mean(0), spread


def _mark(ax: Axes, point: Point, look: str) -> None:
    (x, y), (across, up) = point
    bars = {"capsize": 1.8, "elinewidth": 0.8, "zorder": 2}
    ax.errorbar(x, y, xerr=across, yerr=up, **bars | LOOKS[look])


def _drawn(points: Sequence[Point], other: Point) -> np.ndarray:
    """Places on the line that joins points, and on the bars of all, `(P, 2)`."""
    steps = np.arange(20)[:, None] / 20
    parts = [a + steps * (b - a) for (a, _), (b, _) in itertools.pairwise(points)]
    for mean, spread in (*points, other):
        parts += [mean + (2 * steps - 1) * spread * way for way in np.eye(len(AXES))]
    return np.concatenate(parts)


def _label(ax: Axes, texts: Mapping[str, np.ndarray], drawn: np.ndarray) -> None:
    """Writes each text beside its point, on the side where it hides least.

    Arguments:
        ax: The panel, whose limits are final.
        texts: What to write, and beside which point.
        drawn: Places `(P, 2)` that should not be hidden; nor should other texts.
    """
    marks = ax.transData.transform(drawn)
    boxes: list[Bbox] = []
    for text, point in texts.items():
        label = ax.annotate(text, (point[0], point[1]), (0, 0), textcoords="offset points", **LABEL)
        tried: list[tuple[int, tuple[float, float], Bbox]] = []
        for turn in range(SIDES):
            angle = 2 * math.pi * turn / SIDES
            aside = (LIFT + 2 * len(text)) * math.cos(angle), LIFT * math.sin(angle)
            label.set_position(aside)
            box = label.get_window_extent().padded(2)
            hidden = box.count_contains(marks) + 10 * box.count_overlaps(boxes)
            tried.append((hidden, aside, box))
        _, best, box = min(tried, key=lambda one: one[0])
        label.set_position(best)
        boxes.append(box)


def _umap() -> float:
    """UMAP's kNN accuracy on MNIST: that of `maps`, if it has been run."""
    path = HERE / "results.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    rows = known.get("maps", {}).get("rows", [])
    found = [row["values"] for row in rows if row["name"] == "mnist, UMAP: kNN accuracy"]
    return statistics.mean(found[0]) if found else UMAP


def main() -> None:
    """Runs a part of the fits and keeps what is found, for `run.py separation` to put together."""
    parser = argparse.ArgumentParser(description="A part of the benchmark, kept in a folder.")
    parser.add_argument("--part", default="1/1", help="1/2 and 2/2 at once share all between them")
    parser.add_argument("--threads", type=int, default=1, help="threads of each fit")
    given = parser.parse_args()
    part, _, parts = given.part.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        parser.error(f"--part {given.part}, but it must be such as 1/2 and 2/2")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with machine.threads(given.threads):
        fits = FITS[int(part) - 1 :: int(parts)]
        measured(fits, Settings(threads=given.threads), KEPT)


if __name__ == "__main__":
    main()
