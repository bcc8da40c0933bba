"""Several seeds, and differences between models: statements with evidence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vaelab import VAE, checks, compare, metrics
from vaelab.comparison import read
from vaelab.comparison._seeds import differences, over_seeds, run_names
from vaelab.objectives import ELBO
from vaelab.records import Dataset

pytestmark = pytest.mark.usefixtures("brief_classifier")

ALIKE = {"a": "Bernoulli", "b": "Bernoulli"}


def test_a_paired_difference_is_sure_where_the_two_means_are_not() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.normal(-100, 30, 5000)
    first, second = hardness + rng.normal(0, 1, 5000), hardness + 0.2 + rng.normal(0, 1, 5000)
    [record] = differences({"a": [first], "b": [second]}, ALIKE)
    assert differences({"a": [first], "b": [second]}, {"a": "Bernoulli", "b": "Gaussian"}) == []
    assert record["models"] == ["b", "a"]
    assert record["elbo"] == pytest.approx(second.mean() - first.mean())
    assert record["elbo_se"] == pytest.approx((second - first).std(ddof=1) / 5000**0.5)
    assert record["elbo"] > 5 * record["elbo_se"]
    unpaired = np.hypot(*(metrics.mean_and_error(values)[1] for values in (first, second)))
    assert record["elbo_se"] < unpaired / 10
    assert "elbo_se_seeds" not in record


def test_the_error_over_data_is_that_of_means_over_seeds() -> None:
    rng = np.random.default_rng(2)
    hardness = rng.normal(0, 5, 1000)
    ours = [hardness + rng.normal(0, 1, 1000) for _ in range(4)]
    [record] = differences({"a": [np.zeros(1000)] * 4, "b": ours}, ALIKE)
    assert record["elbo_se"] == pytest.approx(np.mean(ours, 0).std(ddof=1) / 1000**0.5)


def test_the_error_over_seeds_covers_the_truth_as_often_as_it_should() -> None:
    """Of many comparisons of equal recipes, about 5 % are beyond 4.3 errors: Student's t, df 2."""
    rng = np.random.default_rng(1)
    beyond = 0
    for _ in range(2000):
        a, b = ([np.full(3, value) for value in rng.normal(0, 1, 3)] for _ in range(2))
        [record] = differences({"a": a, "b": b}, ALIKE)
        beyond += abs(record["elbo"]) > 4.303 * record["elbo_se_seeds"]
    assert 0.03 < beyond / 2000 < 0.07


def test_spreads_over_seeds_are_numpys() -> None:
    rows = [{"elbo": value, "elbo_se": 1.0, "parameters": 3, "binarize": "none"} for value in
            (1.0, 2.0, 6.0)]  # fmt: skip
    assert over_seeds(rows) == {"elbo": {"mean": 3.0, "sd": float(np.std([1, 2, 6], ddof=1))}}


def test_runs_are_named_by_their_seed() -> None:
    assert run_names(["vae"], 5, 1) == {"vae": ("vae", 5)}
    assert list(run_names(["vae", "conv"], 0, 2)) == ["vae", "vae-seed1", "conv", "conv-seed1"]


def test_compare_trains_each_recipe_with_each_seed(
    train: Dataset, test: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    settings = {"epochs": 2, "particles": 2, "seed": 3, "out": out}
    result = compare(["vae", "beta"], train, test, seeds=2, **settings)
    alone = VAE("vae", epochs=2, seed=4).fit(train)
    elbos = [
        metrics.per_datum(model, ELBO(), alone.checked(test), draws=50).elbo.mean()
        for model in (result.models["vae"].model_, alone.model_)
    ]
    assert result.over_seeds["vae"]["elbo"]["mean"] == pytest.approx(np.mean(elbos))
    assert result.over_seeds["vae"]["elbo"]["sd"] == pytest.approx(np.std(elbos, ddof=1))
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == [
        "beta", "beta-seed4", "vae", "vae-seed4",
    ]  # fmt: skip
    [difference] = result.differences
    means = {name: row["elbo"]["mean"] for name, row in result.over_seeds.items()}
    assert difference["elbo"] == pytest.approx(means["beta"] - means["vae"])
    assert "over 2 seeds" in str(result)
    assert "beta − vae: " in str(result)
    document = json.loads((out / "metrics.json").read_text())
    assert (document["seed"], document["seeds"]) == (3, 2)
    assert read(out).document() == result.document()
    again = compare(["vae", "beta"], train, test, seeds=2, resume=True, **settings)
    assert again.document()["differences"] == document["differences"]


def test_a_probability_is_not_compared_with_a_density(train: Dataset, test: Dataset) -> None:
    result = compare(["vae", "linear"], train, test, epochs=1, particles=2)
    assert result.differences == []
    assert "differences" not in str(result)


def test_seeds_below_one_are_refused(train: Dataset, test: Dataset) -> None:
    with pytest.raises(checks.ArgumentError, match="seeds = 0"):
        compare(["vae"], train, test, seeds=0)
