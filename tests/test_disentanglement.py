"""Codes of which it is known how well they stand for factors."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import entropy, norm, ortho_group

from vaelab import checks
from vaelab import disentanglement as module
from vaelab.disentanglement import dci, disentanglement, factor_vae_score, mig, sap

VALUES = (3, 4, 5)
COUNT = 2000
MEASURES: list[Callable[..., object]] = [mig, sap, dci, factor_vae_score]


@pytest.fixture(scope="module")
def factors() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(0, k, COUNT) for k in VALUES], 1)


@pytest.fixture(scope="module")
def perfect(factors: np.ndarray) -> np.ndarray:
    """Each factor in a dimension of its own, with mean 0 and variance 1."""
    return (factors - factors.mean(0)) / factors.std(0)


def noise(dimensions: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(COUNT, dimensions))


def guessing(factors: np.ndarray) -> float:
    """Accuracy of always saying the most frequent value, on average over factors."""
    return float(np.mean([np.bincount(values).max() / len(values) for values in factors.T]))


def test_factors_themselves_score_best(factors: np.ndarray, perfect: np.ndarray) -> None:
    z = np.hstack([perfect, noise(1)])[:, [2, 3, 0, 1]] * [100, 0.3, -5, 0.2]
    score = disentanglement(z, factors)
    assert score.pop("sap") == pytest.approx(1 - guessing(factors), abs=0.04)
    assert score == pytest.approx(dict.fromkeys(score, 1), abs=0.02)


def test_blurred_factors_score_nearly_as_well(factors: np.ndarray, perfect: np.ndarray) -> None:
    z = np.hstack([perfect + 0.1 * noise(3, 2), noise(1)]) * [100, 2, 5, 0.2]
    score = disentanglement(z, factors)
    assert score.pop("sap") == pytest.approx(1 - guessing(factors), abs=0.04)
    assert score == pytest.approx(dict.fromkeys(score, 1), abs=0.05)


def test_noise_scores_nothing_or_as_guesses_do(factors: np.ndarray) -> None:
    score = disentanglement(noise(6), factors)
    assert score["factor_vae"] == pytest.approx(1 / 3, abs=0.08)
    assert score["dci_informativeness"] == pytest.approx(guessing(factors), abs=0.05)
    for name in ("mig", "sap", "dci_disentanglement", "dci_completeness"):
        assert score[name] < 0.04, name


def test_a_rotated_code_is_informative_but_not_disentangled(
    factors: np.ndarray, perfect: np.ndarray
) -> None:
    score = disentanglement(perfect @ ortho_group.rvs(3, random_state=1), factors)
    assert score["dci_informativeness"] > 0.9
    assert score["factor_vae"] < 0.9
    for name in ("mig", "sap", "dci_disentanglement", "dci_completeness"):
        assert score[name] < 0.25, name


def test_a_factor_told_twice_is_incomplete_but_disentangled(
    factors: np.ndarray, perfect: np.ndarray
) -> None:
    z = np.hstack([perfect, 3 * perfect[:, :1]])
    assert mig(z, factors) == pytest.approx(2 / 3, abs=0.01)
    assert sap(z, factors) == pytest.approx((2 - 1 / 4 - 1 / 5) / 3, abs=0.04)
    disentangled, complete, informative = dci(z, factors)
    assert disentangled == pytest.approx(1, abs=1e-6)
    assert complete == pytest.approx(1 - math.log(2) / math.log(4) / 3, abs=0.01)
    assert informative == 1
    assert factor_vae_score(z, factors) == 1


def test_a_dimension_that_tells_two_factors_is_complete_but_not_disentangled(
    factors: np.ndarray,
) -> None:
    z = np.stack([4 * factors[:, 0] + factors[:, 1], factors[:, 2]], 1)
    disentangled, complete, informative = dci(z, factors)
    assert disentangled == pytest.approx(1 - 2 / 3 * math.log(2) / math.log(3), abs=0.01)
    assert complete == pytest.approx(1, abs=0.01)
    assert informative > 0.99
    assert mig(z, factors) > 0.99


def test_mig_by_hand() -> None:
    factors = np.array([[0], [0], [1], [1]])
    z = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    left = 3 / 4 * (math.log(3) - 2 / 3 * math.log(2))  # H(v | z₁), in nats; H(v | z₀) = 0
    assert mig(z, factors) == pytest.approx(left / math.log(2), abs=1e-12)


@pytest.mark.parametrize("bins", [2, 7, 20])
def test_mig_is_that_of_numpys_histograms(factors: np.ndarray, bins: int) -> None:
    z = factors @ np.array([[1, 0.2, 0, 1], [0, 1, 0.5, 0], [0, 0, 1, 1]]) + 0.3 * noise(4)

    def information(codes: np.ndarray, values: np.ndarray) -> float:
        joint = np.histogram2d(codes, values, (bins, values.max() + 1))[0]
        return float(entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint.ravel()))

    table = np.sort([[information(codes, v) for codes in z.T] for v in factors.T], 1)
    gaps = (table[:, -1] - table[:, -2]) / [entropy(np.bincount(v)) for v in factors.T]
    assert mig(z, factors, bins=bins) == pytest.approx(gaps.mean(), abs=1e-12)


@pytest.mark.parametrize("blur", [0.01, 0.5])
def test_sap_is_what_the_best_thresholds_reach(blur: float) -> None:
    rng = np.random.default_rng(0)
    five = rng.integers(0, 5, (20_000, 1))
    z = np.hstack([five + blur * rng.normal(size=five.shape), rng.normal(size=five.shape)])
    within = 2 * norm.cdf(0.5 / blur) - 1  # of a middle value, between the thresholds beside it
    best = (3 * within + 2 * norm.cdf(0.5 / blur)) / 5
    assert sap(z, five) == pytest.approx(best - 1 / 5, abs=0.02)


def test_sap_is_judged_on_data_not_learnt_from() -> None:
    few = np.arange(60)[:, None] % 15
    gaps = [sap(noise(1, seed)[:60], few, seed=seed) for seed in range(20)]
    assert np.mean(gaps) < 0.1


def test_factor_vae_cannot_place_a_factor_without_a_dimension(
    factors: np.ndarray, perfect: np.ndarray
) -> None:
    z = perfect[:, :2] + 0.1 * noise(2)
    assert factor_vae_score(z, factors) == pytest.approx(2 / 3, abs=0.05)
    unused = np.hstack([z, 0.05 * perfect[:, 2:]])
    assert factor_vae_score(unused, factors) == factor_vae_score(z, factors)
    used = np.hstack([z, 0.5 * perfect[:, 2:]])
    assert factor_vae_score(used, factors) == 1
    assert factor_vae_score(1e-3 * perfect, factors) == pytest.approx(1 / 3, abs=0.05)


def test_factor_vae_draws_factors_alike_and_judges_on_other_votes(
    factors: np.ndarray,
) -> None:
    scores = [factor_vae_score(noise(40), factors, votes=20, seed=seed) for seed in range(10)]
    assert np.mean(scores) == pytest.approx(1 / 3, abs=0.1), "no better on votes not learnt from"
    assert factor_vae_score(noise(2), factors[:, :1]) == 1


def test_one_dimension_has_a_gap_to_knowing_nothing(factors: np.ndarray) -> None:
    first = factors[:, :1]
    assert mig(first, first) == 1
    assert sap(first, first) == pytest.approx(1 - guessing(first), abs=0.04)
    assert dci(first, first) == pytest.approx((1, 1, 1), abs=1e-9)


@pytest.mark.parametrize("scale", [1e-2, 7.0])
def test_order_and_scale_of_dimensions_do_not_matter(
    factors: np.ndarray, perfect: np.ndarray, scale: float
) -> None:
    z = np.hstack([(perfect + 0.4 * noise(3)) @ [[1, 0.5, 0], [0, 1, 0], [0, 0.3, 1]], noise(2)])
    z *= 20  # far from being unused
    other = z[:, [3, 1, 4, 0, 2]] * [scale, 1, -scale, -3, 2]
    assert disentanglement(other, factors) == pytest.approx(disentanglement(z, factors), abs=0.04)


def test_names_of_values_do_not_matter(factors: np.ndarray, perfect: np.ndarray) -> None:
    named = (np.array([70, -3, 5, 900, 4])[factors]).astype(np.int16)
    z = perfect + noise(3)
    assert disentanglement(z, named) == pytest.approx(disentanglement(z, factors), abs=0.05)
    assert mig(z, named) == pytest.approx(mig(z, factors), abs=1e-12)


def test_the_seed_decides_everything(factors: np.ndarray, perfect: np.ndarray) -> None:
    z = perfect + noise(3)
    state = np.random.get_state()[1].copy()
    score = disentanglement(z, factors, seed=3)
    assert disentanglement(z, factors, seed=3) == score
    assert (np.random.get_state()[1] == state).all()
    other = disentanglement(z, factors, seed=4)
    assert other["mig"] == score["mig"], "which is not random"
    assert all(other[name] != score[name] for name in score if name != "mig")
    assert other == pytest.approx(score, abs=0.06)


def test_many_data_are_judged_by_a_draw(
    factors: np.ndarray, perfect: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = perfect + 0.3 * noise(3)
    seen = []
    monkeypatch.setattr(module, "MOST", 1200)
    monkeypatch.setattr(module, "mig", lambda z, factors: seen.append((z, factors)) or 0.0)
    disentanglement(z, factors, seed=1)
    ((some, theirs),) = seen
    assert len(np.unique(some, axis=0)) == 1200
    rows = [int(np.flatnonzero((z == code).all(1))[0]) for code in some]
    assert (factors[rows] == theirs).all()
    assert max(rows) > 1800, "not the first ones"


@pytest.mark.parametrize("measure", [*MEASURES, disentanglement])
@pytest.mark.parametrize(
    ("z", "factors", "message"),
    [
        (np.zeros(8), np.zeros((8, 1), int), r"codes have shape \(8,\)"),
        (np.zeros((8, 2)), np.zeros(8, int), r"factors \(8,\)"),
        (np.zeros((8, 2)), np.zeros((7, 1), int), "a row for each datum"),
        (np.zeros((8, 0)), np.zeros((8, 1), int), r"shape \(8, 0\)"),
        (np.zeros((8, 2)), np.zeros((8, 1)), "type float64"),
        (np.full((8, 2), np.nan), np.arange(8)[:, None] % 2, "NaN or infinity"),
        (np.zeros((8, 2)), np.stack([np.arange(8) % 2, np.full(8, 7)], 1), "factor 1 is 7 for all"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    measure: Callable[..., object], z: np.ndarray, factors: np.ndarray, message: str
) -> None:
    with pytest.raises(checks.ArgumentError, match=message):
        measure(z, factors)


@pytest.mark.parametrize("measure", [sap, dci, factor_vae_score])
def test_a_value_needs_several_data(measure: Callable[..., object]) -> None:
    factors = np.arange(40)[:, None] % 30
    with pytest.raises(checks.ArgumentError, match="factor 0 has 30 values for 40 data"):
        measure(noise(2)[:40], factors)


def test_options_out_of_range_are_refused(factors: np.ndarray, perfect: np.ndarray) -> None:
    with pytest.raises(checks.ArgumentError, match="bins = 1"):
        mig(perfect, factors, bins=1)
    with pytest.raises(checks.ArgumentError, match="votes = 0"):
        factor_vae_score(perfect, factors, votes=0)
    for measure in (sap, dci, factor_vae_score, disentanglement):
        with pytest.raises(checks.ArgumentError, match="seed = -1"):
            measure(perfect, factors, seed=-1)
