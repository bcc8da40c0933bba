"""Estimators from model folders."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np

from vaelab import checks, shipped, storage
from vaelab.estimator._vae import VAE
from vaelab.likelihoods import in_words
from vaelab.objectives import Objective
from vaelab.parts import Part
from vaelab.recipes import Recipe

__all__ = ["load"]


def load(folder: str | os.PathLike[str], *, parts: Iterable[type[Part | Objective]] = ()) -> VAE:
    """The estimator that a model folder holds; `load(vae.save(folder))` has the same bits.

    Arguments:
        folder: A model folder, or the name of a model that ships with vaelab, such as
            `"mnist-vae"`; `"./mnist-vae"` is a folder.
        parts: Classes of parts and objectives that are not vaelab's own and may occur in it.

    Raises:
        checks.StorageError: No such folder, not a model folder, damaged, or of a newer format.
    """
    place = shipped.located(folder)
    saved = storage.load(place, parts=parts)
    modules = saved.model.parts
    recipe = Recipe(
        saved.recipe,
        modules["posterior"],  # type: ignore[arg-type]
        modules["prior"],  # type: ignore[arg-type]
        modules["likelihood"],  # type: ignore[arg-type]
        objective=saved.objective,
        training=saved.training,
        separation=saved.separation,
    )
    vae = VAE(recipe, latent_dim=saved.model.latent_dim, seed=saved.seed)
    vae.model_, vae.history_ = saved.model, [dict(record) for record in saved.history]
    vae.recipe_, vae.training_ = recipe, saved.training
    vae.data_, vae.versions_, vae.figures_ = map(dict, (saved.data, saved.versions, saved.figures))
    vae.likelihood_ = vae.data_.get("likelihood", in_words(recipe.likelihood))
    if saved.model.classes:
        vae.classes_ = np.asarray(vae.data_.get("classes", []))
        if vae.classes_.shape != (saved.model.classes,):
            raise checks.StorageError(
                f"{folder} is damaged: config.json has {vae.classes_.size} classes of "
                f"{saved.model.classes}."
            )
    if "features" in vae.data_:
        vae.feature_names_in_ = np.asarray(vae.data_["features"], dtype=object)
    vae.n_features_in_ = int(np.prod(saved.model.shape))
    vae.shipped_ = place.name if place.parent == shipped.ROOT else None
    vae.folder_ = None if vae.shipped_ else os.fspath(place)
    return vae
