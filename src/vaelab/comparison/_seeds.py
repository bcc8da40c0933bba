"""What several models, and several seeds of each, say together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vaelab.metrics import mean_and_error

__all__ = ["differences", "over_seeds", "run_names"]


def run_names(recipes: Sequence[str], seed: int, seeds: int) -> dict[str, tuple[str, int]]:
    """The runs of a comparison by name, and so by folder: (recipe, seed) of each.

    >>> run_names(["vae", "conv"], 7, 2)["vae-seed8"]
    ('vae', 8)
    """
    return {
        name if number == seed else f"{name}-seed{number}": (name, number)
        for name in recipes
        for number in range(seed, seed + seeds)
    }


def over_seeds(figures: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over seeds of each figure that is a number, by its name.

    Arguments:
        figures: What `evaluate` returned, one for each of at least two seeds.

    >>> over_seeds([{"elbo": -1.0, "elbo_se": 0.1}, {"elbo": -3.0, "elbo_se": 0.1}])
    {'elbo': {'mean': -2.0, 'sd': 1.4142135623730951}}
    """
    spreads = {}
    for name, value in figures[0].items():
        if isinstance(value, float) and not name.endswith("_se"):
            values = [figure[name] for figure in figures]
            spreads[name] = {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}
    return spreads


def differences(
    elbos: Mapping[str, Sequence[np.ndarray]], kinds: Mapping[str, str]
) -> list[dict[str, Any]]:
    r"""The difference in ELBO between any two recipes, paired: datum by datum, seed by seed.

    Recipes whose likelihoods are of different kinds are left out: the logarithm of a probability
    and that of a density do not compare.

    Two models are judged on the same data with the same noise, so what makes a datum easy or hard
    for both cancels. The error over data is s / √N of the differences of each datum, averaged over
    seeds; it tells these trained models apart. The error over seeds is that of the mean over K
    seeds of the difference; it tells whether training the recipes again would say the same.

    Arguments:
        elbos: By recipe, the ELBO of each datum, `(N,)` in nats, for each seed.
        kinds: By recipe, the kind of its likelihood.

    Returns:
        For any two recipes (the later minus the earlier): `models`, `elbo`, `elbo_se` over data,
        and for at least two seeds `elbo_se_seeds`.
    """
    records = []
    for first, second in itertools.combinations(elbos, 2):
        if kinds[first] != kinds[second]:
            continue
        pairs = zip(elbos[second], elbos[first], strict=True)
        each = np.stack([ours - theirs for ours, theirs in pairs])
        mean, error = mean_and_error(each.mean(0))
        record: dict[str, Any] = {"models": [second, first], "elbo": mean, "elbo_se": error}
        if len(each) > 1:
            spread = float(each.mean(1).std(ddof=1))
            record["elbo_se_seeds"] = spread / math.sqrt(len(each))
        records.append(record)
    return records
