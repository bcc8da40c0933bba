"""Floor 1: progress bars on a terminal; silent where standard error is none."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["QUIET", "Counter", "Download", "TrainingBar"]

QUIET = "VAELAB_QUIET"
"""A variable of the environment that, set to anything, silences bars and notices."""

INTERVAL = 0.2
"""Seconds between two redrawings."""


class TrainingBar:
    """A callback for training that draws a bar: data a second, nats, and the time that is left.

    Arguments:
        name: What is trained.
        position: Line of the bar, where several are drawn at once.

    >>> from vaelab import VAE
    >>> vae = VAE("vae", callback=TrainingBar("vae"))
    """

    def __init__(self, name: str, position: int = 0) -> None:
        self.name, self.position = name, position
        self.graph = Counter(f"{name}: graph", position)
        self.bar: Any = None
        self.seen, self.started, self.drawn = 0, 0.0, 0.0

    def __call__(self, event: str, values: Mapping[str, float]) -> None:
        """Takes the values of a step, or of a graph; see `vaelab.training.train`."""
        if event == "graph":
            self.graph(int(values["done"]), int(values["total"]))
        if event != "step":
            return
        now = time.monotonic()
        if self.bar is None:
            self.bar = _bar(self.name, self.position, total=int(values["steps"]))
            self.started = now
            return
        self.seen += int(values["images"])
        if now - self.drawn >= INTERVAL or values["step"] >= values["steps"]:
            self._draw(values, now - self.started)
            self.drawn = now

    def _draw(self, values: Mapping[str, float], elapsed: float) -> None:
        self.bar.n = int(values["step"])
        self.bar.set_postfix_str(
            f"{self.seen / max(elapsed, 1e-9):,.0f} images/s, ELBO {values['elbo']:.1f}, "
            f"rate {values['rate']:.1f}, distortion {values['distortion']:.1f} nats"
        )
        if values["step"] >= values["steps"]:
            _close(self.bar)


class Download:
    """A callback for downloads: a bar for each file."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.name = ""

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Takes the bytes of a file that are there, and how many there will be."""
        if self.bar is None or name != self.name:
            if self.bar is not None:
                self.bar.close()
            self.bar, self.name = _bar(name, 0, total=total, bytes_=True), name
        self.bar.total, self.bar.n = total, done
        self.bar.refresh()
        if done == total:
            _close(self.bar)
            self.bar = None


class Counter:
    """A callback that draws a bar of how much of a long computation is done.

    Arguments:
        name: What is computed.
        position: Line of the bar, where several are drawn at once.
    """

    def __init__(self, name: str, position: int = 0) -> None:
        self.name, self.position = name, position
        self.bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Takes how much is done, and how much there is to do."""
        if self.bar is None:
            self.bar = _bar(self.name, self.position, total=total)
        self.bar.update(done - self.bar.n)
        if done == total:
            _close(self.bar)
            self.bar = None


def _close(bar: Any) -> None:
    bar.close()
    if not bar.disable:
        sys.stderr.write("\r")  # what is printed next begins at the left


def _bar(name: str, position: int, *, total: int | None, bytes_: bool = False) -> Any:
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own lock holds a semaphore, lost if a worker is killed
    layout = "{desc}: {percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}{postfix}"
    return tqdm(
        desc=f"{name:<14}",
        total=total,
        position=position,
        leave=False,
        disable=True if os.environ.get(QUIET) else None,  # None: unless the file is a terminal
        file=sys.stderr,
        unit="B" if bytes_ else "step",
        unit_scale=bytes_,
        bar_format=None if bytes_ else layout,
    )
