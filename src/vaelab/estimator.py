"""Floor 9: `VAE`, a scikit-learn estimator."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.distributions import Distribution

from vaelab import checks, importance, latent, metrics, recipes, storage
from vaelab.distributions import seeded
from vaelab.model import Model
from vaelab.objectives import ELBO
from vaelab.parts import Part
from vaelab.recipes import Recipe
from vaelab.records import Callback, Checkpoints, Dataset
from vaelab.tensors import as_tensor, check_data, to_float
from vaelab.training import check_device, train

__all__ = ["VAE", "load"]


class VAE(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A variational autoencoder with the interface of scikit-learn.

    Data are vectors `(N, D)`, images `(N, C, H, W)` or grey images `(N, H, W)`, as arrays, tensors
    or a `Dataset`; `uint8` grey levels are taken to lie in [0, 255] and become [0, 1].

    Arguments:
        recipe: A name in `vaelab.recipes.RECIPES`, or a `Recipe` of your own.
        latent_dim: Number of latent dimensions D (of a named recipe).
        epochs: Passes over the data; by default the recipe's, or chosen by the number of data.
        batch_size: Data a step; likewise.
        learning_rate: The largest learning rate; by default the recipe's.
        seed: Everything random in `fit` follows from it: the same seed gives the same bits.
        options: Options of a named recipe: `{"scale": 0.5}` for `"fixed-variance"`, say.
        objective: Settings that the recipe's objective is to have: `{"warmup_epochs": 2}`, say.
        training: Further settings of training, by their names in `vaelab.records.Training`:
            `{"patience": 3, "device": "cuda"}`, say.
        checkpoints: A folder where `fit` keeps its state, or a `vaelab.Checkpoints`, which can
            also resume: `Checkpoints("runs/digits", resume=True)`.
        callback: Called with `"step"`, `"epoch"` or `"end"` and named values during `fit`; several
            are made one by `vaelab.trackers.combined`.

    Attributes:
        model_: The trained `vaelab.model.Model`, a `torch.nn.Module`.
        history_: A record an epoch; see `vaelab.training.Trained`.
        recipe_: The `Recipe` used.
        training_: The training settings, with every choice made.
        data_: What is known of the training data: name, number, shape, range, fingerprint.
        n_features_in_: Number of elements of a datum.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((64, 6), dtype=np.float32)
    >>> vae = VAE("gaussian", latent_dim=2, epochs=1, seed=0).fit(x)
    >>> vae.transform(x).shape, vae.inverse_transform([[0.5, 0.2]]).shape
    ((64, 2), (1, 6))
    """

    model_: Model
    history_: list[dict[str, float]]
    recipe_: Recipe

    def __init__(
        self,
        recipe: str | Recipe = "vae",
        *,
        latent_dim: int = 2,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        objective: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        checkpoints: str | os.PathLike[str] | Checkpoints | None = None,
        callback: Callback | None = None,
    ) -> None:
        self.recipe = recipe
        self.latent_dim = latent_dim
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed
        self.options = options
        self.objective = objective
        self.training = training
        self.checkpoints = checkpoints
        self.callback = callback

    def fit(self, X: Any, y: object = None) -> Self:
        """Trains on data `(N, ...)`; `y` is ignored.

        Raises:
            checks.ArgumentError: A setting is not allowed.
            checks.DataError: The data cannot be used, or not by this likelihood.
            checks.TrainingError: The loss is NaN or infinite from the start.
            checks.StorageError, checks.Interrupted, OSError: With checkpoints; see
                `vaelab.training.train`.
        """
        x = as_tensor(X.x if isinstance(X, Dataset) else X)
        recipe = self.resolved(tuple(x.shape[1:]))
        model = recipe.model()
        check_data(x, model.shape, model.value_range)
        data = _data_record(X, x)
        trained = train(
            model,
            recipe.objective,
            x,
            settings=recipe.training,
            seed=self.seed,
            callback=self.callback,
            checkpoints=_checkpoints(self.checkpoints),
            fingerprint=data["fingerprint"],
        )
        self.model_, self.history_, self.training_ = trained
        self.recipe_ = recipe
        self.data_ = data
        self.versions_ = storage.versions()
        self.n_features_in_ = int(np.prod(x.shape[1:]))
        return self

    def resolved(self, shape: tuple[int, ...]) -> Recipe:
        """The recipe for data of a shape, with the settings that were given."""
        checks.seed(self.seed)
        if isinstance(self.recipe, Recipe):
            if self.options:
                raise checks.ArgumentError(
                    f"options = {self.options!r} go with the name of a recipe; set them in yours."
                )
            recipe = self.recipe
        else:
            settings = {"latent_dim": self.latent_dim, **(self.options or {})}
            recipe = recipes.build(self.recipe, shape, settings)
        given = {
            name: value
            for name in ("epochs", "batch_size", "learning_rate")
            if (value := getattr(self, name)) is not None
        }
        settings = _changed("training", recipe.training, {**(self.training or {}), **given})
        check_device(settings.device)
        objective = _changed("objective", recipe.objective, self.objective or {})
        return replace(recipe, objective=objective, training=settings)

    def transform(self, X: Any) -> np.ndarray:
        """Posterior means of data: `(N, D)`. Deterministic."""
        return latent.encode(self._fitted(), self.checked(X)).loc

    def encode(self, X: Any) -> latent.Codes:
        """Posterior means and standard deviations of data: `(N, D)` each. Deterministic."""
        return latent.encode(self._fitted(), self.checked(X))

    def posterior(self, X: Any) -> Distribution:
        """q(z|x) of data as a distribution with batch `(N,)` and event `(D,)`."""
        model = self._fitted()
        with torch.no_grad():
            return model.encode(to_float(self.checked(X)).to(latent.device_of(model)))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Mean of p(x|z) at latent points `(N, D)`: `(N, *shape)`. Deterministic."""
        return latent.decode(self._fitted(), np.asarray(X))

    def reconstruct(self, X: Any) -> np.ndarray:
        """Mean of p(x|z) at the posterior means of data: `(N, *shape)`. Deterministic."""
        return self.inverse_transform(self.transform(X))

    def interpolate(self, start: Any, end: Any, *, steps: int = 11) -> np.ndarray:
        """Decodes the straight line between the posterior means of two data: `(steps, *shape)`.

        Arguments:
            start, end: One datum each, of the training data's shape.
            steps: How many points, both ends included.
        """
        ends = [np.asarray(datum).reshape(1, *self._fitted().shape) for datum in (start, end)]
        z = self.transform(np.concatenate(ends))
        return self.inverse_transform(latent.path(z[0], z[1], steps))

    def sample(self, count: int = 1, *, seed: int = 0) -> np.ndarray:
        """Draws z from the prior and gives the means of p(x|z): `(count, *shape)`."""
        model = self._fitted()
        checks.integer("count", count)
        with seeded(checks.seed(seed)), torch.no_grad():
            z = model.prior().sample((count,))
        return latent.decode(model, z.cpu().numpy())

    def score(self, X: Any, y: object = None) -> float:
        """Mean ELBO of data, in nats per datum, with one draw of z for each from seed 0."""
        terms = metrics.per_datum(self._fitted(), ELBO(), self.checked(X))
        return float(terms.elbo.mean())

    def score_samples(self, X: Any, *, particles: int = 100, seed: int = 0) -> np.ndarray:
        """Importance-weighted estimate of ln p(x) of data, in nats: `(N,)`."""
        return importance.weigh(
            self._fitted(), self.checked(X), particles=particles, seed=seed
        ).log_likelihood

    def save(
        self, folder: str | os.PathLike[str], *, figures: Mapping[str, Any] | None = None
    ) -> Path:
        """Writes a model folder, from which `vaelab.load` gives the same bits.

        Arguments:
            folder: A new folder, or a model folder to replace.
            figures: Named figures to keep with the model.

        Raises:
            checks.StorageError: The folder holds something else.
            OSError: It cannot be written; nothing is then left half-written.
        """
        model = self._fitted()
        saved = storage.Saved(
            model=model,
            recipe=self.recipe_.name,
            objective=self.recipe_.objective,
            training=self.training_,
            seed=self.seed,
            history=self.history_,
            data=self.data_,
            figures=figures or {},
            versions=self.versions_,
        )
        return storage.save(saved, folder)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _fitted(self) -> Model:
        check_is_fitted(self)
        return self.model_

    def checked(self, X: Any) -> Tensor:
        """Data as a tensor at rest `(N, *shape)`, if the fitted model can score them."""
        model = self._fitted()
        return check_data(
            as_tensor(X.x if isinstance(X, Dataset) else X), model.shape, model.value_range
        )


def load(folder: str | os.PathLike[str], *, parts: Iterable[type[Part]] = ()) -> VAE:
    """The estimator that a model folder holds; `load(vae.save(folder))` has the same bits.

    Arguments:
        folder: A model folder.
        parts: Classes of parts that are not vaelab's own and may occur in it.

    Raises:
        checks.StorageError: No such folder, not a model folder, damaged, or of a newer format.
    """
    saved = storage.load(folder, parts=parts)
    modules = saved.model.parts
    recipe = Recipe(
        saved.recipe,
        modules["posterior"],  # type: ignore[arg-type]
        modules["prior"],  # type: ignore[arg-type]
        modules["likelihood"],  # type: ignore[arg-type]
        objective=saved.objective,
        training=saved.training,
    )
    vae = VAE(recipe, latent_dim=saved.model.latent_dim, seed=saved.seed)
    vae.model_, vae.history_ = saved.model, [dict(record) for record in saved.history]
    vae.recipe_, vae.training_ = recipe, saved.training
    vae.data_, vae.versions_ = dict(saved.data), dict(saved.versions)
    vae.figures_ = dict(saved.figures)
    vae.n_features_in_ = int(np.prod(saved.model.shape))
    return vae


def _changed(name: str, record: Any, settings: Mapping[str, Any]) -> Any:
    """A frozen record with other settings; an unknown one is refused."""
    known = [field.name for field in fields(record)]
    for setting in settings:
        checks.choice(f"setting of {name}", setting, known)
    return replace(record, **settings)


def _checkpoints(given: str | os.PathLike[str] | Checkpoints | None) -> Checkpoints | None:
    return given if given is None or isinstance(given, Checkpoints) else Checkpoints(given)


def _data_record(given: object, x: Tensor) -> dict[str, Any]:
    dataset = (
        given
        if isinstance(given, Dataset)
        else Dataset(x=x.cpu().numpy(), y=None, name="array", source="memory")
    )
    return {
        "name": dataset.name,
        "source": dataset.source,
        "count": len(dataset),
        "shape": list(x.shape[1:]),
        "dtype": str(x.dtype).removeprefix("torch."),
        "range": [float(x.min()), float(x.max())],
        "fingerprint": dataset.fingerprint,
    }
