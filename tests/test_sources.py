"""One's own data: the same numbers become the same records from any file, and lies are told."""

from __future__ import annotations

import gzip
import io
import mmap
import resource
import struct
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from refusals import message, refused
from vaelab import checks, data
from vaelab.data import arrays, rows, sources
from vaelab.data.rows import Rows
from vaelab.records import Dataset
from vaelab.tensors import as_tensor

COUNT = 60
X = np.random.default_rng(0).integers(0, 256, (COUNT, 1, 6, 5), dtype=np.uint8)
Y = np.arange(COUNT) % 3
REAL = X.reshape(COUNT, -1).astype(np.float32) / 7


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VAELAB_DATA", raising=False)


def idx_bytes(array: np.ndarray, code: int = 0x08) -> bytes:
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


# Any file


def save_folder(path: Path) -> None:
    path.mkdir()
    for k, image in enumerate(X):
        Image.fromarray(image[0]).save(path / f"{k:03d}.png")


IMAGES = {
    "a.npy": lambda path: np.save(path, X),
    "grey.npy": lambda path: np.save(path, X[:, 0]),
    "last.npy": lambda path: np.save(path, np.moveaxis(X, 1, 3)),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(X[:, 0])),
    "a.npz": lambda path: np.savez(path, x=X),
    "packed.npz": lambda path: np.savez_compressed(path, anything=X),
    "a-idx3-ubyte": lambda path: path.write_bytes(idx_bytes(X[:, 0])),
    "a.idx.gz": lambda path: path.write_bytes(gzip.compress(idx_bytes(X[:, 0]))),
    "folder": save_folder,
}


@pytest.mark.parametrize("name", IMAGES)
def test_the_same_images_are_the_same_data_from_any_file(name: str, tmp_path: Path) -> None:
    IMAGES[name](tmp_path / name)
    train, test = data.load(tmp_path / name)
    (left, _), (taken, _), _ = sources.split(Rows(X.copy()), 0.1, 0, "x")
    assert train.fingerprint == Dataset(left, None, "x").fingerprint
    assert test.fingerprint == Dataset(taken, None, "x").fingerprint
    assert (train.split, test.split) == ("train", "test")
    assert train.name == name.split(".")[0]
    again, _ = data.load(**train.loaded)
    assert again.fingerprint == train.fingerprint
    assert train.source == str((tmp_path / name).resolve())


TABLES = {
    "a.csv": lambda path: pd.DataFrame(REAL).to_csv(path, index=False),
    "bare.csv": lambda path: pd.DataFrame(REAL).to_csv(path, index=False, header=False),
    "index.csv": lambda path: pd.DataFrame(REAL).add_prefix("p").to_csv(path),
    "a.parquet": lambda path: pd.DataFrame(REAL).add_prefix("p").to_parquet(path),
    "wide.parquet": lambda path: pd.DataFrame(REAL.astype(float)).add_prefix("p").to_parquet(path),
    "a.npy": lambda path: np.save(path, REAL),
    "double.npy": lambda path: np.save(path, REAL.astype(np.float64)),
    "swapped.npy": lambda path: np.save(path, REAL.astype(">f4")),
    "double.npz": lambda path: np.savez(path, X=REAL.astype(np.float64)),
    "a.idx": lambda path: path.write_bytes(idx_bytes(REAL.astype(">f4"), 0x0D)),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_same_numbers_are_the_same_data_from_any_file(name: str, tmp_path: Path) -> None:
    TABLES[name](tmp_path / name)
    train, test = data.load(tmp_path / name, seed=3, test_fraction=0.25)
    (left, _), (taken, _), _ = sources.split(Rows(REAL.copy()), 0.25, 3, "x")
    assert np.array_equal(train.x, left)
    assert np.array_equal(test.x, taken)
    assert train.x.dtype == test.x.dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [("u1", "u1"), ("f2", "f4"), ("f8", "f4"), ("i1", "f4"), ("u2", "f4"), ("?", "f4")],
)
def test_bytes_stay_and_all_else_becomes_float32(dtype: str, kept: str, tmp_path: Path) -> None:
    values = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    train, test = data.load(tmp_path / "a.npy")
    assert train.x.dtype == kept
    assert sorted(np.concatenate([train.x, test.x]).tolist()) == sorted(values.tolist())


def test_files_that_numpy_would_not_write_so_are_read_too(tmp_path: Path) -> None:
    """One column in the order of columns; a header after which nothing is aligned."""
    head = io.BytesIO()
    form = {"descr": "|u1", "fortran_order": True, "shape": (COUNT, 1)}
    np.lib.format.write_array_header_1_0(head, form)
    (tmp_path / "a.npy").write_bytes(head.getvalue() + bytes(range(COUNT)))
    train, test = data.load(tmp_path / "a.npy")
    assert sorted([*train.x[:, 0], *test.x[:, 0]]) == list(range(COUNT))
    values = np.arange(COUNT, dtype="<f4")
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({COUNT}, 1)}}\n".encode()
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    assert len(head) % 4
    (tmp_path / "a.npy").write_bytes(head + values.tobytes())
    train, test = data.load(tmp_path / "a.npy")
    assert sorted([*train.x[:, 0], *test.x[:, 0]]) == list(range(COUNT))
    assert as_tensor(train.x).shape == (54, 1)


# The split


@given(
    count=st.integers(2, 300),
    fraction=st.floats(0.001, 0.9),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_split_loses_and_repeats_no_row(count: int, fraction: float, seed: int) -> None:
    x = np.arange(2 * count).reshape(count, 2)
    train, test, notes = sources.split(Rows(x.copy(), np.arange(count)), fraction, seed, "x")
    assert notes == ()
    assert len(test.x) == min(max(1, round(fraction * count)), count - 1)
    assert sorted([*train.y, *test.y]) == list(range(count))
    assert np.array_equal(x[train.y], train.x)
    assert np.array_equal(x[test.y], test.x)
    again = sources.split(Rows(x.copy(), np.arange(count)), fraction, seed, "x")[1]
    assert np.array_equal(test.x, again.x)


def test_a_sorted_file_has_every_class_in_the_test_data(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(10), 400)
    np.savez(tmp_path / "sorted.npz", x=labels[:, None].astype(np.uint8), y=labels)
    train, test = data.load(tmp_path / "sorted.npz")
    assert np.bincount(train.y).tolist() == (400 - np.bincount(test.y)).tolist()
    assert np.bincount(test.y).min() >= 20  # 40 expected; five standard deviations
    other = data.load(tmp_path / "sorted.npz", seed=1)[1]
    assert not np.array_equal(test.y, other.y)


def test_the_file_of_a_memory_map_is_neither_copied_nor_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, X)
    before = path.read_bytes()
    train, test = data.load(path, test_fraction=0.5)
    base = train.x
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap)
    assert as_tensor(train.x).data_ptr() == train.x.ctypes.data, "torch reads the map itself"
    assert len(train) == len(test) == COUNT / 2
    assert path.read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="wants files with holes")
def test_a_file_larger_than_memory_is_opened_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (2**16, 2**24)  # a terabyte
    header = io.BytesIO()
    form = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, form)
    path = tmp_path / "large.npy"
    with path.open("wb") as file:
        file.write(header.getvalue())
        file.truncate(len(header.getvalue()) + 2**40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    train, test = data.load(path, test_fraction=1e-9)
    assert (len(train), len(test)) == (2**16 - 1, 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # 128 MiB
    monkeypatch.setattr(sources, "SPLIT_BYTES", 2**25 + 2**16)
    with pytest.warns(checks.VaelabWarning, match="the test data are 2 rows, not 7, to save"):
        train, test = data.load(path, test_fraction=1e-4)
    assert (len(train), len(test)) == (2**16 - 2, 2)


@pytest.mark.parametrize("count", [0, 1])
def test_at_least_two_data_are_needed(count: int, tmp_path: Path) -> None:
    need = "but at least 2 are needed: one to train on, one to test on."
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 2)))
    refused(tmp_path / "a.npz", f": holds 1 data, {need}")
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * count)
    refused(tmp_path / "a.csv", f": holds {count} data, {need}")
    np.save(tmp_path / "a.npy", np.zeros((0, 2)))
    refused(
        tmp_path / "a.npy",
        ": holds no data that can be read: its header claims the shape (0, 2) of float64; at least "
        "2 data are needed.",
    )


# Arrays

BAD_ARRAYS = {
    ": holds values of type complex128, but only real numbers can be read.": np.ones((3, 2), "c16"),
    ": holds values of type <U2, but only real numbers can be read.": np.array([["ab"]] * 3),
    ": row 2 (they count from 0) holds NaN or infinity; remove or fill such values.": np.array(
        [[0.0], [1], [np.nan], [np.inf]]
    ),
    ": row 1 (they count from 0) holds a number beyond the range of float32; scale it.": np.array(
        [[0.0], [-1e39]]
    ),
    ": row 1 (they count from 0) holds a whole number beyond ±16,777,216, which float32 would "
    "round; scale it.": np.array([[2**24], [-(2**24) - 1]]),
    ": row 3 (they count from 0) holds NaN or infinity; remove or fill such values.": np.frombuffer(
        b"\0" * 24 + b"\1\0\0\0\0\0\xf4\x7f"  # a NaN that processors signal
    )[:, None],
    ": has shape (4,), but vectors (N, D), grey images (N, H, W), or images (N, C, H, W) or "
    "(N, H, W, C) can be read.": np.zeros(4),
    ": holds no data that can be read: its header claims the shape (2, 1, 1, 1, 1) of uint8; at "
    "least 2 data are needed.": np.zeros((2, 1, 1, 1, 1), np.uint8),
    ": holds Python objects, which are never unpickled; save it as numbers.": np.array(
        [[None]] * 2
    ),
}


@pytest.mark.parametrize("wanted", BAD_ARRAYS)
def test_other_arrays_are_refused_in_one_line(wanted: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", BAD_ARRAYS[wanted], allow_pickle=True)
    refused(tmp_path / "a.npy", wanted)


def test_the_row_is_named_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SLICE_BYTES", 100)
    values = np.zeros((1000, 7))
    values[777, 3] = np.inf
    np.save(tmp_path / "a.npy", values)
    refused(
        tmp_path / "a.npy",
        ": row 777 (they count from 0) holds NaN or infinity; remove or fill such values.",
    )


def claim(shape: object, descr: str = "|u1") -> bytes:
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (118 - len(text) - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


LIES = {
    ": is no .npy file (EOF: reading magic string, expected 8 bytes got 0).": b"",
    ": its header claims 1,099,511,627,776 bytes of data, but the file holds 9.": (
        claim((2**20, 2**20)) + bytes(9)
    ),
    ": its header claims 6 bytes of data, but the file holds 7.": claim((2, 3)) + bytes(7),
    ": its header claims 6 bytes of data, but the file holds 5.": claim((2, 3)) + bytes(5),
    ": its header claims a shape that no array can have.": claim("(-2, -3)") + bytes(6),
}


@pytest.mark.parametrize("wanted", LIES)
def test_a_header_is_believed_only_where_the_file_agrees(wanted: str, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(LIES[wanted])
    tracemalloc.start()
    refused(tmp_path / "a.npy", wanted)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_what_would_not_fit_into_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MOST_BYTES", 4 * REAL.size - 1)
    monkeypatch.setattr(arrays, "MOST_BYTES", 4 * REAL.size - 1)
    np.save(tmp_path / "kept.npy", REAL)
    assert len(data.load(tmp_path / "kept.npy")[0]) == 54
    np.save(tmp_path / "a.npy", REAL.astype(np.float64))
    refused(
        tmp_path / "a.npy",
        ": takes 7,200 bytes in memory as float32; at most 7,199 are read; save it as a .npy file "
        "in uint8 or float32, (N, C, H, W) or (N, D) in C order, which stays on disk.",
    )
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((10**6, 20), np.uint8))
    tracemalloc.start()
    refused(
        tmp_path / "bomb.npz",
        ": takes 20,000,000 bytes unpacked; at most 7,199 are read into memory; save the data as a "
        ".npy file, which stays on disk.",
    )
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


SPLITS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("X_train", "Y_train", "X_test", "Y_test"),
)


@pytest.mark.parametrize("names", SPLITS)
def test_an_archive_tells_training_and_test_data_apart(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    parts = (X[:40], Y[:40], X[40:], Y[40:])
    np.savez(tmp_path / "a.npz", **dict(zip(names, parts, strict=True)))
    train, test = data.load(tmp_path / "a.npz")
    assert np.array_equal(train.x, X[:40])
    assert np.array_equal(test.x, X[40:])
    assert np.array_equal(np.concatenate([train.y, test.y]), Y)
    assert train.class_names == test.class_names == ("0", "1", "2")


def test_an_array_without_a_name_is_an_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"": X})
    assert len(data.load(tmp_path / "a.npz")[0]) == 54


def test_arrays_that_are_not_used_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=Y, extra=np.array([None]))
    told = r"a\.npz: not used are its arrays extra\."
    with pytest.warns(checks.VaelabWarning, match=told) as found:
        train, _ = data.load(tmp_path / "a.npz")
    assert found[0].filename == __file__
    assert set(train.y) == {0, 1, 2}


ARCHIVES = {
    ": holds the arrays a, b; call the data x, or x_train and x_test, and their labels y, or "
    "y_train and y_test.": {"a": X, "b": X},
    ": holds x and images, but one of them alone can be read; leave the other out.": {
        "x": X,
        "images": X,
    },
    ": has labels y_train, but none for its other data; add them, or leave these out.": {
        "x_train": X,
        "y_train": Y,
        "x_test": X,
    },
    ": has 59 labels for 60 data; there must be one for each datum.": {"x": X, "y": Y[1:]},
    ": its labels have shape (60, 2), but one for each datum is needed.": {
        "x": X,
        "y": np.zeros((60, 2)),
    },
    ": the label of row 1 (they count from 0) is 0.5, but labels must be whole numbers or text.": {
        "x": X,
        "y": Y * 0.5,
    },
    ": its labels are of type complex128, but they must be whole numbers or text.": {
        "x": X,
        "y": Y * 1j,
    },
    ": its training data have shape (1, 6, 5) in uint8, its test data (1, 6, 4) in uint8; they "
    "must be alike.": {"x_train": X, "x_test": X[..., 1:]},
    ": its training data have shape (1, 6, 5) in uint8, its test data (1, 6, 5) in float32; they "
    "must be alike.": {"x_train": X, "x_test": X / 1.0},
}


@pytest.mark.parametrize("wanted", ARCHIVES)
def test_other_archives_are_refused_in_one_line(wanted: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **ARCHIVES[wanted])
    refused(tmp_path / "a.npz", wanted)


def test_a_pickle_in_an_archive_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pickle.load", lambda *_, **__: pytest.fail("a pickle was opened"))
    np.savez(tmp_path / "a.npz", x=np.array([[None]] * 3), y=np.array([None] * 3))
    refused(
        tmp_path / "a.npz",
        ": x.npy: holds Python objects, which are never unpickled; save it as numbers.",
    )


def test_damaged_archives_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"no zip")
    refused(path, ": is a damaged .npz file (File is not a zip file).")
    np.savez(path, x=X)
    content = bytearray(path.read_bytes())
    content[content.index(X.tobytes()[:64])] ^= 1
    path.write_bytes(content)
    refused(path, ": x.npy: is no .npy file (Bad CRC-32 for file 'x.npy').")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", claim((2, 3)) + bytes(6))
    refused(path, ": is packed in a way that NumPy never does; write it with np.savez_compressed.")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([3, 1, 2] * 20), ("1", "2", "3")),
        (np.array([10, 9, -1] * 20), ("-1", "9", "10")),
        (np.array([1.0, 0.0, 5.0] * 20)[:, None], ("0", "1", "5")),
        (np.array(["b", "a", "a"] * 20), ("a", "b")),
        (np.array([b"b", b"a", b"a"] * 20), ("a", "b")),
        (np.array([True, False, True] * 20), ("False", "True")),
        (np.array(["10", "9", "9"] * 20), ("9", "10")),
    ],
)
def test_a_class_is_called_as_its_label(
    labels: np.ndarray, names: tuple[str, ...], tmp_path: Path
) -> None:
    marked = np.arange(COUNT, dtype=np.uint8)[:, None]
    np.savez(tmp_path / "a.npz", x=marked, y=labels)
    texts = [x.decode() if isinstance(x, bytes) else str(x) for x in labels.ravel().tolist()]
    for part in data.load(tmp_path / "a.npz"):
        assert part.class_names == names
        assert part.y.dtype == np.int64
        for x, y in zip(part.x[:, 0], part.y, strict=True):
            assert names[y] == texts[x].removesuffix(".0")


# IDX


@pytest.mark.parametrize("ends", [("", ""), (".gz", ""), (".gz", ".gz")])
@pytest.mark.parametrize("pattern", ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte"])
def test_idx_files_bring_their_labels(pattern: str, ends: tuple[str, str], tmp_path: Path) -> None:
    for part, chosen in (("train", slice(0, 40)), ("t10k", slice(40, 60))):
        for kind, array, dims, end in (("images", X[:, 0], 3, ends[0]), ("labels", Y, 1, ends[1])):
            content = idx_bytes(array[chosen].astype(np.uint8))
            path = tmp_path / f"{pattern.format(part, kind, dims)}{end}"
            path.write_bytes(gzip.compress(content) if end else content)
    train, test = data.load(tmp_path)
    assert np.array_equal(train.x, X[:40])
    assert np.array_equal(test.x, X[40:])
    assert np.array_equal(np.concatenate([train.y, test.y]), Y)
    train, test = data.load(tmp_path / f"{pattern.format('t10k', 'images', 3)}{ends[0]}")
    assert len(train) + len(test) == 20
    for x, y in zip(train.x, train.y, strict=True):
        assert y in Y[(x == X).all((1, 2, 3))]
    for path in tmp_path.glob("t10k-labels*"):
        path.unlink()
    refused(
        tmp_path,
        ": has labels for one of train and t10k alone; add the others, or remove these.",
    )
    for path in [*tmp_path.glob("t10k*"), *tmp_path.glob("*labels*")]:
        path.unlink()
    train, test = data.load(tmp_path)
    assert (len(train), len(test), train.y, train.class_names) == (36, 4, None, ())


def test_damaged_idx_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a-idx3-ubyte"
    whole = idx_bytes(X[:, 0])
    for content, wanted in (
        (b"", ": is empty."),
        (whole[:-1], ": its header claims 1,800 bytes of data, but the file holds only 1,799."),
        (whole + b"x", ": its header claims 1,800 bytes of data, but the file holds more."),
        (b"PNG.", ": begins with 50 4e 47 2e, so it is not an IDX file."),
        (
            bytes([0, 0, 8, 2]) + b"\xff" * 8,
            ": its header claims 18,446,744,065,119,617,025 bytes of data; at most 1,073,741,824 "
            "are read.",
        ),
    ):
        path.write_bytes(content)
        refused(path, wanted)


# Tables


def frame(path: Path, text: str, **options: object) -> tuple[np.ndarray, Dataset]:
    """All rows of a table in their order, and the training data."""
    path.write_text(text, encoding="utf-8")
    train, test = data.load(path, **options)
    x = np.concatenate([train.x, test.x])
    return x[np.argsort(x[:, 0])], train


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\n1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("a,1x1\n1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("a,7\n1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("0,1\n1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("1,0\n1,2\n3,4\n", [[1, 0], [1, 2], [3, 4]]),
        (",a,b\n0,1,2\n1,3,4\n", [[1, 2], [3, 4]]),
        ("\ufeffa,b\n1,2\n3,4\n", [[1, 2], [3, 4]]),
        ('"a,b","c"\r\n1,2\r\n\r\n3,4\r\n', [[1, 2], [3, 4]]),
        ("a,b\n1e2,True\n3,False\n", [[3, 0], [100, 1]]),
    ],
)
def test_the_header_of_a_csv_file_is_known(text: str, rows: list, tmp_path: Path) -> None:
    assert frame(tmp_path / "a.csv", text)[0].tolist() == rows


def test_long_tables_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelab.data.tables.PIECE", 7)
    wanted = np.arange(200.0).reshape(100, 2)
    names = np.array(["x", "7", "y"])[np.arange(100) % 3]
    table = pd.DataFrame(wanted, columns=["a", "b"]).assign(kind=names)
    for path in (tmp_path / "a.csv", tmp_path / "a.parquet"):
        (table.to_csv if path.suffix == ".csv" else table.to_parquet)(path, index=False)
        train, test = data.load(path, labels="kind")
        assert train.class_names == ("7", "x", "y")
        for part in (train, test):
            at = (part.x[:, 0] / 2).astype(int)
            assert np.array_equal(part.x, wanted[at])
            assert np.array_equal(np.array(part.class_names)[part.y], names[at])
        assert len(train) + len(test) == 100
    for column, value, wanted in (
        ("b", None, ": has no finite number of float32 in line 63, column 'b'; change or remove "),
        ("b", "Bob", ": column 'b' holds 'Bob' in line 63, but only numbers can be read; "),
        ("kind", None, ": has no label in line 63, column 'kind'; fill it, or remove the row."),
    ):
        wrong = table.astype(object)
        wrong.loc[61, column] = value
        wrong.to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(checks.DataError) as error:
            data.load(tmp_path / "a.csv", labels="kind")
        assert message(error).startswith(f"{tmp_path / 'a.csv'}{wanted}")
    # not the first line of a piece: pandas before 3.1 does not look at the fields of that one
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 10 + "1,2,3\n")
    with pytest.raises(checks.DataError, match="Expected 2 fields in line 12, saw 3"):
        data.load(tmp_path / "a.csv")


def test_labels_of_a_table_are_text_or_whole_numbers(tmp_path: Path) -> None:
    text = "5.1,3,setosa\n5.2,3,virginica\n5.3,2,setosa\n"
    x, train = frame(tmp_path / "iris.csv", text, labels="2")
    assert train.class_names == ("setosa", "virginica")
    assert x.shape == (3, 2)
    for dtype in (np.uint8, np.int64, np.float64, "category", bool):
        table = pd.DataFrame({"a": range(6), "b": np.array([0, 1] * 3)}).astype({"b": dtype})
        table.to_parquet(tmp_path / "a.parquet")
        train, _ = data.load(tmp_path / "a.parquet", labels="b")
        assert train.class_names == (("False", "True") if dtype is bool else ("0", "1"))
        assert np.array_equal(train.y, train.x[:, 0] % 2)


def test_bytes_of_a_parquet_file_stay(tmp_path: Path) -> None:
    table = pd.DataFrame(X.reshape(COUNT, -1)).add_prefix("p").assign(kind=Y)
    table.to_parquet(tmp_path / "a.parquet")
    assert data.load(tmp_path / "a.parquet", labels="kind")[0].x.dtype == np.uint8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert data.load(tmp_path / "a.parquet")[0].x.dtype == np.float32


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_grey_levels_of_a_table_are_brought_to_0_to_1(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelab.data.tables.PIECE", 90)
    path = tmp_path / f"a.{form}"
    table = pd.DataFrame(X.reshape(COUNT, -1)).add_prefix("p").assign(kind=Y)
    table.to_csv(path, index=False) if form == "csv" else table.to_parquet(path)
    as_images = data.load(_saved(tmp_path / "a.npy", X.reshape(COUNT, -1)))
    for part, images in zip(data.load(path, labels="kind", scale=255), as_images, strict=True):
        assert part.x.dtype == np.float32
        assert np.array_equal(part.x, images.x / np.float32(255)), "as uint8 is computed with"
        assert part.x.min() >= 0
        assert part.y is not None
    assert data.load(path, labels="kind", scale=255)[0].loaded["scale"] == 255
    row, column = np.argwhere(X.reshape(COUNT, -1) > 200)[0]
    found = X.reshape(COUNT, -1)[row, column]
    place = f"line {row + 2}" if form == "csv" else f"row {row} (rows count from 0)"
    refused(
        path,
        f": column 'p{column}' holds {found} in {place}, but with scale=200 "
        "values must lie in [0, 200]; set another scale, or none.",
        scale=200,
        labels="kind",
    )


def _saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


BAD_TABLES = {
    "a,b\n1,2\n,nan\n-inf,1e39\n": ": has no finite number of float32 in line 3, column 'a'; line "
    "3, column 'b'; line 4, column 'a' and more; change or remove them.",
    "a,b\n1,2\n3,Bob\n": ": column 'b' holds 'Bob' in line 3, but only numbers can be read; leave "
    "it out, or name it: labels='b' (--read labels=b).",
    '1,2\n\n \n"3\n",4\n5,Bob\n': ": column '1' holds 'Bob' in line 6, but only numbers can be "
    "read; leave it out, or name it: labels='1' (--read labels=1).",
    "a,b\n1,2\n3,16777217\n": ": has a whole number beyond ±16,777,216, which float32 rounds, in "
    "line 3, column 'b'; change or remove them.",
    "a,b\n1,2,3\n4,5,6\n": ": is no table that can be read (Error tokenizing data. C error: "
    "Expected 2 fields in line 2, saw 3).",
    "": ": is no table that can be read (No columns to parse from file).",
    "a;b\n1;2\n3;4\n": ": column 'a;b' holds '1;2' in line 2, but only numbers can be read; leave "
    "it out, or name it: labels='a;b' (--read 'labels=a;b').",
}


@pytest.mark.parametrize("text", BAD_TABLES)
def test_other_tables_are_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    refused(tmp_path / "a.csv", BAD_TABLES[text])


def test_columns_of_labels_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,Label\n1,x\n2,\n")
    refused(
        path,
        ": has no label in line 3, column 'Label'; fill it, or remove the row.",
        labels="Label",
    )
    with pytest.raises(checks.ArgumentError) as error:
        data.load(path, labels="label")
    assert message(error) == (
        "labels = 'label' is not known; did you mean 'Label'? Known: Label, a."
    )
    path.write_text("a,Label\n1,0\n2,1\n")
    told = "a.csv: column 'Label' is read as data; labels='Label' makes it classes"
    with pytest.warns(checks.VaelabWarning, match=told):
        assert data.load(path)[0].shape == (2,)
    path.write_text("a\n1\n2\n")
    refused(path, ": has no column of data; at least 1 is needed.", labels="a")
    pd.DataFrame({"a": [1.0, 2.0], "b": [0.5, 1.0]}).to_parquet(tmp_path / "a.parquet")
    refused(
        tmp_path / "a.parquet",
        ": column 'b' holds 0.5, but labels must be whole numbers or text.",
        labels="b",
    )


def test_other_parquet_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(checks.DataError, match="is no table that can be read") as error:
        data.load(path)
    message(error)
    pd.DataFrame({"a": [[1, 2], [3]]}).to_parquet(path)
    with pytest.raises(checks.DataError, match=r"column 'a' holds .* in row 0"):
        data.load(path)
    pd.DataFrame({"a": [1.0, None]}).to_parquet(path)
    with pytest.raises(checks.DataError, match="no finite number of float32 in row 1, column 'a'"):
        data.load(path)
    monkeypatch.setattr("vaelab.data.tables.MOST_BYTES", 7)
    with pytest.raises(checks.DataError, match="at most 1 are read into memory"):
        data.load(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(checks.ArgumentError) as caught:
        data.load(path)
    assert message(caught) == (
        f"{path} needs the package pyarrow, which is not installed; install it with: "
        "pip install 'vaelab[parquet]', or save the table as CSV."
    )


# Names and paths


def test_a_known_name_is_never_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", X)
    save_folder(tmp_path / "shapes")
    assert len(data.load("shapes")[0]) == 5120
    assert len(data.load("./shapes")[0]) == 54
    assert data.load("./shapes")[0].source.endswith("/shapes")
    assert data.load("a.npy")[0].name == "a"
    save_folder(tmp_path / "faces")
    assert len(data.load("faces")[0]) == 54
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(data.load("~/faces")[0]) == 54
    with pytest.raises(checks.DataError, match=r"^~nobody-here/faces: cannot be read \(Could not"):
        data.load("~nobody-here/faces")


def test_what_is_neither_a_name_nor_a_path_is_told(tmp_path: Path) -> None:
    for name in ("fashion", 3):
        with pytest.raises(checks.ArgumentError) as error:
            data.load(name)
        assert message(error).endswith(
            "Known: mnist, fashion-mnist, shapes, binarized-mnist. Or give the path of a file or "
            "folder, such as ./faces or digits.npy."
        )
    refused(tmp_path / "none", ": there is no such file or folder.")
    with pytest.raises(checks.DataError, match=r"^none\.npy: there is no such file or folder\.$"):
        data.load("none.npy")
    (tmp_path / "a.txt").write_text("1")
    refused(
        tmp_path / "a.txt",
        ": is not known by its suffix; a folder of images, or a file that ends in .npy, .npz, "
        ".idx, .csv, .parquet or -ubyte can be read.",
    )
    odd = tmp_path / "a\nb.npy"
    with pytest.raises(checks.DataError) as error:
        data.load(odd)
    assert message(error) == f"{tmp_path}/a?b.npy: there is no such file or folder."


def test_options_are_checked_and_never_without_effect(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, X)
    fraction = "but it must be a finite number above 0 and at most 0.9."
    for options, wanted in (
        ({"test_fraction": 0}, f"test_fraction = 0, {fraction}"),
        ({"test_fraction": 1.0}, f"test_fraction = 1.0, {fraction}"),
        ({"seed": -1}, "seed = -1, but it must be a whole number from 0 to 4294967295."),
        ({"fit": "cut"}, "fit = 'cut' is not known. Known: crop, pad, stretch."),
        ({"size": 0}, "size = 0, but it must be a whole number from 1 to 4096."),
        ({"size": (1, 2, 3)}, "size = (1, 2, 3), but it must be a number, or height and width."),
        ({"size": 8}, f"size = 8, but {path} is no folder of images; leave it out."),
        (
            {"labels": "a"},
            f"labels = 'a', but {path} is no table with named columns; leave it out.",
        ),
        ({"column": "a"}, f"column = 'a', but {path} is no Hugging Face data set; leave it out."),
        ({"scale": 255}, f"scale = 255, but {path} is no table with named columns; leave it out."),
        ({"scale": 0}, "scale = 0, but it must be a finite number above 0."),
        ({"labels": 3}, "labels = 3, but it must be a column's name."),
        (
            {"unreadable": 2},
            "unreadable = 2, but it must be a finite number of at least 0 and at most 1.",
        ),
    ):
        with pytest.raises(checks.ArgumentError) as error:
            data.load(path, **options)
        assert message(error) == wanted
    for options in ({"size": 8}, {"labels": "a"}, {"column": "a"}, {"scale": 255}):
        with pytest.raises(checks.ArgumentError, match="but shapes is as it is; leave it out"):
            data.load("shapes", **options)


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, X)
    path.chmod(0)
    try:
        path.open("rb").close()
    except PermissionError:
        refused(path, ": cannot be read (Permission denied).")
    else:
        pytest.skip("this user may read everything")
