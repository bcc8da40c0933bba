"""What maps keep of data: known answers, in both directions, and scikit-learn's own function."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.manifold import trustworthiness

from vaelab import VAE, checks
from vaelab.comparison import details, evaluate
from vaelab.comparison._judging import MAP
from vaelab.comparison._seeds import over_seeds
from vaelab.preservation import COMPARED, preservation
from vaelab.records import Dataset
from vaelab.tensors import STATIC_SEED, as_tensor, binarized

pytestmark = pytest.mark.usefixtures("brief_classifier")


def told(x: np.ndarray, z: np.ndarray, **settings: int) -> tuple[float, float, float]:
    """Trustworthiness, continuity, correlation."""
    kept = preservation(x, z, **settings)
    return kept.trustworthiness.mean(), kept.continuity.mean(), kept.distance_correlation


def grey(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, size)).astype(np.float32)


def brute(x: np.ndarray, z: np.ndarray, k: int) -> np.ndarray:
    """Trustworthiness of each datum, word for word."""
    n, values = len(x), []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        by_x = sorted(others, key=lambda j: math.dist(x[i], x[j]))
        by_z = sorted(others, key=lambda j: math.dist(z[i], z[j]))
        far = sum(max(0, by_x.index(j) + 1 - k) for j in by_z[:k])
        values.append(1 - 2 * far / (k * (2 * n - 3 * k - 1)))
    return np.array(values)


@pytest.mark.parametrize("neighbours", [1, 4, 15])
def test_the_figures_are_those_of_their_formulas(neighbours: int) -> None:
    x = grey(70, 6)
    z = x[:, :2] + 0.1 * grey(70, 2, seed=1)
    kept = preservation(x, z, neighbours=neighbours)
    order = np.argsort(np.random.default_rng(0).choice(70, 70, replace=False))
    np.testing.assert_allclose(kept.trustworthiness[order], brute(x, z, neighbours), atol=1e-12)
    np.testing.assert_allclose(kept.continuity[order], brute(z, x, neighbours), atol=1e-12)
    upper = np.triu_indices(70, 1)
    pairs = [np.linalg.norm(p[:, None] - p, axis=2)[upper] for p in (x, z)]
    assert kept.distance_correlation == pytest.approx(spearmanr(*pairs).statistic, abs=1e-6)


def test_the_means_are_scikit_learns() -> None:
    x = grey(400, 30).astype(np.float64)
    for z in (x[:, :2], grey(400, 2, seed=1).astype(np.float64)):
        trusted, continuous, _ = told(x, z)
        assert trusted == pytest.approx(trustworthiness(x, z, n_neighbors=15), abs=1e-9)
        assert continuous == pytest.approx(trustworthiness(z, x, n_neighbors=15), abs=1e-9)


def test_a_map_that_changes_nothing_keeps_all_and_random_places_keep_nothing() -> None:
    x = grey(600, 4)
    assert told(x, x) == (1.0, 1.0, pytest.approx(1.0))
    trusted, continuous, correlation = told(x, grey(600, 2, seed=1))
    assert trusted == pytest.approx(0.5, abs=0.03)
    assert continuous == pytest.approx(0.5, abs=0.03)
    assert abs(correlation) < 0.03


def test_to_turn_to_shift_and_to_scale_changes_nothing() -> None:
    x, z = grey(300, 5), grey(300, 3, seed=1)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    moved = (7.0 * z @ turn + 3.0).astype(np.float32)
    assert told(x, moved) == pytest.approx(told(x, z), abs=1e-4)
    assert told(x.reshape(300, 1, 1, 5), z) == told(x, z), "an image is its pixels"
    assert told(0.25 * x, z) == pytest.approx(told(x, z), abs=1e-4)


def test_a_map_that_tears_is_trustworthy_and_one_that_glues_is_continuous() -> None:
    """A ring cut into arcs that are strewn about; and a cube pressed to a line."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 600)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1) / 2 + 0.5
    arc = (angle / (2 * np.pi / 20)).astype(int)
    torn = ring + 100 * rng.normal(size=(20, 2))[arc]
    trusted, continuous, _ = told(ring, torn)
    assert trusted > 0.99 > 0.96 > continuous
    box = rng.random((600, 3))
    trusted, continuous, _ = told(box, box[:, :1])
    assert trusted < 0.8 < continuous
    assert told(box[:, :1], box)[:2] == pytest.approx((continuous, trusted)), "and the other way"


def test_a_fold_is_seen_where_it_is() -> None:
    x = np.linspace(0, 1, 400, dtype=np.float32)[:, None]
    z = np.minimum(x, 0.75)  # the last quarter lies at one place
    kept = preservation(x, np.hstack([z, 0 * z]))
    rows = np.random.default_rng(0).choice(400, 400, replace=False)
    free, pressed = x[rows, 0] < 0.7, x[rows, 0] > 0.75
    assert kept.trustworthiness[free].min() > 0.999
    assert kept.trustworthiness[pressed].mean() < 0.95


@pytest.mark.parametrize("count", [3, 4, 29, 30, 31])
def test_few_data_have_fewer_neighbours(count: int) -> None:
    x = grey(count, 3)
    assert told(x, 2 * x) == (1.0, 1.0, pytest.approx(1.0))
    reversed_ = preservation(x, grey(count, 1, seed=1))
    assert (reversed_.trustworthiness >= 0).all()
    assert told(x, x[:, :2]) == told(x, x[:, :2], neighbours=(count - 1) // 2)


def test_equal_places_are_neither_an_error_nor_praised() -> None:
    x = grey(500, 3)
    trusted, continuous, correlation = told(x, np.full((500, 2), 0.1, np.float32))
    assert trusted == pytest.approx(0.5, abs=0.05)
    assert continuous == pytest.approx(0.5, abs=0.05)
    assert correlation == 0
    twice = np.repeat(grey(30, 37), 20, axis=0)
    assert told(twice, twice) == (1.0, 1.0, pytest.approx(1.0))
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(37, 37)))[0]
    turned = np.repeat(twice[::20] @ turn, 20, axis=0)
    assert told(twice, turned) == (1.0, 1.0, pytest.approx(1.0)), "equals stay in their order"


def test_far_outliers_hide_no_neighbour() -> None:
    x = grey(200, 2)
    x[0] = 1e7
    z = x.copy()
    z[0] = -3e8
    kept = preservation(x, z)
    assert (kept.trustworthiness == 1).sum() >= 199
    assert (kept.continuity == 1).sum() >= 199


def test_far_from_the_origin_nothing_is_lost() -> None:
    x = np.floor(1024 * grey(300, 3)) / 1024  # which, 8,192 apart, are exact in float32
    z = x[:, :2]
    assert told(x, z + 8192) == told(x, z)


def test_vectors_of_any_unit_are_measured_alike_but_grey_levels_as_they_are() -> None:
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    units = np.array([1, 1e-3, 1e4, 5], np.float32)
    assert told(x * units, x) == pytest.approx(told(x, x), abs=0.01)
    dark = grey(300, 4) * np.array([1, 1, 1, 0.01], np.float32)
    assert told(dark, dark)[0] == 1.0, "the last hardly counts"
    levels = (255 * grey(300, 9)).astype(np.uint8)
    assert told(levels, levels / 255.0)[:2] == pytest.approx((1, 1), abs=1e-3)


def test_the_same_data_are_taken_each_time_and_no_more_than_asked(tmp_path: Path) -> None:
    x = grey(2500, 8)
    z = x[:, :2]
    kept = preservation(x, z)
    assert len(kept.trustworthiness) == COMPARED
    few, again, others = (preservation(x, z, most=500, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(few.trustworthiness, again.trustworthiness)
    assert len(few.continuity) == 500
    assert few.distance_correlation != others.distance_correlation
    assert few.distance_correlation == pytest.approx(kept.distance_correlation, abs=0.05)
    np.save(tmp_path / "x.npy", x)
    mapped = preservation(np.load(tmp_path / "x.npy", mmap_mode="r"), z, most=500)
    np.testing.assert_array_equal(mapped.continuity, few.continuity)


def test_the_error_over_data_is_the_spread_over_choices_of_data() -> None:
    x = grey(6000, 5)
    x = np.hstack([x[:, :2], 0.5 * x[:, 2:]])
    parts = [preservation(x[k : k + 300], x[k : k + 300, :2]) for k in range(0, 6000, 300)]
    means = np.array([part.trustworthiness.mean() for part in parts])
    error = np.mean([part.trustworthiness.std(ddof=1) / math.sqrt(300) for part in parts])
    assert 0.5 < means.std(ddof=1) / error < 2


def test_long_data_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, z = grey(100, 50) - 0.5, grey(100, 2, seed=1)
    whole = told(x, z)
    monkeypatch.setattr("vaelab.preservation.BLOCK", 7)
    assert told(x, z) == pytest.approx(whole, abs=1e-12)


def test_refusals() -> None:
    x = grey(5, 2)
    with pytest.raises(checks.ArgumentError) as error:
        preservation(x, x[:4])
    assert str(error.value) == "x holds 5 data, but z 4; give the place of each datum."
    with pytest.raises(checks.ArgumentError) as error:
        preservation(x[:2], x[:2])
    assert str(error.value) == "x holds 2 data, but at least 3 are needed; give more."
    with pytest.raises(checks.ArgumentError) as error:
        preservation(x, x, neighbours=0)
    assert str(error.value) == "neighbours = 0, but it must be a whole number of at least 1."
    with pytest.raises(checks.DataError, match=r"^data hold NaN or infinity, first in row \d"):
        preservation(x, np.full((5, 2), np.nan))


@pytest.fixture(scope="module")
def vae(train: Dataset) -> VAE:
    return VAE("vae", epochs=3, seed=0).fit(train)


def test_evaluate_tells_them_without_labels_too(vae: VAE, train: Dataset, test: Dataset) -> None:
    found = evaluate(vae, test, train, particles=2, samples=0)
    bare = evaluate(vae, replace(test, y=None), particles=2)
    kept = preservation(test.x, vae.encode(test).loc)
    for name in ("trustworthiness", "continuity"):
        values = getattr(kept, name)
        assert found[name] == bare[name] == values.mean()
        assert found[f"{name}_se"] == pytest.approx(values.std(ddof=1) / math.sqrt(200))
        assert found[name] > 0.8
    assert found["distance_correlation"] == kept.distance_correlation > 0.3
    assert "distance_correlation_se" not in found
    assert set(over_seeds([found, found])) >= set(MAP)
    lines = details(bare).splitlines()
    assert any(line.startswith("continuity ") and "±" in line for line in lines)


def test_codes_of_other_data_keep_nothing(vae: VAE, test: Dataset) -> None:
    shuffled = replace(test, x=np.random.default_rng(0).permutation(test.x))
    codes = vae.encode(test).loc
    assert told(shuffled.x, codes)[0] < 0.6 < told(test.x, codes)[0]


def test_bits_are_compared_where_a_model_is_shown_bits(vae: VAE, test: Dataset) -> None:
    found = evaluate(vae, test, particles=2, binarize="static")
    bits = binarized(as_tensor(test.x), STATIC_SEED).numpy()
    kept = preservation(bits, vae.encode(replace(test, x=bits)).loc)
    assert found["trustworthiness"] == kept.trustworthiness.mean()


@pytest.mark.parametrize("count", [2, 3, 20])
def test_few_test_data_do_not_fail(vae: VAE, test: Dataset, count: int) -> None:
    found = evaluate(vae, replace(test, x=test.x[:count], y=None), particles=2)
    assert all((found[name] is None) == (count < 3) for name in MAP)


def test_conditional_models_and_vectors_have_them(train: Dataset, test: Dataset) -> None:
    given = VAE("conditional", epochs=1).fit(train)
    found = evaluate(given, test, train, particles=2, samples=0)
    assert found["continuity"] == preservation(test.x, given.encode(test).loc).continuity.mean()
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(400, 2)) @ rng.normal(size=(2, 6)) + 3).astype(np.float32)
    vectors = Dataset(x, None, "vectors")
    linear = VAE("linear", epochs=30).fit(vectors)
    assert evaluate(linear, vectors, particles=2)["trustworthiness"] > 0.95
