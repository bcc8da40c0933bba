"""What the tests share: small data, and a random state that tests cannot leave changed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import settings

from vaelab.records import Dataset

settings.register_profile("vaelab", deadline=None, derandomize=True)  # the same examples each time
settings.load_profile("vaelab")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Fixtures of any scope compute with as many threads as tests: more may give other bits."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _torch_state() -> Iterator[None]:
    """Each test starts from the same global random state, with one thread."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _one_core() -> Iterator[None]:
    """Whatever the machine has, a comparison computes with one thread.

    Two on data as small as these wait for each other, and for the other tests' turn on the cores.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vaelab.machine.cores", lambda: 1)
        yield


def blobs(count: int, seed: int = 0, size: int = 12) -> Dataset:
    """Grey images of soft blobs in one of three places: the class is the place."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    centre = np.array([[3, 3], [8, 4], [5, 9]])[y] + rng.normal(0, 0.7, (count, 2))
    rows, columns = np.mgrid[:size, :size]
    square = (rows - centre[:, 0, None, None]) ** 2 + (columns - centre[:, 1, None, None]) ** 2
    images = np.exp(-square / rng.uniform(3, 8, (count, 1, 1)))
    return Dataset(
        x=(255 * images[:, None]).round().astype(np.uint8),
        y=y.astype(np.int64),
        name="blobs",
        split="train" if seed == 0 else "test",
        source="made by the tests",
        licence="none",
        class_names=("left", "right", "top"),
    )


@pytest.fixture(scope="session")
def train() -> Dataset:
    return blobs(600, seed=0)


@pytest.fixture(scope="session")
def test() -> Dataset:
    return blobs(200, seed=1)


@pytest.fixture(scope="module")
def brief_classifier() -> Iterator[None]:
    """The classifier that samples are judged by learns for an instant, where no test asks it much.

    It takes most of the time of a comparison of data as small as these. That it learns, and that
    what it says of samples is right, is tested in test_generation.py and test_evaluation.py.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vaelab.generation.MOST_EPOCHS", 2)
        yield
