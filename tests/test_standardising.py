"""Data of any unit: laws of the Gaussian likelihood's units, and the choice of a likelihood."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from vaelab import VAE, checks, load, recipes
from vaelab.likelihoods import Bernoulli, Gaussian
from vaelab.networks import MLP
from vaelab.posteriors import DiagonalGaussian
from vaelab.records import Dataset
from vaelab.tensors import unit_of

FACTORS = np.float32([2.0**20, 2.0**-20, 8.0, 0.5, 1.0])
"""Powers of two, by which binary floating point multiplies exactly."""


def mixed(count: int = 200, seed: int = 0) -> np.ndarray:
    """Correlated vectors, centred near 0, of several scales."""
    mixing = np.random.default_rng(9).normal(size=(2, 5))
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(count, 2)) @ mixing
    return (z + 0.3 * rng.normal(size=(count, 5))).astype(np.float32)


GAUSSIAN = ["vae", "fixed-variance", "beta", "iwae", "vamp", "gaussian"]


@pytest.mark.parametrize("name", GAUSSIAN)
def test_units_change_the_density_by_their_logarithms_alone(name: str) -> None:
    x = mixed()
    plain, scaled = (VAE(name, epochs=3).fit(data) for data in (x, x * FACTORS))
    jacobian = float(np.log(FACTORS.astype(np.float64)).sum())
    assert plain.score(x) - scaled.score(x * FACTORS) == pytest.approx(jacobian, abs=1e-4)
    one = plain.score_samples(x[:20]) - scaled.score_samples((x * FACTORS)[:20])
    assert one.mean() == pytest.approx(jacobian, abs=1.5), "other draws, for other data"
    exact = {"rtol": 0, "atol": 1e-4 if name == "iwae" else 0}  # its weights round with the density
    np.testing.assert_allclose(plain.transform(x), scaled.transform(x * FACTORS), **exact)
    z = np.float32([[0.3, -1.0], [2.0, 0.0]])
    means = [vae.inverse_transform(z) / unit for vae, unit in ((plain, 1), (scaled, FACTORS))]
    np.testing.assert_allclose(*means, **exact)
    for key in ("train_rate", "gradient_norm", "valid_rate"):
        values = [[record[key] for record in vae.history_] for vae in (plain, scaled)]
        np.testing.assert_allclose(*values, **exact)


@pytest.mark.parametrize("name", ["gaussian", "linear"])
def test_any_factor_and_shift_leave_the_model_as_it_is(name: str) -> None:
    x = mixed()
    factors = np.float32([3e5, 7e-5, 11.0, 0.7, 90.0]) if name == "gaussian" else np.float32(1.7e5)
    y = x.astype(np.float64) * factors + 30 * factors
    plain, moved = VAE(name, epochs=3).fit(x), VAE(name, epochs=3).fit(y)
    jacobian = float(np.log(np.broadcast_to(factors, 5).astype(np.float64)).sum())
    assert moved.score(y) == pytest.approx(plain.score(x) - jacobian, abs=0.02)
    np.testing.assert_allclose(moved.transform(y), plain.transform(x), atol=5e-3)
    z = np.float32([[0.3, -1.0], [2.0, 0.0]])
    expected = (plain.inverse_transform(z) + 30) * factors
    np.testing.assert_allclose(moved.inverse_transform(z), expected, rtol=1e-3)


def test_units_of_images_are_shared_and_scale_alike() -> None:
    x = np.random.default_rng(0).normal(0, 1, (120, 1, 8, 8)).astype(np.float32)
    for name in ("conv", "linear"):
        plain, scaled = (VAE(name, epochs=2).fit(data) for data in (x, 1024 * x))
        assert scaled.recipe_.likelihood.units == "shared"
        assert scaled.model_.parts["likelihood"].unit.shape == ()
        lower = 64 * math.log(1024)
        assert plain.score(x) - scaled.score(1024 * x) == pytest.approx(lower, abs=1e-3)
        np.testing.assert_array_equal(plain.transform(x), scaled.transform(1024 * x))


@pytest.mark.parametrize("size", [1e6, 1e-6])
def test_data_of_any_size_are_learnt_as_well(size: float) -> None:
    x, held = mixed(600), mixed(200, seed=1)
    plain, other = VAE(epochs=10).fit(x), VAE(epochs=10).fit(size * x)
    start = VAE(epochs=1, learning_rate=1e-9).fit(x)
    assert plain.score(held) > start.score(held) + 1, "there is something to learn"
    assert other.score(size * held) + 5 * math.log(size) == pytest.approx(
        plain.score(held), abs=0.1
    )
    assert all(math.isfinite(v) for record in other.history_ for v in record.values())


def test_linear_reaches_probabilistic_pca_in_any_unit() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(3000, 3)) * [3.0, 2.0, 1.0]) @ rng.normal(size=(3, 8))
    x = 1000 * (x + rng.normal(size=(3000, 8)) + 5).astype(np.float32)
    settings = {"weight_decay": 0.0, "validation_fraction": 0.0}
    vae = VAE(
        "linear", latent_dim=3, epochs=12, batch_size=100, learning_rate=0.02, training=settings
    )
    exact = PCA(n_components=3).fit(x).score(x)
    assert exact - 0.1 < vae.fit(x).score(x) < exact + 0.02


def test_a_constant_feature_has_the_unit_1() -> None:
    x = np.concatenate([1e6 * mixed(), np.full((200, 1), 0.1, np.float32)], 1)
    x = np.concatenate([x, 1e7 + np.arange(200)[:, None] % 2], 1).astype(np.float32)
    vae = VAE(epochs=2).fit(x)
    for part in ("posterior", "likelihood"):
        unit = vae.model_.parts[part].unit
        assert unit[5] == 1
        assert unit[6] == 1, "it varies by no more than rounding"
        torch.testing.assert_close(unit[:5], torch.from_numpy(x[:, :5]).std(0), rtol=0.05, atol=0)
    assert math.isfinite(vae.score(x))
    np.testing.assert_allclose(vae.reconstruct(x)[:, 5], 0.1, atol=0.5)
    same = VAE(epochs=1).fit(np.full((50, 3), 7.0))
    assert math.isfinite(same.score(np.full((50, 3), 7.0)))
    assert math.isfinite(VAE(epochs=1).fit([[3.0, -4.0]]).score([[3.0, -4.0]]))


def test_units_by_their_definition() -> None:
    x = torch.tensor([[0.0, 5.0, -3.0], [2.0, 5.0, 3.0]])
    assert unit_of(x, "per-dimension").tolist() == [1, 1, 3]
    assert unit_of(x, "shared").item() == pytest.approx(math.sqrt(10 / 3))
    assert unit_of(5 + 0 * x, "shared").item() == 1
    grey = torch.rand(9, 1, 4, 4)
    assert unit_of(grey, "shared").item() == 1, "grey levels keep their unit"
    for other in (2 * grey, grey - 0.5, grey[:, 0, 0]):
        unit = unit_of(other, "shared").item()
        assert unit == pytest.approx(other.var(0, correction=0).mean().sqrt().item())
        assert unit != 1


def test_density_and_mean_are_those_of_the_data() -> None:
    x = torch.from_numpy(mixed() * FACTORS + 3 * FACTORS)
    for scale in ("shared", "per-dimension", 0.5):
        p = Gaussian(MLP((2,), (5,), (8,)), scale, units="per-dimension")
        p.start(x)
        z = torch.randn(7, 2)
        within = p.location(z)
        sigma = p.stddev() / p.unit
        expected = torch.distributions.Normal(within, sigma.expand_as(within)).log_prob(
            x[:7] / p.unit
        )
        expected = (expected - p.unit.log()).sum(-1)
        torch.testing.assert_close(p(z).log_prob(x[:7]), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(p(z).mean, within * p.unit)
        torch.testing.assert_close(p(z).stddev[0], (p.unit * sigma).expand(5))
        level = 0.5 if scale == 0.5 else 1.0
        torch.testing.assert_close(sigma.expand(5), torch.full((5,), level), rtol=0.02, atol=0)
        torch.testing.assert_close(p.offset.data, x.mean(0) / p.unit)


def test_networks_read_data_centred_and_in_units() -> None:
    x = torch.from_numpy(mixed() * FACTORS + 3 * FACTORS)
    q = DiagonalGaussian(MLP((5,), (2, 2), (8,)), units="per-dimension")
    seen: list[torch.Tensor] = []
    q.network.layers.register_forward_hook(lambda m, given, out: seen.append(given[0]))
    q.start(x)
    q(x)
    torch.testing.assert_close(seen[0].mean(0), torch.zeros(5), rtol=0, atol=1e-4)
    torch.testing.assert_close(seen[0].std(0, correction=0), torch.ones(5))
    with pytest.raises(checks.ArgumentError, match="units = 'mine' is not known"):
        DiagonalGaussian(MLP((5,), (2, 2)), units="mine")


@pytest.mark.parametrize("name", ["vae", "conv", "fixed-variance", "beta", "iwae", "vamp"])
def test_a_recipe_takes_a_gaussian_likelihood_on_its_own_networks(name: str) -> None:
    own, other = (recipes.build(name, (1, 8, 8), likelihood=kind) for kind in (None, "gaussian"))
    assert isinstance(own.likelihood, Bernoulli)
    assert isinstance(other.likelihood, Gaussian)
    shapes = [{k: v.shape for k, v in r.model().state_dict().items()} for r in (own, other)]
    extra = {"parts.posterior.unit", "parts.likelihood.unit", "parts.likelihood.raw_log_scale"}
    assert set(shapes[1]) - set(shapes[0]) - {"parts.prior.unit"} == extra
    assert all(shapes[1][key] == shape for key, shape in shapes[0].items())
    assert (other.name, other.objective, other.training) == (name, own.objective, own.training)
    assert recipes.build(name, (1, 8, 8), likelihood="bernoulli").likelihood.settings()


def test_the_gaussian_recipe_is_vae_with_a_gaussian_likelihood() -> None:
    x = mixed()
    models = [VAE(r, epochs=1, likelihood=kind).fit(x).model_ for r, kind in
              (("gaussian", "auto"), ("gaussian", "gaussian"), ("vae", "gaussian"),
               ("vae", "auto"))]  # fmt: skip
    weights = [torch.cat([t.flatten() for t in m.state_dict().values()]) for m in models]
    assert all(torch.equal(weights[0], other) for other in weights[1:])


GREY = np.arange(96, dtype=np.uint8).reshape(4, 24)


@pytest.mark.parametrize(
    ("recipe", "likelihood", "x", "statement"),
    [
        ("vae", "auto", GREY, "Bernoulli: values are grey levels in uint8"),
        ("vae", "auto", 255 * (GREY % 2), "Bernoulli: values are bits"),
        ("vae", "auto", np.float32(GREY % 2), "Bernoulli: values are bits"),
        ("vae", "auto", np.zeros((4, 3)), "Bernoulli: values are bits"),
        ("beta", "auto", GREY / 190, "Bernoulli: values lie in [0, 1], from 0 to 0.5"),
        (
            "vae", "auto", GREY / 95_000,
            "Gaussian with a learnt scale, in units of each element's standard deviation: values "
            "range from 0 to 0.001",
        ),
        (
            "vae", "auto", (GREY / 10 - 3.1).reshape(4, 1, 4, 6),
            "Gaussian with a learnt scale, in units of the data's standard deviation: values "
            "range from -3.1 to 6.4",
        ),
        (
            "vae", "auto", np.float32(2 * GREY).reshape(4, 1, 4, 6),
            "Gaussian with a learnt scale, in units of the data's standard deviation: values "
            "range from 0 to 190 (grey levels, as uint8 or divided by 255, suit Bernoulli)",
        ),
        (
            "vae", "gaussian", GREY / 95,
            "Gaussian with a learnt scale, in units of each element's standard deviation, as "
            "likelihood='gaussian' asks: values lie in [0, 1], from 0 to 1",
        ),
        (
            "vae", "bernoulli", GREY,
            "Bernoulli, as likelihood='bernoulli' asks: values are grey levels in uint8",
        ),
        (
            "linear", "auto", GREY,
            "Gaussian with a learnt scale, in units of the data's standard deviation, which "
            "recipe 'linear' has: values are grey levels in uint8",
        ),
        (
            replace(recipes.vae((24,)), likelihood=Gaussian(MLP((2,), (24,)), 0.5)), "auto", GREY,
            "Gaussian with the scale 0.5, which the given recipe has: values are grey levels in "
            "uint8",
        ),
    ],
)  # fmt: skip
def test_what_was_chosen_and_why_is_stated(
    recipe: str, likelihood: str, x: np.ndarray, statement: str, tmp_path: Path
) -> None:
    vae = VAE(recipe, likelihood=likelihood, epochs=1).fit(x)
    assert vae.likelihood_ == statement
    assert load(vae.save(tmp_path / "model")).likelihood_ == statement


def test_without_data_the_recipe_decides() -> None:
    assert isinstance(VAE().resolved((4,)).likelihood, Bernoulli)
    assert isinstance(VAE(likelihood="gaussian").resolved((4,)).likelihood, Gaussian)
    assert isinstance(VAE().resolved((4,), torch.full((2, 4), 2.0)).likelihood, Gaussian)
    assert isinstance(VAE().resolved((4,), torch.full((2, 4), 1.0)).likelihood, Bernoulli)


def test_models_in_units_are_saved_and_loaded(tmp_path: Path) -> None:
    x = mixed() * FACTORS
    vae = VAE(epochs=1).fit(x)
    same = load(vae.save(tmp_path / "model"))
    assert np.array_equal(same.transform(x), vae.transform(x))
    assert same.score(x) == vae.score(x)
    assert np.array_equal(same.sample(3), vae.sample(3))


def older(folder: Path, number: int) -> Path:
    """The model folder as format `number` had it."""
    config = json.loads((folder / "config.json").read_text())
    config["format"] = number
    for part in config["parts"].values():
        part.pop("units", None)
        if number < 3 and "network" in part:
            del part["network"]["activation"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("number", [1, 2, 3])
def test_models_of_formats_without_units_are_those_of_units_none(
    number: int, train: Dataset, tmp_path: Path
) -> None:
    activation = "gelu" if number < 3 else "silu"
    encoder = MLP(train.shape, (2, 2), (8,), activation)
    decoder = MLP((2,), train.shape, (8,), activation)
    for likelihood in (Bernoulli(decoder), Gaussian(decoder), Gaussian(decoder, "per-dimension")):
        recipe = replace(recipes.vae(train.shape), posterior=DiagonalGaussian(encoder))
        vae = VAE(replace(recipe, likelihood=likelihood), epochs=1).fit(train)
        folder = vae.save(tmp_path / type(likelihood).__name__)
        assert json.loads((folder / "config.json").read_text())["format"] == 6
        same = load(older(folder, number))
        assert np.array_equal(same.transform(train), vae.transform(train))
        assert same.score(train) == vae.score(train)
        older(folder, 4)
        with pytest.raises(checks.StorageError, match="units"):
            load(folder)


def test_a_record_without_a_statement_gives_one(train: Dataset, tmp_path: Path) -> None:
    folder = VAE(epochs=1).fit(train).save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["data"]["likelihood"], config["data"]["layout"]
    (folder / "config.json").write_text(json.dumps(config))
    vae = load(folder)
    assert vae.likelihood_ == "Bernoulli"
    assert vae.reconstruct(train).shape == train.x.shape
