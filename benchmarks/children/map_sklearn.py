"""Fits PCA or t-SNE by scikit-learn, and writes where it puts training and test data."""

from __future__ import annotations

import time
from importlib.metadata import version

import reporting

given = reporting.settings()

import numpy as np  # noqa: E402  # after the cores are chosen

USED = f"scikit-learn {version('scikit-learn')}"


def main() -> None:
    """Fits and reports; t-SNE has a map of what it is fitted on alone."""
    with np.load(given["data"]) as data:
        x, new = (data[name].reshape(len(data[name]), -1) for name in ("train", "test"))
    x, new = (part.astype(np.float32) / 255 for part in (x, new))
    if given["method"] == "tsne":
        from sklearn.manifold import TSNE

        tsne = TSNE(random_state=given["seed"], n_jobs=given["threads"])
        among = tsne.fit_transform(x)
        np.savez(given["codes"], train=among, test=among)
        reporting.report(fit=time.time() - given["began"], versions=USED)
        return
    from sklearn.decomposition import PCA

    pca = PCA(n_components=2, random_state=given["seed"])
    among = pca.fit_transform(x)
    fit, start = time.time() - given["began"], time.perf_counter()
    placed = pca.transform(new)
    place = time.perf_counter() - start
    np.savez(given["codes"], train=among, test=placed)
    reporting.report(fit=fit, place=place, versions=USED)


main()
