"""The ground floor: files written whole or not at all, checks, records."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from vaelab import checks, files
from vaelab.records import Dataset


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = files.write_atomically(tmp_path / "new" / "a.txt", "grüße")
    assert path.read_text(encoding="utf-8") == "grüße"
    files.write_atomically(path, b"again")
    assert path.read_bytes() == b"again"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("x")
    path = files.write_atomically(tmp_path / "ours", "x")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if failing == "fsync" else (Path, "replace")), full)
    with pytest.raises(OSError, match="No space left") as error:
        files.write_atomically(path, "new")
    assert error.value.filename == str(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_is_refused_where_it_would_not_be_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"elbo": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_writability_is_found_out_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    files.check_writable(tmp_path / "empty" / "new" / "model")
    files.check_writable(tmp_path / "deep" / "model")
    assert [p.name for p in tmp_path.rglob("*")] == ["empty"], "what was there stays"
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        files.check_writable(tmp_path / "file" / "model")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: checks.integer("k", True),
            "k = True, but it must be a whole number of at least 1.",
        ),
        (lambda: checks.integer("k", 1.0), "k = 1.0, but it must be a whole number of at least 1."),
        (
            lambda: checks.integer("k", 9, most=5),
            "k = 9, but it must be a whole number from 1 to 5.",
        ),
        (lambda: checks.number("r", "1"), "r = '1', but it must be a finite number."),
        (lambda: checks.number("r", math.inf), "r = inf, but it must be a finite number."),
        (lambda: checks.number("r", True), "r = True, but it must be a finite number."),
        (
            lambda: checks.number("r", 2, least=0, most=1),
            "r = 2, but it must be a finite number of at least 0 and at most 1.",
        ),
        (lambda: checks.seed(2**32), "seed = 4294967296, but it must be a whole number from 0 to"),
        (lambda: checks.choice("c", 3, ["a"]), "c = 3 is not known. Known: a."),
    ],
)
def test_checks_name_the_argument_the_value_and_what_is_allowed(call: object, message: str) -> None:
    with pytest.raises(checks.ArgumentError) as error:
        call()
    assert str(error.value).startswith(message)


def test_checks_return_plain_numbers() -> None:
    assert type(checks.integer("k", np.int64(3))) is int
    assert type(checks.number("r", np.float32(0.5))) is float


def test_a_limited_data_set_is_a_fixed_random_subset(train: Dataset) -> None:
    few = train.limited(50)
    assert len(few) == 50
    assert few.fingerprint == train.limited(50).fingerprint
    assert few.fingerprint != train.fingerprint
    assert few.class_names == train.class_names
    assert set(few.y.tolist()) == {0, 1, 2}
    rows = [int(np.flatnonzero((train.x == x).all((1, 2, 3)))[0]) for x in few.x]
    assert rows == sorted(rows), "in the original order"
    assert rows != list(range(50)), "not just the first"
    assert train.limited(None) is train
    assert train.limited(10**6) is train


def test_the_fingerprint_is_of_all_content(train: Dataset) -> None:
    seen = {train.fingerprint}
    x = train.x.copy()
    x[-1, -1, -1, -1] ^= 1
    for other in (
        Dataset(x, train.y, "a"),
        Dataset(train.x, None, "a"),
        Dataset(train.x, train.y[::-1].copy(), "a"),
        Dataset(train.x.reshape(600, -1), train.y, "a"),
    ):
        assert other.fingerprint not in seen
        seen.add(other.fingerprint)
    assert Dataset(train.x, train.y, "another name").fingerprint == train.fingerprint


def test_labels_must_be_as_many_as_data(train: Dataset) -> None:
    with pytest.raises(checks.DataError, match="599 labels for 600 data"):
        Dataset(train.x, train.y[1:], "odd")
