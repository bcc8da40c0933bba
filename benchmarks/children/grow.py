"""Trains one epoch on a file, memory-mapped or not, and encodes it, while memory is watched."""

from __future__ import annotations

import time
from collections.abc import Mapping

import reporting

given = reporting.settings()

import numpy as np  # noqa: E402  # after the cores are chosen
import torch  # noqa: E402

import vaelab  # noqa: E402


def main() -> None:
    """Trains, encodes and reports."""
    torch.set_num_threads(given["threads"])
    x = np.load(given["data"], mmap_mode="r" if given["mapped"] else None)
    images, began, last = 0, 0.0, 0.0

    def callback(event: str, values: Mapping[str, float]) -> None:
        nonlocal images, began, last
        if event == "step":
            last = time.perf_counter()
            if began:
                images += int(values["images"])
            else:
                began = last

    vae = vaelab.VAE("vae", epochs=1, batch_size=given["batch_size"], callback=callback)
    training, encoding = reporting.Watch(), reporting.Watch()
    fit = training.during(lambda: vae.fit(x))
    codes: list[np.ndarray] = []
    encode = encoding.during(lambda: codes.extend(vae.encode(x)))
    reporting.report(
        step=(last - began) / images,
        fit=fit / len(x),
        encode=encode / len(x),
        training_peak=training.peak,
        encoding_peak=encoding.peak,
        beside_codes=encoding.peak - sum(array.nbytes for array in codes) / 1e6,
        largest=reporting.peak_memory(),
    )


main()
