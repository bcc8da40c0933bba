"""What scikit-learn asks of its estimators, what may be passed in, and going on with training."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.utils.data import TensorDataset

from vaelab import VAE, checks, inputs, load, recipes, tensors
from vaelab.records import Dataset

NEEDS_ENVIRONMENT = "check_array_api_input"
"""The one check that scikit-learn applies only where SCIPY_ARRAY_API was set before it was
imported; `test_the_check_that_needs_an_environment` sets it, in a process of its own."""


@parametrize_with_checks([VAE(epochs=2), VAE("linear", latent_dim=1, epochs=1)])
def test_scikit_learns_own_checks(estimator: VAE, check: Any) -> None:
    if check.func.__name__ == NEEDS_ENVIRONMENT:
        return
    check(estimator)


CHECK = """
import sys, warnings
warnings.simplefilter("ignore")
from sklearn.utils.estimator_checks import estimator_checks_generator
from vaelab import VAE
for estimator, check in estimator_checks_generator(VAE(epochs=1)):
    if check.func.__name__ == sys.argv[1]:
        check(estimator)
        print("passed")
"""


@pytest.mark.skipif(
    sklearn.__version__.startswith("1.6."),
    reason="scikit-learn 1.6 applies it only to estimators that claim to support array APIs",
)
def test_the_check_that_needs_an_environment() -> None:
    run = subprocess.run(
        [sys.executable, "-c", CHECK, NEEDS_ENVIRONMENT],
        capture_output=True, text=True, check=True, timeout=300,
        env=os.environ | {"SCIPY_ARRAY_API": "1"},
    )  # fmt: skip
    assert run.stdout.split() == ["passed"], "it was neither skipped nor missing"


def vectors(count: int = 120, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(count, 1)) + 0.2 * rng.normal(size=(count, 3))
    return (40 + common * [1, 5, 20]).astype(np.float32)


def frame(count: int = 120) -> pd.DataFrame:
    index = [f"person {i}" for i in range(count)]
    return pd.DataFrame(vectors(count), columns=["age", "height", "weight"], index=index)


@pytest.fixture(scope="module")
def fitted() -> VAE:
    return VAE(epochs=1).fit(frame())


def test_a_grid_of_settings_in_a_pipeline_is_searched() -> None:
    pipeline = make_pipeline(MinMaxScaler(clip=True), VAE(epochs=1))
    grid = {"vae__latent_dim": [1, 2], "vae__recipe": ["vae", "gaussian"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(vectors())
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    assert best.transform(vectors()).shape == (120, search.best_params_["vae__latent_dim"])
    z = best.transform(vectors())
    assert best.inverse_transform(z).shape == (120, 3)
    assert len(cross_val_score(clone(best), vectors(), cv=3)) == 3


def test_score_tells_a_better_model_from_a_worse() -> None:
    x = vectors()
    short, long = (VAE("linear", epochs=epochs, batch_size=20).fit(x) for epochs in (1, 60))
    assert short.score(x + 30) < short.score(x) < long.score(x)


def test_names_of_columns_are_kept(fitted: VAE, tmp_path: Path) -> None:
    assert fitted.feature_names_in_.tolist() == ["age", "height", "weight"]
    assert fitted.get_feature_names_out().tolist() == ["vae0", "vae1"]
    same = load(fitted.save(tmp_path / "model"))
    for vae in (fitted, same):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.array_equal(vae.transform(frame()), fitted.transform(frame()))
        with pytest.warns(UserWarning, match="X does not have valid feature names, but VAE was"):
            vae.transform(vectors())
        with pytest.raises(ValueError, match="should match those that were passed during fit"):
            vae.transform(frame()[["height", "age", "weight"]])
    assert not hasattr(clone(fitted).fit(vectors()), "feature_names_in_")


def test_output_can_be_a_data_frame(fitted: VAE) -> None:
    z = fitted.transform(frame())
    vae = clone(fitted).set_output(transform="pandas").fit(frame())
    out = vae.transform(frame())
    assert isinstance(out, pd.DataFrame)
    assert out.columns.tolist() == ["vae0", "vae1"]
    assert out.index.tolist() == frame().index.tolist()
    assert np.array_equal(out.to_numpy(), z)
    assert np.array_equal(vae.inverse_transform(out), fitted.inverse_transform(z))
    rows = frame().to_numpy()
    assert vae.reconstruct(frame()).shape == (120, 3)
    assert vae.interpolate(rows[0], rows[1], steps=4).shape == (4, 3)
    assert vae.sample(3).shape == (3, 3)


def test_all_kinds_of_vectors_are_the_same(fitted: VAE) -> None:
    x = vectors()
    plain = VAE(epochs=1).fit(x)
    z = plain.transform(x)
    pairs = TensorDataset(torch.from_numpy(x), torch.arange(120))
    nullable = frame().reset_index(drop=True).convert_dtypes(dtype_backend="numpy_nullable")
    kinds = [x.astype(np.float64), torch.from_numpy(x), x.tolist(), np.asfortranarray(x),
             x.astype(object), TensorDataset(torch.from_numpy(x)), pairs]  # fmt: skip
    for kind in kinds:
        assert np.array_equal(VAE(epochs=1).fit(kind).transform(kind), z), type(kind)
    assert np.array_equal(fitted.transform(nullable), z)
    assert np.array_equal(fitted.transform(frame()), z)


class Pictures(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Items are (picture, class), made when asked for."""

    def __init__(self, x: np.ndarray, odd: int | None = None) -> None:
        self.x, self.odd, self.asked = x, odd, 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.asked += 1
        picture = torch.from_numpy(self.x[index])
        return (picture[..., :-1] if index == self.odd else picture), 3


class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter([torch.zeros(3)])


def test_torch_data_sets_are_read_once(train: Dataset) -> None:
    pictures = Pictures(train.x)
    given = inputs.read(pictures)
    assert given.x.dtype == torch.uint8
    assert np.array_equal(given.x.numpy(), train.x)
    assert pictures.asked <= len(pictures) + 1
    vae, same = VAE(epochs=1).fit(train.x), VAE(epochs=1).fit(pictures)
    assert same.data_ == vae.data_
    assert np.array_equal(same.transform(pictures), vae.transform(train))
    for bad, message in [
        (Stream(), "the torch Dataset Stream has no length; give one that has, or an array"),
        (Pictures(train.x[:0]), "the torch Dataset Pictures is empty."),
        (Pictures(train.x, 7), r"item 7 of the torch Dataset has shape \(1, 12, 11\), but item 0"),
    ]:
        with pytest.raises(checks.DataError, match=message):
            VAE().fit(bad)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_keep_the_layout_they_were_given_in(channels: int, kind: Any) -> None:
    first = np.random.default_rng(0).integers(0, 256, (40, channels, 6, 5)).astype(np.uint8)
    last = np.ascontiguousarray(np.moveaxis(first, 1, -1))
    one, other = VAE(epochs=1).fit(kind(first)), VAE(epochs=1).fit(kind(last))
    assert (one.data_["layout"], other.data_["layout"]) == ("NCHW", "NHWC")
    assert one.data_["shape"] == other.data_["shape"] == [channels, 6, 5]
    assert one.data_["fingerprint"] == other.data_["fingerprint"]
    z = one.transform(kind(first))
    np.testing.assert_allclose(other.transform(kind(last)), z, atol=1e-4)
    np.testing.assert_allclose(other.transform(kind(first)), z, atol=1e-4)
    for name, given in [
        ("inverse_transform", (z,)), ("reconstruct", (kind(last),)), ("sample", (4,)),
        ("interpolate", (kind(last)[0], kind(first)[1])),
    ]:  # fmt: skip
        out = getattr(other, name)(*given)
        assert out.shape[1:] == (6, 5, channels)
        expected = getattr(one, name)(*given)
        np.testing.assert_allclose(np.moveaxis(out, -1, 1), expected, atol=1e-4, err_msg=name)
    assert other.score(kind(last)) == pytest.approx(one.score(kind(first)), rel=1e-5)


def test_grey_images_without_channels_and_ambiguous_ones(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).random((30, 6, 3))
    vae = VAE(epochs=1).fit(grey)
    assert vae.data_["layout"] == "NHW"
    assert load(vae.save(tmp_path / "grey")).reconstruct(grey).shape == (30, 6, 3)
    assert vae.interpolate(grey[0], grey[1]).shape == (11, 6, 3)
    unclear = VAE(epochs=1).fit(np.random.default_rng(0).random((30, 3, 6, 3)))
    assert unclear.data_["layout"] == "NCHW"
    assert unclear.sample().shape == (1, 3, 6, 3)
    assert inputs.read(np.zeros((2, 5, 6, 7))).layout == "NCHW"


def test_missing_values_are_told_by_row_and_column(monkeypatch: pytest.MonkeyPatch) -> None:
    data = frame()
    data.iloc[3, 1] = np.nan
    message = "data hold NaN or infinity, first in row 3, column 1 ('height') (one value); remove"
    for x in (data, data.convert_dtypes(), data.to_numpy()):
        with pytest.raises(checks.DataError) as error:
            VAE().fit(x)
        named = isinstance(x, pd.DataFrame)
        assert str(error.value).startswith(message if named else message.replace(" ('height')", ""))
    for row in (100, 90, 80, 70, 60, 50):
        data.iloc[row, 2] = -np.inf
    for size in (tensors.SCAN_BYTES, 3 * 4 * 10):  # ten rows at once
        monkeypatch.setattr(tensors, "SCAN_BYTES", size)
        with pytest.raises(checks.DataError) as error:
            VAE().fit(data)
        assert str(error.value) == (
            "data hold NaN or infinity, first in row 3, column 1 ('height') (7 values, in rows 3, "
            "50, 60, 70, 80, …; columns 1 ('height'), 2 ('weight')); remove or fill such values, "
            "by sklearn.impute.SimpleImputer say."
        )


def test_words_among_numbers_are_told_by_row_and_column() -> None:
    data = frame().astype({"height": object})
    data.iloc[5, 1] = "tall"
    with pytest.raises(checks.DataError) as error:
        VAE().fit(data)
    assert str(error.value) == (
        "data hold no number in row 5, column 1 ('height'): could not convert string to float: "
        "'tall'."
    )


def test_another_number_of_features_is_told(fitted: VAE) -> None:
    with pytest.raises(checks.DataError) as error:
        VAE(epochs=1).fit(vectors()).transform(vectors()[:, :2])
    assert str(error.value) == (
        "X has 2 features, but VAE is expecting 3 features as input; give data like those it was "
        "fitted on."
    )


def test_the_estimate_of_a_datum_does_not_depend_on_the_others(fitted: VAE) -> None:
    x, rng = vectors(), np.random.default_rng(0)
    vae = VAE(epochs=1).fit(x)
    whole = vae.score_samples(x, particles=30)
    order = rng.permutation(120)
    np.testing.assert_allclose(vae.score_samples(x[order], particles=30), whole[order], rtol=1e-5)
    np.testing.assert_allclose(vae.score_samples(x[7:9], particles=30), whole[7:9], rtol=1e-5)
    other = vae.score_samples(x, particles=30, seed=1)
    assert (np.abs(other - whole) > 1e-4).mean() > 0.9, "another seed draws otherwise"
    signed = np.float32([[0.0, 40.0, 40.0], [-0.0, 40.0, 40.0]])
    values = [vae.score_samples(row[None], particles=5)[0] for row in signed]
    assert values[0] == values[1], "0 and −0 are the same datum"


def test_equal_data_have_draws_of_their_own() -> None:
    x = vectors()
    vae = VAE(epochs=1).fit(x)
    values = vae.score_samples(np.repeat(x[:1], 50, 0), particles=2)
    assert len(np.unique(values)) == 50
    mixed = vae.score_samples(np.concatenate([x[:1], x[5:9], x[:1]]), particles=2)
    np.testing.assert_allclose(mixed[[0, -1]], values[:2], rtol=1e-5)


def test_partial_fit_goes_on() -> None:
    x = vectors(600)
    vae, scores = VAE(learning_rate=2e-3), []
    for _ in range(8):
        assert vae.partial_fit(x) is vae
        scores.append(vae.score(x))
    assert min(scores[-2:]) > scores[0] + 0.2
    history = vae.history_
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [record["steps"] for record in history] == [10 * n for n in range(1, 9)]
    assert {record["learning_rate"] for record in history} == {2e-3}
    assert history[-1]["train_elbo"] > history[0]["train_elbo"]
    assert "valid_elbo" not in history[0]
    assert all(a["seconds"] < b["seconds"] for a, b in pairwise(history))
    assert vae.data_["count"] == 8 * 600
    once = VAE(learning_rate=2e-3).partial_fit(x)
    assert once.score(x) == scores[0], "the same seed, the same bits"
    assert VAE().partial_fit(x).history_[0]["learning_rate"] == 1e-3
    assert VAE("linear").partial_fit(x).history_[0]["learning_rate"] == 1e-3


def test_the_first_call_begins_as_fit_does() -> None:
    """With a rate that moves nothing, what is left is the start."""
    x = vectors(200)
    still = {"learning_rate": 1e-30, "training": {"validation_fraction": 0.0, "weight_decay": 0.0}}
    part, whole = VAE(**still, seed=4).partial_fit(x), VAE(**still, seed=4, epochs=1).fit(x)
    for key, tensor in whole.model_.state_dict().items():
        torch.testing.assert_close(tensor, part.model_.state_dict()[key], rtol=0, atol=1e-25)
    assert part.likelihood_ == whole.likelihood_
    assert part.data_ == whole.data_


def test_partial_fit_goes_on_from_a_fitted_and_a_loaded_model(tmp_path: Path) -> None:
    x = vectors(200)
    vae = VAE(epochs=4).fit(frame(200))
    same = load(vae.save(tmp_path / "model"))
    before = {key: value.clone() for key, value in vae.model_.state_dict().items()}
    for one in (vae, same):
        one.partial_fit(frame(200))
    after = vae.model_.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert all(torch.equal(after[key], value) for key, value in same.model_.state_dict().items())
    moved = max(float((after[key] - before[key]).abs().max()) for key in before)
    assert moved < 0.05, "it does not begin anew"
    assert torch.equal(before["parts.likelihood.unit"], after["parts.likelihood.unit"])
    assert same.history_[-1]["epoch"] == 5
    with pytest.raises(ValueError, match="The feature names should match"):
        vae.partial_fit(frame()[["weight", "age", "height"]])
    with pytest.raises(checks.DataError, match="X has 2 features, but VAE is expecting 3"):
        VAE(epochs=1).fit(x).partial_fit(x[:, :2])
    with pytest.raises(checks.DataError, match="the likelihood needs values in"):
        VAE(epochs=1).fit(np.abs(x) / 1000).partial_fit(x)


def test_calls_differ_in_order_and_draws() -> None:
    x = vectors(100)
    vae = VAE(learning_rate=1e-30).partial_fit(x).partial_fit(x).partial_fit(x)
    assert len({record["train_distortion"] for record in vae.history_}) == 3


def test_data_in_parts_are_recorded() -> None:
    first, second = vectors(100), vectors(80, seed=1) + 100
    vae = VAE().partial_fit(first).partial_fit(second)
    assert vae.data_["count"] == 180
    assert vae.data_["range"] == [float(first.min()), float(second.max())]
    other = VAE().partial_fit(first).partial_fit(first)
    assert vae.data_["fingerprint"] != other.data_["fingerprint"]
    assert len(vae.data_["fingerprint"]) == 64


def test_partial_fit_has_no_warm_up() -> None:
    vae = VAE("beta", objective={"warmup_epochs": 5}).partial_fit(vectors(100))
    assert vae.history_[0]["kl_weight"] == 4
    importance = replace(recipes.iwae((3,)), likelihood=recipes.gaussian((3,)).likelihood)
    assert len(VAE(importance).partial_fit(vectors(100)).history_) == 1
