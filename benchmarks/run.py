"""Runs benchmarks, prints their tables, and keeps the results: `python benchmarks/run.py -h`."""

from __future__ import annotations

import argparse
import importlib
import os
import time
from pathlib import Path

import torch

from common import HERE, Settings
from results import Section, keep, table
from vaelab import machine

NAMES = (
    *("startup", "limit", "same_work", "quality", "peers", "growth", "explorer"),
    *("maps", "separation", "scale", "encoding"),
)


def main() -> None:
    """Reads the command line and runs what it names, or all."""
    parser = argparse.ArgumentParser(description="Benchmarks of vaelab.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="smoke test; figures mean nothing")
    parser.add_argument("--threads", type=int, default=1, help="threads of each contestant")
    parser.add_argument("--out", type=Path, help="folder of the results (quick: none)")
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # all run on the processor, children too
    settings = Settings(given.quick, given.threads)
    out = given.out or (None if given.quick else HERE)
    torch.manual_seed(0)
    with machine.threads(settings.threads):
        for name in given.names or NAMES:
            section = measure(name, settings)
            print(f"\n{name}: {section.title}\n\n{table(section)}\n", flush=True)
            if out:
                keep(name, section, out)


def measure(name: str, settings: Settings) -> Section:
    """Runs one benchmark and notes the circumstances."""
    module = importlib.import_module(name)
    busy, start = os.getloadavg()[0], time.perf_counter()
    print(f"{name} ...", flush=True)
    rows = module.run(settings)
    title = (module.__doc__ or "").splitlines()[0]
    wide = getattr(module, "WIDE", False)
    return Section(title, tuple(rows), settings, time.perf_counter() - start, busy, wide)


if __name__ == "__main__":
    main()
