"""Codes of a data set in one file."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaelab import checks, files
from vaelab.data.shards import Shards
from vaelab.estimator import VAE
from vaelab.records import Dataset

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

__all__ = ["check_out", "write_codes"]


def write_codes(path: Path, vae: VAE, parts: Sequence[Dataset | Shards]) -> Path:
    """Writes the posterior means and scales of data to a file, atomically.

    The `.npz` file holds `mean` and `scale`, `(N, D)` each, `split` (the name of each datum's
    part), `row` (its place in it) and, where there are labels, `label`. `.csv` and `.parquet` files
    have the same in columns: `split,row,label,mean_1,...,scale_1,...`; the latter need pyarrow.
    Of data in shards, of which one at a time is in memory, the split is the name of the shard.

    Raises:
        checks.ArgumentError: The path ends otherwise, or pyarrow is not installed.
        OSError: The file cannot be written.
    """
    check_out(path)
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("mean", "scale", "split", "row", "label")
    }
    for part in _in_memory(parts):
        code = vae.encode(part)
        for name, values in (
            ("mean", code.loc),
            ("scale", code.scale),
            ("split", np.repeat(part.split, len(part))),
            ("row", np.arange(len(part))),
        ):
            columns[name].append(values)
        if part.y is not None:
            columns["label"].append(part.y)
    if len(columns["label"]) < len(columns["row"]):
        del columns["label"]
    whole = {name: np.concatenate(pieces) for name, pieces in columns.items()}
    return files.write_atomically(path, _WRITERS[path.suffix](whole))


def check_out(path: Path) -> None:
    """Refuses a file that `write_codes` cannot write, by its ending.

    Raises:
        checks.ArgumentError: The path ends otherwise, or pyarrow is not installed.
    """
    if path.suffix not in _WRITERS:
        raise checks.ArgumentError(
            f"out = {path}, but the file must end in {', '.join(list(_WRITERS)[:-1])} or "
            f"{list(_WRITERS)[-1]}."
        )
    if path.suffix == ".parquet":
        checks.needs(f"out = {path}", "pyarrow", extra="parquet", otherwise="write .csv")


def _in_memory(parts: Sequence[Dataset | Shards]) -> Iterator[Dataset]:
    """The parts, of those in shards one shard after the other."""
    for part in parts:
        if isinstance(part, Dataset):
            yield part
            continue
        for k, name in enumerate(part.names):
            x, y = part.rows(k)
            yield Dataset(x, y, part.name, name, class_names=part.class_names)


def _npz(columns: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **columns)
    return buffer.getvalue()


def _csv(columns: dict[str, np.ndarray]) -> bytes:
    text: str = _frame(columns).to_csv(index=False, lineterminator="\n")
    return text.encode()


def _parquet(columns: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    _frame(columns).to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def _frame(columns: dict[str, np.ndarray]) -> pd.DataFrame:
    import pandas as pd

    flat: dict[str, np.ndarray] = {
        name: columns[name] for name in ("split", "row", "label") if name in columns
    }
    for name in ("mean", "scale"):
        flat |= {f"{name}_{i + 1}": values for i, values in enumerate(columns[name].T)}
    return pd.DataFrame(flat)


_WRITERS = {".npz": _npz, ".csv": _csv, ".parquet": _parquet}
