"""Figures of samples against closed forms, against brute force, and against bad samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import entropy, ortho_group

from vaelab import checks, generation
from vaelab.generation import (
    Coverage,
    Features,
    coverage,
    frechet_distance,
    judge_samples,
    learn_features,
)
from vaelab.records import Dataset


def normal(count: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width))


def white(count: int, width: int) -> np.ndarray:
    """Points whose mean is exactly 0 and whose covariance is exactly I."""
    centred = normal(count, width) - normal(count, width).mean(0)
    return np.linalg.qr(centred)[0] * np.sqrt(count - 1)


def root(width: int, seed: int) -> np.ndarray:
    """A symmetric root of a covariance with several scales and directions."""
    axes = ortho_group.rvs(width, random_state=seed)
    return axes @ np.diag(np.random.default_rng(seed).uniform(0.2, 3, width)) @ axes.T


def test_frechet_of_a_shift_is_its_squared_length() -> None:
    x, shift = normal(50, 4), np.array([1.0, -2.0, 0.0, 2.0])
    assert frechet_distance(x, x + shift) == pytest.approx(9, abs=1e-9)


def test_frechet_of_a_scaling_is_the_formulas() -> None:
    x = white(60, 4) @ root(4, 0)
    about = 10 + 3 * x  # sd 3 against 1 in every direction
    trace = np.trace(np.cov(x.T))
    expected = (3 - 1) ** 2 * trace + 4 * 10**2
    assert frechet_distance(x, about) == pytest.approx(expected, rel=1e-10)


def test_frechet_is_the_formula_with_a_matrix_root() -> None:
    a, b = root(5, 1), root(5, 2)
    x, z = white(80, 5) @ a + 1, white(41, 5) @ b
    c, d = a @ a, b @ b
    assert not np.allclose(c @ d, d @ c)
    expected = 5 + np.trace(c + d - 2 * sqrtm(c @ d).real)
    assert frechet_distance(x, z) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_samples_tends_to_that_of_their_gaussians() -> None:
    x, z = normal(200_000, 2, 1), normal(200_000, 2, 2) * [2, 0.5] + [1, 0]
    assert frechet_distance(x, z) == pytest.approx(1 + 1 + 0.25, abs=0.03)


def test_frechet_of_singular_covariances() -> None:
    line = white(30, 1)
    flat = np.hstack([2 * line, np.zeros_like(line)])
    upright = np.hstack([np.zeros_like(line), line])
    assert frechet_distance(flat, upright) == pytest.approx(4 + 1, rel=1e-10)
    assert frechet_distance(flat, 3 * flat) == pytest.approx((6 - 2) ** 2, rel=1e-10)
    point = np.full((2, 2), 7.0)
    assert frechet_distance(point, flat) == pytest.approx(2 * 49 + 4, rel=1e-10)
    few = normal(3, 40)  # fewer data than features
    assert frechet_distance(few, few + 1) == pytest.approx(40, rel=1e-10)


def test_frechet_of_the_same_features_is_zero() -> None:
    x = 1000 + normal(300, 64) @ root(64, 0)
    x[:, 5] = x[:, 6]
    assert 0 <= frechet_distance(x, x) < 1e-6
    assert all(0 <= frechet_distance(x[:n], x[:n][::-1]) < 1e-6 for n in range(2, 40))


def test_frechet_is_symmetric_and_turns_with_the_axes() -> None:
    x, z = normal(70, 6, 1) @ root(6, 1), 1 + normal(50, 6, 2) @ root(6, 2)
    turn = ortho_group.rvs(6, random_state=0)
    there = frechet_distance(x, z)
    assert there > 1
    assert frechet_distance(z, x) == pytest.approx(there, rel=1e-10)
    assert frechet_distance(x @ turn, z @ turn) == pytest.approx(there, rel=1e-10)


def by_definition(real: np.ndarray, fake: np.ndarray, k: int) -> Coverage:
    """The four figures as they are defined, one pair of points after the other."""

    def reach(points: np.ndarray) -> np.ndarray:
        between = cdist(points, points)
        return np.array([sorted(np.delete(row, i))[k - 1] for i, row in enumerate(between)])

    real_reach, fake_reach = reach(real), reach(fake)
    between = cdist(real, fake)
    pairs = [(i, j) for i in range(len(real)) for j in range(len(fake))]
    within_real = [(i, j) for i, j in pairs if between[i, j] <= real_reach[i]]
    within_fake = [(i, j) for i, j in pairs if between[i, j] <= fake_reach[j]]
    return Coverage(
        precision=len({j for _, j in within_real}) / len(fake),
        recall=len({i for i, _ in within_fake}) / len(real),
        density=len(within_real) / (k * len(fake)),
        coverage=len({i for i, _ in within_real}) / len(real),
    )


@pytest.mark.parametrize("width", [1, 2, 30])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_coverage_is_as_defined(k: int, width: int) -> None:
    real, fake = normal(60, width, 1), 0.3 + 1.2 * normal(45, width, 2)
    found = coverage(real, fake, neighbours=k)
    assert found == by_definition(real, fake, k)
    assert 0 < found.coverage < 1, "neither trivial"
    assert coverage(real.astype(np.float32), fake.astype(np.float32), neighbours=k) == found


@pytest.mark.parametrize("offset", [0, 10**8])
def test_equal_distances_are_within_reach(offset: int) -> None:
    rng = np.random.default_rng(0)  # on a lattice nearly all distances have equals, many are 0
    real, fake = rng.integers(0, 4, (2, 80, 20)), rng.integers(0, 2, (2, 70, 3))
    for a, b in (real, fake):
        assert coverage(a + offset, b + offset, neighbours=4) == by_definition(a, b, 4)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = normal(90, 8, 1), 1 + normal(70, 8, 2)
    whole = coverage(real, fake)
    for block in (1, 640, 90 * 70):
        monkeypatch.setattr(generation, "BLOCK", block)
        assert coverage(real, fake) == whole


def test_the_same_points_cover_themselves() -> None:
    x = normal(100, 16)
    assert coverage(x, x[::-1], neighbours=5) == Coverage(1, 1, 6 / 5, 1)  # itself and 5 others


def test_far_points_cover_nothing() -> None:
    x = normal(100, 16)
    assert coverage(x, x + 100) == Coverage(0, 0, 0, 0)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_fresh_draws_have_density_one_and_the_expected_coverage(k: int) -> None:
    """A draw is among the k nearest of N with probability k / N, as Naeem et al. show."""
    found = [coverage(*normal(1000, 3, seed).reshape(2, 500, 3), neighbours=k) for seed in range(9)]
    share = 1 - np.prod([(500 - i) / (1000 - i) for i in range(1, k + 1)])
    assert np.mean([each.density for each in found]) == pytest.approx(1, abs=0.03)
    assert np.mean([each.coverage for each in found]) == pytest.approx(share, abs=0.015)


def test_a_missing_mode_halves_recall_and_coverage() -> None:
    one, other = normal(600, 2).reshape(2, 300, 2) + np.array([[[0, 0]], [[50, 0]]])
    two, alone = np.vstack([one, other]), normal(600, 2, 1)
    found = coverage(two, alone, neighbours=5)
    assert found.precision > 0.9
    assert found.recall == pytest.approx(0.5, abs=0.05)
    assert found.coverage == pytest.approx(0.5, abs=0.03)
    back = coverage(alone, two, neighbours=5)
    assert back.precision == pytest.approx(0.5, abs=0.05)
    assert back.density == pytest.approx(0.5, abs=0.1)
    assert back.recall > 0.9


def test_samples_that_are_too_wide_or_too_narrow_are_told_apart() -> None:
    real, fake = normal(500, 8, 1), normal(500, 8, 2)
    wide, narrow = coverage(real, 3 * fake), coverage(real, 0.3 * fake)
    assert wide.precision < 0.1 < 0.9 < narrow.precision
    assert narrow.recall < 0.1 < 0.9 < wide.recall
    assert wide.density < 0.1 < 1 < narrow.density
    assert max(wide.coverage, narrow.coverage) < 0.7


def test_density_and_coverage_bear_outliers_that_precision_does_not() -> None:
    real, fake = normal(300, 4), normal(300, 4, 1) + np.array([20, 0, 0, 0])
    real[:3] = [[60, 0, 0, 0], [60, 9, 0, 0], [60, 0, 9, 0]]  # whose balls reach back to the rest
    found = coverage(real, fake)
    assert found.precision == 1
    assert found.density < 0.7
    assert found.coverage == 3 / 300


@pytest.mark.parametrize(
    ("real", "fake", "match"),
    [
        (np.zeros((5, 2)), np.zeros((9, 2)), "real features are of 5 data, but at least 6"),
        (np.zeros((9, 2)), np.zeros((5, 2)), "fake features are of 5 data, but at least 6"),
        (np.zeros((9, 2)), np.zeros((9, 3)), "2 features, but fake ones 3"),
        (np.zeros(9), np.zeros((9, 3)), r"real features have shape \(9,\)"),
        (np.zeros((9, 0)), np.zeros((9, 0)), r"real features have shape \(9, 0\)"),
        (np.zeros((9, 1)), np.full((9, 1), np.nan), "fake features hold NaN"),
    ],
)
def test_features_that_cannot_be_compared(real: np.ndarray, fake: np.ndarray, match: str) -> None:
    with pytest.raises(checks.ArgumentError, match=match):
        coverage(real, fake, neighbours=5)
    if "at least" not in match:
        with pytest.raises(checks.ArgumentError, match=match):
            frechet_distance(real, fake)


def test_one_datum_has_no_covariance() -> None:
    with pytest.raises(checks.ArgumentError, match="fake features are of 1 data, but at least 2"):
        frechet_distance(np.zeros((2, 2)), np.zeros((1, 2)))
    with pytest.raises(checks.ArgumentError, match="neighbours = 0"):
        coverage(np.zeros((2, 2)), np.zeros((2, 2)), neighbours=0)


@pytest.fixture(scope="module")
def learnt(train: Dataset) -> Features:
    return learn_features(train.x, train.y, epochs=20)


def test_the_classifier_learns_and_cannot_from_shuffled_labels(
    learnt: Features, train: Dataset, test: Dataset
) -> None:
    assert learnt.accuracy(test.x, test.y) > 0.95
    shuffled = np.random.default_rng(0).permutation(train.y)
    assert learn_features(train.x, shuffled, epochs=20).accuracy(test.x, test.y) < 0.6


def test_the_classifier_follows_from_the_seed_alone(learnt: Features, train: Dataset) -> None:
    here, there = torch.get_rng_state(), np.random.get_state()[1].copy()
    torch.randn(3)
    moved = torch.get_rng_state()
    again = learn_features(train.x, train.y, epochs=20)
    assert torch.equal(torch.get_rng_state(), moved)
    assert not torch.equal(here, moved)
    assert (np.random.get_state()[1] == there).all()
    assert (again.features(train.x) == learnt.features(train.x)).all()
    other = learn_features(train.x, train.y, epochs=1, seed=1)
    first = learn_features(train.x, train.y, epochs=1, seed=2)
    assert (other.features(train.x) != first.features(train.x)).any()


def test_features_of_data_at_rest_and_of_decoded_means(
    learnt: Features, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = learnt.features(test.x)
    assert features.shape == (200, 64)
    assert features.dtype == np.float32
    assert -0.279 < features.min() < 0, "what SiLU gives is never less"
    means = (test.x / 255).astype(np.float32)
    np.testing.assert_allclose(learnt.features(means), features, atol=1e-5)
    monkeypatch.setattr(generation, "BATCH", 33)
    backward = learnt.features(test.x[::-1])  # nothing left in memory from before could be right
    np.testing.assert_allclose(backward, features[::-1], atol=1e-5)


def test_probabilities_are_the_linear_layers_of_the_features(
    learnt: Features, test: Dataset
) -> None:
    probabilities = learnt.probabilities(test.x)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    head = learnt.network.head
    logits = learnt.features(test.x) @ head.weight.numpy().T + head.bias.numpy()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_vectors_of_any_scale_and_labels_of_any_value() -> None:
    x = normal(900, 3).astype(np.float32)
    y = np.where(x[:, 0] * x[:, 1] > 0, 40, -7)  # what no linear map tells
    scaled = np.hstack([x * [1000, 0.01, 1] + [5000, 0, 0], np.ones((900, 1))])
    learnt = learn_features(scaled[:600], y[:600])
    assert learnt.classes.tolist() == [-7, 40]
    assert learnt.accuracy(scaled[600:], y[600:]) > 0.9
    assert learnt.accuracy(scaled[600:], 33 - y[600:]) < 0.1


def test_judged_samples_tell_good_from_bad(learnt: Features, train: Dataset, test: Dataset) -> None:
    noise = np.random.default_rng(0).random(test.x.shape, np.float32)
    one = train.x[train.y == 0]
    good, bad = (judge_samples(learnt, test.x, fake) for fake in (train.x, noise))
    missing = judge_samples(learnt, test.x, one)
    assert good["classifier_frechet"] < 0.1 * bad["classifier_frechet"]
    assert good["classifier_frechet"] < 0.1 * missing["classifier_frechet"]
    assert min(good["precision"], good["recall"], good["coverage"]) > 0.8
    assert good["density"] == pytest.approx(1, abs=0.15)
    assert bad["recall"] < 0.1
    assert missing["coverage"] < 0.5
    shares = np.bincount(train.y) / len(train.y)
    assert good["class_entropy"] == pytest.approx(entropy(shares), abs=0.03)
    assert missing["class_entropy"] < 0.2
    assert list(good) == [*Coverage._fields, "classifier_frechet", "class_entropy"]


def test_equal_numbers_are_judged_and_which_follows_from_the_seed() -> None:
    seen: list[np.ndarray] = []

    def identity(x: np.ndarray) -> np.ndarray:
        seen.append(x)
        return x

    real, fake = normal(90, 3, 1), normal(50, 3, 2)
    whole = judge_samples(identity, real, fake, neighbours=2)
    assert [len(x) for x in seen] == [50, 50]
    assert (seen[1] == fake).all()
    assert len(np.unique(seen[0], axis=0)) == 50
    assert judge_samples(identity, real, fake, neighbours=2) == whole
    assert judge_samples(identity, real, fake, neighbours=2, seed=1) != whole
    judge_samples(identity, real, fake, neighbours=2, most=20)
    assert [len(x) for x in seen[-2:]] == [20, 20]
    chosen = coverage(seen[0], seen[1], neighbours=2)._asdict()
    assert whole == chosen | {"frechet": frechet_distance(seen[0], seen[1])}


def test_data_that_do_not_fit_the_classifier(learnt: Features, train: Dataset) -> None:
    with pytest.raises(checks.DataError, match=r"shape \(1, 9, 9\), but the classifier learnt"):
        learnt.features(np.zeros((4, 1, 9, 9), np.uint8))
    with pytest.raises(checks.DataError, match=r"shape \(3,\) and type int64.*\(600,\)"):
        learn_features(train.x, np.array([1, 2, 3]))
    with pytest.raises(checks.DataError, match="type float64"):
        learn_features(train.x, train.y / 2)
    with pytest.raises(checks.DataError, match="all labels are 0"):
        learn_features(train.x, 0 * train.y)
    with pytest.raises(checks.ArgumentError, match="epochs = 0"):
        learn_features(train.x, train.y, epochs=0)
