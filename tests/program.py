"""The program `vaelab` with a small data set of its own, to be run, and killed, as a process."""

from __future__ import annotations

import sys

import vaelab
from conftest import blobs
from vaelab.cli import main
from vaelab.records import Dataset


def load(name: str, **_: object) -> tuple[Dataset, Dataset]:
    return blobs(600, seed=0), blobs(200, seed=1)


def with_blobs() -> None:
    vaelab.data.load = load


if __name__ == "__main__":
    with_blobs()
    main(sys.argv[1:])
