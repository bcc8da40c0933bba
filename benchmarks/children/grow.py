"""Trains one epoch on a memory-mapped file and encodes it, while its memory is watched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import reporting

given = reporting.settings()

import numpy as np  # noqa: E402  # after the cores are chosen
import torch  # noqa: E402

import vaelab  # noqa: E402

STATUS = Path("/proc/self/status")


def anonymous() -> float:
    """Resident memory that belongs to no file, in MB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon"))
    return float(line.split()[1]) * 1.024e-3


class Watch:
    """The peak of anonymous memory while a call runs, looked at every 20 ms."""

    def __init__(self) -> None:
        self.peak = 0.0
        self.over = threading.Event()

    def _look(self) -> None:
        while not self.over.wait(0.02):
            self.peak = max(self.peak, anonymous())

    def during(self, work: Callable[[], object]) -> float:
        """Runs a call; returns its seconds."""
        watcher = threading.Thread(target=self._look, daemon=True)
        watcher.start()
        start = time.perf_counter()
        work()
        taken = time.perf_counter() - start
        self.over.set()
        watcher.join()
        self.peak = max(self.peak, anonymous())
        return taken


def main() -> None:
    """Trains, encodes and reports."""
    torch.set_num_threads(given["threads"])
    x = np.load(given["data"], mmap_mode="r")
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
    training, encoding = Watch(), Watch()
    fit = training.during(lambda: vae.fit(x))
    encode = encoding.during(lambda: vae.encode(x))
    reporting.report(
        step=(last - began) / images,
        fit=fit / len(x),
        encode=encode / len(x),
        training_peak=training.peak,
        encoding_peak=encoding.peak,
        largest=reporting.peak_memory(),
    )


main()
