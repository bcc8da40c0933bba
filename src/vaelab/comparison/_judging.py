"""Figures of a trained model on data that it was not trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vaelab import checks, metrics
from vaelab.estimator import VAE
from vaelab.latent import Codes
from vaelab.objectives import ELBO
from vaelab.records import BINARIZE, Dataset
from vaelab.tensors import STATIC_SEED, as_tensor, binarized

__all__ = ["JUDGED", "PARTICLES", "evaluate", "judge", "shown"]

PARTICLES = 64
"""K, of the importance-weighted log p(x), unless told otherwise."""

JUDGED = 2_000
"""How many test data the importance-weighted log p(x) is estimated on, unless told otherwise."""


def evaluate(
    vae: VAE,
    test: Dataset,
    train: Dataset | None = None,
    *,
    particles: int = PARTICLES,
    most: int | None = JUDGED,
    seed: int = 0,
    binarize: str | None = None,
) -> dict[str, Any]:
    """Figures of a trained model on data that it was not trained on.

    Arguments:
        vae: A fitted model.
        test: The data to judge it on.
        train: Labelled data among which the nearest neighbours are looked for; without them, or
            without labels, the accuracies are `None`.
        particles: K, of the importance-weighted log-likelihood.
        most: On how many of the test data the log-likelihood is estimated (the same random ones
            each time); `None` takes all.
        seed: Where every draw starts.
        binarize: `"none"` judges grey levels as they are; `"dynamic"` and `"static"` judge bits
            drawn once, by a fixed seed, as the model was trained with one or the other; `None`
            takes what it was trained with.

    Returns:
        In nats per datum, with standard errors over data (`..._se`): `elbo`, `rate`,
        `distortion`, `log_likelihood`. Also `particles`, `log_likelihood_count`,
        `active_units`, `knn_accuracy` (15 neighbours, posterior means), `knn_accuracy_sampled`
        (the same on one draw of z a datum), `parameters` and `binarize`.
    """
    kind = checks.choice("binarize", binarize or vae.training_.binarize, BINARIZE)
    test = shown(test, kind)
    train = None if train is None else shown(train, kind)
    among = None if train is None else vae.encode(train)
    terms = metrics.per_datum(vae.model_, ELBO(), vae.checked(test), seed=seed)
    figures = judge(vae, test, terms, vae.encode(test), train, among, particles, most, seed)
    return figures | {"binarize": kind}


def shown(data: Dataset, binarize: str) -> Dataset:
    """Data as a model is shown them that was trained with `Training.binarize`."""
    if binarize == "none":
        return data
    return replace(data, x=binarized(as_tensor(data.x), STATIC_SEED).numpy())


def judge(
    vae: VAE,
    test: Dataset,
    terms: metrics.PerDatum,
    codes: Codes,
    train: Dataset | None,
    among: Codes | None,
    particles: int,
    most: int | None,
    seed: int,
) -> dict[str, Any]:
    """`evaluate`, with the ELBO's terms, and posteriors of test and training data, at hand."""
    judged = test.limited(most)
    log_p = vae.score_samples(judged, particles=particles, seed=seed)
    figures: dict[str, Any] = {}
    for name, values in (
        ("elbo", terms.elbo),
        ("rate", terms.rate),
        ("distortion", terms.distortion),
        ("log_likelihood", log_p),
    ):
        figures[name], figures[f"{name}_se"] = metrics.mean_and_error(values)
    figures |= {"particles": particles, "log_likelihood_count": len(judged)}
    figures["active_units"] = metrics.active_units(codes)
    figures |= _neighbours(codes, test, among, train, seed)
    figures["parameters"] = sum(p.numel() for p in vae.model_.parameters())
    return figures


def _neighbours(
    codes: Codes, test: Dataset, among: Codes | None, train: Dataset | None, seed: int
) -> dict[str, float | None]:
    if among is None or train is None or train.y is None or test.y is None:
        return {"knn_accuracy": None, "knn_accuracy_sampled": None}
    return {
        "knn_accuracy": metrics.knn_accuracy(among.loc, train.y, codes.loc, test.y),
        "knn_accuracy_sampled": metrics.knn_accuracy(
            among.sample(seed), train.y, codes.sample((seed + 1) % 2**32), test.y
        ),
    }
