"""Larochelle's bits: read as they are written, and refused when they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vaelab import checks, data
from vaelab.data import amat


def write(path: Path, bits: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(" ".join(map(str, row)) for row in bits) + " \n")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    monkeypatch.setattr(amat, "PARTS", {"train": 5, "valid": 2, "test": 3})
    monkeypatch.setenv("VAELAB_DATA", str(tmp_path))
    bits = {part: rng.integers(0, 2, (rows, 784)) for part, rows in amat.PARTS.items()}
    for part, rows in bits.items():
        write(tmp_path / "binarized-mnist" / f"binarized_mnist_{part}.amat", rows)
    return bits


def test_the_bits_are_those_of_the_files(files: dict[str, np.ndarray]) -> None:
    train, test = data.load("binarized-mnist")
    wanted = np.concatenate([files["train"], files["valid"]])
    assert np.array_equal(train.x.reshape(7, 784), 255 * wanted)
    assert np.array_equal(test.x.reshape(3, 784), 255 * files["test"])
    assert (train.x.dtype, train.shape, train.y) == (np.uint8, (1, 28, 28), None)
    assert (train.split, test.split) == ("train", "test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged: its rows do not have 784 bits each"),
        (b"0 1 1\n", "is damaged: its rows do not have 784 bits each"),
        (b"0 " * 392 + b"\n" + b"1 " * 392 + b"\n", "is damaged: its rows do not have 784 bits"),
        (b"0 2 1\n", "holds '2', but only 0, 1 and blanks may stand there"),
        (b"0 " * 784 + b"\n", "has 1 rows, but it must have 3"),
    ],
)
def test_other_files_are_refused(
    content: bytes, message: str, files: dict[str, np.ndarray], tmp_path: Path
) -> None:
    (tmp_path / "binarized-mnist" / "binarized_mnist_test.amat").write_bytes(content)
    with pytest.raises(checks.DataError, match=message):
        data.load("binarized-mnist")


def test_a_file_that_is_missing_or_far_too_long_is_named(
    files: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amat, "LARGEST", 1000)
    with pytest.raises(checks.DataError, match="at most 1,000 are read"):
        data.load("binarized-mnist")
    (tmp_path / "binarized-mnist" / "binarized_mnist_train.amat").unlink()
    with pytest.raises(checks.DataError, match=r"binarized_mnist_train\.amat cannot be read: No"):
        data.load("binarized-mnist")
    monkeypatch.delenv("VAELAB_DATA")
    monkeypatch.setenv("VAELAB_CACHE", str(tmp_path / "cache"))
    row = next(row for row in data.describe() if row.name == "binarized-mnist")
    assert (row.place, row.path) == ("nowhere", str(tmp_path / "cache" / "binarized-mnist"))
    write(tmp_path / "cache" / "binarized-mnist" / "binarized_mnist_train.amat", files["train"])
    with pytest.raises(
        checks.DataError, match=r"cache/binarized-mnist/binarized_mnist_train\.amat has"
    ):
        data.load("binarized-mnist")
    (tmp_path / "cache").rename(tmp_path / "aside")
    with pytest.raises(checks.DataError, match="--binarize static"):
        data.load("binarized-mnist")
