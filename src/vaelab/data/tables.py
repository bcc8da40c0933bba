"""Tables of numbers in CSV and Parquet files: a row a datum, a column a feature.

A table is read and checked in pieces, so that memory is taken for its numbers in `float32` and
little besides. Text has no types: all data of a CSV file become `float32`. Of a Parquet file whose
columns of data are all `uint8`, they stay `uint8`.
"""

from __future__ import annotations

import csv
import difflib
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vaelab import checks
from vaelab.data.rows import (
    EXACT,
    MOST_BYTES,
    Found,
    Rows,
    brief,
    likely_labels,
    numbered,
    told,
)

if TYPE_CHECKING:
    import numpy as np

__all__ = ["columns", "of_parquet", "read_csv", "read_parquet", "texts"]

PIECE = 2**20
"""How many values are read at once."""

PLACES = 3
"""How many places of missing values an error names."""


class _Rows:
    """What errors call rows: by their numbers; of a CSV file, by the lines an editor counts.

    Arguments:
        origin: What errors call the table.
        csv: The path of a CSV file.
        header: Lines of names at its top.
    """

    def __init__(self, origin: str, csv: Path | None = None, header: int = 0) -> None:
        self.origin, self.path, self.header = origin, csv, header
        self.counted = " (rows count from 0)" if csv is None else ""

    def __call__(self, row: int) -> str:
        if self.path is None:
            return f"row {row}"
        begin, left = 1, row + self.header
        with self.path.open(encoding="utf-8-sig", newline="") as text:
            lines = csv.reader(text)  # a field between quotes may hold several lines
            for fields in lines:
                if "".join(fields).strip() or len(fields) > 1:  # others are passed over
                    if left == 0:
                        break
                    left -= 1
                begin = lines.line_num + 1
        return f"line {begin}"


def read_csv(path: Path, labels: str | None = None, scale: float | None = None) -> Found:
    """Reads a CSV file: fields between commas, in UTF-8, with points in numbers.

    The first line is a header if none of its fields is a number; or if a field is no number, but
    the one below it is; or if it counts 0, 1, 2, ... up to the last column. Without a header the
    columns are called by their places, `"0"`, `"1"`, ... A first column with an empty header is
    the row numbers that pandas writes, and is left out.

    Arguments:
        path: The file.
        labels: The column that holds labels, text or numbers; all others are data.
        scale: What the data, grey levels from 0 to `scale`, are divided by; they then lie in
            [0, 1], in `float32`.

    Raises:
        checks.ArgumentError: There is no such column.
        checks.DataError: No table, a field that is missing or no number, rows with more fields
            than the first, or more than `MOST_BYTES` of numbers.
        OSError: The file cannot be read.
    """
    import pandas as pd  # type: ignore[import-untyped]

    origin = told(path)
    try:
        first = pd.read_csv(path, header=None, nrows=2, dtype=str, keep_default_na=False)
        lines = [[str(field) for field in line] for line in first.to_numpy()]
        header = 0 if _is_header(*lines) else None
        names = list(map(str, pd.read_csv(path, header=header, nrows=0 if header == 0 else 1)))
        dropped = names[0] if header == 0 and lines[0][0] == "" and len(names) > 1 else None
        notes = _checked([name for name in names if name != dropped], labels, origin)
        pieces = pd.read_csv(
            path,
            header=header,
            names=names,
            dtype={labels: str} if labels else None,
            chunksize=max(1, PIECE // len(names)),
            low_memory=False,
        )
        with pieces:
            if dropped is not None:
                pieces = (piece.drop(columns=dropped) for piece in pieces)
            told_rows = _Rows(origin, path, header=header is not None)
            return _found(pieces, labels, scale, told_rows, notes)
    except checks.VaelabError:
        raise
    except (ValueError, OverflowError, MemoryError) as error:
        raise _unreadable(origin, error) from error


def read_parquet(path: Path, labels: str | None = None, scale: float | None = None) -> Found:
    """Reads a Parquet file of numbers, with the package pyarrow.

    Arguments:
        path: The file.
        labels: The column that holds labels, text or numbers; all others are data.
        scale: What the data, grey levels from 0 to `scale`, are divided by; they then lie in
            [0, 1], in `float32`.

    Raises:
        checks.ArgumentError: pyarrow is not installed, or there is no such column.
        checks.DataError: No table, a value that is missing or no number, or more than
            `MOST_BYTES` of numbers.
        OSError: The file cannot be read.
    """
    return of_parquet(path, told(path), labels, scale)


def of_parquet(
    source: Path | IO[bytes], origin: str, labels: str | None = None, scale: float | None = None
) -> Found:
    """As `read_parquet`, of a path or of a file that can be read from any place.

    Arguments:
        source: The file.
        origin: What errors call it.
        labels: As for `read_parquet`.
        scale: As for `read_parquet`.
    """
    with _parquet(source, origin) as file:
        names = list(map(str, file.schema_arrow.empty_table().to_pandas()))
        notes = _checked(names, labels, origin)
        _check_size(file.metadata.num_rows * len(names), origin)
        batches = file.iter_batches(max(1, PIECE // len(names)))
        frames = (batch.to_pandas() for batch in batches)
        return _found(frames, labels, scale, _Rows(origin), notes)


def columns(
    source: Path | IO[bytes], origin: str, labels: str | None = None
) -> tuple[int, dict[str, np.dtype], tuple[str, ...]]:
    """What the footer of a Parquet file says; its rows are not read.

    Returns:
        The number of rows; the columns of data and their types, in their order; and what the
        person should be told, a line each.

    Raises:
        checks.ArgumentError, checks.DataError: As for `read_parquet`.
    """
    with _parquet(source, origin) as file:
        empty = file.schema_arrow.empty_table().to_pandas()
        kinds = dict(zip(map(str, empty), empty.dtypes, strict=True))
        notes = _checked(list(kinds), labels, origin)
        kinds.pop(labels or "", None)
        return file.metadata.num_rows, kinds, notes


def texts(source: Path | IO[bytes], origin: str, labels: str) -> list[str]:
    """The different labels in a Parquet file, as text; only their column is read.

    Raises:
        checks.DataError: One is missing, or no whole number and no text.
    """
    known: dict[str, int] = {}
    with _parquet(source, origin) as file:
        start = 0
        for batch in file.iter_batches(PIECE, columns=[labels]):
            _numbered(batch.to_pandas()[labels], known, _Rows(origin), start)
            start += batch.num_rows
    return list(known)


@contextmanager
def _parquet(source: Path | IO[bytes], origin: str) -> Iterator[Any]:
    """An open Parquet file; what is wrong with it becomes one line."""
    checks.needs(origin, "pyarrow", extra="parquet", otherwise="save the table as CSV")
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(source) as file:
            yield file
    except checks.VaelabError:
        raise
    except (pa.ArrowException, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise _unreadable(origin, error) from error


def _is_header(top: Sequence[str], below: Sequence[str] = ()) -> bool:
    """Whether the first line names the columns; `below` is the second."""
    if not any(map(_is_number, top)):
        return True
    if any(_is_number(b) and not _is_number(a) for a, b in zip(top, below, strict=False)):
        return True
    return len(top) > 1 and list(top) == [str(k) for k in range(len(top))]


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return "_" not in str(value)  # which Python allows in numbers, and CSV does not


def _checked(names: list[str], labels: str | None, origin: str) -> tuple[str, ...]:
    """What to tell of the columns; refuses a column of labels that is not there."""
    if labels is not None and labels not in names:
        near = difflib.get_close_matches(labels, names)
        checks.choice("labels", labels, dict.fromkeys(map(brief, [*near, *names[:10]])))
    if len(names) == (labels is not None):
        raise checks.DataError(f"{origin}: has no column of data; at least 1 is needed.")
    return tuple(likely_labels(names, origin)) if labels is None else ()


def _found(
    pieces: Iterable[Any],
    labels: str | None,
    scale: float | None,
    called: _Rows,
    notes: tuple[str, ...],
) -> Found:
    """Data and labels of a table that comes in pieces."""
    import numpy as np

    parts: list[np.ndarray] = []
    classes: list[np.ndarray] = []
    known: dict[str, int] = {}
    rows = values = 0
    for frame in pieces:
        if len(frame) == 0:  # of a header alone
            continue
        if labels is not None:
            classes.append(_numbered(frame.pop(labels), known, called, rows))
        part = _numbers(frame, called, rows)
        parts.append(part if scale is None else _scaled(part, scale, frame, called, rows))
        rows, values = rows + len(frame), values + parts[-1].size
        _check_size(values, called.origin)
    x = np.concatenate(parts) if parts else np.empty((0, 1), np.float32)
    if labels is None or not parts:
        return Found(Rows(np.ascontiguousarray(x)), notes=notes)
    place, names = numbered(list(known))
    y = place[np.concatenate(classes)]
    return Found(Rows(x, y), class_names=tuple(map(told, names)), notes=notes)


def _check_size(values: int, origin: str) -> None:
    if 4 * values > MOST_BYTES:
        raise checks.DataError(
            f"{origin}: has more than {values:,} numbers, of which at most {MOST_BYTES // 4:,} are "
            "read into memory; save it as a .npy file in float32, which stays on disk."
        )


def _numbered(column: Any, known: dict[str, int], called: _Rows, start: int) -> np.ndarray:
    """Labels as numbers in the order of their first appearance, which `known` keeps."""
    import numpy as np
    import pandas as pd

    missing = column.isna().to_numpy()
    if missing.any():
        row = start + int(np.flatnonzero(missing)[0])
        raise checks.DataError(
            f"{called.origin}: has no label in {called(row)}, column {brief(column.name)!r}"
            f"{called.counted}; fill it, or remove the row."
        )
    if column.dtype.kind == "f":
        odd = np.flatnonzero(column.to_numpy() != np.floor(column.to_numpy()))
        if len(odd) or column.abs().max() >= 2**53:
            raise checks.DataError(
                f"{called.origin}: column {brief(column.name)!r} holds "
                f"{column.iloc[(*odd, 0)[0]]}, but labels must be whole numbers or text."
            )
        column = column.astype(np.int64)
    local, texts = pd.factorize(column.astype(str))
    place = np.array([known.setdefault(text, len(known)) for text in texts], np.int64)
    found: np.ndarray = place[local]
    return found


def _numbers(frame: Any, called: _Rows, start: int) -> np.ndarray:
    """Data `(N, D)` in `uint8` if all columns are, else in `float32`; all are finite."""
    import numpy as np

    kinds = [dtype.kind for dtype in frame.dtypes]
    if all(dtype == np.uint8 for dtype in frame.dtypes):
        return np.asarray(frame.to_numpy())
    for place, kind in enumerate(kinds):
        if kind not in "biuf":
            raise _no_number(frame.iloc[:, place], called, start)
    values = frame.to_numpy(np.float64, na_value=np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        result: np.ndarray = values.astype(np.float32)
    whole = np.array([kind in "iu" for kind in kinds])
    for wrong, what in (
        (~np.isfinite(result), "no finite number of float32"),
        (
            (np.abs(values) > EXACT) & whole,
            f"a whole number beyond ±{EXACT:,}, which float32 rounds,",
        ),
    ):
        if wrong.any():
            places = np.argwhere(wrong)
            named = [
                f"{called(start + row)}, column {brief(frame.columns[column])!r}"
                for row, column in places[:PLACES]
            ]
            more = " and more" if len(places) > PLACES else ""
            raise checks.DataError(
                f"{called.origin}: has {what} in {'; '.join(named)}{more}{called.counted}; "
                "change or remove them."
            )
    return result


def _scaled(x: np.ndarray, scale: float, frame: Any, called: _Rows, start: int) -> np.ndarray:
    """Grey levels from 0 to `scale` as `float32` in [0, 1]."""
    import numpy as np

    wrong = np.argwhere((x < 0) | (x > scale))
    if len(wrong):
        row, column = wrong[0]
        raise checks.DataError(
            f"{called.origin}: column {brief(frame.columns[column])!r} holds {x[row, column]:g} in "
            f"{called(start + int(row))}{called.counted}, but with scale={scale:g} values "
            f"must lie in [0, {scale:g}]; set another scale, or none."
        )
    return x.astype(np.float32) / np.float32(scale)


def _no_number(column: Any, called: _Rows, start: int) -> checks.DataError:
    """The error for a column that holds something else than numbers."""
    odd = (k for k, value in enumerate(column) if not _is_number(value))
    row = next(odd, 0)
    name = brief(column.name)
    return checks.DataError(
        f"{called.origin}: column {name!r} holds {brief(repr(column.iloc[row]))} in "
        f"{called(start + row)}{called.counted}, but only numbers can be read; leave it out, "
        f"or name it: labels={name!r} (--read {shlex.quote('labels=' + name)})."
    )


def _unreadable(origin: str, error: Exception) -> checks.DataError:
    return checks.DataError(f"{origin}: is no table that can be read ({brief(error, 120)}).")
