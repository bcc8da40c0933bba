"""Trains the classic network with Keras, and writes what is needed to score it.

Keras has no VAE of its own; this is its own way to one: layers, a layer that draws z and adds the
KL divergence, `compile` and `fit`, which compile the step with XLA.
"""

from __future__ import annotations

import os
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import reporting

given = reporting.settings()
os.environ |= {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}

import keras  # noqa: E402  # it reads the variable
from keras import layers, ops  # noqa: E402

epochs = reporting.Epochs()


class Draw(layers.Layer):  # type: ignore[misc]
    """Draws z from the posterior, and adds its KL divergence to the loss, mean over data."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, codes: Any) -> Any:
        """Means and log-variances `(N, 4)` to z `(N, 2)`."""
        loc, log_variance = codes[:, :2], codes[:, 2:]
        kl = 0.5 * ops.sum(ops.square(loc) + ops.exp(log_variance) - 1 - log_variance, axis=1)
        self.add_loss(ops.mean(kl))
        noise = keras.random.normal(ops.shape(loc), seed=self.generator)
        return loc + ops.exp(0.5 * log_variance) * noise


class Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """Times epochs."""

    def on_epoch_begin(self, *_: object, **__: object) -> None:
        """An epoch begins."""
        epochs.begin()

    def on_epoch_end(self, *_: object, **__: object) -> None:
        """An epoch ends."""
        epochs.end()


class Distortion(layers.Layer):  # type: ignore[misc]
    """Adds the cross-entropy to the loss: sum over pixels, mean over data.

    In a layer, since a loss given to `compile` would have every batch gathered twice, as x and y.
    """

    def call(self, x: Any, logits: Any) -> Any:
        """Images and logits, `(N, 784)` each, to the logits."""
        entropy = ops.relu(logits) - logits * x + ops.softplus(-ops.abs(logits))
        self.add_loss(ops.mean(ops.sum(entropy, axis=1)))
        return logits


def main() -> None:
    """Trains and reports."""
    keras.utils.set_random_seed(given["seed"])
    data = np.load(given["data"])
    x = data["train"].reshape(-1, 784).astype(np.float32) / 255
    relu = {"activation": "relu"}
    encoder = keras.Sequential([keras.Input((784,)), layers.Dense(512, **relu), layers.Dense(4)])
    decoder = keras.Sequential([keras.Input((2,)), layers.Dense(512, **relu), layers.Dense(784)])
    images = keras.Input((784,))
    logits = decoder(Draw(given["seed"])(encoder(images)))
    model = keras.Model(images, Distortion()(images, logits))
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    start = time.perf_counter()
    sizes = {"batch_size": given["batch_size"], "epochs": given["epochs"]}
    model.fit(x, verbose=0, callbacks=[Clock()], **sizes)
    whole, peak = time.perf_counter() - start, reporting.peak_memory()
    test = data["test"].reshape(-1, 784).astype(np.float32) / 255
    loc, log_variance = np.split(encoder.predict(test, verbose=0), 2, axis=1)
    scale = np.exp(0.5 * log_variance)
    decoded = decoder.predict(loc + scale * data["noise"], verbose=0)
    np.savez(given["codes"], loc=loc, scale=scale, logits=decoded)
    used = f"keras {version('keras')}, jax {version('jax')}"
    reporting.report(epochs=epochs.seconds, whole=whole, peak=peak, versions=used)


main()
