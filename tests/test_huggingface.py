"""Hugging Face data sets: read as folders and arrays are, from memory and from disk."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refusals import message
from vaelab import VAE, checks, data
from vaelab.data import conversion, huggingface

datasets = pytest.importorskip("datasets")
from datasets import (  # noqa: E402
    Array2D,
    Array3D,
    ClassLabel,
    DatasetDict,
    Features,
    Value,
)

COUNT = 40
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (COUNT, 6, 5), dtype=np.uint8)
CLASSES = np.arange(COUNT) % 3
NAMES = ("ant", "bee", "cat")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("VAELAB_CACHE", str(tmp_path / "cache"))
    with warnings.catch_warnings():
        yield tmp_path / "cache" / "folders"


def of_images(rows: slice = slice(None), **more: Any) -> Any:
    """Images of one column and classes of another, as most data sets of images are."""
    return datasets.Dataset.from_dict(
        {
            "image": [Image.fromarray(image) for image in IMAGES[rows]],
            "label": CLASSES[rows].tolist(),
            **more,
        },
        features=Features(
            image=datasets.Image(),
            label=ClassLabel(names=list(NAMES)),
            **{name: Value("string") for name in more},
        ),
    )


def rows_of(part: data.loading.Dataset) -> list[int]:
    """Which of the images the data are."""
    return [int(np.flatnonzero((image[0] == IMAGES).all((1, 2)))[0]) for image in part.x]


def refused(given: Any, wanted: str, kind: type = checks.DataError, **options: object) -> None:
    with pytest.raises(kind) as error:
        data.load(given, **options)
    assert message(error) == wanted


def test_a_column_of_images_and_one_of_classes_are_found() -> None:
    train, test = data.load(of_images())
    assert (len(train), len(test), train.shape) == (36, 4, (1, 6, 5))
    assert sorted(rows_of(train) + rows_of(test)) == list(range(COUNT))
    for part in (train, test):
        assert part.y is not None
        assert part.y.tolist() == CLASSES[rows_of(part)].tolist()
        assert part.class_names == NAMES
        assert part.x.dtype == np.uint8
        assert part.loaded == {}, "what was in memory cannot be found again"


def test_what_was_saved_opens_by_its_path_and_is_the_same(tmp_path: Path) -> None:
    of_images().save_to_disk(str(tmp_path / "pets"))
    again = data.load(tmp_path / "pets")
    for saved, given in zip(again, data.load(of_images()), strict=True):
        assert saved.fingerprint == given.fingerprint
        assert saved.name == "pets"
        assert saved.class_names == given.class_names
    assert again[0].loaded == {"name": str(tmp_path / "pets")}
    assert data.load(**again[0].loaded)[1].fingerprint == again[1].fingerprint


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("name", ["test", "validation"])
def test_splits_tell_training_and_test_data_apart(name: str, saved: bool, tmp_path: Path) -> None:
    parts = {"train": slice(0, 30), name: slice(30, 40), "unsupervised": slice(0, 5)}
    given: Any = DatasetDict({name: of_images(rows) for name, rows in parts.items()})
    if saved:
        given.save_to_disk(str(tmp_path / "pets"))
        given = tmp_path / "pets"
    with pytest.warns(checks.VaelabWarning, match="not used are its splits unsupervised"):
        train, test = data.load(given)
    assert rows_of(train) == list(range(30))
    assert rows_of(test) == list(range(30, 40))
    assert test.y is not None
    assert test.y.tolist() == CLASSES[30:].tolist()


def test_the_rows_that_a_data_set_selects_are_read() -> None:
    chosen = of_images().select(range(10, 30)).shuffle(seed=0)
    train, test = data.load(chosen)
    assert sorted(rows_of(train) + rows_of(test)) == list(range(10, 30))
    for part in (train, test):
        assert part.y is not None
        assert part.y.tolist() == CLASSES[rows_of(part)].tolist()


def test_images_are_converted_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = of_images()
    first = data.load(given)
    with monkeypatch.context() as patch:
        patch.setattr(huggingface, "convert", lambda *_, **__: pytest.fail("converted again"))
        assert data.load(given)[0].fingerprint == first[0].fingerprint
    data.load(given, size=3)
    for rows in (range(20), range(20, 40)):
        parts = data.load(given.select(rows))
        assert sorted(rows_of(parts[0]) + rows_of(parts[1])) == list(rows)
    assert len(list(cache.glob("[!.]*"))) == 4
    assert {one.source for one in data.converted()} == {"dataset"}
    assert not first[0].x.flags.owndata, "it is mapped"


def test_pieces_and_processes_make_no_difference(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = data.load(of_images())
    data.clean()
    monkeypatch.setattr(conversion, "FILES", 20)
    monkeypatch.setattr(conversion, "PIECE_FILES", 7)
    monkeypatch.setattr("loky.cpu_count", lambda: 2)
    events: list[tuple[str, int, int]] = []
    together = data.load(of_images(), progress=lambda *event: events.append(event))
    assert [part.fingerprint for part in alone] == [part.fingerprint for part in together]
    assert events[-1][0] == "images"
    assert 0 < events[-1][1] == events[-1][2]


def test_few_encoded_images_are_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[slice] = []
    whole = huggingface._Encoded.__getitem__

    def counted(self: Any, rows: slice) -> list[str | bytes]:
        asked.append(rows)
        return whole(self, rows)

    monkeypatch.setattr(huggingface._Encoded, "__getitem__", counted)
    given = of_images()
    size = len(given.with_format("arrow")[:1]["image"][0].as_py()["bytes"])
    monkeypatch.setattr(huggingface, "PIECE_BYTES", 5 * size)
    assert len(data.load(given)[0]) == 36
    assert len(asked) > 2 * COUNT / 6
    assert max(rows.stop - rows.start for rows in asked[1:]) < 6


def test_unreadable_images_are_told_and_their_classes_left_out() -> None:
    given = of_images()
    files = given.with_format("arrow")[:]["image"].to_pylist()
    files[5] = {"bytes": b"no image", "path": None}
    files[7] = {"bytes": None, "path": "/nowhere.png"}
    damaged = datasets.Dataset.from_dict(
        {"image": files, "label": CLASSES.tolist()}, features=given.features
    )
    parts = DatasetDict(train=damaged.select(range(30)), test=damaged.select(range(30, 40)))
    line = (
        "dataset: 2 of 40 images cannot be read (row 5: is no image of a kind that is read; row 7: "
        "No such file or directory)"
    )
    with pytest.warns(checks.VaelabWarning) as told:
        train, test = data.load(parts, unreadable=0.1)
    assert [str(one.message) for one in told] == [f"{line}; they are passed over."]
    assert train.y is not None
    assert rows_of(train) == [k for k in range(30) if k not in (5, 7)]
    assert train.y.tolist() == CLASSES[rows_of(train)].tolist()
    assert rows_of(test) == list(range(30, 40))
    refused(
        parts,
        f"{line}, but at most a share of 0.01 may be passed over; mend or remove them, or set "
        "unreadable to a larger share.",
    )
    refused(
        damaged.select([5]),
        "dataset: none of its 1 images can be read; row 0: is no image of a kind that is read.",
    )


ARRAYS = {
    "Array2D": (Array2D((6, 5), "uint8"), IMAGES, (1, 6, 5), "uint8"),
    "Array3D": (Array3D((6, 5, 3), "float32"), RNG.random((COUNT, 6, 5, 3)), (3, 6, 5), "float32"),
    "lists": (datasets.Sequence(Value("float64")), RNG.random((COUNT, 7)), (7,), "float32"),
    "bytes": (datasets.Sequence(Value("uint8"), length=30), IMAGES.reshape(COUNT, -1), (30,), "u1"),
    "bits": (datasets.Sequence(Value("bool")), IMAGES[:, 0] > 99, (5,), "float32"),
}


def of_arrays(name: str) -> tuple[Any, np.ndarray]:
    feature, values, shape, dtype = ARRAYS[name]
    given = datasets.Dataset.from_dict(
        {"x": list(values), "label": CLASSES.tolist()},
        features=Features(x=feature, label=ClassLabel(names=list(NAMES))),
    )
    wanted = np.moveaxis(values, 3, 1) if values.ndim == 4 else values
    return given, wanted.astype(dtype).reshape(COUNT, *shape)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_and_lists_of_numbers_are_data(
    name: str, mapped: bool, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory, or from the cache where they would take too much of it."""
    given, wanted = of_arrays(name)
    if mapped:
        monkeypatch.setattr(huggingface, "MOST_BYTES", wanted.nbytes // 2)
        monkeypatch.setattr(huggingface, "PIECE", 64)
    train, test = data.load(DatasetDict(train=given.select(range(30)), test=given.select([38])))
    assert np.array_equal(train.x, wanted[:30])
    assert np.array_equal(test.x, wanted[38:39])
    assert train.x.dtype == wanted.dtype
    assert cache.exists() == mapped
    train, test = data.load(given)
    assert train.y is not None
    assert len(train) + len(test) == COUNT


def test_columns_of_numbers_are_the_features_of_a_table(tmp_path: Path) -> None:
    table = {"a": [1.5, 2, 3, 4], "b": [1, 2, 3, 4], "kind": ["x", "y", "x", "y"]}
    given = datasets.Dataset.from_dict(table)
    told = "not used are its columns kind; labels='kind' makes one of them classes"
    with pytest.warns(checks.VaelabWarning, match=told):
        train, test = data.load(given)
    assert sorted(np.concatenate([train.x, test.x])[:, 0]) == [1.5, 2, 3, 4]
    train, test = data.load(given, labels="kind")
    assert train.class_names == ("x", "y")
    assert train.shape == (2,)
    given.save_to_disk(str(tmp_path / "t"))
    with pytest.warns(checks.VaelabWarning, match=r"t: not used are its columns a\."):
        train, _ = data.load(tmp_path / "t", labels="kind", column="b")
    assert train.shape == (1,)
    assert train.loaded == {"name": str(tmp_path / "t"), "labels": "kind", "column": "b"}


def test_a_row_without_a_label_leaves_all_without() -> None:
    given = datasets.Dataset.from_dict(
        {"a": [1.0, 2, 3], "label": [-1, 0, 1]},
        features=Features(a=Value("float32"), label=ClassLabel(names=["x", "y"])),
    )
    line = r"dataset: 1 of 3 data have no label; labels are not read\."
    with pytest.warns(checks.VaelabWarning, match=line):
        train, _ = data.load(given)
    assert train.y is None


def test_fit_and_transform_take_a_data_set() -> None:
    given = of_images()
    vae = VAE(epochs=1).fit(given)
    assert vae.transform(given).shape == (COUNT, 2)
    assert np.array_equal(vae.transform(given), vae.transform(IMAGES))
    assert vae.score(given) == vae.score(IMAGES[:, None])
    with pytest.raises(checks.DataError) as error:
        vae.fit(DatasetDict(train=given, test=given))
    assert message(error) == (
        "dataset: is several data sets, a DatasetDict; give one of them, ['train'] say, or "
        "vaelab.data.load of all."
    )


BAD = {
    "dataset: has no column of images or numbers to read among a.": {"a": ["x", "y"]},
    "dataset: column 'a': row 1 (they count from 0) holds NaN or infinity; remove or fill such "
    "values.": {"a": [1.0, None, 3.0]},
    "dataset: column 'a': row 2 (they count from 0) holds a whole number beyond ±16,777,216, which "
    "float32 would round; scale it.": {"a": [1, 2, 2**24 + 1]},
    "dataset: column 'a': row 2 (they count from 0) is empty, missing, or of another length than "
    "the others; make them alike.": {"a": [[1.0, 2.0], [3.0, 4.0], [5.0]]},
    "dataset: column 'a': row 1 (they count from 0) is empty, missing, or of another length than "
    "the others; make them alike. ": {"a": [[[1.0, 2.0]] * 3, [[3.0, 4.0]] * 2 + [[3.0]]]},
    "dataset: column 'a': row 0 (they count from 0) is empty, missing, or of another length than "
    "the others; make them alike.": {"a": [[], [1.0]], "b": [1, 2]},
    "dataset: has the columns of arrays of numbers a, b; name one: column='a'.": {
        "a": [[1.0], [2.0]],
        "b": [[1.0], [2.0]],
    },
    "dataset: holds 1 data, but at least 2 are needed: one to train on, one to test on.": {
        "a": [1.0]
    },
    "dataset: holds 0 data, but at least 2 are needed: one to train on, one to test on.": {
        "a": np.zeros(0)
    },
}


@pytest.mark.parametrize("wanted", BAD)
def test_other_data_sets_are_refused_in_one_line(wanted: str) -> None:
    refused(datasets.Dataset.from_dict(BAD[wanted]), wanted.strip())


def test_rows_are_named_wherever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "PIECE", 4)
    lists = [[1.0, 2.0] for _ in range(20)]
    lists[13] = [np.nan, 1.0]
    start = "dataset: column 'a': row 13 (they count from 0)"
    refused(
        datasets.Dataset.from_dict({"a": lists}),
        f"{start} holds NaN or infinity; remove or fill such values.",
    )
    lists[13] = [1.0]
    refused(
        datasets.Dataset.from_dict({"a": lists}),
        f"{start} is empty, missing, or of another length than the others; make them alike.",
    )
    refused(
        datasets.Dataset.from_dict({"a": lists[:12] + [[1.0]] * 8}),
        "dataset: row 12 (they count from 0) has shape (1,), but row 0 has (2,); make them alike.",
    )


def test_options_are_checked() -> None:
    given = of_images(note=["a"] * COUNT)
    known = "is not known. Known: image, label, note."
    wrong = checks.ArgumentError
    refused(given, f"column = 'x' {known}", wrong, column="x")
    refused(given, f"labels = 'x' {known}", wrong, labels="x")
    refused(given, "scale = 255, but dataset is no table; leave it out.", wrong, scale=255)
    lists, _ = of_arrays("lists")
    line = "size = (8, 8), but dataset holds numbers, not images; leave it out."
    refused(lists, line, wrong, size=8)
    refused(
        DatasetDict(train=given, test=lists),
        "dataset: its training data have the columns image, label, note, its test data x, label; "
        "they must be alike, in their types too.",
    )
    refused(
        DatasetDict(a=given, b=given),
        "dataset: has the splits a, b, but one of them must be called 'train'; give one alone, or "
        "name them so.",
    )
    refused(
        given.to_iterable_dataset(),
        "dataset: is a stream, a IterableDataset, of which the rows are not there yet; load it "
        "without streaming=True.",
    )


def test_a_damaged_folder_and_a_missing_package_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pets"
    of_images().save_to_disk(str(folder))
    (arrow,) = folder.glob("*.arrow")
    whole = arrow.read_bytes()
    arrow.write_bytes(whole[: len(whole) // 2])
    start = f"{folder}: is a damaged Hugging Face data set ("
    for damage in (lambda: None, lambda: (folder / "state.json").write_text("{}"), arrow.unlink):
        damage()
        with pytest.raises(checks.DataError) as error:
            data.load(folder)
        assert message(error).startswith(start)
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused(
        folder,
        f"{folder} needs the package datasets, which is not installed; install it with: pip "
        "install 'vaelab[huggingface]', or save its images as files in a folder.",
        checks.ArgumentError,
    )
