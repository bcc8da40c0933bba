"""Time and cost for more data than were ever run, on paper, from the figures that were measured.

    python benchmarks/outlook.py        # what docs/scaling.md says

Nothing here is a measurement but what it takes from `results.json`: images a second of training
`conv` in two processes, and of encoding by two Ray workers, on one machine of two cores. It assumes
that workers on other machines are as fast, and reads what saturates from sizes alone.
"""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

HERE = Path(__file__).parent
COUNTS = {"10 million": 10**7, "1 billion": 10**9, "100 billion": 10**11}
BYTES = 784
"""Of an image: 28 × 28 grey levels."""
LINK = 10e9 / 8
"""Bytes a second of a machine's, or a store's, connection: 10 Gbit/s."""
PRICE = 0.05
"""Dollars for an hour of a core: an assumption, to be replaced by one's own."""
PARAMETERS, BATCH = 524_772, 512
"""Of `conv` for such images with two latent dimensions, and its default batch."""
WORKERS = 64


def measured(section: str, name: str) -> float:
    """The median of what a benchmark found."""
    known = json.loads((HERE / "results.json").read_text(encoding="utf-8"))
    (values,) = (row["values"] for row in known[section]["rows"] if row["name"] == name)
    return statistics.median(values)


def table() -> str:
    """The table in Markdown."""
    training = measured("scale", "conv: two processes of one thread")
    worker = measured("encoding", "two Ray workers") / 2
    lines = [
        "| images | as bytes | an epoch of `conv`, 2 cores | encoding, 2 workers | encoding, "
        f"{WORKERS} workers | core-hours of encoding | at ${PRICE:.2f} an hour |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, count in COUNTS.items():
        hours = count / worker / 3600
        cells = (
            name,
            size(count * BYTES),
            duration(count / training),
            duration(count / worker / 2),
            duration(count / worker / WORKERS),
            f"{hours:,.2g}" if hours < 100 else f"{hours:,.0f}",
            f"${hours * PRICE:,.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ceilings() -> tuple[int, int]:
    """Workers whose reading fills the link; images a second whose gradients fill it in training.

    A ring of processes sends each weight's gradient twice for a step, however many they are.
    """
    worker = measured("encoding", "two Ray workers") / 2
    steps = LINK / (2 * 4 * PARAMETERS)
    return math.floor(LINK / BYTES / worker), round(int(steps * BATCH), -3)


def size(count: float) -> str:
    """Bytes in the largest decimal unit that leaves at least one of it."""
    power = min(int(math.log10(count) / 3), 4)
    return f"{count / 1000**power:.3g} {['B', 'kB', 'MB', 'GB', 'TB'][power]}"


def duration(seconds: float) -> str:
    """A time in the largest unit of which there are two."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


def main() -> None:
    """Prints the table and the two ceilings."""
    workers, images = ceilings()
    print(table())
    print(
        f"\nThe link is full with {workers} workers encoding, or {images:,} images/s in training."
    )


if __name__ == "__main__":
    main()
