"""Floor 9: `VAE`, a scikit-learn estimator."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor
from torch.distributions import Distribution

from vaelab import checks, importance, inputs, latent, metrics, recipes, storage
from vaelab.likelihoods import LIKELIHOODS, in_words
from vaelab.model import Model
from vaelab.objectives import ELBO
from vaelab.parts import Part
from vaelab.recipes import Recipe
from vaelab.records import Callback, Checkpoints
from vaelab.tensors import check_data, to_float
from vaelab.training import Trained, check_device, train

__all__ = ["VAE", "load"]

ONWARD_RATE = 1e-3
"""Learning rate of `partial_fit`, which does not fall: a quarter of the largest of `fit`."""


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A variational autoencoder with the interface of scikit-learn.

    Data are vectors `(N, D)`, or images `(N, H, W)`, `(N, C, H, W)` or `(N, H, W, C)`, as arrays,
    tensors, data frames, nested lists, a torch `Dataset` or a `vaelab.data` one. Images whose last
    axis has 1, 3 or 4 elements, and whose second has not, are `(N, H, W, C)`. Images that are
    computed come in the layout of those that `fit` was given. `uint8` grey levels are taken to lie
    in [0, 255] and become [0, 1]. With a Gaussian likelihood, data may be in any unit: figures are
    in nats of the data as they are, and what is decoded is in their units.

    Arguments:
        recipe: A name in `vaelab.recipes.RECIPES`, or a `Recipe` of your own.
        latent_dim: Latent dimensions D (of a named recipe), at most the elements of a datum.
        likelihood: Of a named recipe: `"bernoulli"`, for bits and grey levels in [0, 1];
            `"gaussian"`, with a learnt scale, for any real numbers; `"auto"` is the recipe's own,
            but Gaussian for data that a Bernoulli one does not suit. See `likelihood_`.
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
        likelihood_: Which likelihood was taken, and why, in one line.
        training_: The training settings, with every choice made.
        data_: What is known of the training data: name, number, shape, layout, range, fingerprint.
        n_features_in_: Number of elements of a datum.
        feature_names_in_: Names of the columns of a data frame; only there if it had names.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(40, 3, (64, 6))
    >>> vae = VAE(latent_dim=2, epochs=1, seed=0).fit(x)
    >>> vae.transform(x).shape, vae.inverse_transform([[0.5, 0.2]]).shape
    ((64, 2), (1, 6))
    >>> vae.likelihood_
    "Gaussian with a learnt scale, in units of each element's ...: values range from ..."
    """

    model_: Model
    history_: list[dict[str, float]]
    recipe_: Recipe
    likelihood_: str
    data_: dict[str, Any]

    def __init__(
        self,
        recipe: str | Recipe = "vae",
        *,
        latent_dim: int = 2,
        likelihood: str = "auto",
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
        self.likelihood = likelihood
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
        """Trains on data `(N, ...)`, from fresh weights; `y` is ignored.

        Raises:
            checks.ArgumentError: A setting is not allowed.
            checks.DataError: The data cannot be used, or not by this likelihood.
            checks.TrainingError: The loss is NaN or infinite from the start.
            checks.StorageError, checks.Interrupted, OSError: With checkpoints; see
                `vaelab.training.train`.
        """
        x, recipe, data = self._prepared(X)
        trained = train(
            recipe.model(),
            recipe.objective,
            x,
            settings=recipe.training,
            seed=self.seed,
            callback=self.callback,
            checkpoints=_checkpoints(self.checkpoints),
            fingerprint=data["fingerprint"],
        )
        return self._set(trained, recipe, data)

    def partial_fit(self, X: Any, y: object = None) -> Self:
        """Goes on training: one pass over data `(N, ...)`, all of which are trained on.

        The first call chooses the likelihood, takes the units from these data and draws fresh
        weights from the seed, as `fit` does; a later one goes on from the weights there are, those
        of `fit` or of a loaded model too. The learning rate stays at `learning_rate`, by default
        0.001, and the KL divergence has its full weight. Adam's moments begin anew with each call:
        thousands of data a call serve better than tens. `epochs`, `patience`, `checkpoints` and
        `validation_fraction` mean nothing here; `history_` gains a record a call.

        Raises:
            checks.ArgumentError, checks.DataError, checks.TrainingError: As for `fit`; or the data
                are unlike those of earlier calls.

        >>> import numpy as np
        >>> x, vae = np.random.default_rng(0).random((256, 6)), VAE()
        >>> for part in np.split(x, 4):
        ...     vae = vae.partial_fit(part)
        >>> vae.data_["count"], len(vae.history_)
        (256, 4)
        """
        rate = self.learning_rate or (self.training or {}).get("learning_rate") or ONWARD_RATE
        first = not self.__sklearn_is_fitted__()
        if first:
            x, recipe, data = self._prepared(X)
            model, history, seed = recipe.model(), [], self.seed
        else:
            x, recipe, data = self.checked(X), self.recipe_, self.data_
            model, history = self.model_, self.history_
            seed = int(np.random.SeedSequence([self.seed, len(history)]).generate_state(1)[0])
        more = recipes.onward(recipe, rate)
        trained = train(
            model,
            more.objective,
            x,
            settings=more.training,
            seed=seed,
            callback=self.callback,
            keep=not first,
            constant=True,
        )
        if first:
            return self._set(trained, recipe, data)
        record, done = trained.history[0], history[-1]
        record |= {name: done[name] + record[name] for name in ("epoch", "steps", "seconds")}
        self.model_, self.history_ = trained.model, [*history, record]
        self.data_ = inputs.joined(data, inputs.record(X, x))
        return self

    def _prepared(self, X: Any) -> tuple[Tensor, Recipe, dict[str, Any]]:
        """Training data at rest, their recipe, and what is known of them; sets columns' names."""
        given = inputs.read(X)
        recipe = self.resolved(tuple(given.x.shape[1:]), given.x)
        x = check_data(given.x, recipe.model().shape, recipe.likelihood.value_range)
        validate_data(self, X, reset=True, skip_check_array=True, ensure_2d=False)
        asked = None if isinstance(self.recipe, Recipe) else self.likelihood
        stated = recipes.stated(recipe, x, asked=asked)
        data = inputs.record(X, x) | {"layout": given.layout, "likelihood": stated}
        if hasattr(self, "feature_names_in_"):
            data["features"] = self.feature_names_in_.tolist()
        return x, recipe, data

    def _set(self, trained: Trained, recipe: Recipe, data: dict[str, Any]) -> Self:
        """Sets the attributes of an estimator fitted from fresh weights."""
        self.model_, self.history_, self.training_ = trained
        self.recipe_, self.data_ = recipe, data
        self.likelihood_ = data["likelihood"]
        self.versions_ = storage.versions()
        self.n_features_in_ = int(np.prod(trained.model.shape))
        return self

    def resolved(self, shape: tuple[int, ...], x: Tensor | None = None) -> Recipe:
        """The recipe for data of a shape, with the settings that were given.

        Data at rest, `x`, decide what `likelihood="auto"` is; without them, the recipe does.
        """
        checks.seed(self.seed)
        wanted: str | None = checks.choice("likelihood", self.likelihood, ("auto", *LIKELIHOODS))
        if isinstance(self.recipe, Recipe):
            if self.options:
                raise checks.ArgumentError(
                    f"options = {self.options!r} go with the name of a recipe; set them in yours."
                )
            if wanted != "auto":
                raise checks.ArgumentError(
                    f"likelihood = {wanted!r} goes with the name of a recipe; set it in yours."
                )
            recipe = self.recipe
        else:
            settings = {"latent_dim": self.latent_dim, **(self.options or {})}
            if wanted == "auto":  # a recipe that is Gaussian itself stays so
                real = x is not None and inputs.suited(x)[0] == "gaussian"
                wanted = "gaussian" if real else None
            recipe = recipes.build(self.recipe, shape, settings, likelihood=wanted)
        names = ("epochs", "batch_size", "learning_rate")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        training = {**(self.training or {}), **given}
        recipe = recipes.changed(recipe, objective=self.objective or {}, training=training)
        check_device(recipe.training.device)
        inputs.check_latent_dim(recipe.model().latent_dim, shape)
        return recipe

    def transform(self, X: Any) -> np.ndarray:
        """Posterior means of data: `(N, D)`. Deterministic."""
        return self.encode(X).loc

    def encode(self, X: Any) -> latent.Codes:
        """Posterior means and standard deviations of data: `(N, D)` each. Deterministic."""
        return latent.encode(self._fitted(), self.checked(X))

    @torch.no_grad()
    def posterior(self, X: Any) -> Distribution:
        """q(z|x) of data as a distribution with batch `(N,)` and event `(D,)`."""
        model = self._fitted()
        return model.encode(to_float(self.checked(X)).to(latent.device_of(model)))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Mean of p(x|z) at latent points `(N, D)`: `(N, *shape)`. Deterministic."""
        points = np.array(X)  # a copy, for a data frame's own array is read-only
        decoded = latent.decode(self._fitted(), points)
        return inputs.laid_out(decoded, self.data_.get("layout", ""))

    def reconstruct(self, X: Any) -> np.ndarray:
        """Mean of p(x|z) at the posterior means of data: `(N, *shape)`. Deterministic."""
        return self.inverse_transform(self.encode(X).loc)

    def interpolate(self, start: Any, end: Any, *, steps: int = 11) -> np.ndarray:
        """Decodes the straight line between the posterior means of two data: `(steps, *shape)`.

        Arguments:
            start, end: One datum each, of the training data's shape.
            steps: How many points, both ends included.
        """
        model = self._fitted()
        ends = [inputs.one(datum, model.shape) for datum in (start, end)]
        x = torch.cat([to_float(self._suiting(inputs.read(datum).x)) for datum in ends])
        z = latent.encode(model, x).loc
        return self.inverse_transform(latent.path(z[0], z[1], steps))

    def sample(self, count: int = 1, *, seed: int = 0) -> np.ndarray:
        """Draws z from the prior and gives the means of p(x|z): `(count, *shape)`."""
        drawn = latent.sample(self._fitted(), count, seed)
        return inputs.laid_out(drawn, self.data_.get("layout", ""))

    def score(self, X: Any, y: object = None) -> float:
        """Mean ELBO of data as they are, in nats per datum, with one draw of z from seed 0."""
        return float(metrics.per_datum(self._fitted(), ELBO(), self.checked(X)).elbo.mean())

    def score_samples(self, X: Any, *, particles: int = 100, seed: int = 0) -> np.ndarray:
        """Importance-weighted estimate of ln p(x) of data, in nats: `(N,)`, `float32`.

        A datum's estimate depends on the seed and the datum, not on its place or the other data,
        but for rounding; see `vaelab.importance.weigh`.
        """
        weighed = importance.weigh(self._fitted(), self.checked(X), particles=particles, seed=seed)
        return weighed.log_likelihood.astype(np.float32)

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

    @property
    def _n_features_out(self) -> int:
        """How many columns `transform` gives, for their names: `vae0`, `vae1`, ..."""
        return self._fitted().latent_dim

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


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
    vae.data_, vae.versions_, vae.figures_ = map(dict, (saved.data, saved.versions, saved.figures))
    vae.likelihood_ = vae.data_.get("likelihood", in_words(recipe.likelihood))
    if "features" in vae.data_:
        vae.feature_names_in_ = np.asarray(vae.data_["features"], dtype=object)
    vae.n_features_in_ = int(np.prod(saved.model.shape))
    return vae


def _checkpoints(given: str | os.PathLike[str] | Checkpoints | None) -> Checkpoints | None:
    return given if given is None or isinstance(given, Checkpoints) else Checkpoints(given)
