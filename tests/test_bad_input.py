"""Bad input on the command line: one line that helps, exit code 1, and nothing left behind."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import vaelab
from vaelab.cli import main
from vaelab.storage import FORMAT

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (40, 1, 6, 5), dtype=np.uint8)
MOST_MEMORY = 32 * 2**20

Made = Callable[[Path], object]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of the same kind, which differ in their seed, and one of other sizes."""
    folder = tmp_path_factory.mktemp("models")
    np.save(folder / "x.npy", X)
    train, _ = vaelab.data.load(folder / "x.npy")
    for name, options in (("one", {"seed": 0}), ("two", {"seed": 1}), ("wide", {"latent_dim": 5})):
        vaelab.VAE("linear", epochs=1, **options).fit(train).save(folder / name)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: Path) -> Iterator[Path]:
    """The current folder, with a model and its data; the cache lies elsewhere."""
    folder = tmp_path / "here"
    shutil.copytree(models, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("VAELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VAELAB_QUIET", "")
    before = warnings.showwarning
    yield folder
    warnings.showwarning = before
    cache = tmp_path / "cache" / "folders"
    assert not list(cache.glob("*.part")), "what was converted is there, whole"


def files(folder: Path) -> dict[Path, bytes | None]:
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def refused(args: str, wanted: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = files(folder)
    with pytest.raises(SystemExit) as ended:
        main(args.split())
    out, err = capfd.readouterr()
    assert err == f"error: {wanted}\n"
    assert (ended.value.code, out) == (1, "")
    assert files(folder) == before


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


# Data


def picture(path: Path, level: int = 7) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), level, np.uint8)).save(path)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def decompression_bomb(folder: Path) -> None:
    """A PNG of a few kilobytes that claims, and holds, 30,000 × 30,000 pixels of one colour."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(2**22)))
    folder.mkdir()
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b""))


def loop(folder: Path) -> None:
    folder.mkdir()
    (folder / "a").symlink_to(folder)
    (folder / "b.png").symlink_to(folder / "b.png")


def odd_names(folder: Path) -> None:
    try:
        picture(folder / os.fsdecode(b"\xff\xfe") / os.fsdecode(b"\xe9.png"))
    except OSError:
        pytest.skip("this file system has no such names")
    (folder / os.fsdecode(b"\xff\xfe") / os.fsdecode(b"\xe9.png")).write_bytes(b"")


def claim(*shape: int) -> bytes:
    return bytes([0, 0, 0x0D, len(shape)]) + b"".join(struct.pack(">I", n) for n in shape)


def gzip_bomb(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(claim(10, 2))
        for _ in range(64):
            file.write(bytes(2**20))


NO_IMAGE = "holds no image (.bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp), but"
TWO = "but at least 2 are needed: one to train on, one to test on."

DATA: dict[str, tuple[str, Made, str]] = {
    "labels of another length": (
        "a.npz",
        lambda p: np.savez(p, x=X, y=np.arange(39)),
        "a.npz: has 39 labels for 40 data; there must be one for each datum.",
    ),
    "one row": ("a.csv", lambda p: p.write_text("a,b\n1,2\n"), f"a.csv: holds 1 data, {TWO}"),
    "zero rows": ("a.csv", lambda p: p.write_text("a,b\n"), f"a.csv: holds 0 data, {TWO}"),
    "empty file": (
        "a.csv",
        lambda p: p.touch(),
        "a.csv: is no table that can be read (No columns to parse from file).",
    ),
    "folder without images": ("a", lambda p: p.mkdir(), f"a: {NO_IMAGE} 0 other files."),
    "folder with one image": ("a", lambda p: picture(p / "1.png"), f"a: holds 1 data, {TWO}"),
    "loop of links": (
        "a",
        loop,
        "a: none of its 1 image files can be read; b.png: {loop}.",
    ),
    "names that are no text": (
        "a",
        odd_names,
        "a: none of its 1 image files can be read; \ufffd.png: is no image of a kind that is read.",
    ),
    "decompression bomb": (
        "a",
        decompression_bomb,
        "a: none of its 1 image files can be read; a.png: Image size (900000000 pixels) exceeds "
        "limit of 178956970 pixels, could be decomp....",
    ),
    "zip bomb": (
        "a.npz",
        lambda p: np.savez_compressed(p, x=np.zeros((2**16 + 1, 2**10), np.uint8)),
        "a.npz: takes 67,109,888 bytes unpacked; at most 67,108,864 are read into memory; "
        "save the data as a .npy file, which stays on disk.",
    ),
    "gzip bomb": (
        "a.idx.gz",
        gzip_bomb,
        "a.idx.gz: its header claims 80 bytes of data, but the file holds more.",
    ),
    "IDX header of terabytes": (
        "a.idx",
        lambda p: p.write_bytes(claim(2**20, 2**20)),
        "a.idx: its header claims 4,398,046,511,104 bytes of data; at most 1,073,741,824 are read.",
    ),
    "IDX header of gigabytes": (
        "a.idx",
        lambda p: p.write_bytes(claim(2**20, 2**7)),
        "a.idx: its header claims 536,870,912 bytes of data, but the file holds only 0.",
    ),
    "wrong magic": (
        "a.idx",
        lambda p: p.write_bytes(b"\x89PNG\r\n"),
        "a.idx: begins with 89 50 4e 47, so it is not an IDX file.",
    ),
    "pickle": (
        "a.npy",
        lambda p: np.save(p, np.array([[None], [print]]), allow_pickle=True),
        "a.npy: holds Python objects, which are never unpickled; save it as numbers.",
    ),
    "NaN": (
        "a.npy",
        lambda p: np.save(p, np.array([[0.0], [np.nan]])),
        "a.npy: row 1 (they count from 0) holds NaN or infinity; remove or fill such values.",
    ),
    "no such file": ("a.npy", lambda p: None, "a.npy: there is no such file or folder."),
}


@pytest.mark.parametrize("case", DATA)
def test_bad_data_are_refused(
    case: str, here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelab.data.arrays.MOST_BYTES", 2**26)
    name, make, wanted = DATA[case]
    make(here / name)
    wanted = wanted.replace("{loop}", os.strerror(40))
    with little_memory():
        refused(f"train vae {name} --epochs 1", wanted, here, capfd)
    refused(f"evaluate one {name}", wanted, here, capfd)


SETTINGS = {
    "train vae x.npy --latent-dim 31": "latent_dim = 31, but each datum has 30 feature(s); give at "
    "most 30.",
    "compare x.npy --recipes vae,conv --latent-dim 31": "latent_dim = 31, but each datum has 30 "
    "feature(s); give at most 30.",
    "train vae real.npy --likelihood bernoulli": "data range from -3 to 3, but the likelihood "
    "needs values in [0, 1]; rescale them, or use a Gaussian likelihood (recipe 'gaussian').",
    "compare real.npy --recipes vae,linear --jobs 1 --likelihood bernoulli": "likelihood = "
    "'bernoulli', but recipe 'linear' is made of its Gaussian one; give another recipe, 'vae' say.",
    "compare real.npy --recipes vae --jobs 1 --likelihood bernoulli": "data range from -3 to 3, "
    "but the likelihood needs values in [0, 1]; rescale them, or use a Gaussian likelihood (recipe "
    "'gaussian').",
    "evaluate one real.npy": "each datum has shape (2,), but the model was made for (1, 6, 5).",
    "encode one real.npy --out codes.npz": "each datum has shape (2,), but the model was made for "
    "(1, 6, 5).",
    "encode one other.npy --out codes.npz": "each datum has shape (1, 5, 6), but the model was "
    "made for (1, 6, 5).",
    "decode one --at 1,2,3": "point = 1,2,3 has 3 coordinates, but model 'one' has 2 latent "
    "dimensions; give 2 numbers.",
    "train vae --read scale=9 real.npy": "scale = 9, but real.npy is no table with named columns; "
    "leave it out.",
}


@pytest.mark.parametrize("args", SETTINGS)
def test_what_does_not_suit_the_data_is_refused(
    args: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    np.save("real.npy", np.tile(np.float32([[-3, 3]]), (9, 1)))
    np.save("other.npy", X.reshape(40, 1, 5, 6))
    refused(args, SETTINGS[args], here, capfd)


def test_data_without_any_difference_train(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All the same image, and constant features, are told by `doctor`; they are no error."""
    for k in range(12):
        picture(here / "same" / f"{k}.png")
    constant = np.column_stack([np.full(30, 5.0), RNG.normal(size=30), np.zeros(30)])
    np.savetxt("constant.csv", constant, delimiter=",", header="a,b,c", comments="")
    for name, told in (("same", "all data are alike"), ("constant.csv", "columns")):
        with pytest.raises(SystemExit) as ended:
            main(["doctor", name])
        assert told in capfd.readouterr().out
        assert not ended.value.code
        vae = vaelab.VAE(epochs=2).fit(vaelab.data.load(name)[0])
        assert np.isfinite(vae.history_[-1]["train_elbo"])
        assert np.isfinite(vae.sample(3)).all()
    vaelab.data.clean()


# Model folders


def edited(way: str, value: object) -> Made:
    """A change of one field of config.json, which `way` leads to."""

    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        place: Any = config
        *steps, last = way.split(".")
        for step in steps:
            place = place[step]
        place[last] = value
        (folder / "config.json").write_text(json.dumps(config))

    return edit


def weights_of(other: str) -> Made:
    return lambda folder: shutil.copy(folder.parent / other / "model.safetensors", folder)


def fewer_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[NETWORK]
    save_file(weights, folder / "model.safetensors")


OTHER = "one/model.safetensors does not belong to config.json: "
CONFIG = "one/config.json is damaged: "
NETWORK = "parts.posterior.network.layers.0.weight"

MODELS: dict[str, tuple[Made, str]] = {
    "no weights": (
        lambda p: (p / "model.safetensors").unlink(),
        "one/model.safetensors is missing; the model folder is incomplete.",
    ),
    "no history": (
        lambda p: (p / "history.jsonl").unlink(),
        "one/history.jsonl is missing; the model folder is incomplete.",
    ),
    "no description": (
        lambda p: (p / "config.json").unlink(),
        "one is not a model folder: it has no config.json; give a folder that vaelab wrote.",
    ),
    "swapped weights of the same shapes": (
        weights_of("two"),
        "one/model.safetensors does not belong to history.jsonl: the weights are those of another "
        "training; put back the file that was saved with it.",
    ),
    "weights of other shapes": (
        weights_of("wide"),
        f"{OTHER}tensor {NETWORK!r} has shape (10, 30), but (4, 30) is needed.",
    ),
    "weights that lack a tensor": (
        fewer_weights,
        f"{OTHER}1 tensors are unknown or missing, first {NETWORK!r}.",
    ),
    "newer format": (
        edited("format", 99),
        "one/config.json has format 99, but this version of vaelab reads up to {format}; install a "
        "newer vaelab.",
    ),
    "hostile sizes": (
        edited("parts.posterior.network.widths", [10**9, 10**9]),
        f"{OTHER}4 tensors are unknown or missing, first {NETWORK[:-8] + '2.bias'!r}.",
    ),
    "hostile number of dimensions": (
        edited("parts.prior.latent_dim", 10**15),
        f"{CONFIG}the prior is over z of shape (1000000000000000,), but the posterior has "
        "latent_dim = 2; give both the same.",
    ),
    "traversal in the name": (
        edited("recipe", "../../elsewhere"),
        f"{CONFIG}recipe '../../elsewhere' is no plain name.",
    ),
    "class of another module": (
        edited("parts.prior.part", "../os.system"),
        "one/config.json: part '../os.system' is not known here; if you wrote it, pass its class: "
        "vaelab.load(folder, parts=[...]).",
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_bad_model_folders_are_refused(
    case: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change, wanted = MODELS[case]
    change(here / "one")
    wanted = wanted.replace("{format}", str(FORMAT))
    with little_memory():
        for args in ("evaluate one", "sample one", "encode one x.npy --out codes.npz"):
            refused(args, wanted, here, capfd)


HOSTILE_DATA = [{"name": 3}, {"name": "x.npy", "open": "/"}, {"size": 3}, [1], "x"]


@pytest.mark.parametrize("loaded", HOSTILE_DATA)
def test_what_a_model_says_of_its_data_is_not_believed(
    loaded: object, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    edited("data.loaded", loaded)(here / "one")
    line = "config.json of the model is damaged: it does not tell its data; name them."
    refused("evaluate one", line, here, capfd)


def test_a_comparison_names_no_models_elsewhere(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "run").mkdir()
    (here / "run" / "metrics.json").write_text(
        json.dumps({"models": {"../one": {}}, "dataset": {}})
    )
    wanted = "run/metrics.json is damaged: a model in it has no plain name."
    refused("report run", wanted, here, capfd)
