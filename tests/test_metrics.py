"""Figures against known answers, and against what they must flag."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from vaelab import VAE, checks, latent, metrics
from vaelab.comparison import evaluate
from vaelab.latent import Codes
from vaelab.objectives import ELBO
from vaelab.records import Dataset
from vaelab.tensors import as_tensor

pytestmark = pytest.mark.usefixtures("brief_classifier")


@pytest.fixture(scope="module")
def vae(train: Dataset) -> VAE:
    return VAE("vae", epochs=3, seed=0).fit(train)


def test_mean_and_error_are_the_usual_ones() -> None:
    values = np.random.default_rng(0).normal(3, 2, 10_000)
    mean, error = metrics.mean_and_error(values)
    assert mean == pytest.approx(3, abs=4 * error)
    assert error == pytest.approx(0.02, rel=0.05)
    assert metrics.mean_and_error(np.array([7.0])) == (7.0, 0.0)


def test_active_units_tell_used_dimensions_from_unused() -> None:
    rng = np.random.default_rng(0)
    used, unused = rng.normal(0, 1, (500, 3)), rng.normal(0, 0.05, (500, 2))
    codes = Codes(np.hstack([used, unused]).astype(np.float32), np.ones((500, 5), np.float32))
    assert metrics.active_units(codes) == 3
    assert metrics.active_units(Codes(np.zeros((9, 4)), np.ones((9, 4)))) == 0


def test_knn_accuracy_is_scikit_learns_and_tells_good_from_bad() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 400)
    apart = np.eye(4)[y] * 10 + rng.normal(size=(400, 4))
    noise = rng.normal(size=(400, 4))
    assert metrics.knn_accuracy(apart[:300], y[:300], apart[300:], y[300:]) == 1.0
    assert metrics.knn_accuracy(noise[:300], y[:300], noise[300:], y[300:]) < 0.45
    mixed = np.eye(4)[y] * 2 + rng.normal(size=(400, 4))
    reference = KNeighborsClassifier(15).fit(mixed[:300], y[:300]).score(mixed[300:], y[300:])
    assert metrics.knn_accuracy(mixed[:300], y[:300], mixed[300:], y[300:]) == reference


def test_sampled_codes_overlap_more_where_posteriors_are_wide(train: Dataset) -> None:
    loc = np.eye(3)[train.y].astype(np.float32)
    for scale, least, most in [(0.01, 0.99, 1.0), (3.0, 0.2, 0.6)]:
        codes = Codes(loc, np.full_like(loc, scale))
        z, other = codes.sample(0), codes.sample(1)
        assert least <= metrics.knn_accuracy(z, train.y, other, train.y) <= most


def test_per_datum_values_do_not_depend_on_batches(
    vae: VAE, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = as_tensor(test.x)
    exact = ELBO(particles=300)
    whole = metrics.per_datum(vae.model_, exact, x).elbo
    monkeypatch.setattr(metrics, "BATCH", 37)
    parts = metrics.per_datum(vae.model_, exact, x).elbo
    assert whole.shape == (200,)
    np.testing.assert_allclose(whole.mean(), parts.mean(), rtol=5e-3)


def test_draws_are_averaged_datum_by_datum(
    vae: VAE, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, often = vae.terms(test), vae.terms(test, draws=400)
    np.testing.assert_allclose(once.rate, often.rate, rtol=1e-5)  # the closed form has no draws
    wide = ELBO(particles=2000)
    x = as_tensor(test.x[:5])
    np.testing.assert_allclose(
        often.distortion[:5], metrics.per_datum(vae.model_, wide, x).distortion, rtol=0.02
    )
    monkeypatch.setattr(metrics, "BATCH", 64)  # fewer than there are data
    in_parts = vae.terms(test, draws=400)
    np.testing.assert_allclose(in_parts.distortion, often.distortion, rtol=0.05)
    assert np.array_equal(vae.terms(test, draws=1).elbo, vae.terms(test).elbo)


def test_evaluate_gives_all_figures_and_they_agree(vae: VAE, train: Dataset, test: Dataset) -> None:
    figures = evaluate(vae, test, train, particles=50)
    assert figures["elbo"] == pytest.approx(-(figures["rate"] + figures["distortion"]), rel=1e-9)
    assert figures["log_likelihood"] > figures["elbo"]
    assert figures["elbo"] == pytest.approx(vae.terms(test, draws=50).elbo.mean(), rel=1e-9)
    assert figures["particles"] == 50
    assert figures["log_likelihood_count"] == 200
    assert 0.5 < figures["knn_accuracy"] <= 1.0
    among, codes = vae.encode(train), vae.encode(test)
    assert figures["knn_accuracy_sampled"] == metrics.knn_accuracy(
        among.sample(0), train.y, codes.sample(1), test.y
    )
    assert figures["active_units"] == 2
    assert figures["parameters"] == sum(p.numel() for p in vae.model_.parameters())
    assert evaluate(vae, test, train, particles=50) == figures, "the same seed, the same figures"


def test_evaluate_without_labels(vae: VAE, test: Dataset) -> None:
    bare = Dataset(x=test.x, y=None, name="bare")
    figures = evaluate(vae, bare, particles=2)
    assert figures["knn_accuracy"] is None
    assert figures["knn_accuracy_sampled"] is None


def test_encode_and_decode_take_long_inputs_in_batches(
    vae: VAE, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = vae.encode(test)
    images = vae.inverse_transform(whole.loc)
    monkeypatch.setattr(latent, "BATCH", 17)
    np.testing.assert_allclose(vae.encode(test).loc, whole.loc, atol=1e-5)
    np.testing.assert_allclose(vae.inverse_transform(whole.loc), images, atol=1e-5)


def test_grid_has_the_largest_second_coordinate_on_top() -> None:
    coordinates = latent.quantiles(5)
    points = latent.grid(coordinates, 3)
    assert points.shape == (5, 5, 3)
    assert (points[0, :, 1] == coordinates[-1]).all()
    assert (points[:, 0, 0] == coordinates[0]).all()
    assert (points[..., 2] == 0).all()
    np.testing.assert_allclose(coordinates, -coordinates[::-1], atol=1e-6)


def test_paths_have_their_ends() -> None:
    path = latent.path(np.array([1.0, -2.0]), np.array([0.5, 3.0]), 7)
    assert path.shape == (7, 2)
    assert path[0].tolist() == [1.0, -2.0]
    assert path[-1].tolist() == [0.5, 3.0]
    with pytest.raises(checks.ArgumentError, match="both must be"):
        latent.path(np.zeros(2), np.zeros(3), 4)


def test_a_linear_probe_tells_what_a_line_can_tell() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    apart = np.eye(3)[y] * 8 + rng.normal(size=(600, 3))
    rings = (1.0 + 4.0 * (y > 0))[:, None] * _directions(rng, 600)
    for z, least, most in [(apart, 0.99, 1.0), (rng.normal(size=(600, 3)), 0.2, 0.5)]:
        assert least <= metrics.linear_probe_accuracy(z[:400], y[:400], z[400:], y[400:]) <= most
    inner = (y > 0).astype(int)
    linear = metrics.linear_probe_accuracy(rings[:400], inner[:400], rings[400:], inner[400:])
    near = metrics.knn_accuracy(rings[:400], inner[:400], rings[400:], inner[400:])
    assert linear < 0.8 < 0.99 < near, "a ring around the other class is near, but not linear"


def _directions(rng: np.random.Generator, count: int) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi, count)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def test_a_silhouette_tells_classes_apart_from_mixed_ones() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 3000)
    apart = np.eye(3)[y] * 50 + rng.normal(size=(3000, 3))
    assert metrics.silhouette(apart, y) > 0.9
    assert abs(metrics.silhouette(rng.normal(size=(3000, 3)), y)) < 0.05
    assert metrics.silhouette(apart, (y + rng.integers(0, 3, 3000)) % 3) < 0
    assert metrics.silhouette(apart, y, seed=1) == metrics.silhouette(apart, y, seed=1)
