"""What an estimator computes once it is fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor
from torch.distributions import Distribution

from vaelab import checks, importance, inputs, latent, metrics
from vaelab.data.rows import listed
from vaelab.data.shards import Shards
from vaelab.importance import Progress, Weighed
from vaelab.model import Model, class_by_class
from vaelab.objectives import ELBO
from vaelab.recipes import Recipe
from vaelab.records import Dataset
from vaelab.tensors import check_data, to_float

__all__ = ["Fitted"]


class Fitted(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The part of `VAE` that uses a trained model; its attributes are told there.

    Wherever data are given, `y` is the label of each, or one for all: a conditional model needs
    them, any other ignores them.
    """

    model_: Model
    history_: list[dict[str, float]]
    recipe_: Recipe
    likelihood_: str
    data_: dict[str, Any]
    classes_: np.ndarray
    shipped_: str | None = None
    folder_: str | None = None

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """`fit`, then `transform` of the same data: `(N, D)`."""
        return self.fit(X, y).encode(X, y).loc  # type: ignore[no-any-return]

    def transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Posterior means of data: `(N, D)`. Deterministic."""
        return self.encode(X, y).loc

    def encode(self, X: Any, y: Any = None) -> latent.Codes:
        """Posterior means and standard deviations of data: `(N, D)` each. Deterministic."""
        return latent.Codes(*self.over(X, y, lambda model, x, _: latent.encode(model, x)))

    @torch.no_grad()
    def posterior(self, X: Any, y: Any = None) -> Distribution:
        """q(z|x) of data as a distribution with batch `(N,)` and event `(D,)`."""
        x, model = self.checked(X), self.model_
        labels = self.labels(X, y, len(x))
        given = model if labels is None else model.given(labels)
        return given.encode(to_float(x).to(latent.device_of(model)))

    def inverse_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Mean of p(x|z) at latent points `(N, D)`: `(N, *shape)`. Deterministic."""
        return self._laid_out(self.decode(X, y))

    def decode(self, Z: Any, y: Any = None) -> np.ndarray:
        """The same, but images are `(N, C, H, W)` whatever the layout of those of `fit`."""
        model = self._fitted()
        points = np.array(Z)  # a copy, for a data frame's own array is read-only
        labels = self.labels(None, y, len(points) if points.ndim else 1)
        if labels is None:
            return latent.decode(model, points)

        def decode(given: Model, rows: np.ndarray, _: int) -> list[np.ndarray]:
            return [latent.decode(given, points[rows])]

        (decoded,) = class_by_class(model, labels.numpy(), decode)
        return decoded

    def reconstruct(self, X: Any, y: Any = None) -> np.ndarray:
        """Mean of p(x|z) at the posterior means of data: `(N, *shape)`. Deterministic."""
        if isinstance(X, Shards):
            raise inputs.needs_all(X)
        if y is None and isinstance(X, Dataset):
            y = X.y
        return self.inverse_transform(self.encode(X, y).loc, y)

    def interpolate(self, start: Any, end: Any, y: Any = None, *, steps: int = 11) -> np.ndarray:
        """Decodes the straight line between the posterior means of two data: `(steps, *shape)`.

        Arguments:
            start, end: One datum each, of the training data's shape.
            y: The label of both, or the two labels: between them, the weights of the two classes
                change as z does.
            steps: How many points, both ends included.
        """
        model = self._fitted()
        ends = [inputs.one(datum, model.shape) for datum in (start, end)]
        x = torch.cat([to_float(self._suiting(inputs.read(datum).x)) for datum in ends])
        labels = self.labels(None, y, 2)
        z = latent.encode(model if labels is None else model.given(labels), x).loc
        return self._laid_out(latent.between(model, z[0], z[1], steps, classes=labels))

    def sample(self, count: int = 1, y: Any = None, *, seed: int = 0) -> np.ndarray:
        """Draws z from the prior and gives the means of p(x|z): `(count, *shape)`."""
        return self.inverse_transform(latent.draw(self._fitted(), count, seed), y)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean ELBO of data as they are, in nats per datum, with one draw of z from seed 0.

        Arguments:
            X: The data.
            y: Their labels.
            sample_weight: Weights of the data in the mean, `(N,)`, at least 0; by default equal.

        Raises:
            checks.DataError: Data or labels that do not suit the model, or weights that are none.
        """
        elbo = self.terms(X, y).elbo
        weights = inputs.weights(sample_weight, len(elbo))
        return float(elbo.mean() if weights is None else np.average(elbo, weights=weights))

    def score_samples(
        self, X: Any, y: Any = None, *, particles: int = 100, seed: int = 0
    ) -> np.ndarray:
        """Importance-weighted estimate of ln p(x) of data, in nats: `(N,)`, `float32`.

        With a conditional model it is that of ln p(x|y). A datum's estimate depends on the seed and
        the datum, not on its place or the other data, but for rounding; see
        `vaelab.importance.weigh`.
        """
        weighed = self.weigh(X, y, particles=particles, seed=seed)
        return weighed.log_likelihood.astype(np.float32)

    def terms(self, X: Any, y: Any = None, *, seed: int = 0, draws: int = 1) -> metrics.PerDatum:
        """ELBO, rate and distortion of each datum, in nats: `(N,)` each.

        They are means over `draws` of z, of which there are at least so many for each datum.
        """

        def compute(model: Model, x: Tensor, seed: int) -> metrics.PerDatum:
            return metrics.per_datum(model, ELBO(), x, seed=seed, draws=draws)

        return metrics.PerDatum(*self.over(X, y, compute, seed=seed))

    def weigh(
        self,
        X: Any,
        y: Any = None,
        *,
        particles: int = 100,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Weighed:
        """Importance weights of data; see `vaelab.importance.weigh`."""

        def compute(model: Model, x: Tensor, _: int) -> Weighed:  # draws follow from the datum
            return importance.weigh(model, x, particles=particles, seed=seed, progress=progress)

        return Weighed(*self.over(X, y, compute))

    def over(
        self,
        X: Any,
        y: Any,
        compute: Callable[[Model, Tensor, int], Iterable[np.ndarray]],
        *,
        seed: int = 0,
    ) -> list[np.ndarray]:
        """What a function of a model, data at rest and a seed computes: arrays with N rows.

        A conditional model is given to it with one class bound at a time, with seeds of their own.
        Data in shards are taken one shard after the other, with seeds of their own, too.
        """
        if isinstance(X, Shards):
            return self._over_shards(X, y, compute, seed)
        x, model = self.checked(X), self.model_
        labels = self.labels(X, y, len(x))
        if labels is None:
            return list(compute(model, x, seed))

        def computed(given: Model, rows: np.ndarray, seed: int) -> Iterable[np.ndarray]:
            return compute(given, x[rows], seed)

        return class_by_class(model, labels.numpy(), computed, seed=seed)

    def _over_shards(
        self,
        shards: Shards,
        y: Any,
        compute: Callable[[Model, Tensor, int], Iterable[np.ndarray]],
        seed: int,
    ) -> list[np.ndarray]:
        """`over` of data in shards, of which one at a time is in memory."""
        given = None
        if self._fitted().classes and y is None:
            known = self.data_.get("class_names", [])
            if shards.class_names and list(shards.class_names) != known:
                raise checks.DataError(
                    f"{shards.name}: has the classes {listed(shards.class_names)}, but the model "
                    f"knows {listed(known)}; give y."
                )
        elif self._fitted().classes:
            given = inputs.labels(None, y, len(shards), self.recipe_.name)
        parts, start = [], 0
        for k, count in enumerate(shards.counts):
            rows = shards.rows(k)
            labels = None if given is None else given[start : start + count]
            own = int(np.random.SeedSequence([seed, k]).generate_state(1)[0])
            parts.append(self.over(Dataset(rows.x, rows.y, shards.name), labels, compute, seed=own))
            start += count
        return [np.concatenate(columns) for columns in zip(*parts, strict=True)]

    def labels(self, X: Any, y: Any, count: int) -> Tensor | None:
        """Numbers of the classes of data for a conditional model, `(N,)`; `None` for any other.

        Raises:
            checks.DataError: There are none, or one that the model does not know.
        """
        if not self._fitted().classes:
            return None
        labels = inputs.labels(X, y, count, self.recipe_.name)
        return torch.from_numpy(inputs.numbered(labels, self.classes_))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _fitted(self) -> Model:
        check_is_fitted(self)
        return self.model_

    def checked(self, X: Any) -> Tensor:
        """Data as a tensor at rest `(N, *shape)`, if the fitted model can score them.

        Raises:
            checks.DataError: It cannot.
            ValueError: Columns have other names than those of the training data.
        """
        check_is_fitted(self)
        validate_data(self, X, reset=False, skip_check_array=True, ensure_2d=False)
        return self._suiting(inputs.read(X).x)

    def _suiting(self, x: Tensor) -> Tensor:
        """Returns data at rest if the fitted model can score them."""
        model = self._fitted()
        if x.dim() == 2 and len(model.shape) == 1 and x.shape[1] != model.shape[0]:
            raise checks.DataError(
                f"X has {x.shape[1]} features, but {type(self).__name__} is expecting "
                f"{model.shape[0]} features as input; give data like those it was fitted on."
            )
        return check_data(x, model.shape, model.value_range)

    def _laid_out(self, x: np.ndarray) -> np.ndarray:
        """Images in the layout of those that it was fitted on."""
        return inputs.laid_out(x, self.data_.get("layout", ""))

    @property
    def _n_features_out(self) -> int:
        """How many columns `transform` gives, for their names: `vae0`, `vae1`, ..."""
        return self._fitted().latent_dim

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
