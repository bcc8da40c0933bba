"""Floor 6: figures of samples: how real they look, and how much of the data they cover.

Samples are judged by features, `(N, F)`: real and generated data are mapped by the same function,
and the two clouds of points are compared. A small classifier, trained on labelled data, supplies
such features; any other map serves as well. Nothing here sees whether samples are copies of
training data: figures tell that only where the real data were not trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import entr
from torch import Tensor, nn

from vaelab import checks
from vaelab.distributions import seeded
from vaelab.networks import MLP, ConvEncoder
from vaelab.tensors import as_tensor, to_float

__all__ = [
    "Coverage",
    "FeatureMap",
    "Features",
    "coverage",
    "frechet_distance",
    "judge_samples",
    "learn_features",
]

FeatureMap = Callable[[np.ndarray], np.ndarray]
"""What maps N data, at rest or in [0, 1], to features `(N, F)`."""

BLOCK = 2**22
"""How many distances are held at once."""

SLACK = 1e-12
"""Distances whose squares differ by this share of the points' squared norms count as equal."""

WIDTH = 64
BATCH_SIZE = 256
BATCH = 2048
STEPS, MOST_EPOCHS = 900, 60
LEARNING_RATE, WEIGHT_DECAY = 4e-3, 0.05
START = 10_000
"""How many of the data the classifier's shift and scale are taken from."""


class Coverage(NamedTuple):
    """How two clouds of points cover each other; see `coverage`.

    Attributes:
        precision: Share of the fakes that lie within the real data, in [0, 1].
        recall: Share of the real data that lie within the fakes, in [0, 1].
        density: How many real neighbourhoods a fake lies in, over k; at least 0, about 1 where the
            fakes are distributed as the real data are.
        coverage: Share of the real data with a fake in their neighbourhood, in [0, 1]; about
            1 − 2⁻ᵏ where as many fakes are distributed as the real data are.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def coverage(real: np.ndarray, fake: np.ndarray, *, neighbours: int = 5) -> Coverage:
    r"""Improved precision and recall, density and coverage, from features.

    The neighbourhood B(x) of a point is the closed ball around it that reaches to its k-th nearest
    neighbour among the other points of its own set. With real points x_i and fakes y_j,

        precision = (1/M) Σ_j 1[y_j in some B(x_i)]     recall = (1/N) Σ_i 1[x_i in some B(y_j)]
        density = (1/kM) Σ_j Σ_i 1[y_j in B(x_i)]       coverage = (1/N) Σ_i 1[some y_j in B(x_i)]

    Precision and recall suffer from single outliers, whose balls are large; density and coverage
    less so. All depend on the numbers of points, so compare only where these are the same.
    References: Kynkäänniemi et al. (2019), https://arxiv.org/abs/1904.06991; Naeem et al. (2020),
    https://arxiv.org/abs/2002.09797

    Arguments:
        real: Features of real data, `(N, F)`.
        fake: Features of generated data, `(M, F)`.
        neighbours: k, less than N and than M.

    Returns:
        The four figures. Distances are Euclidean, and equal ones are within reach, whatever the
        rounding. Memory grows with N + M, not with N · M.

    Raises:
        checks.ArgumentError: Features of other shapes, not finite, or too few for k.

    >>> square = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> coverage(square, square + [0.5, 0.0], neighbours=1)
    Coverage(precision=1.0, recall=1.0, density=1.5, coverage=1.0)
    >>> coverage(square, square + [9.0, 0.0], neighbours=1)
    Coverage(precision=0.0, recall=0.0, density=0.0, coverage=0.0)
    """
    real, fake = _pair(real, fake, least=checks.integer("neighbours", neighbours) + 1)
    centre = real.mean(0)  # distances are taken from norms, which are exact only if small
    real, fake = real - centre, fake - centre
    real_reach, fake_reach = (_reach(points, neighbours) for points in (real, fake))
    real_norms, fake_norms = ((1 - SLACK) * (points**2).sum(1) for points in (real, fake))
    precise, inside = 0, 0
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    rows = max(1, BLOCK // len(real))
    for start in range(0, len(fake), rows):
        part = slice(start, start + rows)
        squares = fake_norms[part, None] + real_norms - 2 * fake[part] @ real.T
        in_real, in_fake = squares <= real_reach, squares <= fake_reach[part, None]
        precise += int(in_real.any(1).sum())
        inside += int(in_real.sum())
        covered |= in_real.any(0)
        recalled |= in_fake.any(0)
    return Coverage(
        precision=precise / len(fake),
        recall=float(recalled.mean()),
        density=inside / (neighbours * len(fake)),
        coverage=float(covered.mean()),
    )


def _reach(points: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared distance of each of `(N, F)` to its k-th nearest neighbour among the others: `(N,)`.

    The search is scikit-learn's, in blocks, or by a tree where there are few features.
    """
    from sklearn.neighbors import NearestNeighbors

    distances, _ = NearestNeighbors(n_neighbors=neighbours).fit(points).kneighbors()
    return np.asarray(distances[:, -1] ** 2)


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    r"""Squared Fréchet distance between Gaussians fitted to two sets of features.

    ‖m₁ − m₂‖² + tr(C₁ + C₂ − 2 (C₁ C₂)^½), with means m and covariances C (divisor N − 1). With
    C = RᵀR from a QR decomposition of the centred features, the trace of the root is the sum of
    the singular values of R₁R₂ᵀ, the roots of the eigenvalues of C₁^½ C₂ C₁^½; so no root of a
    matrix is taken, and singular covariances do no harm. In the squared unit of the features.

    With other features than those of the Inception network this is not FID, and must not be called
    so. It is 0 if and only if means and covariances agree. Of small samples it is too large, so
    compare only where the numbers of data are the same.
    References: Dowson & Landau (1982), https://doi.org/10.1016/0047-259X(82)90077-X; Heusel et al.
    (2017), https://arxiv.org/abs/1706.08500

    Arguments:
        real: Features of real data, `(N, F)`, N of at least 2.
        fake: Features of generated data, `(M, F)`, M of at least 2.

    Raises:
        checks.ArgumentError: Features of other shapes, not finite, or a single row.

    >>> x = np.array([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]])
    >>> round(frechet_distance(x, x + [3.0, 4.0]), 9)
    25.0
    """
    real, fake = _pair(real, fake, least=2)
    shift = real.mean(0) - fake.mean(0)
    first, second = _root(real), _root(fake)
    root = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    distance = shift @ shift + (first**2).sum() + (second**2).sum() - 2 * root
    return max(0.0, float(distance))


def _root(points: np.ndarray) -> np.ndarray:
    """R of `(min(N, F), F)` with RᵀR the covariance of points `(N, F)`."""
    centred = (points - points.mean(0)) / math.sqrt(len(points) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"))


def _pair(real: np.ndarray, fake: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Both sets of features in `float64`, if they can be compared."""
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    for name, part in (("real", real), ("fake", fake)):
        if part.ndim != 2 or part.shape[1] == 0:
            raise checks.ArgumentError(
                f"{name} features have shape {part.shape}, but it must be (N, F)."
            )
        if len(part) < least:
            raise checks.ArgumentError(
                f"{name} features are of {len(part)} data, but at least {least} are needed; give "
                "more data, or look at fewer neighbours."
            )
        if not np.isfinite(part).all():
            raise checks.ArgumentError(f"{name} features hold NaN or infinity; give finite ones.")
    if real.shape[1] != fake.shape[1]:
        raise checks.ArgumentError(
            f"real data have {real.shape[1]} features, but fake ones {fake.shape[1]}; map both by "
            "the same function."
        )
    return real, fake


class _Classifier(nn.Module):
    """A network to 64 units, the last hidden layer, and a linear layer that tells the classes."""

    scale: Tensor

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        images = len(shape) == 3
        self.body = (ConvEncoder if images else MLP)(shape, (WIDTH,), widths=(128, 128))
        self.head = nn.Linear(WIDTH, classes)
        self.register_buffer("scale", torch.ones(()))

    def start(self, x: Tensor) -> None:
        """Takes the shift, and for vectors the coordinates' scales, from data `(N, *shape)`."""
        if x.dim() == 2:
            spread = x.std(0, correction=0)
            self.scale = torch.where(spread > 0, spread, 1.0)
        self.body.start(x / self.scale)

    def features(self, x: Tensor) -> Tensor:
        """Maps `(N, *shape)` to `(N, 64)`."""
        return nn.functional.silu(self.body(x / self.scale))

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(N, *shape)` to logits `(N, classes)`."""
        logits: Tensor = self.head(self.features(x))
        return logits


@dataclass(frozen=True, eq=False)
class Features:
    """A small classifier whose last hidden layer supplies 64 features; see `learn_features`.

    Figures on these features are named after them, "Fréchet distance on a classifier's features"
    say, and compare only between models that were judged with the same classifier: one learnt from
    the same data, with the same seed. Noise, unlike any datum it learnt from, can have features
    within those of real data and thus a high precision; recall and the distance tell.

    Attributes:
        network: Maps `(N, *shape)` in `float32` to logits `(N, K)`; its `features`, to `(N, 64)`.
        classes: The K labels, in the order of the logits, `(K,)`.
    """

    network: _Classifier
    classes: np.ndarray

    def features(self, x: ArrayLike) -> np.ndarray:
        """What the last hidden layer makes of data: `(N, 64)`, `float32`.

        Arguments:
            x: Data at rest, `(N, *shape)`, or images in [0, 1], decoded means say.

        Raises:
            checks.DataError: Not numbers, another shape, NaN or infinity.
        """
        return self._map(x, self.network.features, WIDTH)

    def probabilities(self, x: ArrayLike) -> np.ndarray:
        """Probability of each class for data as in `features`: `(N, K)`, `float32`."""
        return self._map(x, lambda part: self.network(part).softmax(1), len(self.classes))

    def accuracy(self, x: ArrayLike, y: ArrayLike) -> float:
        """Share of data `(N, *shape)` whose most probable class is their label in `y`, `(N,)`.

        Raises:
            checks.DataError: As for `features`, or another number of labels.
        """
        found = self.classes[self.probabilities(x).argmax(1)]
        return float((found == _labels(y, len(found))).mean())

    @torch.no_grad()
    def _map(self, x: ArrayLike, function: Callable[[Tensor], Tensor], width: int) -> np.ndarray:
        """The function's values `(N, width)`, batch by batch."""
        data, shape = as_tensor(x), self.network.body.in_shape
        if tuple(data.shape[1:]) != shape:
            raise checks.DataError(
                f"each datum has shape {tuple(data.shape[1:])}, but the classifier learnt from "
                f"{shape}; give such data, or learn features from yours."
            )
        values = np.empty((len(data), width), np.float32)
        for start in range(0, len(data), BATCH):
            part = slice(start, start + BATCH)
            values[part] = function(to_float(data[part]))
        return values


def learn_features(
    x: ArrayLike, y: ArrayLike, *, seed: int = 0, epochs: int | None = None
) -> Features:
    """Trains a small classifier on labelled data, to judge samples by its last hidden layer.

    Images are read by a `ConvEncoder`, vectors by an `MLP`, trained by AdamW on the cross-entropy
    with a rate that rises and falls once over the run.

    Arguments:
        x: Images `(N, C, H, W)` in `uint8`, or vectors `(N, D)` in `float32`; as data at rest.
        y: Labels `(N,)`, whole numbers, of at least two classes.
        seed: First weights and the order of the data follow from it; the global random state stays.
        epochs: Passes over the data; by default as many as make 900 steps of 256 data, at most 60.

    Raises:
        checks.DataError: Data that are not numbers or not finite, labels that do not fit them, or
            a single class.

    >>> x = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    >>> y = (x[:, 0] > 0).astype(int)
    >>> learnt = learn_features(x, y)
    >>> learnt.features(x).shape, learnt.accuracy(x, y) > 0.95
    ((300, 64), True)
    """
    data = as_tensor(x)
    classes, places = np.unique(_labels(y, len(data)), return_inverse=True)
    if len(classes) < 2:
        raise checks.DataError(
            f"all labels are {classes[0]}, but a classifier needs at least two classes."
        )
    if epochs is None:
        epochs = min(MOST_EPOCHS, math.ceil(STEPS / math.ceil(len(data) / BATCH_SIZE)))
    with seeded(checks.seed(seed)):
        network = _Classifier(tuple(data.shape[1:]), len(classes))
        network.start(to_float(data[torch.randperm(len(data))[:START]]))
        _train(network, data, torch.from_numpy(places), checks.integer("epochs", epochs))
    return Features(network.eval().requires_grad_(False), classes)


def _labels(y: ArrayLike, count: int) -> np.ndarray:
    labels = np.asarray(y)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise checks.DataError(
            f"labels have shape {labels.shape} and type {labels.dtype}, but whole numbers of shape "
            f"({count},) are needed, one for each datum."
        )
    return labels


def _train(network: _Classifier, x: Tensor, y: Tensor, epochs: int) -> None:
    """Minimises the cross-entropy; the order of the data is from torch's global random state."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * math.ceil(len(x) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x)), BATCH_SIZE):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(to_float(x[rows])), y[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


def judge_samples(
    features: Features | FeatureMap,
    real: np.ndarray,
    fake: np.ndarray,
    *,
    neighbours: int = 5,
    most: int = 10_000,
    seed: int = 0,
) -> dict[str, float]:
    """Figures of generated data beside as many real ones, by name.

    Arguments:
        features: What maps both to features: a classifier, or any function to `(N, F)`.
        real: Real data at rest, `(N, *shape)`; best those that the model was not trained on.
        fake: Generated data, `(M, *shape)`: at rest, or decoded means in [0, 1].
        neighbours: k of `coverage`.
        most: Of either set min(N, M, most) data are judged, drawn at random without repetition.
        seed: Which are drawn.

    Returns:
        `precision`, `recall`, `density` and `coverage` (see `coverage`). With a classifier,
        `classifier_frechet`, the squared Fréchet distance on its features, and `class_entropy`,
        −Σ p ln p in nats of the fakes' mean class probabilities p: ln K if K classes are equally
        frequent, less if some are missing. With another map, `frechet` instead of the two.

    Raises:
        checks.ArgumentError: Too few data for k, or features that cannot be compared.
        checks.DataError: Data that the classifier cannot read.

    >>> rng = np.random.default_rng(0)
    >>> real, fake = rng.normal(size=(2, 500, 3)).astype(np.float32)
    >>> same = judge_samples(lambda x: x, real, fake)
    >>> apart = judge_samples(lambda x: x, real, fake + 1)
    >>> apart["frechet"] > 2.5 > same["frechet"], apart["recall"] < 0.9 < same["recall"]
    (True, True)
    """
    rng = np.random.default_rng(checks.seed(seed))
    count = min(len(real), len(fake), checks.integer("most", most))
    real, fake = (
        part[np.sort(rng.choice(len(part), count, replace=False))] for part in (real, fake)
    )
    mapped = features.features if isinstance(features, Features) else features
    both = mapped(real), mapped(fake)
    figures: dict[str, float] = coverage(*both, neighbours=neighbours)._asdict()
    distance = frechet_distance(*both)
    if not isinstance(features, Features):
        return figures | {"frechet": distance}
    frequencies = features.probabilities(fake).mean(0, dtype=np.float64)
    entropy = float(entr(frequencies).sum())
    return figures | {"classifier_frechet": distance, "class_entropy": entropy}
