"""Floor 1: the machine that runs this: its name, its cores, its threads."""

from __future__ import annotations

import os
import platform
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["cores", "interrupts_ignored", "name", "share_of_cores", "torch_threads"]


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
def torch_threads(count: int) -> Iterator[None]:
    """Within, torch computes with `count` threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Within, Ctrl-C is ignored, and processes that are started here ignore it for good.

    Outside the main thread, where signals cannot be set, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
