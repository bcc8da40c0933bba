"""Fits UMAP, and writes where it puts training and test data.

A seed makes umap-learn lay out its map with one thread; without one it takes as many as it may.
"""

from __future__ import annotations

import os
import time
import warnings
from importlib.metadata import version

import reporting

given = reporting.settings()
os.environ["NUMBA_NUM_THREADS"] = str(given["threads"])

import numpy as np  # noqa: E402  # after the cores are chosen
from umap import UMAP  # noqa: E402


def main() -> None:
    """Fits with the defaults, and reports."""
    with np.load(given["data"]) as data:
        x, new = (data[name].reshape(len(data[name]), -1) for name in ("train", "test"))
    x, new = (part.astype(np.float32) / 255 for part in (x, new))
    warnings.filterwarnings("ignore", "n_jobs value", UserWarning)
    chosen = {"random_state": given["seed"]} if given["seeded"] else {"n_jobs": given["threads"]}
    umap = UMAP(**chosen)
    among = umap.fit_transform(x)
    fit, start = time.time() - given["began"], time.perf_counter()
    placed = umap.transform(new)
    place = time.perf_counter() - start
    np.savez(given["codes"], train=among, test=placed)
    used = f"umap-learn {version('umap-learn')}, numba {version('numba')}"
    reporting.report(fit=fit, place=place, versions=used)


main()
