"""Trains as one of several processes, or alone; the first reports their speed and memory."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping

import numpy as np
import reporting
import torch
from torch import distributed

import vaelab
from vaelab import ranks

given = json.loads(sys.argv[1])
SKIPPED = 0.1
"""Share of the steps, the first ones, whose time is not counted."""


def main() -> None:
    """Trains for so many steps."""
    torch.set_num_threads(given["threads"])
    x = np.load(given["data"], mmap_mode="r")
    times: list[float] = []

    def callback(event: str, values: Mapping[str, float]) -> None:
        if event == "step":
            times.append(time.perf_counter())

    settings = {"steps": given["steps"], "validation_fraction": 0.0}
    with ranks.joined("cpu") as place:
        vae = vaelab.VAE(
            given["recipe"], training=settings, batch_size=given["batch_size"], callback=callback
        )
        watch = reporting.Watch()
        watch.during(lambda: vae.fit(x))
        memory = torch.zeros(place.count)
        memory[place.rank] = watch.peak
        if not place.alone:
            distributed.all_reduce(memory)
        if place.rank == 0:
            first = int(SKIPPED * len(times))
            images = (len(times) - 1 - first) * given["batch_size"]
            reporting.report(
                images_per_second=images / (times[-1] - times[first]), memory=memory.tolist()
            )


main()
