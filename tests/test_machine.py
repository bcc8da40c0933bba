"""The machine: threads are limited for every library that computes, and given back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

import loky.backend.queues
import pytest
import sklearn  # noqa: F401  its libraries are among those that are counted
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from vaelab import machine


def counts() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info()} | {torch.get_num_threads()}


def test_threads_are_limited_in_all_libraries_and_given_back() -> None:
    before = torch.get_num_threads()
    with threadpool_limits(3):
        torch.set_num_threads(3)
        with machine.threads(2):
            assert counts() == {2}
            with machine.threads(1):
                assert counts() == {1}
        assert counts() == {3}
    torch.set_num_threads(before)


def test_libraries_that_are_not_loaded_yet_are_limited_too() -> None:
    """Some load linear algebra of their own."""
    code = (
        "from vaelab import machine\n"
        "with machine.threads(1):\n"
        "    import scipy.stats, sklearn.neighbors, torch\n"
        "    from threadpoolctl import threadpool_info\n"
        "    print({pool['num_threads'] for pool in threadpool_info()} | {torch.get_num_threads()})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"OMP_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "{1}"


@pytest.mark.parametrize(("cores", "jobs", "each"), [(8, 1, 8), (8, 3, 2), (2, 5, 1), (1, 1, 1)])
def test_jobs_share_the_cores(
    cores: int, jobs: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: cores)
    assert machine.share_of_cores(jobs) == each


def test_no_thread_outlives_the_processes_that_it_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the program's end, one could leave a semaphore half forgotten, and be told of for that."""
    feed = loky.backend.queues.Queue._feed

    def slow_to_end(*given: Any) -> None:
        feed(*given)
        time.sleep(0.5)

    monkeypatch.setattr(loky.backend.queues.Queue, "_feed", staticmethod(slow_to_end))
    before = set(threading.enumerate())
    with machine.processes(1, 1) as executor:
        assert executor.submit(abs, -3).result() == 3
        assert len(set(threading.enumerate()) - before) > 0
    assert set(threading.enumerate()) == before
