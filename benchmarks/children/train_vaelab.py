"""Trains the classic network with vaelab, and writes what is needed to score it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import reporting

given = reporting.settings()

import torch  # noqa: E402  # after the cores are chosen
from torch import nn  # noqa: E402

import vaelab  # noqa: E402
from vaelab.likelihoods import Bernoulli  # noqa: E402
from vaelab.networks import Wrapped  # noqa: E402
from vaelab.posteriors import DiagonalGaussian  # noqa: E402

SHAPE = (1, 28, 28)


def recipe() -> vaelab.Recipe:
    """The classic network, trained with Adam's 1e-3 as the others, on all data."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 4))
    decoder = nn.Sequential(nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, 784))
    base = vaelab.recipes.build("vae", SHAPE)
    return replace(
        base,
        name="classic",
        posterior=DiagonalGaussian(Wrapped(encoder, SHAPE, (2, 2))),
        likelihood=Bernoulli(Wrapped(decoder, (2,), SHAPE)),
        training=replace(
            base.training, learning_rate=1e-3, weight_decay=0.0, validation_fraction=0.0
        ),
    )


def main() -> None:
    """Trains and reports."""
    torch.set_num_threads(given["threads"])
    data, epochs = np.load(given["data"]), reporting.Epochs()
    x = data["train"]

    def callback(event: str, _: Mapping[str, float]) -> None:
        if event == "epoch":
            epochs.end()

    vae = vaelab.VAE(
        recipe(),
        epochs=given["epochs"],
        batch_size=given["batch_size"],
        seed=given["seed"],
        callback=callback,
    )
    start = time.perf_counter()
    vae.fit(x)
    whole, peak = time.perf_counter() - start, reporting.peak_memory()
    codes = vae.encode(data["test"])
    with torch.no_grad():
        z = torch.from_numpy(codes.loc + codes.scale * data["noise"])
        logits = vae.model_.decode(z).base_dist.logits  # type: ignore[attr-defined]
    np.savez(given["codes"], loc=codes.loc, scale=codes.scale, logits=logits.numpy())
    used = f"vaelab {version('vaelab')}, torch {torch.__version__}"
    reporting.report(epochs=epochs.seconds, whole=whole, peak=peak, versions=used)


main()
