"""Floor 6: how well latent dimensions stand for known factors.

Every measure is a function of codes z, `(N, D)` (posterior means), and of factors, `(N, F)` whole
numbers. All lie in [0, 1], without a unit, and more is better. They may rank codes differently;
Locatello et al. (2019), https://arxiv.org/abs/1811.12359, compare them.

None depends on the order of the dimensions or on their scale, except that `factor_vae_score` leaves
out those that hardly vary. All raise `checks.ArgumentError` if the two arrays do not fit together,
a code is not finite, or a factor has only one value.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import entr

from vaelab import checks

__all__ = ["DCI", "dci", "disentanglement", "factor_vae_score", "mig", "sap"]

MOST = 10_000
"""How many data `disentanglement` looks at."""
HELD_OUT = 0.25
"""Share of the data that predictors are judged on."""
TREES = 20
LEAF = 5
"""The forest of `dci`: how many trees, and how few data a leaf may hold."""
BATCH = 64
"""How many data that share a factor's value cast one vote in `factor_vae_score`."""
INACTIVE = 0.01
"""A dimension of at most this variance is unused, as in `metrics.active_units`."""


class DCI(NamedTuple):
    """What `dci` finds, each in [0, 1].

    Attributes:
        disentanglement: How far each dimension matters to one factor only.
        completeness: How far each factor is told by one dimension only.
        informativeness: Share of held-out factor values that are predicted correctly.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def mig(z: np.ndarray, factors: np.ndarray, *, bins: int = 20) -> float:
    """Mutual information gap: does one dimension, and no second, tell of each factor?

    The mean over factors v of (I(z_a; v) − I(z_b; v)) / H(v), where a and b are the dimensions that
    tell most and second most of v. The mutual information is that of the histogram in which the
    range of each dimension is cut into `bins` of equal width, as in Locatello et al. (2019). It is
    too large by about (bins − 1)(values − 1) / 2N nats for a dimension that tells nothing, so give
    some thousand data. With one dimension the second is taken to tell nothing.

    Reference: Chen et al. (2018), https://arxiv.org/abs/1802.04942

    Arguments:
        z: Codes `(N, D)`.
        factors: Factors `(N, F)`.
        bins: At least 2; a factor of more values than bins cannot reach 1.

    Raises:
        checks.ArgumentError: See the top of this module; or `bins` is below 2.

    >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> mig(factors, factors), mig(factors @ [[1, 1], [1, -1]], factors)
    (1.0, 0.0)
    """
    from sklearn.metrics import mutual_info_score

    z, factors = _checked(z, factors)
    checks.integer("bins", bins, least=2)
    binned = _binned(z, bins)
    gaps = []
    for values in factors.T:  # H(v) is I(v; v)
        information = sorted(mutual_info_score(values, dimension) for dimension in binned.T)
        gaps.append((information[-1] - information[-2]) / mutual_info_score(values, values))
    return _in_unit(np.mean(gaps))


def sap(z: np.ndarray, factors: np.ndarray, *, seed: int = 0) -> float:
    """Separated attribute predictability: does one dimension, and no second, predict each factor?

    The mean over factors of the difference between the two best accuracies with which a single
    dimension predicts the factor, on the quarter of the data that is held out. A dimension that
    tells nothing predicts the most frequent value, so the best score is 1 less the share of that.

    The predictor is a decision tree of at most one leaf for each value, that is, thresholds on the
    dimension, as the paper has for discrete factors. Locatello et al. (2019) use a linear support
    vector machine; in one dimension it cannot tell a middle value from the rest, and it is slow.
    With one dimension the second is taken to tell nothing.

    Reference: Kumar et al. (2018), https://arxiv.org/abs/1711.00848

    Arguments:
        z: Codes `(N, D)`.
        factors: Factors `(N, F)`.
        seed: Draws the data to hold out.

    Raises:
        checks.ArgumentError: See the top of this module; or a factor has more values than a
            quarter of the data.

    >>> factors = np.random.default_rng(0).integers(0, 3, (200, 2))
    >>> round(sap(factors, factors), 1), sap(factors[:, [0, 0, 1, 1]], factors)
    (0.7, 0.0)
    """
    from sklearn.tree import DecisionTreeClassifier

    z, factors = _checked(z, factors, each=4)
    learn, judge = _split(len(z), checks.seed(seed))
    gaps = []
    for values in factors.T:
        tree = DecisionTreeClassifier(max_leaf_nodes=int(values.max()) + 1, random_state=0)
        accuracy = sorted(
            tree.fit(z[learn, [d]][:, None], values[learn]).score(
                z[judge, [d]][:, None], values[judge]
            )
            for d in range(z.shape[1])
        )
        gaps.append(accuracy[-1] - accuracy[-2])
    return _in_unit(np.mean(gaps))


def dci(z: np.ndarray, factors: np.ndarray, *, seed: int = 0) -> DCI:
    """Disentanglement, completeness and informativeness, from what predictors of factors use.

    A forest predicts each factor j from all dimensions; `R_ij` is the importance of dimension i
    to it. With the shares `P_ij = R_ij / Σ_k R_ik` of a dimension and `Q_ij = R_ij / Σ_k R_kj` of
    a factor, and H the entropy to the base of the number of its terms:

    - disentanglement is `Σ_i w_i (1 − H(P_i·))` with weights `w_i = Σ_j R_ij / Σ_kj R_kj`;
    - completeness is the mean over factors of `1 − H(Q_·j)`;
    - informativeness is the mean over factors of the accuracy on the quarter that is held out.

    The forests are extremely randomised trees (Geurts et al. 2006,
    https://doi.org/10.1007/s10994-006-6226-1), quicker than boosted ones; each split looks at all
    dimensions, so that one that tells nothing is not chosen for want of better.

    Reference: Eastwood and Williams (2018), https://openreview.net/forum?id=By-7dz-AZ

    Arguments:
        z: Codes `(N, D)`.
        factors: Factors `(N, F)`; with a single one, disentanglement is 1, as completeness is with
            one dimension.
        seed: Draws the data to hold out, and the forests.

    Raises:
        checks.ArgumentError: See the top of this module; or a factor has more values than a
            quarter of the data.

    >>> factors = np.random.default_rng(0).integers(0, 3, (400, 2))
    >>> [round(value, 1) for value in dci(factors, factors)]
    [1.0, 1.0, 1.0]
    >>> [round(value, 1) for value in dci(factors[:, [0, 0, 1, 1]], factors)]
    [1.0, 0.5, 1.0]
    """
    from sklearn.ensemble import ExtraTreesClassifier

    z, factors = _checked(z, factors, each=4)
    learn, judge = _split(len(z), checks.seed(seed))
    importances, accuracies = [], []
    for values in factors.T:
        forest = ExtraTreesClassifier(
            TREES, max_features=None, min_samples_leaf=LEAF, random_state=seed
        ).fit(z[learn], values[learn])
        importances.append(forest.feature_importances_)
        accuracies.append(forest.score(z[judge], values[judge]))
    table = np.stack(importances, 1) + 1e-12  # what is never used is shared equally
    weights = table.sum(1) / table.sum()
    return DCI(
        _in_unit(weights @ _concentration(table)),
        _in_unit(_concentration(table.T).mean()),
        float(np.mean(accuracies)),
    )


def factor_vae_score(
    z: np.ndarray, factors: np.ndarray, *, votes: int = 800, seed: int = 0
) -> float:
    """Does the dimension that varies least tell which factor is held fixed?

    For each vote a factor, one of its values, and 64 data of this value are drawn; the vote is the
    dimension whose variance among them is least, relative to its variance among all data. Each
    dimension is given to the factor that it was most often the vote for, and the score is the
    share of as many further votes that this gets right. With F factors, noise gets about 1 / F.

    The data are a fixed table: a batch is drawn from it with replacement, where the paper draws new
    data. Dimensions of a variance of at most 0.01 are unused and left out; without any left, all
    votes are alike.

    Reference: Kim and Mnih (2018), https://arxiv.org/abs/1802.05983

    Arguments:
        z: Codes `(N, D)`, in units of a standard normal prior.
        factors: Factors `(N, F)`; with a single one, the score is 1.
        votes: How many votes to learn from, and again to judge by.
        seed: Draws the votes.

    Raises:
        checks.ArgumentError: See the top of this module; or a factor has more values than half of
            the data, or `votes` is below 1.

    >>> factors = np.random.default_rng(0).integers(0, 3, (400, 2))
    >>> factor_vae_score(factors, factors)
    1.0
    """
    z, factors = _checked(z, factors, each=2)
    rng = np.random.default_rng(checks.seed(seed))
    rows = [_rows_of_values(values) for values in factors.T]
    scale = z.var(0)
    active = scale > INACTIVE
    fixed = rng.integers(0, len(rows), 2 * checks.integer("votes", votes))
    voted = np.zeros_like(fixed)
    for vote, factor in enumerate(fixed):
        alike = rows[factor][rng.integers(len(rows[factor]))]
        spread = z[rng.choice(alike, BATCH)].var(0)
        voted[vote] = np.argmin(np.where(active, spread / np.where(active, scale, 1), np.inf))
    table = np.zeros((z.shape[1], len(rows)))
    np.add.at(table, (voted[:votes], fixed[:votes]), 1)
    return float((table.argmax(1)[voted[votes:]] == fixed[votes:]).mean())


def disentanglement(z: np.ndarray, factors: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """All measures of this module, by name.

    At most 10,000 data are used, drawn by the seed, so that the time hardly grows with N.

    Arguments:
        z: Codes `(N, D)`, in units of a standard normal prior.
        factors: Factors `(N, F)`.
        seed: Where all draws start.

    Returns:
        `mig`, `sap`, `dci_disentanglement`, `dci_completeness`, `dci_informativeness` and
        `factor_vae`.

    Raises:
        checks.ArgumentError: As for each of the measures.

    >>> factors = np.random.default_rng(0).integers(0, 3, (400, 2))
    >>> sorted(disentanglement(factors, factors))
    ['dci_completeness', 'dci_disentanglement', 'dci_informativeness', 'factor_vae', 'mig', 'sap']
    """
    z, factors = _checked(z, factors)
    if len(z) > MOST:
        keep = np.random.default_rng(checks.seed(seed)).choice(len(z), MOST, replace=False)
        z, factors = z[keep], factors[keep]
    importance = dci(z, factors, seed=seed)
    return {
        "mig": mig(z, factors),
        "sap": sap(z, factors, seed=seed),
        "dci_disentanglement": importance.disentanglement,
        "dci_completeness": importance.completeness,
        "dci_informativeness": importance.informativeness,
        "factor_vae": factor_vae_score(z, factors, seed=seed),
    }


def _checked(z: np.ndarray, factors: np.ndarray, *, each: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Codes in `float64`, of at least two dimensions, and factors counted from 0 without gaps.

    On average there must be `each` data for each value of a factor.
    """
    z, factors = np.asarray(z), np.asarray(factors)
    if z.ndim != 2 or factors.ndim != 2 or len(z) != len(factors) or 0 in z.shape + factors.shape:
        raise checks.ArgumentError(
            f"codes have shape {z.shape} and factors {factors.shape}; give (N, D) and (N, F), "
            "a row for each datum."
        )
    if not np.issubdtype(factors.dtype, np.integer):
        raise checks.ArgumentError(
            f"factors are of type {factors.dtype}; give whole numbers, one for each value."
        )
    z = z.astype(np.float64)
    if not np.isfinite(z).all():
        raise checks.ArgumentError("codes hold NaN or infinity; give finite numbers.")
    counted = np.empty(factors.shape, np.int64)
    for k, values in enumerate(factors.T):
        distinct, counted[:, k] = np.unique(values, return_inverse=True)
        if len(distinct) < 2:
            raise checks.ArgumentError(
                f"factor {k} is {distinct[0]} for all {len(z)} data; leave out factors that do "
                "not vary, or give more data."
            )
        if len(values) < each * len(distinct):
            raise checks.ArgumentError(
                f"factor {k} has {len(distinct)} values for {len(z)} data; give at least {each} "
                "data for each value, on average, or leave the factor out."
            )
    if z.shape[1] == 1:
        z = np.hstack([z, np.zeros_like(z)])  # a second dimension, which tells nothing
    return z, counted


def _binned(z: np.ndarray, bins: int) -> np.ndarray:
    """Which of the equal parts of its dimension's range each code lies in: `(N, D)`."""
    low, width = z.min(0), np.ptp(z, 0)
    part = np.floor(bins * (z - low) / np.where(width > 0, width, 1))
    return np.asarray(np.minimum(part, bins - 1), np.int64)


def _split(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions to learn from and positions to judge by, at least one of each."""
    order = np.random.default_rng(seed).permutation(count)
    held_out = max(1, int(HELD_OUT * count))
    return order[held_out:], order[:held_out]


def _concentration(table: np.ndarray) -> np.ndarray:
    """1 − H of each row's shares, `(rows,)`: 0 if they are equal, 1 if one has all."""
    shares = table / table.sum(1, keepdims=True)
    return np.asarray(1 - entr(shares).sum(1) / math.log(max(2, table.shape[1])))


def _rows_of_values(values: np.ndarray) -> list[np.ndarray]:
    """For each value that at least two data share, where these lie."""
    starts = np.cumsum(np.bincount(values))[:-1]
    groups = np.split(np.argsort(values, kind="stable"), starts)
    return [rows for rows in groups if len(rows) > 1]


def _in_unit(value: float) -> float:
    """A measure without the rounding that puts it outside [0, 1]."""
    return float(min(max(value, 0.0), 1.0))
