"""Floor 11: latent codes of data written to files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vaelab import checks, files
from vaelab.estimator import VAE
from vaelab.records import Dataset

__all__ = ["write_codes"]


def write_codes(path: Path, vae: VAE, parts: Sequence[Dataset]) -> Path:
    """Writes the posterior means and scales of data to a `.npz` or `.csv` file, atomically.

    The `.npz` file holds `mean` and `scale`, `(N, D)` each, `split` (the name of each datum's
    part), `row` (its place in it) and, where there are labels, `label`. The `.csv` file has the
    same in columns: `split,row,label,mean_1,...,scale_1,...`.

    Raises:
        checks.ArgumentError: The path ends otherwise.
        OSError: The file cannot be written.
    """
    if path.suffix not in _WRITERS:
        raise checks.ArgumentError(
            f"out = {path}, but the file must end in {' or '.join(_WRITERS)}."
        )
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
    names = [name for name in ("split", "row", "label") if name in columns]
    numbers = [
        (f"{name}_{i + 1}", columns[name][:, i])
        for name in ("mean", "scale")
        for i in range(columns[name].shape[1])
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*names, *(name for name, _ in numbers)])
    writer.writerows(zip(*(columns[name] for name in names), *(v for _, v in numbers), strict=True))
    return text.getvalue().encode()


_WRITERS = {".npz": _npz, ".csv": _csv}
