"""Encoding shards: one process, two, and two Ray workers; images a second of the whole call."""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

import vaelab
from common import Row, Settings, ratios
from vaelab.encoding import write_shards

ROUNDS = 3
SHARDS, COPIES = 12, 2
"""So many shards, each of all of MNIST's training images so many times."""

WAYS = {
    "one process": ("local", 1),
    "two processes": ("local", 2),
    "two Ray workers": ("ray", 2),
}


def run(settings: Settings) -> list[Row]:
    """Each way in turn, on the same shards, into a new folder each time."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        model, data = _prepared(Path(folder), settings.quick)
        began = time.perf_counter()
        _cluster()
        starting = time.perf_counter() - began
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(1 if settings.quick else ROUNDS):
            for way, (engine, workers) in WAYS.items():
                out = Path(folder, f"{engine}-{workers}-{number}")
                began = time.perf_counter()
                write_shards(out, model, data, engine=engine, workers=workers, device="cpu")
                found[way].append(len(data) / (time.perf_counter() - began))
    alone, pair, ray = found.values()
    return [
        *(Row(way, tuple(values), "images/s") for way, values in found.items()),
        Row("two processes / one", ratios(pair, alone), "×"),
        Row("two Ray workers / one process", ratios(ray, alone), "×"),
        Row("start of the Ray cluster, not in the above", (starting,), "s"),
    ]


def _prepared(folder: Path, quick: bool) -> tuple[Path, vaelab.data.Shards]:
    """A model folder and shards."""
    train, _ = vaelab.data.load("mnist")
    model = vaelab.VAE("vae", epochs=1).fit(train.x[:2000]).save(folder / "model")
    (folder / "data").mkdir()
    x = train.x[:500] if quick else np.tile(train.x, (COPIES, 1, 1, 1))
    for number in range(2 if quick else SHARDS):
        np.save(folder / "data" / f"{number:02}.npy", x)
    return model, vaelab.data.shards(folder / "data")


def _cluster() -> None:
    """A Ray cluster of two cores on this machine, used by what follows."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
