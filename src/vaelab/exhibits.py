"""Floor 11: what is shown of trained models: arrays for the figures, made when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vaelab import checks, latent
from vaelab.estimator import VAE
from vaelab.priors import StandardNormal
from vaelab.records import Dataset

__all__ = ["Examples", "Exhibits", "Strips", "check_point"]

POINT = (0.5, 0.2)
MANIFOLD = 20
"""Points along each side of the decoded manifold."""


@dataclass(frozen=True, eq=False)
class Examples:
    """One datum of each class, or a spread of data where there are no classes.

    Attributes:
        images: `(R, *shape)`, `float32`, in [0, 1] for grey levels.
        names: What each is called.
        rows: Where they stand in the data set, `(R,)`.
    """

    images: np.ndarray
    names: tuple[str, ...]
    rows: np.ndarray


@dataclass(frozen=True, eq=False)
class Strips:
    """Interpolations between two latent points, by model.

    Attributes:
        images: `(S, *shape)` by model.
        paths: `(S, D)` by model: where the strip runs in the latent space.
        originals: The two data at the ends, `(2, *shape)`, where the ends are data.
        names: What the two data are called.
    """

    images: Mapping[str, np.ndarray]
    paths: Mapping[str, np.ndarray]
    originals: np.ndarray | None = None
    names: tuple[str, ...] = ()


class Exhibits:
    """Arrays for the figures of several models side by side; each is made once, when asked for.

    Arguments:
        models: Fitted models by name; the order is that of columns and rows.
        train, test: The data; may be `None` for what shows no data.
        point: The latent point to decode; by default (0.5, 0.2), and 0 in further dimensions.
        ends: Two latent points to interpolate between; by default each model's posterior means
            of the first test datum and the first after it of another class.
        steps: Images of an interpolation, both ends included.
        latents: Posterior means of `train` followed by `test`, by model, if they are known.

    Raises:
        checks.ArgumentError: A point has another number of coordinates than a model, or data of
            another shape.
    """

    def __init__(
        self,
        models: Mapping[str, VAE],
        train: Dataset | None = None,
        test: Dataset | None = None,
        *,
        point: Sequence[float] | None = None,
        ends: tuple[Sequence[float], Sequence[float]] | None = None,
        steps: int = 11,
        latents: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.models = dict(models)
        self.train, self.test = train, test
        self.point, self.ends = point, ends
        self.steps = checks.integer("steps", steps, least=2)
        if latents is not None:
            self.latents = dict(latents)
        for what, given in (("point", point), *zip(("start", "end"), ends or (), strict=False)):
            for name, vae in self.models.items():
                if given is not None:
                    value = ",".join(f"{c:g}" for c in given)
                    wanted = vae.model_.latent_dim
                    check_point(f"{what} = {value}", given, wanted, f"model {name!r} has")

    @property
    def data(self) -> Dataset:
        """The data to show examples of."""
        if self.test is None:
            raise checks.ArgumentError("data = None, but this shows data; name a data set.")
        return self.test

    @property
    def sets(self) -> list[Dataset]:
        """The data that the maps show: training data, if they are at hand, then test data."""
        return [part for part in (self.train, self.data) if part is not None]

    @cached_property
    def latents(self) -> dict[str, np.ndarray]:
        """Posterior means of the whole data set, training then test data, `(N, D)` by model."""
        return {
            name: np.concatenate([vae.transform(part) for part in self.sets])
            for name, vae in self.models.items()
        }

    @cached_property
    def labels(self) -> np.ndarray | None:
        """Classes of the whole data set, training then test data, `(N,)`."""
        known = [part.y for part in self.sets if part.y is not None]
        return np.concatenate(known) if len(known) == len(self.sets) else None

    @property
    def standard(self) -> list[str]:
        """The models whose prior is N(0, I)."""
        priors = {name: vae.model_.parts["prior"] for name, vae in self.models.items()}
        return [name for name, prior in priors.items() if isinstance(prior, StandardNormal)]

    @cached_property
    def examples(self) -> Examples:
        """The first test datum of each class, at most ten, in the classes' order."""
        return _examples(self.data)

    @cached_property
    def reconstructed(self) -> dict[str, np.ndarray]:
        """The examples reconstructed by each model, `(R, *shape)`."""
        data = _some(self.data, self.examples.rows)
        return {name: vae.decode(vae.encode(data).loc, data.y) for name, vae in self.models.items()}

    @cached_property
    def points(self) -> dict[str, np.ndarray]:
        """The latent point of each model that is decoded, `(D,)`."""
        points = {}
        for name, vae in self.models.items():
            wanted = vae.model_.latent_dim
            default = (*POINT, *[0.0] * wanted)[:wanted]
            points[name] = np.asarray(default if self.point is None else self.point, np.float32)
        return points

    @cached_property
    def decoded(self) -> dict[str, np.ndarray]:
        """What each model decodes its point to, `(*shape)`; a conditional one, for each class."""
        return {
            f"{name}{called}": self.models[name].decode(point[None], label)[0]
            for name, point in self.points.items()
            for called, label in _classes(self.models[name])
        }

    @cached_property
    def strips(self) -> Strips:
        """The straight path between the two ends, decoded by each model.

        A conditional model goes from the class of one datum to that of the other; between points,
        it has its first class.
        """
        originals: np.ndarray | None = None
        names: tuple[str, ...] = ()
        ends: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        classes = {
            name: vae.labels(None, _classes(vae)[0][1], 2) for name, vae in self.models.items()
        }
        if self.ends is not None:
            start, end = (np.asarray(point, np.float32) for point in self.ends)
            ends = dict.fromkeys(self.models, (start, end))
        else:
            rows = _first_two(self.data)
            pair = _some(self.data, rows)
            originals = _as_unit(pair.x)
            names = tuple(_name(self.data, row) for row in rows)
            for name, vae in self.models.items():
                means = vae.transform(pair)
                ends[name] = (means[0], means[1])
                classes[name] = vae.labels(pair, None, 2)
        paths = {name: latent.path(*ends[name], self.steps) for name in self.models}
        images = {
            name: latent.between(vae.model_, *ends[name], self.steps, classes=classes[name])
            for name, vae in self.models.items()
        }
        return Strips(images, paths, originals, names)

    @cached_property
    def coordinates(self) -> np.ndarray:
        """Coordinates of the manifold's grid along each axis: quantiles of the prior."""
        return latent.quantiles(MANIFOLD)

    @cached_property
    def manifolds(self) -> dict[str, np.ndarray]:
        """What each model decodes the grid over its first two dimensions to, `(R, R, *shape)`; a
        conditional one, for its first class.
        """
        result = {}
        for name, vae in self.models.items():
            points = latent.grid(self.coordinates, vae.model_.latent_dim)
            called, label = _classes(vae)[0]
            flat = vae.decode(points.reshape(-1, points.shape[-1]), label)
            result[f"{name}{called}"] = flat.reshape(*points.shape[:2], *flat.shape[1:])
        return result

    @property
    def histories(self) -> dict[str, list[dict[str, float]]]:
        """The training history of each model."""
        return {name: vae.history_ for name, vae in self.models.items()}


def _some(data: Dataset, rows: Sequence[int] | np.ndarray) -> Dataset:
    """Some rows of data, without their factors."""
    y = None if data.y is None else data.y[rows]
    return replace(data, x=data.x[rows], y=y, factors=None)


def _classes(vae: VAE, most: int = 10) -> list[tuple[str, object]]:
    """What is added to a conditional model's name for each class, at most ten, and its label; for
    any other model, nothing and `None`.
    """
    if not vae.model_.classes:
        return [("", None)]
    names = vae.data_["class_names"]
    shown = np.unique(np.linspace(0, len(names) - 1, most).round().astype(int))
    return [(f": {names[k]}", vae.classes_[k]) for k in shown]


def _examples(data: Dataset, most: int = 10) -> Examples:
    if data.y is None:
        rows = np.unique(np.linspace(0, len(data) - 1, most).round().astype(int))
    else:
        _, first = np.unique(data.y, return_index=True)
        rows = first[np.unique(np.linspace(0, len(first) - 1, most).round().astype(int))]
    return Examples(_as_unit(data.x[rows]), tuple(_name(data, row) for row in rows), rows)


def _first_two(data: Dataset) -> list[int]:
    """The first datum, and the first after it of another class (or the last)."""
    if data.y is not None and (data.y != data.y[0]).any():
        return [0, int((data.y != data.y[0]).argmax())]
    return [0, len(data) - 1]


def _name(data: Dataset, row: int) -> str:
    """What a datum is called: its class's name or number, or else its place."""
    if data.y is None:
        return f"#{row}"
    label = int(data.y[row])
    return data.class_names[label] if 0 <= label < len(data.class_names) else str(label)


def _as_unit(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) / 255 if x.dtype == np.uint8 else np.asarray(x, np.float32)


def check_point(what: str, point: Sequence[float], wanted: int, subject: str) -> None:
    """Refuses a latent point with another number of coordinates than `wanted`, or not finite.

    >>> check_point("point", (1.0,), 2, "there are")
    Traceback (most recent call last):
    ...
    vaelab.checks.ArgumentError: point has 1 coordinates, but there are 2 latent dimensions; ...
    """
    if len(point) != wanted:
        raise checks.ArgumentError(
            f"{what} has {len(point)} coordinates, but {subject} {wanted} latent dimensions; "
            f"give {wanted} numbers."
        )
    if not np.isfinite(point).all():
        raise checks.ArgumentError(f"{what} is not finite; give finite numbers.")
