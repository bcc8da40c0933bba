"""Training in two processes against one, and memory as files grow to 20 GB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import vaelab
from common import HERE, OWN_BATCH, Row, Settings, ratios

CHILD = HERE / "children" / "train_shared.py"
ROUNDS = 5
STEPS = {"vae": 300, "conv": 100}
"""Steps of each recipe whose images a second are compared."""

SIZES = (1, 5, 20)
"""Sizes of sparse files of zeros, in GB: like any others to training, empty to the disk."""

SIDE = 128
"""Width and height of their grey images."""

MEMORY_STEPS = 100
"""Steps on such a file, after the whole of it was read once for its fingerprint and statistics."""


def run(settings: Settings) -> list[Row]:
    """Two threads in one process, then one thread in each of two, in turn; then the files."""
    rounds = 1 if settings.quick else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        digits = Path(folder, "digits.npy")
        np.save(digits, vaelab.data.load("mnist")[0].x)
        rows = [row for recipe in STEPS for row in _training(recipe, digits, rounds, settings)]
        sizes = (0.01,) if settings.quick else SIZES
        return rows + [_memory(Path(folder, "zeros.npy"), size) for size in sizes]


def _training(recipe: str, data: Path, rounds: int, settings: Settings) -> list[Row]:
    steps = 20 if settings.quick else STEPS[recipe]
    asked = {"recipe": recipe, "data": str(data), "steps": steps, "batch_size": OWN_BATCH}
    found: dict[int, list[float]] = {1: [], 2: []}
    for number in range(rounds):
        for processes in (1, 2) if number % 2 == 0 else (2, 1):
            report = launched(asked | {"threads": 2 // processes}, processes)
            found[processes].append(report["images_per_second"])
    return [
        Row(f"{recipe}: one process of two threads", tuple(found[1]), "images/s"),
        Row(f"{recipe}: two processes of one thread", tuple(found[2]), "images/s"),
        Row(f"{recipe}: two processes / one", ratios(found[2], found[1]), "×"),
    ]


def _memory(path: Path, gigabytes: float) -> Row:
    """The anonymous memory of each of two processes that train on a file of this size."""
    count = int(gigabytes * 1e9 / SIDE**2)
    shape = (count, 1, SIDE, SIDE)
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    asked = {"recipe": "vae", "data": str(path), "steps": MEMORY_STEPS, "batch_size": OWN_BATCH}
    report = launched(asked | {"threads": 1}, 2)
    return Row(f"memory of a process, {gigabytes:g} GB of data", tuple(report["memory"]), "MB")


def launched(asked: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """What the first of so many processes reports; torchrun starts them where there are several."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), str(CHILD), json.dumps(asked)]
    environment = os.environ | {"OMP_NUM_THREADS": str(asked["threads"])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{CHILD.name} failed:\n{done.stderr[-4000:]}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report
