"""The data sets that are known by name: one row each in the table at the foot of this file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vaelab.data import amat, digits, factors
from vaelab.data.pinned import File
from vaelab.records import Dataset

if TYPE_CHECKING:
    import numpy as np

__all__ = ["DATASETS", "OTHERS", "Entry", "Other"]


@dataclass(frozen=True)
class Entry:
    """What is known of a data set before any of it is read.

    Attributes:
        name: What it is called in `load` and on the command line.
        shape: Shape of one datum, `(C, H, W)`.
        train: Number of training data.
        test: Number of test data.
        licence: Licence, as the authors state it.
        class_names: What class `k` is called, at position `k`.
        files: Training images and labels, test images and labels; all IDX.
        mirrors: Addresses, ending in `/`, below which the gzipped files lie; tried in order.
        system: Folders where packages of the operating system put the files.
        fallback: Where no copy can be had: returns arrays in the order of `files`, and a source.
        offline: What that gives, in words.
    """

    name: str
    shape: tuple[int, ...]
    train: int
    test: int
    licence: str
    class_names: tuple[str, ...]
    files: tuple[File, File, File, File]
    mirrors: tuple[str, ...]
    system: tuple[Path, ...] = ()
    fallback: Callable[[], tuple[list[np.ndarray], str]] | None = None
    offline: str = ""


def _mnist_like(*sha256: str) -> tuple[File, File, File, File]:
    """The four files that MNIST and its successors share, with the SHA-256 of each."""
    train_images, train_labels, test_images, test_labels = sha256
    return (
        File("train-images-idx3-ubyte", 16 + 60_000 * 28 * 28, train_images),
        File("train-labels-idx1-ubyte", 8 + 60_000, train_labels),
        File("t10k-images-idx3-ubyte", 16 + 10_000 * 28 * 28, test_images),
        File("t10k-labels-idx1-ubyte", 8 + 10_000, test_labels),
    )


@dataclass(frozen=True)
class Other:
    """A data set that is made here, or read in a way of its own.

    Attributes:
        train, test, shape, licence: As for `Entry`.
        load: Gives the training and test data.
        folder: Gives the folder that its files must be in, and whether they are; `None` for what is
            made here.
    """

    name: str
    shape: tuple[int, ...]
    train: int
    test: int
    licence: str
    load: Callable[[], tuple[Dataset, Dataset]]
    folder: Callable[[], tuple[Path, bool]] | None = None


_ENTRIES = (
    Entry(
        name="mnist",
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        licence="CC BY-SA 3.0",
        class_names=tuple("0123456789"),
        files=_mnist_like(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        fallback=digits.read,
        offline=digits.CALLED,
    ),
    Entry(
        name="fashion-mnist",
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        licence="MIT",
        class_names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        files=_mnist_like(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        system=(Path("/usr/share/datasets/fashion-mnist"),),  # Debian's dataset-fashion-mnist
    ),
)

_OTHERS = (
    Other("shapes", (1, 28, 28), 5_120, 1_024, "Apache-2.0", factors.shapes),
    Other(amat.NAME, (1, 28, 28), 60_000, 10_000, "CC BY-SA 3.0", amat.load, amat.folder),
)

DATASETS = {entry.name: entry for entry in _ENTRIES}
OTHERS = {other.name: other for other in _OTHERS}
