"""Figures of a trained model on data that it was not trained on."""

from __future__ import annotations

from vaelab import metrics
from vaelab.estimator import VAE
from vaelab.latent import Codes
from vaelab.objectives import ELBO
from vaelab.records import Dataset

__all__ = ["JUDGED", "PARTICLES", "evaluate", "judge"]

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
) -> dict[str, float | int | None]:
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

    Returns:
        In nats per datum, with standard errors over data (`..._se`): `elbo`, `rate`,
        `distortion`, `log_likelihood`. Also `particles`, `log_likelihood_count`,
        `active_units`, `knn_accuracy` (15 neighbours, posterior means), `knn_accuracy_sampled`
        (the same on one draw of z a datum), and `parameters`.
    """
    among = None if train is None else vae.encode(train)
    return judge(vae, test, vae.encode(test), train, among, particles, most, seed)


def judge(
    vae: VAE,
    test: Dataset,
    codes: Codes,
    train: Dataset | None,
    among: Codes | None,
    particles: int,
    most: int | None,
    seed: int,
) -> dict[str, float | int | None]:
    """`evaluate`, with the posteriors of the test and training data at hand."""
    terms = metrics.per_datum(vae.model_, ELBO(), vae.checked(test), seed=seed)
    judged = test.limited(most)
    log_p = vae.score_samples(judged, particles=particles, seed=seed)
    figures: dict[str, float | int | None] = {}
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
