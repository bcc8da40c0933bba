"""Codes of a data set in one file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaelab import checks, files
from vaelab.estimator import VAE
from vaelab.records import Dataset

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

__all__ = ["write_codes"]


def write_codes(path: Path, vae: VAE, parts: Sequence[Dataset]) -> Path:
    """Writes the posterior means and scales of data to a file, atomically.

    The `.npz` file holds `mean` and `scale`, `(N, D)` each, `split` (the name of each datum's
    part), `row` (its place in it) and, where there are labels, `label`. `.csv` and `.parquet` files
    have the same in columns: `split,row,label,mean_1,...,scale_1,...`; the latter need pyarrow.

    Raises:
        checks.ArgumentError: The path ends otherwise, or pyarrow is not installed.
        OSError: The file cannot be written.
    """
    if path.suffix not in _WRITERS:
        raise checks.ArgumentError(
            f"out = {path}, but the file must end in {', '.join(list(_WRITERS)[:-1])} or "
            f"{list(_WRITERS)[-1]}."
        )
    if path.suffix == ".parquet":
        checks.needs(f"out = {path}", "pyarrow", extra="parquet", otherwise="write .csv")
    codes = [vae.encode(part) for part in parts]
    columns = {
        "mean": np.concatenate([code.loc for code in codes]),
        "scale": np.concatenate([code.scale for code in codes]),
        "split": np.concatenate([np.repeat(part.split, len(part)) for part in parts]),
        "row": np.concatenate([np.arange(len(part)) for part in parts]),
    }
    labels = [part.y for part in parts if part.y is not None]
    if len(labels) == len(parts):
        columns["label"] = np.concatenate(labels)
    return files.write_atomically(path, _WRITERS[path.suffix](columns))


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
