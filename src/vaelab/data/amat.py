"""MNIST in bits as H. Larochelle drew them once, in the `.amat` files that many papers report on.

A file is text: a row an image, 784 zeros and ones with blanks between them. There are 50,000
images to train on, 10,000 to validate on and 10,000 to test on, in MNIST's order, without labels.
Reference: H. Larochelle and I. Murray, The Neural Autoregressive Distribution Estimator (2011),
https://proceedings.mlr.press/v15/larochelle11a.html
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vaelab import checks
from vaelab.data import cache
from vaelab.records import Dataset

if TYPE_CHECKING:
    import numpy as np

__all__ = ["folder", "load", "read"]

NAME = "binarized-mnist"
PARTS = {"train": 50_000, "valid": 10_000, "test": 10_000}
PIXELS = 784
LARGEST = 4 * PIXELS * max(PARTS.values())
"""Bytes of the longest file that is read: four a bit, where two are usual."""


def folder() -> tuple[Path, bool]:
    """The folder that is looked in, `$VAELAB_DATA/binarized-mnist` or that of the cache, and
    whether all files are there.
    """
    root = os.environ.get("VAELAB_DATA")
    place = (Path(root).expanduser() if root else cache.root()) / NAME
    return place, all(os.access(place / name, os.F_OK) for name in _names().values())


def _names() -> dict[str, str]:
    return {part: f"binarized_mnist_{part}.amat" for part in PARTS}


def load() -> tuple[Dataset, Dataset]:
    """The bits in the files of `folder`, those to validate on after those to train on.

    Raises:
        checks.DataError: A file is missing or damaged.
    """
    import numpy as np

    place, names = folder()[0], _names()
    if not place.is_dir():
        raise checks.DataError(
            f"{NAME}: {place} is not there; put {', '.join(names.values())} into it, or draw bits "
            "of your own: mnist with --binarize static."
        )
    bits = {part: read(place / name) for part, name in names.items()}
    for part, rows in PARTS.items():
        if len(bits[part]) != rows:
            raise checks.DataError(
                f"{place / names[part]} has {len(bits[part]):,} rows, but it must have {rows:,}."
            )
    train = np.concatenate([bits["train"], bits["valid"]])

    def record(rows: np.ndarray, split: str) -> Dataset:
        images = rows.reshape(-1, 1, 28, 28) * np.uint8(255)
        return Dataset(images, None, NAME, split, source=str(place), licence="CC BY-SA 3.0")

    return record(train, "train"), record(bits["test"], "test")


def read(path: Path) -> np.ndarray:
    """The bits of one file, `(N, 784)` in `uint8`.

    Raises:
        checks.DataError: The file is missing, too long, or holds anything but rows of 784 bits.
    """
    import numpy as np

    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise checks.DataError(f"{path} has {size:,} bytes; at most {LARGEST:,} are read.")
        text = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise checks.DataError(f"{path} cannot be read: {error.strerror}.") from error
    bits = text - np.uint8(ord("0"))
    blank = np.isin(text, np.frombuffer(b" \t\r\n", np.uint8))
    if not ((bits < 2) | blank).all():
        odd = chr(text[~((bits < 2) | blank)][0])
        raise checks.DataError(f"{path} holds {odd!r}, but only 0, 1 and blanks may stand there.")
    values = bits[~blank]
    ends = np.cumsum(~blank)[text == ord("\n")]
    if len(values) == 0 or len(values) % PIXELS or (ends % PIXELS).any():
        raise checks.DataError(f"{path} is damaged: its rows do not have {PIXELS} bits each.")
    return values.reshape(-1, PIXELS)
