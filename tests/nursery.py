"""Processes of the program that begin at once, forked from one that has imported all they need.

A fresh process takes seconds to import torch before it does anything. One of these is a process
like any other, with a group of its own: it can be interrupted, killed and waited for. They come
from Python's own fork server, which has no threads and has computed nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path

import program
from vaelab.cli import main

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),  # the server's is not ours
}
PRELOADED = [
    "program",
    "vaelab.comparison",
    "vaelab.report",
    "vaelab.plots",
    "matplotlib.pyplot",
    "loky",
    "sklearn.linear_model",
    "sklearn.neighbors",
    "scipy.stats",
]
CONTEXT = multiprocessing.get_context("forkserver")


class Forked:
    """What the tests use of `subprocess.Popen`."""

    count = 0

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        *,
        most_bytes: int | None = None,
        drawn: bool = True,
    ) -> None:
        """`most_bytes` limits the size of files; with `drawn` false there is no report."""
        Forked.count += 1
        self.paths = [folder.parent / f".{folder.name}.{Forked.count}.{n}" for n in ("out", "err")]
        for path in self.paths:
            path.touch()
        given = (arguments, folder, self.paths, most_bytes, drawn)
        self.process = CONTEXT.Process(target=_run, args=given)
        self.process.start()
        self.pid = self.process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.process.is_alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What was written to standard output and standard error, once the process has ended."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, "the process did not end in time"
        out, err = (path.read_text() for path in self.paths)
        return out, err


def prepare() -> None:
    """Starts the server, and waits until it has imported all."""
    CONTEXT.set_forkserver_preload(PRELOADED)
    with _environment():
        forkserver.ensure_running()
    first = CONTEXT.Process(target=int)
    first.start()
    first.join()


@contextmanager
def _environment() -> Iterator[None]:
    """The environment of the server, and so of all that it forks."""
    before = dict(os.environ)
    os.environ.pop("COLUMNS", None)
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(
    arguments: list[str], folder: Path, paths: list[Path], most_bytes: int | None, drawn: bool
) -> None:
    os.setsid()
    for number, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    program.with_blobs()
    program.in_little_time()
    if not drawn:
        program.without_report()
    main(arguments)
