"""Floor 13: what models of vectors decode, which no picture shows, as a table in CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from vaelab import checks

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from vaelab.estimator import VAE
    from vaelab.exhibits import Exhibits

__all__ = ["of_figure", "of_samples", "vectors"]


def vectors(models: Mapping[str, VAE], save: Path | None, show: bool) -> bool:
    """Whether models decode vectors, all of the same columns; pictures of them are refused."""
    widths = {vae.model_.shape for vae in models.values()}
    if all(len(shape) > 1 for shape in widths):
        return False
    if len(widths) > 1:
        raise checks.ArgumentError(
            f"models = {', '.join(models)}, but what they decode has different shapes; give those "
            "of one kind of data."
        )
    if save is not None or show:
        raise checks.ArgumentError(
            f"{', '.join(models)}: rows of a table are decoded, which are printed and not drawn; "
            "leave out --save and --show, and write them to a file with '> decoded.csv'."
        )
    return True


def of_figure(figure: str, shown: Exhibits) -> None:
    """Prints what a figure would show, decoded points or interpolations: a row a point."""
    paths: Iterable[tuple[str, np.ndarray, np.ndarray]]
    if figure == "decode":
        paths = (
            (key, point[None], shown.decoded[key][None])
            for name, point in shown.points.items()
            for key in shown.decoded
            if key == name or key.startswith(f"{name}: ")
        )
    else:
        strips = shown.strips
        paths = ((name, strips.paths[name], images) for name, images in strips.images.items())
    most = max(len(point) for point in shown.points.values())
    rows: Iterator[Sequence[object]] = (
        (name, *_told(point), *[""] * (most - len(point)), *_told(values))
        for name, points, decoded in paths
        for point, values in zip(points, decoded, strict=True)
    )
    coordinates = [f"z{k + 1}" for k in range(most)]
    _print(["model", *coordinates, *_columns(list(shown.models.values()))], rows)


def of_samples(vae: VAE, decoded: np.ndarray, labels: object = None) -> None:
    """Prints samples, a row each, after their labels if the model is conditional."""
    if labels is None:
        _print(_columns([vae]), map(_told, decoded))
        return
    given = [labels] * len(decoded) if isinstance(labels, str | int) else list(labels)  # type: ignore[call-overload]
    rows = ((label, *_told(row)) for label, row in zip(given, decoded, strict=True))
    _print(["label", *_columns([vae])], rows)


def _columns(models: Sequence[VAE]) -> list[str]:
    """The names of the data's columns, if all models know the same; else x1, x2, ..."""
    names = [list(map(str, vae.data_.get("features", ()))) for vae in models]
    count = models[0].model_.shape[0]
    same = len(names[0]) == count and all(some == names[0] for some in names)
    return names[0] if same else [f"x{k + 1}" for k in range(count)]


def _told(values: np.ndarray) -> list[str]:
    return [f"{value:.6g}" for value in values]


def _print(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    click.echo(text.getvalue(), nl=False)
