"""Damaged files of every kind: an error of vaelab or a right answer, quickly and in little memory.

A valid file is changed in a few places, cut, or made longer, and read. Whatever comes of that must
be data that are what a record promises, or a `DataError` in one line. By default some hundred
inputs are tried; `pytest -m slow tests/test_fuzzing.py` tries more than 100,000.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import resource
import shutil
import signal
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vaelab import checks, data
from vaelab.records import Dataset

MEMORY = 2**30
"""Bytes of address space that one input may take beyond what the process has."""

SECONDS = 10
"""How long one input may take."""

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (9, 1, 4, 5), dtype=np.uint8)
Y = np.arange(9, dtype=np.uint8) % 3


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(packed: bool, **held: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(buffer, **held)
    return buffer.getvalue()


def idx(array: np.ndarray, code: int) -> bytes:
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


def image(form: str, pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def table(**options: object) -> bytes:
    frame = pd.DataFrame(RNG.normal(size=(6, 3)), columns=["a", "b", "c"])
    return frame.assign(kind=list("xyxyxz")).to_csv(**options).encode()


EXIF = Image.Exif()
EXIF[0x0112] = 6

SEEDS: dict[str, list[bytes]] = {
    ".npy": [
        npy(X),
        npy(RNG.normal(size=(6, 3))),
        npy(RNG.normal(size=(6, 3)).astype("f4")),
        npy(RNG.integers(0, 9, (5, 3, 4))),
    ],
    ".npz": [
        npz(False, x=X, y=Y),
        npz(True, x=X, y=Y),
        npz(True, x_train=X, y_train=Y, x_test=X[:2], y_test=Y[:2]),
        npz(False, anything=RNG.normal(size=(4, 2))),
    ],
    ".idx": [
        idx(X[:, 0], 0x08),
        idx(RNG.normal(size=(5, 3)).astype(">f4"), 0x0D),
        idx(RNG.integers(0, 99, (4, 3)).astype(">i4"), 0x0C),
    ],
    ".csv": [
        table(index=False),
        table(),
        table(index=False, header=False),
        b'"a","b"\r\n1,2\r\n3,4\r\n',
    ],
    ".png": [
        image("PNG", X[0, 0]),
        image("PNG", RNG.integers(0, 256, (5, 4, 4), dtype=np.uint8), exif=EXIF),
        image("PNG", RNG.integers(0, 2**16, (4, 4), dtype=np.uint16)),
        image("JPEG", RNG.integers(0, 256, (9, 8, 3), dtype=np.uint8), exif=EXIF),
        image("TIFF", RNG.integers(0, 256, (5, 4), dtype=np.uint8), exif=EXIF),
        image("TIFF", RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8), compression="tiff_lzw"),
        image("WEBP", RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8), exif=EXIF),
        image("BMP", RNG.integers(0, 256, (5, 4), dtype=np.uint8)),
    ],
}
SEEDS[".idx.gz"] = [gzip.compress(content, mtime=0) for content in SEEDS[".idx"]]

TEXTS = (b"-", b"9", b"99999999999", b"nan", b"1e999", b",", b"\n", b'"', b"(", b"'", b"0x7fffffff")
TEXTS += (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"True", b"|O", b">f8", b"PK")


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes], packed: bool) -> bytes:
    """A valid file after a few changes; of a gzipped one, of what is inside or of the outside."""
    content = bytearray(draw(st.sampled_from(seeds)))
    inside = packed and draw(st.booleans())
    if inside:
        content = bytearray(gzip.decompress(content))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        kind = draw(st.integers(0, 6))
        if kind == 0:
            content[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == 1 and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == 2:
            text = draw(st.sampled_from(TEXTS))
            content[at : at + len(text)] = text
        elif kind == 3:
            content[at:at] = draw(st.sampled_from(TEXTS))
        elif kind == 4:
            del content[at : at + draw(st.integers(1, 9))]
        elif kind == 5:
            del content[at:]
        else:
            content[at:at] = content[at : at + draw(st.integers(1, 99))]
    return gzip.compress(bytes(content), 1, mtime=0) if inside else bytes(content)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Within, memory and time are limited: too much of either is an error like any other."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)

    def late(*_: object) -> None:
        raise TimeoutError(f"{SECONDS} seconds were not enough")

    before = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def promised(part: Dataset) -> None:
    """What a record promises of its content."""
    assert part.x.ndim in (2, 4)
    assert part.x.dtype in (np.uint8, np.float32)
    assert part.x.size > 0
    assert np.isfinite(part.x).all()
    if part.y is not None:
        assert part.y.shape == (len(part.x),)
        assert part.y.dtype == np.int64
        assert part.y.min() >= 0
        assert part.y.max() < len(part.class_names)


def agrees(suffix: str, path: Path, parts: tuple[Dataset, Dataset]) -> None:
    """What was read from an array is what NumPy reads from it, in another order."""
    if suffix != ".npy":
        return
    wanted = np.load(path, allow_pickle=False)
    found = np.concatenate([part.x for part in parts])
    assert len(found) == len(wanted)
    assert found.size == wanted.size
    found, wanted = np.sort(found, axis=None), np.sort(wanted.astype(found.dtype), axis=None)
    assert np.array_equal(found, wanted)


def attempt(suffix: str, content: bytes, path: Path, labels: str | None) -> bool:
    """Reads one input; whether it could be read."""
    path.write_bytes(content)
    options = {"unreadable": 0.2, "size": 6} if suffix == ".png" else {"labels": labels}
    if suffix != ".csv":
        options.pop("labels", None)
    where = path.parent if suffix == ".png" else path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", checks.VaelabWarning)
        try:
            with bounded():
                parts = data.load(where, **options)
        except checks.VaelabError as error:
            told = str(error)
        else:
            told = ""
    if told:
        assert told.isprintable()
        return False
    for part in parts:
        promised(part)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        agrees(suffix, path, parts)
    return True


def fuzz(suffix: str, count: int, folder: Path) -> tuple[int, int]:
    """Tries `count` inputs; how many could be read, and how many could not."""
    counts = [0, 0]
    folder.mkdir(parents=True)
    if suffix == ".png":
        for k in range(2):
            (folder / f"whole{k}.png").write_bytes(SEEDS[".png"][0])

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(content=damaged(SEEDS[suffix], suffix == ".idx.gz"), labelled=st.booleans())
    def one(content: bytes, labelled: bool) -> None:
        read = attempt(suffix, content, folder / f"a{suffix}", "kind" if labelled else None)
        counts[not read] += 1
        if suffix == ".png":
            shutil.rmtree(Path(os.environ["VAELAB_CACHE"]) / "folders", ignore_errors=True)

    one()
    return counts[0], counts[1]


QUICK = {".npy": 80, ".npz": 60, ".idx": 50, ".idx.gz": 40, ".csv": 40, ".png": 30}
THOROUGH = {
    ".npy": 30_000,
    ".npz": 20_000,
    ".idx": 20_000,
    ".idx.gz": 15_000,
    ".csv": 11_000,
    ".png": 6_000,
}

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits memory in Linux's way")


@linux
@pytest.mark.parametrize("suffix", QUICK)
def test_damaged_files_are_told_or_read(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELAB_CACHE", str(tmp_path / "cache"))
    read, refused = fuzz(suffix, QUICK[suffix], tmp_path / "in")
    assert read > 0
    assert refused > 0


@linux
@pytest.mark.slow
@pytest.mark.parametrize("suffix", THOROUGH)
def test_many_damaged_files_are_told_or_read(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELAB_CACHE", str(tmp_path / "cache"))
    read, refused = fuzz(suffix, THOROUGH[suffix], tmp_path / "in")
    assert min(read, refused) > THOROUGH[suffix] / 50


def test_the_fuzzer_itself_finds_what_it_looks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other exceptions, hangs, greed and wrong answers do not pass."""

    def reading(behave: Callable[[], object]) -> None:
        monkeypatch.setattr(data, "load", lambda *_, **__: behave())
        attempt(".idx", b"", tmp_path / "a.idx", None)

    with pytest.raises(KeyError):
        reading(lambda: {}["x"])
    if sys.platform == "linux":
        with pytest.raises(MemoryError):
            reading(lambda: np.zeros(2 * MEMORY, np.uint8))
    monkeypatch.setattr(sys.modules[__name__], "SECONDS", 1)
    with pytest.raises(TimeoutError):
        reading(lambda: signal.pause())
    good = Dataset(X, None, "x")
    for bad in (X.astype(float), X[:, 0], X[:0], np.full((3, 2), np.nan, np.float32)):
        with pytest.raises(AssertionError):
            reading(lambda bad=bad: (good, Dataset(bad, None, "x")))
    with pytest.raises(AssertionError):
        reading(lambda: (good, Dataset(X, Y.astype(int), "x", class_names=("a", "b"))))
