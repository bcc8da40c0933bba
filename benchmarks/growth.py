"""Time an image and memory as the data grow: training and encoding a memory-mapped file.

Beside it, the same images in memory, so that what the file costs is seen.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import vaelab
from common import OWN_BATCH, Goal, Row, Settings, child

REFERENCE = 60_000
HELD = 600_000
"""How many images are trained on in memory, too."""

MAPPED, IN_MEMORY = "mapped", "in memory"
SMALL = ((10_000, MAPPED), (60_000, MAPPED))
LARGE = ((HELD, MAPPED), (HELD, IN_MEMORY))
ORDER = (*SMALL, *LARGE, *SMALL, (6_000_000, MAPPED), *SMALL, *reversed(LARGE))
"""The small sizes before, between and after the large ones, so that a drift shows."""

FIGURES = {
    "step": ("training loop", 1e6, "µs an image"),
    "fit": ("whole fit", 1e6, "µs an image"),
    "encode": ("encoding", 1e6, "µs an image"),
    "training_peak": ("anonymous memory in fit", 1.0, "MB"),
    "encoding_peak": ("anonymous memory in encoding", 1.0, "MB"),
    "beside_codes": ("anonymous memory in encoding beside the codes it returns", 1.0, "MB"),
    "largest": ("largest resident memory, file included", 1.0, "MB"),
}
"""What a child reports: what it is, its factor, its unit."""

FLAT = ("step", "fit", "encode", "training_peak", "beside_codes")
"""What should not grow."""


def run(settings: Settings) -> list[Row]:
    """Each size in a process of its own, on a file that is removed afterwards."""
    if not sys.platform.startswith("linux"):
        print("growth reads /proc/self/status, so it runs on Linux only.")
        return []
    order = SMALL if settings.quick else ORDER
    reports: dict[int, list[dict[str, Any]]] = {size: [] for size, _ in sorted(set(order))}
    held: list[dict[str, Any]] = []
    for size, place in order:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "images.npy")
            write_repeated(path, size)
            asked = {"data": str(path), "batch_size": OWN_BATCH, "mapped": place == MAPPED}
            report = child("grow.py", asked, threads=settings.threads)
            (reports[size] if place == MAPPED else held).append(report)
    rows = [row for key in FIGURES for row in _rows(key, reports)]
    return [*rows, *_beside_memory(reports, held)]


def _beside_memory(
    reports: dict[int, list[dict[str, Any]]], held: list[dict[str, Any]]
) -> list[Row]:
    """Seconds of the training loop on files over those in memory."""
    if not held:
        return []
    what, factor, unit = FIGURES["step"]
    base = statistics.median(report["step"] for report in held)
    rows = [Row(f"{what}, {HELD:,} images in memory", _values(held, "step", factor), unit)]
    for size in (HELD, max(reports)):
        name = f"{what}, {size:,} images mapped / {HELD:,} in memory"
        rows.append(Row(name, _values(reports[size], "step", 1 / base), "×", Goal(1.2)))
    return rows


def _values(reports: list[dict[str, Any]], key: str, factor: float) -> tuple[float, ...]:
    return tuple(factor * report[key] for report in reports)


def write_repeated(path: Path, count: int) -> None:
    """MNIST's training digits, over and over, `count` images in slices."""
    train, _ = vaelab.data.load("mnist")
    needed = count * train.x[0].nbytes
    if shutil.disk_usage(path.parent).free < 1.1 * needed:
        raise SystemExit(f"{needed / 1e9:.1f} GB are needed for temporary files; set TMPDIR.")
    shape = (count, *train.shape)
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for start in range(0, count, len(train)):
        part = file[start : start + len(train)]
        part[:] = train.x[: len(part)]
    file.flush()


def _rows(key: str, reports: dict[int, list[dict[str, Any]]]) -> list[Row]:
    what, factor, unit = FIGURES[key]
    values = {size: _values(runs, key, factor) for size, runs in reports.items()}
    base = statistics.median(values[REFERENCE])
    rows = [Row(f"{what}, {size:,} images", values[size], unit) for size in values]
    if key in FLAT:
        rows += [
            Row(
                f"{what}, {size:,} / {REFERENCE:,} images",
                tuple(value / base for value in values[size]),
                "×",
                Goal(1.1) if size > REFERENCE else None,
            )
            for size in values
            if size != REFERENCE
        ]
    return rows
