"""The estimator itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch import Tensor

from vaelab import checks, inputs, recipes, storage
from vaelab.data.shards import Shards
from vaelab.estimator._fitted import Fitted
from vaelab.likelihoods import LIKELIHOODS
from vaelab.recipes import Recipe
from vaelab.records import Callback, Checkpoints
from vaelab.streaming import Stream
from vaelab.tensors import check_data
from vaelab.training import Trained, check_device, train

__all__ = ["VAE"]

ONWARD_RATE = 1e-3
"""Learning rate of `partial_fit`, which does not fall: a quarter of the largest of `fit`."""


class VAE(Fitted):
    """A variational autoencoder with the interface of scikit-learn.

    Data are vectors `(N, D)`, or images `(N, H, W)`, `(N, C, H, W)` or `(N, H, W, C)`, as arrays,
    tensors, data frames, nested lists, a torch `Dataset` or a `vaelab.data` one, or shards
    (`vaelab.data.shards`). Images whose last axis has 1, 3 or 4 elements, and whose second has not,
    are `(N, H, W, C)`. Images that are computed come in the layout of those that `fit` was given.
    `uint8` grey levels are taken to lie in [0, 255] and become [0, 1]. With a Gaussian likelihood,
    data may be in any unit: figures are in nats of the data as they are, and what is decoded is in
    their units.

    The recipe `"conditional"` is fitted on data with labels, whole numbers or strings, and wants
    the label of each datum wherever it encodes, decodes or scores: `y`, one for each or one for
    all. The labels of a `vaelab.data` data set serve without `y`. Nothing is guessed where there
    are none, since the model says nothing of p(y|x). Other recipes ignore `y`.

    Arguments:
        recipe: A name in `vaelab.recipes.RECIPES`, or a `Recipe` of your own.
        latent_dim: Latent dimensions D (of a named recipe), at most the elements of a datum.
        likelihood: Of a named recipe: `"bernoulli"`, for bits and grey levels in [0, 1];
            `"gaussian"`, with a learnt scale, for any real numbers; `"auto"` is the recipe's own,
            but Gaussian for data that a Bernoulli one does not suit. See `likelihood_`.
        epochs: Passes over the data; by default the recipe's, or chosen by the number of data.
        batch_size: Data a step; likewise.
        learning_rate: The largest learning rate; by default the recipe's.
        separation: By how much neighbours in the data are kept neighbours on the map, 0 for not at
            all; by default the recipe's. See `vaelab.separation.Separation`.
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
        folder_: The model folder that it was loaded from; `None` for any other, or one that ships.
        n_features_in_: Number of elements of a datum.
        classes_: The labels that a conditional model knows, `(C,)`, ascending; others have none.
        feature_names_in_: Names of the columns of a data frame; only there if it had names.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(40, 3, (64, 6))
    >>> vae = VAE(latent_dim=2, epochs=1, seed=0).fit(x)
    >>> vae.transform(x).shape, vae.inverse_transform([[0.5, 0.2]]).shape
    ((64, 2), (1, 6))
    >>> vae.likelihood_
    "Gaussian with a learnt scale, in units of each element's ...: values range from ..."
    >>> conditional = VAE("conditional", epochs=1).fit(x, ["cat", "dog"] * 32)
    >>> conditional.transform(x, "cat").shape, conditional.sample(3, "dog").shape
    ((64, 2), (3, 6))
    """

    def __init__(
        self,
        recipe: str | Recipe = "vae",
        *,
        latent_dim: int = 2,
        likelihood: str = "auto",
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        separation: float | None = None,
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
        self.separation = separation
        self.seed = seed
        self.options = options
        self.objective = objective
        self.training = training
        self.checkpoints = checkpoints
        self.callback = callback

    def fit(self, X: Any, y: Any = None) -> Self:
        """Trains on data `(N, ...)`, from fresh weights; only a conditional recipe reads `y`.

        There are no weights of data: repeat the rows that are to count for more. Batches are drawn
        at random, so weights could not be the same as repeated rows.

        Data in shards, `vaelab.data.shards`, are streamed: see `vaelab.streaming.Windows` for how
        they are shuffled. What else would need all of them (the likelihood, units, starting
        weights, the range that is kept, the data held out) comes from a sample that the seed draws,
        see `vaelab.streaming.sample`. They have their own labels, or none.

        Raises:
            checks.ArgumentError: A setting is not allowed.
            checks.DataError: The data cannot be used, or not by this likelihood.
            checks.TrainingError: The loss is NaN or infinite from the start.
            checks.StorageError, checks.Interrupted, OSError: With checkpoints; see
                `vaelab.training.train`.
        """
        x: Tensor | Stream
        if isinstance(X, Shards):
            x, labels, recipe, data = self._streamed(X, y)
        else:
            x, labels, recipe, data = self._prepared(X, y)
        trained = train(
            recipe.model(),
            recipe.objective,
            x,
            settings=recipe.training,
            y=labels,
            seed=self.seed,
            callback=self.callback,
            checkpoints=_checkpoints(self.checkpoints),
            fingerprint=data["fingerprint"],
            separation=recipe.separation,
        )
        return self._set(trained, recipe, data)

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Goes on training: one pass over data `(N, ...)`, all of which are trained on.

        The first call chooses the likelihood, takes the units from these data and draws fresh
        weights from the seed, as `fit` does; a later one goes on from the weights there are, those
        of `fit` or of a loaded model too. The learning rate stays at `learning_rate`, by default
        0.001, and the KL divergence has its full weight. Adam's moments begin anew with each call:
        thousands of data a call serve better than tens. `epochs`, `patience`, `checkpoints` and
        `validation_fraction` mean nothing here; `history_` gains a record a call. The labels of
        the first call are all that a conditional model will know.

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
            x, labels, recipe, data = self._prepared(X, y)
            model, history, seed = recipe.model(), [], self.seed
        else:
            x, recipe, data = self.checked(X), self.recipe_, self.data_
            labels = self.labels(X, y, len(x))
            model, history = self.model_, self.history_
            seed = int(np.random.SeedSequence([self.seed, len(history)]).generate_state(1)[0])
        more = recipes.onward(recipe, rate)
        trained = train(
            model,
            more.objective,
            x,
            settings=more.training,
            y=labels,
            seed=seed,
            callback=self.callback,
            keep=not first,
            constant=True,
            separation=more.separation,
        )
        if first:
            return self._set(trained, recipe, data)
        record, done = trained.history[0], history[-1]
        record |= {name: done[name] + record[name] for name in ("epoch", "steps", "seconds")}
        self.model_, self.history_ = trained.model, [*history, record]
        self.shipped_ = self.folder_ = None
        self.data_ = inputs.joined(data, inputs.record(X, x))
        return self

    def _prepared(self, X: Any, y: Any) -> tuple[Tensor, Tensor | None, Recipe, dict[str, Any]]:
        """Training data at rest, the numbers of their classes, their recipe, and what is known of
        them; sets the names of columns.
        """
        given = inputs.read(X)
        shape = tuple(given.x.shape[1:])
        recipe = self.resolved(shape, given.x)
        numbers = classes = None
        if recipe.model().classes:
            labels = inputs.labels(X, y, len(given.x), recipe.name)
            classes, numbers = np.unique(labels, return_inverse=True)
            recipe = self.resolved(shape, given.x, labels)
        x = check_data(given.x, recipe.model().shape, recipe.likelihood.value_range)
        validate_data(self, X, reset=True, skip_check_array=True, ensure_2d=False)
        asked = None if isinstance(self.recipe, Recipe) else self.likelihood
        stated = recipes.stated(recipe, x, asked=asked)
        data = inputs.record(X, x, None if y is None else numbers, classes)
        data |= {"layout": given.layout, "likelihood": stated}
        if hasattr(self, "feature_names_in_"):
            data["features"] = self.feature_names_in_.tolist()
        return x, None if numbers is None else torch.from_numpy(numbers), recipe, data

    def _streamed(self, shards: Shards, y: Any) -> tuple[Stream, None, Recipe, dict[str, Any]]:
        """The same of data in shards, as far as their sample tells it."""
        stream = Stream(shards, checks.seed(self.seed))
        x, classes = stream.sample.x, None
        recipe = self.resolved(shards.shape, x)
        if recipe.model().classes:
            if y is not None or not shards.class_names:
                found = f"y for data in shards: {shards.name}" if y is not None else shards.name
                raise checks.DataError(
                    f"recipe {recipe.name!r} needs labels that lie in the shards, but was given "
                    f"{found} without labels; name their column: shards(..., labels='class')."
                )
            classes = np.arange(len(shards.class_names))
            recipe = self.resolved(shards.shape, x, classes)
        check_data(x, recipe.model().shape, recipe.likelihood.value_range)
        validate_data(self, shards, reset=True, skip_check_array=True, ensure_2d=False)
        asked = None if isinstance(self.recipe, Recipe) else self.likelihood
        data = inputs.streamed(shards, x, classes)
        data |= {"layout": "ND" if x.dim() == 2 else "NCHW"}
        data |= {"likelihood": recipes.stated(recipe, x, asked=asked)}
        return stream, None, recipe, data

    def _set(self, trained: Trained, recipe: Recipe, data: dict[str, Any]) -> Self:
        """Sets the attributes of an estimator fitted from fresh weights."""
        self.model_, self.history_, self.training_ = trained
        self.recipe_, self.data_ = recipe, data
        self.shipped_ = self.folder_ = None
        self.likelihood_ = data["likelihood"]
        if trained.model.classes:
            self.classes_ = np.asarray(data["classes"])
        self.versions_ = storage.versions()
        self.n_features_in_ = int(np.prod(trained.model.shape))
        return self

    def resolved(
        self, shape: tuple[int, ...], x: Tensor | None = None, y: np.ndarray | None = None
    ) -> Recipe:
        """The recipe for data of a shape, with the settings that were given.

        Data at rest, `x`, decide what `likelihood="auto"` is, and labels, `y`, how many classes a
        conditional recipe knows; without them, the recipe does.
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
            if y is not None and "classes" in recipes.options(self.recipe):
                settings = {"classes": len(np.unique(y)), **settings}
            if wanted == "auto":  # a recipe that is Gaussian itself stays so
                real = x is not None and inputs.suited(x)[0] == "gaussian"
                wanted = "gaussian" if real else None
            recipe = recipes.build(self.recipe, shape, settings, likelihood=wanted)
        names = ("epochs", "batch_size", "learning_rate")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        training = {**(self.training or {}), **given}
        recipe = recipes.changed(
            recipe,
            objective=self.objective or {},
            training=training,
            separation=self.separation,
        )
        known = recipe.model().classes
        if known and y is not None and len(np.unique(y)) != known:
            raise checks.DataError(
                f"y has {len(np.unique(y))} classes, but recipe {recipe.name!r} was made for "
                f"{known}; give it as many classes as there are."
            )
        check_device(recipe.training.device)
        inputs.check_latent_dim(recipe.posterior.latent_dim, shape)
        return recipe

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
            separation=self.recipe_.separation,
            training=self.training_,
            seed=self.seed,
            history=self.history_,
            data=self.data_,
            figures=figures or {},
            versions=self.versions_,
        )
        return storage.save(saved, folder)


def _checkpoints(given: str | os.PathLike[str] | Checkpoints | None) -> Checkpoints | None:
    return given if given is None or isinstance(given, Checkpoints) else Checkpoints(given)
