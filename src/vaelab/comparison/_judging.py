"""Figures of a trained model on data that it was not trained on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from vaelab import checks, importance, inputs, metrics
from vaelab.comparison._evidence import JUDGED, PARTICLES, SAMPLES, Evidence, labels_of
from vaelab.disentanglement import disentanglement
from vaelab.estimator import VAE
from vaelab.generation import FeatureMap, Features, judge_samples, learn_features
from vaelab.importance import Progress
from vaelab.information import information, kl_per_dimension
from vaelab.model import Model
from vaelab.preservation import LEAST, preservation
from vaelab.records import BINARIZE, Dataset

__all__ = ["check", "evaluate", "features_of", "judge"]

DOUBTED = 0.5
"""Share of the data whose weights have too heavy a tail above which log p(x) comes with a warning:
of most data, so that the mean itself is in doubt."""

MIXED = 5_000
"""How many posteriors the aggregate posterior is made of; time grows with the square."""


def evaluate(
    vae: VAE,
    test: Dataset,
    train: Dataset | None = None,
    *,
    particles: int = PARTICLES,
    most: int | None = JUDGED,
    seed: int = 0,
    binarize: str | None = None,
    samples: int = SAMPLES,
    annealed: int = 0,
    fid: bool = False,
    features: Features | FeatureMap | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Figures of a trained model on data that it was not trained on.

    Arguments:
        vae: A fitted model.
        test: The data to judge it on.
        train: Training data; where they and the test data have labels, figures of classes are
            learnt from them.
        particles: K, of the importance-weighted log-likelihood.
        most: On how many of the test data the log-likelihood is estimated (the same random ones
            each time); `None` takes all.
        seed: Where every draw starts.
        binarize: `"none"` judges grey levels as they are; `"dynamic"` and `"static"` judge bits
            drawn once, by a fixed seed, as the model was trained with one or the other; `None`
            takes what it was trained with.
        samples: How many samples are judged; 0 judges none.
        annealed: On how many of the test data log p(x) is checked by annealed importance sampling,
            which takes seconds for each; 0 checks none.
        fid: Whether samples of images are judged by FID too; see `vaelab.fid`.
        features: Maps data to the features that samples are judged by; by default a classifier
            learnt from `train` with seed 0, see `vaelab.generation.learn_features`.
        progress: Hears of what takes long: how much of an estimate is done, and of how much.

    Returns:
        In nats per datum, with standard errors over data (`..._se`): `elbo`, `rate`,
        `distortion`, with one draw of z a datum, or so many that there are 10,000 in all, and
        `log_likelihood`. With it, `particles`, `log_likelihood_count`, and whether
        to trust it: `effective_particles` and `tail_index` (medians over data; see
        `vaelab.importance.Weighed`) and `unreliable`, the share of data whose weights have too
        heavy a tail; `None` with fewer than 25 particles. With a check, `annealed_log_likelihood`,
        `annealed_count` and `annealed_difference`, by how much it is above the other estimate on
        the same data: well above 0, the other is too low, as where q(z|x) misses modes.

        Of the code: `active_units`, `kl_per_dimension` (a list), and `mutual_information`,
        `marginal_kl`, `total_correlation` and `dimension_kl`, see `vaelab.information`. The latter
        are of at most 5,000 of the test data, and biased where these are few: for a small table,
        evaluate the training data too, of which the doctor tells them.

        Of the posterior means as a map of the data, see `vaelab.preservation`: `trustworthiness`,
        `continuity` (15 neighbours, or fewer than half of the data) and `distance_correlation`, on
        at most 2,000 of the test data (the same random ones each time) as the model is shown them;
        `None` with fewer than 3.

        Of classes, `None` without labels: `knn_accuracy` (15 neighbours, posterior means) and
        `linear_probe_accuracy`, the same on one draw of z a datum (`..._sampled`), `silhouette`.

        Of samples, see `vaelab.generation.judge_samples`: `precision`, `recall`, `density`,
        `coverage`, and with a classifier `classifier_frechet`, `class_entropy` and
        `classifier_accuracy` (its own, on the test data); none without labels or features. And
        `fid`, if asked for.

        Of known factors, where there are some: see `vaelab.disentanglement`.

        And `parameters` and `binarize`. What is a mean or a share of data has its standard error
        over them (`..._se`); other figures have their spread over seeds alone, see `compare`.
    """
    kind = checks.choice("binarize", binarize or vae.training_.binarize, BINARIZE)
    checks.integer("annealed", annealed, least=0)
    if checks.integer("samples", samples, least=0) and features is None:
        features = features_of(train)
    return judge(
        Evidence(
            vae,
            test,
            train,
            kind,
            particles=particles,
            most=most,
            seed=seed,
            samples=samples,
            annealed=annealed,
            fid=fid,
            features=features,
            progress=progress,
        )
    )


def check(vae: VAE, train: Dataset, test: Dataset) -> None:
    """Refuses, before training, a model that cannot be made, trained on data or judged on others.

    Raises:
        checks.ArgumentError: A setting is not allowed.
        checks.DataError: A conditional model has no labels, or other ones to be judged by.

    >>> train, test = (Dataset(x=np.eye(2), y=np.array(y), name="two") for y in ([0, 1], [0, 7]))
    >>> check(VAE("conditional"), train, test)
    Traceback (most recent call last):
    ...
    vaelab.checks.DataError: label 7 is not one of the 2 classes of the training data: 0, 1.
    """
    recipe = vae.resolved(train.shape, y=train.y)
    if recipe.model().classes:
        known, others = (inputs.labels(d, None, len(d), recipe.name) for d in (train, test))
        inputs.numbered(others, np.unique(known))


def features_of(train: Dataset | None) -> Features | None:
    """What samples are judged by, learnt from data of at least two classes; else `None`."""
    labels = labels_of(train)
    return None if train is None or labels is None else learn_features(train.x, labels, seed=0)


def judge(evidence: Evidence) -> dict[str, Any]:
    """All figures of a model, by name; see `evaluate`."""
    figures: dict[str, Any] = {}
    for part in PARTS:
        figures |= part(evidence)
    figures["parameters"] = sum(p.numel() for p in evidence.vae.model_.parameters())
    return figures | {"binarize": evidence.binarize}


def _bounds(evidence: Evidence) -> dict[str, Any]:
    terms = evidence.terms
    named = {"elbo": terms.elbo, "rate": terms.rate, "distortion": terms.distortion}
    return _means(named)


def _means(named: dict[str, np.ndarray]) -> dict[str, Any]:
    figures = {}
    for name, values in named.items():
        figures[name], figures[f"{name}_se"] = metrics.mean_and_error(values)
    return figures


def _weighed(evidence: Evidence, judged: Dataset) -> importance.Weighed:
    return evidence.vae.weigh(
        judged,
        particles=evidence.particles,
        seed=evidence.seed,
        progress=evidence.progress,
    )


def _log_likelihood(evidence: Evidence) -> dict[str, Any]:
    particles, judged = evidence.particles, evidence.test.limited(evidence.most)
    weighed = _weighed(evidence, judged)
    enough = particles >= importance.LEAST
    share = importance.unreliable(weighed, particles) if enough else None
    if share is not None and share > DOUBTED:
        warnings.warn(
            f"log p(x) of {evidence.vae.recipe_.name!r} cannot be trusted: for {share:.0%} of the "
            f"data the weights of {particles:,} particles have too heavy a tail, as where the "
            "posterior is too narrow; compare by the ELBO.",
            checks.VaelabWarning,
            stacklevel=4,
        )
    return {
        **_means({"log_likelihood": weighed.log_likelihood}),
        "particles": particles,
        "log_likelihood_count": len(judged),
        "effective_particles": float(np.median(weighed.effective)),
        "tail_index": float(np.median(weighed.tail_index)) if enough else None,
        "unreliable": share,
    }


def _annealed(evidence: Evidence) -> dict[str, Any]:
    if evidence.annealed == 0:
        return {}
    judged = evidence.test.limited(evidence.annealed)

    def annealed(model: Model, x: Tensor, seed: int) -> importance.Weighed:
        return importance.annealed(model, x, seed=seed, progress=evidence.progress)

    checked, *_ = evidence.vae.over(judged, None, annealed, seed=evidence.seed)
    above = checked - _weighed(evidence, judged).log_likelihood
    figures = _means({"annealed_log_likelihood": checked, "annealed_difference": above})
    return figures | {"annealed_count": len(judged)}


def _code(evidence: Evidence) -> dict[str, Any]:
    codes = evidence.codes
    prior = evidence.vae.model_.prior()
    told = information(codes, prior=prior, most=MIXED, seed=evidence.seed)
    return {
        "active_units": metrics.active_units(codes),
        "kl_per_dimension": kl_per_dimension(codes).tolist(),
        "mutual_information": told.mutual_information,
        "mutual_information_se": told.mutual_information_se,
        "marginal_kl": told.marginal_kl,
        "marginal_kl_se": told.marginal_kl_se,
        "total_correlation": told.total_correlation,
        "dimension_kl": told.dimension_kl,
    }


MAP = ("trustworthiness", "continuity", "distance_correlation")
"""The figures that need 3 test data."""


def _map(evidence: Evidence) -> dict[str, Any]:
    if len(evidence.test) < LEAST:
        return dict.fromkeys(MAP)
    kept = preservation(evidence.test.x, evidence.codes.loc)
    means = {"trustworthiness": kept.trustworthiness, "continuity": kept.continuity}
    return _means(means) | {"distance_correlation": kept.distance_correlation}


CLASSES = (
    "knn_accuracy",
    "knn_accuracy_sampled",
    "linear_probe_accuracy",
    "linear_probe_accuracy_sampled",
    "silhouette",
)
"""The figures that need labels of at least two classes."""


def _classes(evidence: Evidence) -> dict[str, Any]:
    known, labels = labels_of(evidence.train), labels_of(evidence.test)
    among, codes, seed = evidence.among, evidence.codes, evidence.seed
    if among is None or known is None or labels is None:
        return dict.fromkeys(CLASSES)
    means = among.loc, known, codes.loc, labels
    drawn = among.sample(seed), known, codes.sample((seed + 1) % 2**32), labels
    accuracies = (
        metrics.knn_accuracy(*means),
        metrics.knn_accuracy(*drawn),
        metrics.linear_probe_accuracy(*means),
        metrics.linear_probe_accuracy(*drawn),
    )
    shares = dict(zip(CLASSES, accuracies, strict=False))
    apart = {"silhouette": metrics.silhouettes(codes.loc, labels)}
    return shares | _errors(shares, len(labels)) | _means(apart)


def _errors(shares: Mapping[str, float], count: int) -> dict[str, float]:
    """The standard errors of shares of so many data, by their names."""
    least = max(1, count - 1)
    return {f"{name}_se": math.sqrt(p * (1 - p) / least) for name, p in shares.items()}


def _samples(evidence: Evidence) -> dict[str, Any]:
    features, real = evidence.features, evidence.given
    if features is None or evidence.samples == 0:
        return {}
    fake = evidence.drawn
    figures: dict[str, Any] = judge_samples(features, real.x, fake, seed=evidence.seed)
    shares = {name: figures[name] for name in ("precision", "recall", "coverage")}
    figures |= _errors(shares, len(fake))
    if isinstance(features, Features) and real.y is not None:
        right = {"classifier_accuracy": features.accuracy(real.x, real.y)}
        figures |= right | _errors(right, len(real))
    return figures


def _fid(evidence: Evidence) -> dict[str, Any]:
    if not evidence.fid:
        return {}
    from vaelab.fid import fid

    fake = evidence.drawn
    return {"fid": fid(evidence.given.limited(len(fake)).x, fake)}


def _factors(evidence: Evidence) -> dict[str, Any]:
    """Of all data at hand, trained on or not: few data bias the scores, a good fit does not."""
    codes, factors = [evidence.codes.loc], [evidence.test.factors]
    if evidence.train is not None and evidence.among is not None:
        codes, factors = [*codes, evidence.among.loc], [*factors, evidence.train.factors]
    known = [values for values in factors if values is not None]
    if len(known) < len(factors):
        return {}
    both = np.concatenate(codes), np.concatenate(known)
    return dict(disentanglement(*both, seed=evidence.seed))


PARTS: tuple[Callable[[Evidence], dict[str, Any]], ...] = (
    _bounds,
    _log_likelihood,
    _annealed,
    _code,
    _map,
    _classes,
    _samples,
    _fid,
    _factors,
)
"""What a model is judged by, in the order of the table."""
