"""The program `vaelab` with a small data set of its own, to be run, and killed, as a process."""

from __future__ import annotations

import sys

import vaelab.data
import vaelab.generation
import vaelab.machine
import vaelab.report
from conftest import blobs
from vaelab.cli import main
from vaelab.records import Dataset


def load(name: str, **_: object) -> tuple[Dataset, Dataset]:
    return blobs(600, seed=0), blobs(200, seed=1)


def with_blobs() -> None:
    vaelab.data.load = load


def in_little_time() -> None:
    """See `conftest.brief_classifier`, and `conftest._one_core`."""
    vaelab.generation.MOST_EPOCHS = 2
    vaelab.machine.cores = lambda: 1


def without_report() -> None:
    """Figures and page take longer than all else that is done with data as small as these."""
    vaelab.report.draw = lambda *_: {}
    vaelab.report.write = lambda folder, *_, **__: folder / "report.html"


if __name__ == "__main__":
    with_blobs()
    in_little_time()
    main(sys.argv[1:])
