"""Floor 0: the machine that runs this: its name, its cores, its threads."""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = [
    "cores",
    "end_after",
    "interrupts_ignored",
    "name",
    "processes",
    "share_of_cores",
    "signals_noted",
    "threads",
]

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""What asks a process to stop: Ctrl-C, and what `kill` and batch systems send."""

POLL, ORPHANED = 0.2, 5.0
"""Seconds between looks for the process that started this one, and those that it lives on alone."""

FEEDER, FED = "QueueFeederThread", 5.0
"""What loky calls a thread that puts work into a queue, and seconds that it may take to end."""


def name() -> str:
    """Processor, cores and operating system, in a line."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.split(":")[1].strip()
                break
    return f"{processor}, {cores()} cores, {platform.system()} {platform.machine()}"


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_of_cores(jobs: int) -> int:
    """How many cores each of `jobs` jobs can have to itself, at least one."""
    return max(1, cores() // jobs)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within, torch, numpy, scipy and scikit-learn compute with `count` threads.

    The last bits of a sum depend on how many threads share it.
    """
    import sklearn  # noqa: F401  limits reach only what is loaded
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


@cache
def end_after(parent: int) -> None:
    """Ends this process a while after its parent is gone: nobody would take its results.

    The while is for what it does to be kept.

    Arguments:
        parent: Number of the process that started this one.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        time.sleep(ORPHANED)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def processes(count: int, threads: int) -> Iterator[Executor]:
    """Within, `count` processes of so many threads each, which end with it, whatever they do.

    So does the thread that feeds them, for which loky does not wait: it may be the last to know of
    a semaphore, which would be told of as leaked if the program ended before the thread.
    """
    from loky import ProcessPoolExecutor

    before = set(threading.enumerate())
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    executor = ProcessPoolExecutor(max_workers=count, env=variables)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, kill_workers=True)
        for thread in set(threading.enumerate()) - before:
            if thread.name == FEEDER:
                thread.join(FED)


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM are ignored; processes started here ignore them for good.

    Outside the main thread, where signals cannot be set, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_noted() -> Iterator[Callable[[], int | None]]:
    """Within, a first Ctrl-C or SIGTERM is only noted; a second Ctrl-C interrupts at once.

    Signals that are ignored stay ignored. Outside the main thread nothing changes.

    Yields:
        A function that gives the number of the signal that came, or `None`.
    """
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if noted and number == signal.SIGINT:
            raise KeyboardInterrupt
        noted.append(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        heard = [n for n in STOPPING if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, note) for number in heard}
    try:
        yield lambda: noted[0] if noted else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
