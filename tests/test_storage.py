"""Model folders: bit-equal, whole or not at all, and read with suspicion."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vaelab import VAE, checks, load, recipes, storage
from vaelab.likelihoods import Bernoulli
from vaelab.networks import MLP
from vaelab.objectives import ELBO
from vaelab.posteriors import DiagonalGaussian
from vaelab.priors import StandardNormal
from vaelab.records import Dataset


@pytest.fixture(scope="module")
def fitted(train: Dataset) -> VAE:
    return VAE("vae", epochs=1, seed=3).fit(train)


@pytest.fixture
def folder(fitted: VAE, tmp_path: Path) -> Path:
    return fitted.save(tmp_path / "model", figures={"elbo": -1.5})


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_load_of_save_is_bit_equal(name: str, train: Dataset, tmp_path: Path) -> None:
    vae = VAE(name, epochs=1, batch_size=100, seed=1).fit(train)
    same = load(vae.save(tmp_path / name))
    for key, tensor in vae.model_.state_dict().items():
        assert torch.equal(tensor, same.model_.state_dict()[key])
    assert np.array_equal(vae.transform(train), same.transform(train))
    assert np.array_equal(vae.sample(5, 1, seed=1), same.sample(5, 1, seed=1))
    assert same.score(train) == vae.score(train)
    assert same.history_ == vae.history_
    assert same.training_ == vae.training_
    assert same.recipe_.name == name
    assert same.recipe_.objective == vae.recipe_.objective
    assert same.data_ == vae.data_


def test_a_folder_holds_what_it_should_and_no_pickle(folder: Path, train: Dataset) -> None:
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "history.jsonl",
        "model.safetensors",
    ]
    config = json.loads((folder / "config.json").read_text())
    assert config["format"] == 6
    assert config["recipe"] == "vae"
    assert config["seed"] == 3
    assert config["training"]["epochs"] == 1
    assert config["data"]["fingerprint"] == train.fingerprint
    assert config["figures"] == {"elbo": -1.5}
    assert set(config["versions"]) == {"python", "vaelab", "torch", "numpy"}


def test_saving_again_replaces_the_model(fitted: VAE, folder: Path) -> None:
    fitted.save(folder, figures={"elbo": -2.0})
    assert load(folder).figures_ == {"elbo": -2.0}
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_a_folder_with_something_else_is_left_alone(fitted: VAE, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(checks.StorageError, match="exists and is not a model folder"):
        fitted.save(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


@pytest.mark.parametrize("failing", ["write_json", "write_atomically"])
def test_a_full_disk_leaves_the_old_model(
    failing: str, fitted: VAE, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.files, failing, full)
    with pytest.raises(OSError, match="No space left"):
        fitted.save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def edit(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        *way, last = key.split("__")
        place = config
        for step in way:
            place = place[step]
        place[last] = value
    (folder / "config.json").write_text(json.dumps(config))


def huge(folder: Path) -> None:
    edit(folder, parts__posterior__network__widths=[10**9, 10**9])


def swapped(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["parts.posterior.network.layers.0.weight"] = torch.zeros(3, 3)
    save_file(weights, folder / "model.safetensors")


def not_finite(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["parts.likelihood.offset"][0] = float("nan")
    save_file(weights, folder / "model.safetensors")


def other_type(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights = {k: v.double() for k, v in weights.items()}
    save_file(weights, folder / "model.safetensors")


def truncated(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def test_networks_of_older_formats_have_gelu(train: Dataset, tmp_path: Path) -> None:
    recipe = recipes.vae(train.shape)
    posterior = DiagonalGaussian(MLP(train.shape, (2, 2), (8,), activation="gelu"))
    likelihood = Bernoulli(MLP((2,), train.shape, (8,), activation="gelu"))
    vae = VAE(replace(recipe, posterior=posterior, likelihood=likelihood), epochs=1).fit(train)
    folder = vae.save(tmp_path / "model")
    text = (folder / "config.json").read_text()
    older = text.replace('"format": 6', '"format": 2').replace('"activation": "gelu"', '"x": 0')
    config = json.loads(older)
    for part in ("posterior", "likelihood"):
        del config["parts"][part]["network"]["x"]
    (folder / "config.json").write_text(json.dumps(config))
    assert np.array_equal(load(folder).transform(train), vae.transform(train))
    edit(folder, format=3)
    with pytest.raises(checks.StorageError, match="activation"):
        load(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shutil.rmtree(f), "is not there; give a folder"),
        (lambda f: (f / "config.json").unlink(), "is not a model folder: it has no config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: (f / "history.jsonl").unlink(), "history.jsonl is missing"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is damaged: it is not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "it has no format number"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "it is not UTF-8 text"),
        (lambda f: (f / "history.jsonl").write_text("{\n"), "history.jsonl is damaged"),
        (lambda f: edit(f, format=7), "has format 7, but this version of vaelab reads up to 6"),
        (lambda f: edit(f, surprise=1), r"unknown or missing fields \['surprise'\]"),
        (lambda f: edit(f, seed=-1), "seed = -1, but it must be"),
        (lambda f: edit(f, training={"speed": 1}), "config.json is damaged"),
        (lambda f: edit(f, objective__objective="exec"), "objective 'exec' is not known here"),
        (lambda f: edit(f, parts__prior__part="subprocess"), "part 'subprocess' is not known here"),
        (
            lambda f: edit(f, parts__prior__latent_dim=3),
            "config.json is damaged: the prior is over",
        ),
        (huge, "does not belong to config.json"),
        (swapped, "has shape .* is needed"),
        (not_finite, "holds NaN or infinity"),
        (other_type, "has type torch.float64"),
        (truncated, "model.safetensors is damaged"),
    ],
)
def test_damage_is_told_in_one_line(damage: Any, message: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(checks.StorageError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert folder.name in str(error.value)


class Shifted(StandardNormal):
    """A prior that somebody else wrote."""


@dataclass(frozen=True)
class Halved(ELBO):
    """An objective that somebody else wrote."""

    share: float = 0.5


def test_parts_of_others_are_loaded_when_their_class_is_given(
    train: Dataset, tmp_path: Path
) -> None:
    recipe = replace(recipes.build("vae", train.shape), name="mine", prior=Shifted(2))
    vae = VAE(recipe, epochs=1).fit(train)
    folder = vae.save(tmp_path / "mine")
    with pytest.raises(checks.StorageError, match="part 'Shifted' is not known here"):
        load(folder)
    same = load(folder, parts=[Shifted])
    assert np.array_equal(same.transform(train), vae.transform(train))


def test_objectives_of_others_are_loaded_when_their_class_is_given(
    train: Dataset, test: Dataset, tmp_path: Path
) -> None:
    recipe = replace(recipes.build("vae", train.shape), name="mine", objective=Halved(share=0.25))
    vae = VAE(recipe, epochs=1).fit(train)
    folder = vae.save(tmp_path / "mine")
    with pytest.raises(checks.StorageError, match="objective 'Halved' is not known here"):
        load(folder)
    same = load(folder, parts=[Halved])
    assert same.recipe_.objective == Halved(share=0.25)
    assert same.score(test) == vae.score(test)


def test_loading_leaves_the_global_random_state_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    load(folder)
    assert torch.equal(before, torch.get_rng_state())


def test_descriptions_of_networks_survive_json() -> None:
    from vaelab.parts import build, describe

    network = MLP((2, 3), (4,), (5,))
    same = build(json.loads(json.dumps(describe(network))), [MLP])
    assert describe(same) == describe(network)
    assert same.in_shape == (2, 3)


@pytest.mark.parametrize(("kind", "share"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_weights_in_16_bits_take_half_the_file_and_are_widened(
    fitted: VAE, folder: Path, tmp_path: Path, kind: str, share: float
) -> None:
    saved = storage.load(folder)
    model = storage.rounded(saved.model, kind)
    for name, value in saved.model.state_dict().items():
        close = torch.allclose(model.state_dict()[name], value, rtol=share, atol=1e-7)
        assert close, name
    small = storage.save(replace(saved, model=model), tmp_path / "small", weights=kind)
    same = load(small)
    for name, value in model.state_dict().items():
        assert same.model_.state_dict()[name].dtype == value.dtype
        assert torch.equal(same.model_.state_dict()[name], value)
    sizes = [(part / "model.safetensors").stat().st_size for part in (small, folder)]
    assert 0.5 < sizes[0] / sizes[1] < 0.6


def test_weights_are_never_rounded_in_silence(folder: Path, tmp_path: Path) -> None:
    saved = storage.load(folder)
    with pytest.raises(checks.ArgumentError, match=r"weights = 'float16' would round tensor"):
        storage.save(saved, tmp_path / "small", weights="float16")
    with pytest.raises(checks.ArgumentError, match="weights = 'int8' is not known"):
        storage.save(saved, tmp_path / "small", weights="int8")
    next(saved.model.parameters()).data.fill_(1e6)
    with pytest.raises(checks.ArgumentError, match=r"cannot hold tensor .*; take 'bfloat16'"):
        storage.rounded(saved.model, "float16")
    assert not (tmp_path / "small").exists()
