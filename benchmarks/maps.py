"""Maps of two dimensions by PCA, t-SNE, UMAP and vaelab: mean ± standard deviation over seeds."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageOps

import vaelab
from common import HERE, Row, Settings, child
from peers import Peer
from vaelab import metrics, plots
from vaelab.files import write_atomically
from vaelab.preservation import preservation

WIDE = True
"""The results are one table, a line a contestant."""

DATA = ("mnist", "fashion-mnist")
SEEDS = (0, 1, 2)
WARM = 5_000
"""Data of the fit before all others, which fills the caches of files and is not measured; so many
that UMAP takes the way of large data, whose compiling would else be part of its first time."""

FOLDS = 5
PICTURES = HERE.parent / "docs" / "images"
LARGEST = 400_000
"""Bytes of a picture."""

DPI, COLOURS, EDGE = 130, 256, 12

VAELAB, SKLEARN = Peer("vaelab"), Peer("sklearn")
UMAP = Peer("umap", ("umap-learn==0.5.12",))


@dataclass(frozen=True)
class Contestant:
    """A method: what it is called, whose it is, and what its script is told.

    Attributes:
        seeds: How many seeds it is run with; PCA needs none, and t-SNE is slow.
        places: Whether it can place new data. What cannot is fitted on the test data.
        shown: Whether it is in the pictures.
    """

    name: str
    peer: Peer
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = len(SEEDS)
    places: bool = True
    shown: bool = True
    note: str = ""


def _recipe(name: str, recipe: str, **options: Any) -> Contestant:
    return Contestant(f"vaelab {name}", VAELAB, {"recipe": recipe, "options": options})


RECIPES = (
    _recipe("vae", "vae"),
    _recipe("conv", "conv"),
    _recipe("neighbours", "neighbours"),
    _recipe("conv-neighbours", "conv-neighbours"),
)
"""The recipes of vaelab that take part: a name for the table, a recipe, its options."""

CONTESTANTS = (
    Contestant("PCA", SKLEARN, {"method": "pca"}, seeds=1),
    Contestant(
        "t-SNE of test data",
        SKLEARN,
        {"method": "tsne"},
        seeds=1,
        places=False,
        note="fitted on the test data, which it cannot place; kNN over five folds of its map",
    ),
    Contestant("UMAP", UMAP, {"seeded": False}, note="no seed: all threads, another map each time"),
    Contestant(
        "UMAP, seeded", UMAP, {"seeded": True}, seeds=1, shown=False, note="a seed: one thread"
    ),
    *RECIPES,
)


@dataclass(frozen=True)
class Result:
    """One fit: the map of the test data, its figures by name, and what it was made with."""

    z: np.ndarray
    figures: Mapping[str, float]
    versions: str = ""


FIGURES = {
    "fit": "s",
    "10,000 new data": "s",
    "kNN accuracy": "",
    "trustworthiness": "",
    "continuity": "",
    "distance correlation": "",
    "silhouette": "",
    "test ELBO": "nats",
}
"""The columns of the table, and their units."""


def run(settings: Settings) -> list[Row]:
    """Each method on each data set, one after another, all judged by the same functions."""
    rows = []
    loaded = {name: _load(name, settings.quick) for name in DATA}  # what is missing is told at once
    for name, (train, test) in loaded.items():
        results = _measured(train, test, settings)
        content = picture(results, test)
        if not settings.quick:
            write_atomically(PICTURES / f"maps-{name}.png", content)
        rows += _rows(name, results)
    return rows


def _load(name: str, quick: bool) -> tuple[vaelab.Dataset, vaelab.Dataset]:
    train, test = vaelab.data.load(name)
    if quick:
        return train.limited(600), test.limited(300)
    if len(train) != 60_000:
        raise SystemExit(f"The whole of {name} is needed: set VAELAB_DATA, or go online once.")
    return train, test


def _measured(
    train: vaelab.Dataset, test: vaelab.Dataset, settings: Settings
) -> dict[str, list[Result]]:
    """The fits of each contestant, in rounds: a seed each."""
    results: dict[str, list[Result]] = {each.name: [] for each in CONTESTANTS}
    with TemporaryDirectory() as folder:
        for seed in SEEDS[:1] if settings.quick else SEEDS:
            for each in CONTESTANTS:
                if len(results[each.name]) < each.seeds:
                    results[each.name].append(
                        _fit(each, train, test, Path(folder), seed, settings.threads)
                    )
    return results


def _fit(
    contestant: Contestant,
    train: vaelab.Dataset,
    test: vaelab.Dataset,
    folder: Path,
    seed: int,
    threads: int,
) -> Result:
    script, python = f"map_{contestant.peer.name}.py", contestant.peer.python()
    codes = folder / "codes.npz"
    for limit in (WARM, None) if seed == SEEDS[0] else (None,):
        learnt, placed = train.limited(limit), test.limited(limit)
        if not contestant.places:
            learnt = placed
        data = folder / "data.npz"
        np.savez(data, train=learnt.x, test=placed.x)
        asked = {"data": str(data), "codes": str(codes), "seed": seed, "began": time.time()}
        report = child(script, asked | dict(contestant.settings), threads=threads, python=python)
    with np.load(codes) as given:
        z, among = given["test"], given["train"]
    found = {"fit": report["fit"], **_judged(contestant, z, among, train, test)}
    if contestant.places:
        found["10,000 new data"] = report["place"]
    if "elbo" in report:
        found["test ELBO"] = report["elbo"]
    return Result(z, found, report["versions"])


def _judged(
    contestant: Contestant,
    z: np.ndarray,
    among: np.ndarray,
    train: vaelab.Dataset,
    test: vaelab.Dataset,
) -> dict[str, float]:
    """The figures of a map: the same functions and the same part of the test data for all."""
    assert train.y is not None
    assert test.y is not None
    kept = preservation(test.x, z)
    own = contestant.places
    accuracy = metrics.knn_accuracy(among, train.y, z, test.y) if own else _folds(z, test.y)
    return {
        "kNN accuracy": accuracy,
        "trustworthiness": float(kept.trustworthiness.mean()),
        "continuity": float(kept.continuity.mean()),
        "distance correlation": kept.distance_correlation,
        "silhouette": metrics.silhouette(z, test.y),
    }


def _folds(z: np.ndarray, y: np.ndarray) -> float:
    """kNN accuracy within one map: each fifth among the others."""
    fold = np.random.default_rng(0).permutation(len(z)) % FOLDS
    parts = (fold == number for number in range(FOLDS))
    return float(np.mean([metrics.knn_accuracy(z[~p], y[~p], z[p], y[p]) for p in parts]))


def _rows(data: str, results: Mapping[str, Sequence[Result]]) -> list[Row]:
    return [
        Row(
            f"{data}, {each.name}: {figure}",
            tuple(result.figures[figure] for result in results[each.name]),
            unit,
            note="; ".join(filter(None, (results[each.name][0].versions, each.note))),
        )
        for each in CONTESTANTS
        for figure, unit in FIGURES.items()
        if figure in results[each.name][0].figures
    ]


def picture(results: Mapping[str, Sequence[Result]], test: vaelab.Dataset) -> bytes:
    """The maps of the test data side by side as PNG, in few colours, so that it is small.

    Raises:
        SystemExit: It is larger than `LARGEST` all the same.
    """
    shown = {each.name: results[each.name][0] for each in CONTESTANTS if each.shown}
    maps = {name: result.z for name, result in shown.items()}
    figure = plots.latent_map(maps, test.y, class_names=test.class_names, prior_circles=False)
    for ax, (name, result) in zip(figure.axes, shown.items(), strict=True):
        ax.set_title(name, loc="left", fontsize=9, fontweight="bold")
        told = f"kNN {result.figures['kNN accuracy']:.3f} · {result.figures['fit']:,.0f} s"
        ax.set_title(told, loc="right", fontsize=8, color="#262626")
        ax.set(xlabel="", ylabel="", xticks=[], yticks=[])
    figure.set_layout_engine("compressed")  # anew, since there are no axes' labels now
    figure.draw_without_rendering()
    drawn = Image.open(io.BytesIO(plots.png_bytes(figure, dpi=DPI))).convert("RGB")
    drawn = ImageOps.expand(drawn.crop(ImageOps.invert(drawn).getbbox()), EDGE, "white")
    content = io.BytesIO()
    drawn.quantize(COLOURS, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    if content.tell() > LARGEST:
        raise SystemExit(f"A picture has {content.tell():,} bytes, but {LARGEST:,} are allowed.")
    return content.getvalue()
