"""The commands that the doctor advises work as they are printed."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vaelab import VAE, compare, data, load
from vaelab.cli import main
from vaelab.doctor import _advice, examine_model
from vaelab.records import Dataset

pytestmark = [
    pytest.mark.filterwarnings("ignore:log p:vaelab.checks.VaelabWarning"),
    pytest.mark.usefixtures("brief_classifier"),
]


def numbers() -> Dataset:
    x = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    return Dataset(x=x, y=None, name="numbers")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table of numbers with a column of labels, in a folder with a space in its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAELAB_QUIET", "")  # to be put back
    path = tmp_path / "my data" / "numbers.csv"
    path.parent.mkdir()
    pd.DataFrame(numbers().x, columns=list("abcdef")).assign(kind=["a", "b"] * 100).to_csv(
        path, index=False
    )
    return str(path)


def called(command: str) -> None:
    """Runs a command as it is printed."""
    program, *words = shlex.split(command)
    assert program == "vaelab"
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code, command


def longer(folder: str) -> str:
    vae = load(folder)
    parts = data.load(**vae.data_["loaded"])
    findings = examine_model(vae, *parts, particles=2)
    (advice,) = [finding.advice for finding in findings if finding.check == "under-fitting"]
    return advice


TRAINED = "--read labels=kind --epochs 1 --batch-size 20 --limit 60 --quiet"


def test_a_trained_model_is_extended_by_the_command_that_is_printed(table: str) -> None:
    called(f"vaelab train linear '{table}' {TRAINED} --out m")
    weights = Path("m/model.safetensors").read_bytes()
    advice = longer("m")
    assert advice.endswith(" --latent-dim 2 --epochs 2 --resume --out m")
    called(advice)
    vae = load("m")
    assert [record["epoch"] for record in vae.history_] == [1, 2]
    assert Path("m/model.safetensors").read_bytes() != weights
    vae.training_ = replace(vae.training_, epochs=9, patience=1)
    assert "--epochs 18 --resume" in _advice.longer(vae, numbers()), (
        "it ended early: 4 were refused"
    )
    vae.training_ = replace(vae.training_, steps=9)
    assert "--epochs 4 --out m-longer" in _advice.longer(vae, numbers()), "steps win over epochs"


def test_a_model_of_a_comparison_is_trained_anew_by_the_command(table: str) -> None:
    train, test = (part.limited(60) for part in data.load(table, labels="kind"))
    compare(["linear"], train, test, out="r", epochs=1, particles=2)
    advice = longer("r/linear")
    assert "--resume" not in advice
    assert advice.endswith(" --read labels=kind --latent-dim 2 --epochs 2 --out r/linear-longer")
    called(advice)
    assert load("r/linear-longer").data_["loaded"] == {"name": table, "labels": "kind"}
    assert longer("r/linear").endswith(" --out r/linear-longer-2"), "what is there stays"


def test_a_change_keeps_the_options_of_training(table: str) -> None:
    called(f"vaelab train linear '{table}' {TRAINED} --out m")
    advice = _advice.anew(load("m"), numbers(), "dim1", "--learning-rate 0.1", latent_dim=1)
    called(advice)
    vae, was = load("m-dim1"), load("m")
    assert vae.data_ == was.data_
    assert vae.training_ == replace(was.training_, learning_rate=0.1)
    assert vae.model_.latent_dim == 1
    other = _advice.anew(was, numbers(), "vamp", "", recipe="vamp")
    assert "--config" not in other, "another recipe has other options"


def test_where_a_model_came_from_is_told(
    train: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its new folder stands beside it; data that only the caller knows are taken from there."""
    monkeypatch.chdir(tmp_path)
    vae, sized = (
        load(VAE("vae", epochs=1).fit(train).save("m")),
        replace(train, loaded={"name": "a b", "size": [6, 4]}),
    )
    start = "vaelab train vae 'a b' --read size=6,4 --latent-dim 2 --out "
    assert _advice.anew(vae, sized, "x", "") == f"{start}m-x"
    monkeypatch.chdir("m")
    assert _advice.anew(load("."), sized, "x", "") == f"{start}{tmp_path / 'm-x'}"
    shipped = load("mnist-vae")
    assert _advice.anew(shipped, train, "x", "") == (
        "vaelab train vae mnist --latent-dim 2 --out runs/mnist-vae-x"
    )
    assert load(tmp_path / "m").fit(train.limited(50)).folder_ is None
