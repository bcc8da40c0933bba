"""What every child process shares: its settings, its place, its peak of memory, and its report.

Only the standard library is imported here, since some children have no vaelab.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")


def settings() -> dict[str, Any]:
    """What the parent asks for; the process is then kept on as many cores as it may have threads.

    So that no library can use more than another, whatever it makes of the variables for threads.
    """
    given: dict[str, Any] = json.loads(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-given["threads"] :])
    return given


def peak_memory() -> float:
    """The largest resident memory of this process so far, in MB.

    On Linux it is that of the program alone: `ru_maxrss` would begin at the size of the process
    that started it.
    """
    if STATUS.exists():
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return kilobytes * 1.024e-3
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (1e6 if sys.platform == "darwin" else 1e3 / 1.024)


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


def report(**figures: object) -> None:
    """Tells the parent, in the last line of the output."""
    print(json.dumps(figures), flush=True)


class Epochs:
    """Seconds of each epoch, by the callbacks of whatever library; the first includes its start."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.began = time.perf_counter()

    def begin(self) -> None:
        """An epoch begins."""
        self.began = time.perf_counter()

    def end(self) -> None:
        """It has ended, and the next begins."""
        self.seconds.append(time.perf_counter() - self.began)
        self.begin()
