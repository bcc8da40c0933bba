"""What the explorer shows, as arrays: data, and the models that map them. No web in here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from vaelab import checks, geodesics, latent
from vaelab.estimator import VAE
from vaelab.explorer import edges, maps, pictures
from vaelab.explorer.judging import FIGURES, Judge
from vaelab.explorer.rows import NO_CLASS, Rows, pieces
from vaelab.latent import Codes
from vaelab.priors import StandardNormal
from vaelab.records import Dataset
from vaelab.tensors import check_data, to_float

__all__ = ["Datum", "Nearest", "Placed", "Placement", "Scene"]

Progress = Callable[[int, int], object]
"""What hears of progress: called with how much is done, and how much there is to do."""

KINDS = ("straight", "geodesic")

ENCODED = 8192
"""How many data are encoded at once."""
MOST_DATA, MOST_NUMBERS, MOST_ELEMENTS = 1024, 65_536, 2**24
"""At most how many data, latent coordinates, and elements of data are asked for at once."""
FARTHEST = 1e6
"""Latent coordinates lie within this distance of 0; codes of data are nowhere nearly as far."""
FRAMES = 256
"""At most how many points a path or a GIF has."""


class Nearest(NamedTuple):
    """Data whose codes are nearest to a point, the nearest first: `(K,)` each."""

    indices: np.ndarray
    distances: np.ndarray


class Placed(NamedTuple):
    """What a model makes of a datum: q(z|x), `(D,)` each, the reconstruction, figures in nats.

    Figures are unknown of data that are not at hand. The last four are known of pictures only: log
    p(x), the shares of the reference whose ELBO and log p(x) are lower, and log p(x) of the
    reference, in order.
    """

    z: np.ndarray
    scale: np.ndarray
    image: np.ndarray
    elbo: float | None = None
    rate: float | None = None
    distortion: float | None = None
    log_p: float | None = None
    elbo_rank: float | None = None
    log_p_rank: float | None = None
    reference: np.ndarray | None = None


class Datum(NamedTuple):
    """A datum: where it stands, its class's label, itself, and what each model makes of it."""

    split: str
    row: int
    label: int | None
    image: np.ndarray | None
    models: list[Placed]


class Placement(NamedTuple):
    """A picture made a datum, and what each model makes of it."""

    image: np.ndarray
    models: list[Placed]


class Scene:
    """Data and models, and what the explorer asks of them.

    A datum is named by its index in [0, N): training data, then test data. A model is named by its
    place. Images come in `uint8`, over the range of the data; vectors in `float32`. Nothing is
    random but by fixed seeds. Two threads may use a scene if one of them alone asks for `datum`,
    figures, `path` and `place`, which draw from torch's global state and put it back: no other
    thread may train meanwhile.

    Memory: 8 D bytes for each datum and model, 12 for what is known of it, and about 8 D more once
    `nearest` was asked for; a million data in two dimensions take about 50 MB a model. Data stay
    where they lie, on disk too.

    Arguments:
        models: Fitted models by name.
        train: The training data.
        test: The test data, if there are any.
        codes: Posteriors of the training data followed by the test data, by model, where known.
        references: What pictures are ranked among, by model, where known; see `Judge`.
        at_hand: Whether the data themselves are there; else the codes of all models must be given.
        progress: Called while data are encoded, with how many are, and how many are to be.

    Raises:
        checks.ArgumentError: No model, or codes of another shape.
        checks.DataError: Data that a model cannot take.

    >>> x = np.random.default_rng(0).random((64, 6), dtype=np.float32)
    >>> vae = VAE(latent_dim=3, epochs=1).fit(x)
    >>> scene = Scene({"vae": vae}, Dataset(x=x, y=None, name="mine"))
    >>> scene.view(0, ("pc1", "pc2")).points.shape, scene.decode(0, [0.5, 0.2, 0.0]).shape
    ((64, 2), (1, 6))
    """

    def __init__(
        self,
        models: Mapping[str, VAE],
        train: Dataset,
        test: Dataset | None = None,
        *,
        codes: Mapping[str, Codes] | None = None,
        references: Sequence[np.ndarray] = (),
        at_hand: bool = True,
        progress: Progress | None = None,
    ) -> None:
        self.models = dict(models)
        self.rows = Rows([part for part in (train, test) if part is not None], at_hand=at_hand)
        self._vaes = list(self.models.values())
        self._check_models()
        self.codes = self._encoded(codes or {}, progress)
        self.judge = Judge(self._vaes, self.rows, references)
        self._components: dict[int, maps.Components] = {}
        self._trees: dict[int, Any] = {}
        self._edges: np.ndarray | None = None

    def _check_models(self) -> None:
        if not self.models:
            raise checks.ArgumentError("models = none, but there must be at least one.")
        for name, vae in self.models.items():
            if vae.model_.classes:
                raise checks.ArgumentError(
                    f"model {name!r} is conditional, but the explorer decodes points without "
                    "labels; leave it out."
                )
            if vae.model_.shape != self.rows.shape:
                raise checks.DataError(
                    f"model {name!r} was made for data of shape {vae.model_.shape}, but "
                    f"{self.rows.sets[0].name} has {self.rows.shape}; give data of the same shape."
                )

    def _encoded(self, known: Mapping[str, Codes], progress: Progress | None) -> list[Codes]:
        for name in known:
            checks.choice("codes", name, self.models)
        count, done, result = self.rows.count, 0, []
        for name, vae in self.models.items():
            shape = (count, vae.model_.latent_dim)
            codes = known.get(name)
            if codes is None:
                codes = Codes(np.empty(shape, np.float32), np.empty(shape, np.float32))
                for rows in pieces(count, ENCODED):
                    x = self.rows.at(np.arange(rows.start, rows.stop))
                    check_data(x, self.rows.shape, vae.model_.value_range)
                    codes.loc[rows], codes.scale[rows] = latent.encode(vae.model_, x)
                    done += len(x)
                    if progress is not None:
                        progress(done, count * (len(self.models) - len(known)))
            elif codes.loc.shape != shape or codes.scale.shape != shape:
                raise checks.ArgumentError(
                    f"codes of {name!r} have shape {codes.loc.shape}, but they must have {shape}."
                )
            result.append(codes)
        return result

    @property
    def facts(self) -> dict[str, Any]:
        """What is shown, in plain values: data, classes, models, and what can be asked for."""
        rows, joined = self.rows, self.rows.at_hand and edges.possible(self.rows.sets)
        return {
            "title": rows.sets[0].name,
            "note": rows.note,
            "count": rows.count,
            "shape": list(rows.shape),
            "range": list(rows.range),
            "classes": rows.classes,
            "splits": [{"name": part.split, "count": len(part)} for part in rows.sets],
            "models": [
                {
                    "name": name,
                    "latent_dim": vae.model_.latent_dim,
                    "shape": list(rows.shape),
                    "standard_prior": isinstance(vae.model_.parts["prior"], StandardNormal),
                }
                for name, vae in self.models.items()
            ],
            "figures": list(FIGURES) if rows.at_hand else [],
            "can": {
                "upload": self.drawable,
                "geodesic": True,
                "gif": self.drawable,
                "axes": True,
                "edges": "all" if joined else "none",
                "hover": "all" if rows.at_hand else "none",
                "decode": "exact",
            },
        }

    @property
    def drawable(self) -> bool:
        """Whether data are images in grey or RGB."""
        return len(self.rows.shape) == 3 and self.rows.shape[0] in (1, 3)

    def check_drawable(self, what: str) -> None:
        """Refuses what needs images, where data are vectors or have other channels."""
        if not self.drawable:
            raise checks.ArgumentError(
                f"data have shape {self.rows.shape}, but {what} needs images in grey or RGB."
            )

    def labels(self) -> np.ndarray | None:
        """The place of each datum's class among the classes: `(N,)`, `uint16`; 65535 for none."""
        return self.rows.labels

    def view(self, model: int, axes: Sequence[str]) -> maps.View:
        """Where each datum lies on the map.

        Arguments:
            model: The model's place.
            axes: Two of `"z1"` to `"zD"`, or two of `"pc1"` to `"pcD"`, the principal components
                of the posterior means. For D = 1 the second is a spread, whatever it is called.
        """
        loc = self._code(model).loc
        if model not in self._components and any(str(axis).startswith("pc") for axis in axes):
            self._components[model] = maps.principal(loc)
        return maps.view(loc, axes, self._components.get(model))

    def edges(self, progress: Progress | None = None) -> np.ndarray:
        """The edges of the data's neighbour graph: two ends each, `(E, 2)`, the strongest first.

        The graph is worked out when it is first asked for, a minute for 70,000 images. Any one
        thread may ask for it.

        Raises:
            checks.ArgumentError: The data are too many, or too large.
        """
        if self._edges is None:
            self._edges = edges.strongest_first(edges.graph_of(self.rows, progress))
        return self._edges

    def decode(self, model: int, z: object) -> np.ndarray:
        """Means of p(x|z) at points `(K, D)`, or `(K·D,)`: `(K, *shape)`."""
        points = self._points(model, z)
        return self._decoded(model, points)

    def gif(self, model: int, z: object) -> bytes:
        """What points `(K, D)` decode to, K from 2 to 256, as a GIF that runs forth and back."""
        self.check_drawable("a GIF")
        images = self.decode(model, z)
        checks.integer("points of a GIF", len(images), least=2, most=FRAMES)
        return pictures.gif(images)

    def codes_of(self, model: int, indices: object) -> Codes:
        """The posteriors of data, `(K, D)`."""
        loc, scale = self._code(model)
        rows = self._indices(indices, max(1, MOST_NUMBERS // loc.shape[1]))
        return Codes(loc[rows], scale[rows])

    def images(self, indices: object) -> np.ndarray:
        """Data themselves, `(K, *shape)`."""
        return self.rows.pixels(to_float(self.rows.at(self._indices(indices, self._most))).numpy())

    def mean(self, indices: object) -> np.ndarray:
        """The mean of any number of data, `(1, *shape)`."""
        return self.rows.pixels(self.rows.mean(self._indices(indices, self.rows.count)))

    def nearest(self, model: int, z: object, count: int) -> Nearest:
        """The data whose codes are nearest to a point in all dimensions, at most `count`."""
        from scipy.spatial import cKDTree

        point, loc = self._points(model, z, 1)[0], self._code(model).loc
        checks.integer("count", count, most=MOST_DATA)
        if model not in self._trees:
            self._trees[model] = cKDTree(loc, balanced_tree=False, compact_nodes=False)
        distances, rows = self._trees[model].query(point, np.arange(1, min(count, len(loc)) + 1))
        return Nearest(rows.astype(np.int32), distances.astype(np.float32))

    def path(
        self, model: int, start: object, end: object, *, steps: int = 11, kind: str = "straight"
    ) -> geodesics.Path:
        """The way between two points, straight or the shortest as the decoder measures it."""
        ends = self._points(model, start, 1)[0], self._points(model, end, 1)[0]
        checks.integer("steps", steps, least=2, most=FRAMES)
        vae = self._vaes[model].model_
        if checks.choice("kind", kind, KINDS) == "geodesic":
            return geodesics.shortest(vae, *ends, self.codes[model].loc, steps=steps, seed=0)
        length = geodesics.measured(vae, np.stack(ends)).length
        return geodesics.Path(latent.path(*ends, steps), length, length)

    def figure(self, model: int, name: str) -> np.ndarray:
        """The ELBO, rate or distortion of each datum: `(N,)`, `float32`, in nats."""
        self.check_figure(model, name)
        return self.judge.figure(model, name)

    def check_figure(self, model: int, name: str) -> None:
        """Refuses a model or a figure that there is not."""
        self._code(model)
        checks.choice("name", name, FIGURES)
        if not self.rows.at_hand:
            raise checks.DataError(self.rows.note)

    def datum(self, index: int) -> Datum:
        """All that is known of a datum."""
        checks.integer("index", index, least=0, most=self.rows.count - 1)
        models = []
        for model, codes in enumerate(self.codes):
            image = self._decoded(model, codes.loc[[index]])[0]
            placed = Placed(codes.loc[index], codes.scale[index], image)
            if self.rows.at_hand:
                rate, distortion = self.judge.terms(model, index)
                elbo = -(rate + distortion)
                placed = placed._replace(elbo=elbo, rate=rate, distortion=distortion)
            models.append(placed)
        place = NO_CLASS if self.rows.labels is None else int(self.rows.labels[index])
        label = None if place == NO_CLASS else self.rows.classes[place]["label"]
        own = self.images([index])[0] if self.rows.at_hand else None
        return Datum(*self.rows.where(index), label, own, models)

    def place(self, content: bytes, *, invert: bool = False) -> Placement:
        """Where a picture lands: an image file, fitted into the data's height and width on black.

        Its log p(x) has 100 particles; it is ranked among a fixed sample of 512 test data.
        """
        self.check_drawable("a picture")
        x = torch.from_numpy(pictures.read(content, self.rows.shape, invert=invert))
        if self.rows.dtype != torch.uint8:
            low, high = self.rows.range
            x = low + (high - low) * to_float(x)
        models = []
        for model, vae in enumerate(self.models.values()):
            loc, scale = latent.encode(vae.model_, x)
            image, figures = self._decoded(model, loc)[0], self.judge.ranked(model, x)
            models.append(Placed(loc[0], scale[0], image, *figures))
        return Placement(self.rows.pixels(to_float(x).numpy())[0], models)

    def _decoded(self, model: int, points: np.ndarray) -> np.ndarray:
        return self.rows.pixels(latent.decode(self._vaes[model].model_, points))

    @property
    def _most(self) -> int:
        return min(MOST_DATA, max(1, MOST_ELEMENTS // math.prod(self.rows.shape)))

    def _code(self, model: int) -> Codes:
        return self.codes[checks.integer("model", model, least=0, most=len(self._vaes) - 1)]

    def _points(self, model: int, z: object, most: int | None = None) -> np.ndarray:
        """Latent points `(K, D)` in `float32`, K at most `most`, of numbers asked for."""
        size, most = self._code(model).loc.shape[1], most or self._most
        points = _array("z", z, "iuf")
        if points.size % size or points.ndim > 2 or (points.ndim == 2 and points.shape[1] != size):
            raise checks.ArgumentError(
                f"z has shape {points.shape}, but model {list(self.models)[model]!r} has "
                f"latent_dim = {size}: give {size} numbers a point."
            )
        checks.integer("points in z", points.size // size, most=min(most, MOST_NUMBERS // size))
        if not (abs(points) <= FARTHEST).all():
            raise checks.ArgumentError(
                f"z holds NaN, infinity, or what is beyond ±{FARTHEST:,.0f}; give smaller numbers."
            )
        return points.reshape(-1, size).astype(np.float32)

    def _indices(self, indices: object, most: int) -> np.ndarray:
        """Indices of data `(K,)`, K at most `most`."""
        array = _array("indices", indices, "iu")
        checks.integer("number of indices", array.size, most=most)
        if array.ndim != 1 or array.min() < 0 or array.max() >= self.rows.count:
            raise checks.ArgumentError(
                f"indices must be a list of whole numbers from 0 to {self.rows.count - 1}."
            )
        return array.astype(np.int64)


def _array(name: str, values: object, kinds: str) -> np.ndarray:
    """Numbers of one of NumPy's kinds, as an array."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        array = np.asarray("")
    if array.dtype.kind not in kinds and array.size:
        kind = "whole numbers" if kinds == "iu" else "numbers"
        raise checks.ArgumentError(f"{name} must be a list of {kind}.")
    return array
