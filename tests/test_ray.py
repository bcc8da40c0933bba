"""Work on a Ray cluster: the bits of one process, whoever dies, each row exactly once."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from vaelab.comparison import compare
from vaelab.records import Dataset

NAMES = ["vae", "linear"]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of two workers on this machine, which can import the tests too."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        import ray

        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=120 * 2**20,
        )
        yield ray
        ray.shutdown()


class Dying:
    """A progress whose first run is killed in the midst of training, after a checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, position: int) -> Any:
        first = self.folder / f"{name}-first"
        again = first.exists()
        first.touch()

        def hear(event: str, values: Mapping[str, float]) -> None:
            if event == "step":
                with (self.folder / f"{name}-steps").open("a") as file:
                    file.write(f"{int(values['step'])}\n")
            kept = any((self.folder / "runs" / name / "checkpoints").glob("step-*"))
            if name == "vae" and not again and kept:
                os.kill(os.getpid(), signal.SIGKILL)

        return hear


def bits(run: Any, test: Dataset) -> dict[str, Any]:
    figures = {n: dict(f) | {"seconds": 0} for n, f in run.figures.items()}
    codes = {n: v.transform(test).tobytes() for n, v in run.models.items()}
    return {"figures": figures, "codes": codes}


def test_a_comparison_on_ray_is_that_of_one_process_though_a_worker_is_killed(
    ray: Any, train: Dataset, test: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    given = {"epochs": 3, "particles": 2, "jobs": 2}
    here = compare(NAMES, train, test, **{**given, "jobs": 2})
    there = compare(
        NAMES, train, test, out=folder, engine="ray", progress=Dying(tmp_path),
        checkpoint_seconds=0.01, **given,
    )  # fmt: skip
    assert bits(there, test) == bits(here, test)
    steps = list(map(int, (tmp_path / "vae-steps").read_text().split()))
    assert len(steps) > max(steps), "some steps were done twice"
    assert steps.count(1) == 1, "but not the first: it went on from a checkpoint"
    assert sorted(p.name for p in folder.iterdir()) == ["linear", "metrics.json", "vae"]
