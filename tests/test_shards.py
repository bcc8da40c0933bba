"""Shards: read alike wherever they lie, named when they fail; trained on, streamed, resumed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vaelab import checks, data
from vaelab.data.remote import persistent
from vaelab.data.shards import ShardError

MEMORY = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pauses are short, and the memory file system is empty before and after."""
    monkeypatch.setattr("vaelab.data.remote.PAUSES", (0.0, 0.0))
    MEMORY.rm("/", recursive=True) if MEMORY.ls("/") else None
    yield
    MEMORY.store.clear()
    MEMORY.pseudo_dirs[:] = [""]


def put(place: str, content: bytes) -> None:
    """Writes a file at a path or an address."""
    with fsspec.open(place, "wb", auto_mkdir=True) as file:
        file.write(content)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def picture(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def parquet(frame: pd.DataFrame) -> bytes:
    return bytes(frame.to_parquet(index=False))


def grey(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 5), dtype=np.uint8)


def table(count: int, seed: int = 0, labels: str = "ab") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(count, 3)).astype(np.float32), columns=list("xyz"))
    return frame.assign(kind=[labels[k % len(labels)] for k in range(count)])


@pytest.fixture(params=["memory", "folder", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where shards lie: an address, a path, or the address of a path."""
    folder = tmp_path / "many"
    return {"memory": "memory://many", "folder": str(folder), "file": folder.as_uri()}[
        request.param
    ]


def test_arrays_are_read_alike_wherever_they_lie(place: str) -> None:
    parts = {"b/1.npy": grey(4, 1), "a.npy": grey(3, 0), "b/0.npy": grey(5, 2)}
    for name, array in parts.items():
        put(f"{place}/{name}", npy(array))
    for name in ("README.md", ".hidden.npy", "_temporary/9.npy"):
        put(f"{place}/{name}", b"no shard")
    made = data.shards(place)
    assert made.names == ("a.npy", "b/0.npy", "b/1.npy")
    assert made.counts == (3, 5, 4)
    assert (len(made), made.shape, made.dtype) == (12, (1, 6, 5), np.uint8)
    for k, name in enumerate(made.names):
        assert np.array_equal(made.read(k)[:, 0], parts[name])
        assert made.rows(k).y is None
    assert made.name == "many"
    assert data.shards(**made.loaded).fingerprint == made.fingerprint


@pytest.mark.parametrize("dtype", ["float64", "int16", "bool", ">f4"])
def test_other_types_become_float32_in_any_order(dtype: str) -> None:
    array = np.asfortranarray(np.arange(12).reshape(4, 3).astype(dtype))
    put("memory://many/0.npy", npy(array))
    made = data.shards("memory://many")
    assert made.dtype == made.read(0).dtype == np.float32
    assert np.array_equal(made.read(0), array.astype(np.float32))


def test_a_pattern_or_a_single_file_is_enough(place: str) -> None:
    for name in ("x/0.npy", "x/1.npy", "y/0.npy"):
        put(f"{place}/{name}", npy(grey(2)))
    assert data.shards(f"{place}/x/*.npy").names == ("0.npy", "1.npy")
    assert data.shards(f"{place}/*/0.npy").names == ("x/0.npy", "y/0.npy")
    assert data.shards(f"{place}/[x]").names == ("x/0.npy", "x/1.npy")
    assert data.shards(f"{place}/y/0.npy").names == ("0.npy",)


def test_labels_are_numbered_over_all_tables(place: str) -> None:
    first, second = table(4, 0, "ca"), table(3, 1, "b")
    put(f"{place}/0.parquet", parquet(first))
    put(f"{place}/1.parquet", parquet(second))
    made = data.shards(place, labels="kind")
    assert (made.counts, made.shape, made.dtype) == ((4, 3), (3,), np.float32)
    assert made.class_names == ("a", "b", "c")
    for k, frame in enumerate((first, second)):
        rows = made.rows(k)
        assert np.array_equal(rows.x, frame[["x", "y", "z"]].to_numpy())
        assert rows.y is not None
        assert [made.class_names[one] for one in rows.y] == frame["kind"].tolist()


def test_a_table_of_bytes_stays_so_unless_it_is_scaled() -> None:
    frame = pd.DataFrame(grey(4)[:, 0], columns=list("abcde"))
    put("memory://many/0.parquet", parquet(frame))
    plain, scaled = data.shards("memory://many"), data.shards("memory://many", scale=255)
    assert (plain.dtype, scaled.dtype) == (np.uint8, np.float32)
    assert np.array_equal(plain.read(0), frame.to_numpy())
    assert scaled.read(0).dtype == np.float32
    assert np.allclose(scaled.read(0), plain.read(0) / 255)
    assert plain.fingerprint != scaled.fingerprint


def test_a_folder_of_pictures_is_a_shard(place: str) -> None:
    shards = {"a": grey(3, 0), "b": grey(2, 1)}
    for name, pixels in shards.items():
        for k, one in enumerate(pixels):
            put(f"{place}/{name}/{k}.png", picture(one))
    put(f"{place}/a/notes.txt", b"no picture")
    made = data.shards(place)
    assert (made.names, made.counts, made.shape) == (("a", "b"), (3, 2), (1, 6, 5))
    assert all(np.array_equal(made.read(k)[:, 0], shards[n]) for k, n in enumerate("ab"))
    put(f"{place}/b/0.png", picture(np.stack([grey(2, 1)[0]] * 3, -1)))
    coloured = data.shards(place, size=4)
    assert coloured.shape == (3, 4, 4)
    assert coloured.read(0).shape == (3, 3, 4, 4)


class Broken:
    """A file system that fails as often as it is told to; then it is as it was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int, error: Exception) -> None:
        self.left, self.error, self.asked = times, error, 0
        usual = MEMORY._open

        def opening(*given: Any, **options: Any) -> Any:
            self.asked += 1
            if self.left:
                self.left -= 1
                raise self.error
            return usual(*given, **options)

        monkeypatch.setattr(MEMORY, "_open", opening)


class ClientError(Exception):
    """As the clients of object storage have them: no OSError."""


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), ClientError("slow down")])
def test_a_read_is_tried_three_times_and_no_more(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    put("memory://many/0.npy", npy(grey(3)))
    made = data.shards("memory://many")
    broken = Broken(monkeypatch, 2, error)
    assert np.array_equal(made.read(0)[:, 0], grey(3))
    assert broken.asked == 3
    broken.left = 3
    with pytest.raises(ShardError) as caught:
        made.read(0)
    assert str(caught.value) == (
        f"memory://many: shard 0.npy: cannot be read, after 3 tries ({type(error).__name__}: "
        f"{error}); mend it, or the way to it."
    )
    assert broken.asked == 6
    assert np.array_equal(made.read(0)[:, 0], grey(3))


def test_pauses_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    paused: list[float] = []
    monkeypatch.setattr("vaelab.data.remote.time.sleep", paused.append)
    with pytest.raises(checks.DataError):
        persistent(MEMORY, lambda: 1 // 0, "here")
    assert len(paused) == 2
    assert 0 < paused[0] < paused[1] <= 10


def test_the_fingerprint_tells_data_apart_but_not_their_dates(tmp_path: Path) -> None:
    for k in range(3):
        np.save(tmp_path / f"{k}.npy", grey(4, k))
    before = data.shards(tmp_path).fingerprint
    content = (tmp_path / "1.npy").read_bytes()
    (tmp_path / "1.npy").unlink()
    missing = data.shards(tmp_path).fingerprint
    np.save(tmp_path / "1.npy", grey(4, 9))
    other = data.shards(tmp_path).fingerprint
    (tmp_path / "1.npy").write_bytes(content)
    assert data.shards(tmp_path).fingerprint == before
    (tmp_path / "1.npy").rename(tmp_path / "5.npy")
    renamed = data.shards(tmp_path).fingerprint
    (tmp_path / "more").mkdir()
    (tmp_path / "5.npy").rename(tmp_path / "more" / "5.npy")
    assert len({before, missing, other, renamed, data.shards(tmp_path).fingerprint}) == 5


def test_a_shard_that_has_changed_is_named() -> None:
    put("memory://many/0.npy", npy(grey(3)))
    made = data.shards("memory://many")
    put("memory://many/0.npy", npy(grey(4)))
    with pytest.raises(ShardError) as caught:
        made.read(0)
    assert str(caught.value) == (
        "memory://many: shard 0.npy: holds 4 data of shape (1, 6, 5) in uint8, but held 3 of "
        "(1, 6, 5) in uint8 when it was first looked at; put the old one back."
    )
    put("memory://many/0.npy", npy(grey(3))[:-1])
    with pytest.raises(ShardError) as caught:
        made.read(0)
    assert str(caught.value) == (
        "memory://many: shard 0.npy: its header claims 90 bytes of data, but the file holds 89."
    )


def many(files: dict[str, bytes], **options: Any) -> data.Shards:
    for name, content in files.items():
        put(f"memory://many/{name}", content)
    return data.shards("memory://many", **options)


WRONG: list[tuple[dict[str, bytes], dict[str, Any], str]] = [
    (
        {"a.txt": b""},
        {},
        "memory://many: holds no shards; .npy or .parquet files, or folders of pictures are "
        "needed.",
    ),
    (
        {"a.npy": npy(grey(2)), "b.parquet": parquet(table(2))},
        {},
        "memory://many: holds a.npy, b.parquet, but all shards must be of one kind: .npy or "
        ".parquet files, or folders of pictures; give a pattern, such as '*.npy'.",
    ),
    (
        {"a.npy": npy(grey(2)), "b.npy": npy(grey(2)[:, :5])},
        {},
        "memory://many: shard b.npy: holds data of shape (1, 5, 5) in uint8, but a.npy of "
        "(1, 6, 5) in uint8; all must be alike.",
    ),
    (
        {"a.npy": npy(grey(2)), "b.npy": npy(grey(2).astype(np.float32))},
        {},
        "memory://many: shard b.npy: holds data of shape (1, 6, 5) in float32, but a.npy of "
        "(1, 6, 5) in uint8; all must be alike.",
    ),
    (
        {"a.parquet": parquet(table(2)), "b.parquet": parquet(table(2)[["x", "kind", "z"]])},
        {},
        "memory://many: shard b.parquet has other columns than a.parquet (y); all must be alike.",
    ),
    (
        {"a.npy": npy(grey(2))},
        {"labels": "kind"},
        "labels = 'kind', but the shards of memory://many are no tables with named columns; leave "
        "it out.",
    ),
    (
        {"a.npy": npy(grey(2))},
        {"size": 4},
        "size = (4, 4), but the shards of memory://many are no folders of pictures; leave it out.",
    ),
    (
        {"a.npy": b"nothing"},
        {},
        "memory://many: shard a.npy: is no .npy file (EOF: reading magic string, expected 8 bytes "
        "got 7).",
    ),
]


@pytest.mark.parametrize(("files", "options", "message"), WRONG)
def test_what_are_no_shards_is_told_in_one_line(
    files: dict[str, bytes], options: dict[str, Any], message: str
) -> None:
    with pytest.raises((checks.DataError, checks.ArgumentError)) as caught:
        many(files, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("nowhere://x", "location = 'nowhere://x' cannot be opened (Protocol not known: nowhere)"),
        ("s3://bucket/x", "location = 's3://bucket/x' needs a package that is not installed (Inst"),
    ],
)
def test_an_address_that_cannot_be_opened_is_told(location: str, message: str) -> None:
    if location.startswith("s3"):
        try:
            fsspec.get_filesystem_class("s3")
        except ImportError:
            pass
        else:
            pytest.skip("s3fs is installed")
    with pytest.raises(checks.ArgumentError) as caught:
        data.shards(location)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: b"no picture", "b.png cannot be read (is no image of a kind that is read); mend"),
        (lambda: picture(grey(1)[0, :4]), "b.png has 4 × 5 pixels, but the first picture has 6 ×"),
        (lambda: picture(np.stack([grey(1)[0]] * 3, -1)), "b.png is in colour, but the first pic"),
    ],
)
def test_a_picture_unlike_the_others_is_named(spoil: Callable[[], bytes], message: str) -> None:
    made = many({"s/a.png": picture(grey(1)[0]), "s/b.png": spoil()})
    with pytest.raises(ShardError) as caught:
        made.read(0)
    assert str(caught.value).startswith(f"memory://many: shard s: {message}")
