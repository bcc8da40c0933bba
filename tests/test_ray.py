"""Work on a Ray cluster: the bits of one process, whoever dies, each row exactly once."""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from refusals import message
from vaelab import VAE, checks, cluster, data, load
from vaelab.cli import cli
from vaelab.comparison import compare
from vaelab.encoding import _shards, write_shards
from vaelab.records import Dataset

NAMES = ["vae", "linear"]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of two workers on this machine, which can import the tests too."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        import ray

        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=120 * 2**20,
        )
        yield ray
        with warnings.catch_warnings():  # pytest has set its own filters since
            warnings.simplefilter("ignore")
            ray.shutdown()
            gc.collect()  # Ray 2.40 does not wait for the processes that it ends


class Dying:
    """A progress whose first run is killed in the midst of training, after a checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, position: int) -> Any:
        first = self.folder / f"{name}-first"
        again = first.exists()
        first.touch()

        def hear(event: str, values: Mapping[str, float]) -> None:
            if event == "step":
                with (self.folder / f"{name}-steps").open("a") as file:
                    file.write(f"{os.getpid()} {int(values['step'])}\n")
            if name == "vae" and not again:
                time.sleep(0.1)
                if any((self.folder / "runs" / name / "checkpoints").glob("step-*")):
                    os.kill(os.getpid(), signal.SIGKILL)

        return hear


def bits(run: Any, test: Dataset) -> dict[str, Any]:
    """Figures and codes of each recipe, without what differs from run to run."""
    return {
        name: (dict(run.figures[name]) | {"seconds": 0}, vae.transform(test).tobytes())
        for name, vae in run.models.items()
    }


def test_a_comparison_on_ray_is_that_of_one_process_though_a_worker_is_killed(
    ray: Any, train: Dataset, test: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    given = {"epochs": 3, "particles": 2, "jobs": 2}
    here = {name: compare([name], train, test, **given) for name in NAMES}
    there = compare(
        NAMES, train, test, out=folder, engine="ray", progress=Dying(tmp_path),
        checkpoint_seconds=0.01, **given,
    )  # fmt: skip
    for name, run in here.items():
        assert bits(there, test)[name] == bits(run, test)[name]
    told = [line.split() for line in (tmp_path / "vae-steps").read_text().splitlines()]
    assert len({process for process, _ in told}) == 2, "another process went on"
    assert [step for _, step in told].count("1") == 1, "from the checkpoint of the first"
    assert sorted(p.name for p in folder.iterdir()) == ["linear", "metrics.json", "vae"]


class Slow:
    """A progress that leaves time to interrupt."""

    def __call__(self, name: str, position: int) -> Any:
        return lambda event, values: time.sleep(0.2)


@pytest.mark.slow
def test_a_comparison_on_ray_that_is_interrupted_goes_on(
    ray: Any, train: Dataset, test: Dataset, tmp_path: Path
) -> None:
    def interrupt() -> None:
        while not any((tmp_path / "runs/vae/checkpoints").glob("step-*")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    given = {"epochs": 3, "particles": 2, "jobs": 2, "out": tmp_path / "runs"}
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(checks.Interrupted, match=r"^interrupted; what was trained is kept$"):
        compare(NAMES, train, test, engine="ray", progress=Slow(), checkpoint_seconds=0.01, **given)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert set(kept) == {"vae", "linear"}
    resumed = compare(NAMES, train, test, resume=True, **given)
    assert bits(resumed, test) == bits(compare(NAMES, train, test, **{**given, "out": None}), test)


class Refusing:
    """A progress with which nothing can be trained."""

    def __call__(self, name: str, position: int) -> Any:
        raise checks.DataError(f"{name}: refused")


def test_what_a_recipe_refuses_on_ray_is_told_as_it_is(
    ray: Any, train: Dataset, test: Dataset
) -> None:
    with pytest.raises(checks.DataError, match=r"^vae: refused$"):
        compare(["vae"], train, test, epochs=1, engine="ray", progress=Refusing())


# Codes of data in shards.

COUNTS = (70, 40, 30, 55, 90)


@pytest.fixture(scope="module")
def model(train: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return VAE(epochs=1).fit(train).save(tmp_path_factory.mktemp("model") / "vae")


@pytest.fixture(scope="module")
def location(test: Dataset, train: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five shards, all of the same name in different folders."""
    folder = tmp_path_factory.mktemp("shards")
    x = np.concatenate([test.x, train.x])
    for k, (name, count) in enumerate(zip("abcde", COUNTS, strict=True)):
        (folder / name).mkdir()
        start = sum(COUNTS[:k])
        np.save(folder / name / "x.npy", x[start : start + count])
    return folder


@pytest.fixture(scope="module")
def alone(model: Path, location: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this one process writes."""
    out = tmp_path_factory.mktemp("codes") / "alone"
    return write_shards(out, model, data.shards(location), workers=1)


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_every_row_is_there_once_with_what_the_model_says_of_it(
    alone: Path, model: Path, location: Path
) -> None:
    opened, vae = data.shards(location), load(model)
    assert opened.names == tuple(f"{name}/x.npy" for name in "abcde")
    names = {f"{name}%2Fx.npy.parquet" for name in "abcde"} | {"encoding.json"}
    assert set(written(alone)) == names
    for k, name in enumerate(opened.names):
        table = pd.read_parquet(alone / f"{name.replace('/', '%2F')}.parquet")
        assert list(table) == json.loads((alone / "encoding.json").read_text())["columns"]
        assert table["row"].tolist() == list(range(COUNTS[k]))
        assert set(table["shard"]) == {name}
        codes = vae.encode(opened.read(k))
        np.testing.assert_allclose(table[["mean_1", "mean_2"]], codes.loc, atol=1e-6)
        np.testing.assert_allclose(table[["scale_1", "scale_2"]], codes.scale, atol=1e-6)
        terms = vae.terms(opened.read(k))
        np.testing.assert_allclose(table["rate"], terms.rate, rtol=1e-4)
        assert table["elbo"].mean() == pytest.approx(terms.elbo.mean(), rel=0.02), "other noise"
        assert (table["elbo"] == -(table["rate"] + table["distortion"])).all()
        ones = vae.score_samples(opened.read(k), particles=1) + table["rate"]
        assert not np.allclose(ones, -table["distortion"], atol=1e-4), "the rate is no estimate"


def test_the_figures_of_a_datum_depend_neither_on_its_place_nor_on_its_shard(
    alone: Path, model: Path, location: Path, tmp_path: Path
) -> None:
    opened = data.shards(location)
    everything = np.concatenate([opened.read(k) for k in range(5)])
    order = np.random.default_rng(0).permutation(len(everything))
    (tmp_path / "one").mkdir()
    np.save(tmp_path / "one" / "x.npy", everything[order])
    shuffled = data.shards(tmp_path / "one")
    out = write_shards(tmp_path / "out", model, shuffled, workers=1)
    other = write_shards(tmp_path / "other", model, shuffled, workers=1, seed=1)
    apart = pd.concat([pd.read_parquet(path) for path in sorted(alone.glob("*.parquet"))])
    found, drawn = (pd.read_parquet(path / "x.npy.parquet") for path in (out, other))
    values = list(apart)[2:]
    np.testing.assert_allclose(found[values], apart[values].to_numpy()[order], rtol=1e-3, atol=1e-4)
    assert (found["mean_1"] == drawn["mean_1"]).all()
    assert (found["distortion"] != drawn["distortion"]).mean() > 0.9, "another seed, other noise"


def test_a_part_of_the_shards_is_encoded_as_within_the_whole(
    alone: Path, model: Path, location: Path, tmp_path: Path
) -> None:
    part = data.shards(location).some([0, 2, 3]).some([1, 2])
    assert part.names == ("c/x.npy", "d/x.npy")
    found = written(write_shards(tmp_path / "out", model, part, workers=1))
    whole = written(alone)
    assert found.keys() == {"c%2Fx.npy.parquet", "d%2Fx.npy.parquet", "encoding.json"}
    assert all(found[name] == whole[name] for name in found if name != "encoding.json")


class Mortal(_shards._Worker):
    """A worker that is killed the first time that it is given the last shard."""

    def __call__(self, k: int) -> int:
        killed = Path(self.plan.out).parent / "killed"
        if k == len(COUNTS) - 1 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(k)


def test_ray_writes_the_same_bytes_though_a_worker_is_killed(
    ray: Any,
    alone: Path,
    model: Path,
    location: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_shards, "_Worker", Mortal)
    told: list[tuple[int, int]] = []
    write_shards(
        tmp_path / "out",
        model,
        data.shards(location),
        engine="ray",
        workers=2,
        progress=lambda *done: told.append(done),
    )
    assert (tmp_path / "killed").exists()
    assert written(tmp_path / "out") == written(alone)
    assert told[-1] == (sum(COUNTS), sum(COUNTS))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_interrupted_and_run_again_only_what_is_missing_is_done(
    ray: Any, engine: str, alone: Path, model: Path, location: Path, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    given: dict[str, Any] = {"engine": engine, "workers": 1}
    out, opened = tmp_path / "out", data.shards(location)
    with pytest.raises(KeyboardInterrupt):
        write_shards(out, model, opened, progress=interrupt, **given)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert 0 < len(before) < len(COUNTS)
    damaged = sorted(before, key=lambda path: path.stat().st_size)[-1]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    write_shards(out, model, opened, **given)
    assert written(out) == written(alone)
    again = {path: path.stat().st_mtime_ns for path in before}
    assert {path for path in before if again[path] != before[path]} == {damaged}
    every = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    write_shards(out, model, opened, **given)
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")} == every


@pytest.mark.slow
def test_several_processes_write_the_same_bytes(
    alone: Path, model: Path, location: Path, tmp_path: Path
) -> None:
    out = write_shards(tmp_path / "out", model, data.shards(location), workers=2)
    assert written(out) == written(alone)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_shard_that_cannot_be_encoded_is_named(
    ray: Any, engine: str, model: Path, location: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for k, value in enumerate((0.5, 7.0)):
        np.save(folder / f"{k}.npy", np.full((3, 1, 12, 12), value, np.float32))
    opened = data.shards(folder)
    with pytest.raises(checks.DataError) as error:
        write_shards(tmp_path / "out", model, opened, engine=engine, workers=1)
    assert message(error) == (
        f"{folder}: shard 1.npy: data range from 7 to 7, but the likelihood needs values in "
        "[0, 1]; rescale them, or use a Gaussian likelihood (recipe 'gaussian')."
    )
    assert (tmp_path / "out" / "0.npy.parquet").exists(), "the others are kept"
    assert not (tmp_path / "out" / "1.npy.parquet").exists()


class Hopeless(_shards._Worker):
    """A worker that dies of each shard, and is given it once."""

    tries = 1

    def _write(self, k: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_shard_of_which_workers_die_is_named(
    ray: Any, model: Path, location: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shards, "_Worker", Hopeless)
    with pytest.raises(checks.VaelabError) as error:
        write_shards(tmp_path / "out", model, data.shards(location), engine="ray", workers=1)
    assert message(error) == (
        "shard a/x.npy: workers died of it 1 times, perhaps for want of memory; what was done is "
        "kept: run it again, with fewer --workers."
    )


def test_data_that_change_while_they_are_encoded_are_refused(
    model: Path, location: Path, tmp_path: Path
) -> None:
    shutil.copytree(location, tmp_path / "data")
    opened = data.shards(tmp_path / "data")
    (tmp_path / "data/b/x.npy").unlink()
    with pytest.raises(checks.DataError) as error:
        write_shards(tmp_path / "out", model, opened, workers=1)
    assert message(error) == (
        f"{tmp_path / 'data'}: is not what it was when the work began; put the old one back, and "
        "let all machines see the same."
    )


def test_a_folder_of_other_codes_is_refused(
    train: Dataset, model: Path, location: Path, alone: Path, tmp_path: Path
) -> None:
    opened = data.shards(location)
    out = tmp_path / "out"
    shutil.copytree(alone, out)
    before = written(out)
    other = VAE(epochs=1, seed=1).fit(train).save(tmp_path / "other")
    fewer = data.shards(f"{location}/[ab]/*.npy")
    for words, given in (
        ("another model", (other, opened, 0)),
        ("other data", (model, fewer, 0)),
        ("another seed", (model, opened, 1)),
    ):
        with pytest.raises(checks.StorageError) as error:
            write_shards(out, *given[:2], seed=given[2], workers=1)
        assert message(error) == f"{out} holds codes of {words}; choose another folder."
    assert written(out) == before
    (out / "encoding.json").write_text("[]")
    with pytest.raises(checks.StorageError, match=r"encoding.json is damaged \(it is no object\)"):
        write_shards(out, model, opened, workers=1)
    (out / "encoding.json").unlink()
    with pytest.raises(checks.StorageError) as error:
        write_shards(out, model, opened, workers=1)
    assert message(error) == f"{out} exists, and holds no codes of vaelab; choose another folder."


def test_models_that_cannot_encode_the_shards_are_refused(
    train: Dataset, model: Path, location: Path, tmp_path: Path
) -> None:
    with_labels = VAE("conditional", epochs=1).fit(train).save(tmp_path / "labels")
    np.save(tmp_path / "x.npy", np.zeros((4, 5), np.float32))
    for folder, where, words in (
        (
            with_labels,
            location,
            "recipe 'conditional' needs labels, but data in shards come without; encode them in "
            "parts, by VAE.encode(x, y).",
        ),
        (
            model,
            tmp_path / "x.npy",
            "x: each datum has shape (5,), but the model was made for (1, 12, 12); read the data "
            "otherwise (--read), or give another model.",
        ),
    ):
        with pytest.raises(checks.DataError) as error:
            write_shards(tmp_path / "out", folder, data.shards(where), workers=1)
        assert message(error) == words
        assert not (tmp_path / "out").exists()


def test_arguments_that_are_not_allowed_are_refused(
    train: Dataset,
    test: Dataset,
    model: Path,
    location: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = data.shards(location)
    with pytest.raises(checks.ArgumentError, match=r"^engine = 'dask' is not known\."):
        write_shards(tmp_path, model, opened, engine="dask")
    with pytest.raises(checks.ArgumentError, match=r"^workers = 0, but it must be"):
        write_shards(tmp_path, model, opened, workers=0)
    with pytest.raises(checks.ArgumentError, match=r"^device = 'tpu' is not known"):
        write_shards(tmp_path, model, opened, device="tpu")
    found = checks.find_spec
    monkeypatch.setattr(checks, "find_spec", lambda name: None if name == "ray" else found(name))
    missing = (
        "engine = 'ray' needs the package ray, which is not installed; install it with: pip "
        "install 'vaelab[ray]'."
    )
    with pytest.raises(checks.ArgumentError) as error:
        write_shards(tmp_path, model, opened, engine="ray")
    assert message(error) == missing
    with pytest.raises(checks.ArgumentError) as error:
        compare(NAMES, train, test, engine="ray")
    assert message(error) == missing


def test_a_cluster_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray

    def init(**given: Any) -> None:
        raise ConnectionError(f"nobody at {given['address']}\nand much more")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", "nowhere:6379")
    with pytest.raises(checks.ArgumentError) as error, cluster.joined():
        pass
    assert message(error) == (
        "engine = 'ray' finds no Ray cluster at nowhere:6379 (nobody at nowhere:6379); set "
        "RAY_ADDRESS to one that runs, or unset it for one on this machine."
    )


def test_the_command_encodes_shards_into_a_folder(
    model: Path, location: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "codes"
    given = ["encode", str(model), str(location), "--workers", "1", "--out"]
    run = CliRunner().invoke(cli, [*given, str(out)], obj=given)
    assert (run.exit_code, run.output) == (0, f"{out}\n")
    assert written(out) == written(alone)
    for options, words in (
        ([str(out), "--limit", "5"], "--limit 5 is for data that are read whole; give a pattern"),
        ([str(out), "--read", "labels=y"], "--read = 'labels' is not known"),
        ([str(tmp_path / "x.npz")], "--workers 1 is for data in shards, but --out"),
    ):
        run = CliRunner().invoke(cli, [*given, *options], obj=given)
        assert run.exit_code == 1
        assert str(run.exception).startswith(words)
