"""Fits a recipe of vaelab, and writes where it puts training and test data."""

from __future__ import annotations

import os
import time
from tempfile import TemporaryDirectory

import reporting

given = reporting.settings()

import numpy as np  # noqa: E402  # after the cores are chosen
import torch  # noqa: E402

import vaelab  # noqa: E402


def main() -> None:
    """Fits and reports."""
    torch.set_num_threads(given["threads"])
    with np.load(given["data"]) as data:
        x, new = data["train"], data["test"]
    vae = vaelab.VAE(given["recipe"], options=given["options"], seed=given["seed"])
    with TemporaryDirectory() as cache:  # an empty one: no graph is there from an earlier fit
        os.environ["VAELAB_CACHE"] = cache
        among = vae.fit_transform(x)
    fit, start = time.time() - given["began"], time.perf_counter()
    placed = vae.transform(new)
    place = time.perf_counter() - start
    np.savez(given["codes"], train=among, test=placed)
    elbo = float(vae.terms(new, seed=0).elbo.mean())
    reporting.report(fit=fit, place=place, elbo=elbo, versions="")


main()
