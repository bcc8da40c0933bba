"""Data as tensors: memory-mapped files stay on disk, nothing is written to them, ranges hold."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from vaelab import checks, importance, latent, metrics, recipes, tensors
from vaelab.records import Training
from vaelab.tensors import as_tensor, check_data, to_float
from vaelab.training import train


def mapped(path: Path, array: np.ndarray) -> np.ndarray:
    np.save(path, array)
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("shape", [(9, 5), (9, 2, 4, 3), (9, 4, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_memory_map_is_shared_not_copied(
    tmp_path: Path, dtype: type, shape: tuple[int, ...]
) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    file = mapped(tmp_path / "x.npy", array)
    x = as_tensor(file)
    assert x.data_ptr() == file.ctypes.data
    assert np.array_equal(x.numpy().reshape(shape), array)
    assert x.shape == ((9, 1, 4, 3) if len(shape) == 3 else shape)


@pytest.fixture
def _warnings_always() -> Iterator[None]:
    """Torch warns of read-only arrays once a process; here each time."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.usefixtures("_warnings_always")
def test_only_the_warning_of_read_only_arrays_is_silenced() -> None:
    class Noisy:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            warnings.warn("other", stacklevel=1)
            return array

    array = np.zeros((3, 2), np.float32)
    array.flags.writeable = False
    with pytest.warns(UserWarning, match="The given NumPy array is not writable"):
        torch.from_numpy(array)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert as_tensor(array).data_ptr() == array.ctypes.data
        as_tensor(Noisy())
    assert [str(w.message) for w in caught] == ["other"]


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int8, np.float16, bool, ">f4"])
def test_other_types_are_converted(tmp_path: Path, dtype: type) -> None:
    array = np.array([[0, 1], [1, 0]]).astype(dtype)
    x = as_tensor(mapped(tmp_path / "x.npy", array))
    assert x.dtype == torch.float32
    assert x.tolist() == [[0, 1], [1, 0]]


def test_any_order_of_memory_gives_the_same_data(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.float32).reshape(5, 3, 4)
    for view in (np.asfortranarray(array), array[::-1], array.transpose(1, 2, 0), array[::2]):
        assert np.array_equal(as_tensor(view).numpy()[:, 0], view)
        file = mapped(tmp_path / "x.npy", view)
        assert np.array_equal(as_tensor(file).numpy()[:, 0], view)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 10, 102])
def test_the_first_row_that_is_not_finite_is_named(
    row: int, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "SCAN_BYTES", 4 * 4 * 10)  # ten rows at once
    array = np.zeros((103, 2, 2), np.float32)
    array[row:, 1, 0] = value
    with pytest.raises(checks.DataError, match=f"NaN or infinity, first in row {row}; remove"):
        as_tensor(array)


def test_the_range_is_checked_at_both_ends() -> None:
    x = torch.tensor([[0.25, 1.0], [0.0, 0.5]])
    assert check_data(x, (2,), (0.0, 1.0)) is x
    for low, high in ((0.1, 1.0), (0.0, 0.9)):
        with pytest.raises(checks.DataError, match=r"range from 0 to 1, but .* in \[0"):
            check_data(x, (2,), (low, high))
    with pytest.raises(checks.DataError, match=r"has shape \(2,\), but the model was"):
        check_data(x, (3,), (0.0, 1.0))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", recipes.RECIPES)
def test_nothing_writes_to_the_file(tmp_path: Path, name: str, dtype: type) -> None:
    """A write to a file that is mapped to be read would end the process."""
    levels = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8)).astype(np.uint8)
    array = levels if dtype is np.uint8 else (levels / 255).astype(np.float32)
    x = as_tensor(mapped(tmp_path / "x.npy", array))
    recipe = recipes.build(name, (1, 8, 8))
    settings = Training(epochs=1, batch_size=8)
    y = torch.arange(40) % 10 if recipe.model().classes else None
    model = train(recipe.model(), recipe.objective, x, y=y, settings=settings).model
    model = model if y is None else model.given(y[:1])
    metrics.per_datum(model, recipe.objective, x)
    importance.weigh(model, x, particles=2)
    latent.encode(model, x)
    assert np.array_equal(np.load(tmp_path / "x.npy"), array)


def test_computation_has_grey_levels_from_0_to_1_and_leaves_the_data_alone() -> None:
    x = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    assert to_float(x).tolist() == [[0.0, pytest.approx(0.2), 1.0]]
    assert x.tolist() == [[0, 51, 255]]
    y = torch.tensor([[0.5]])
    assert to_float(y) is y


MEASURE = """
import itertools, resource, sys
import numpy as np
from vaelab.tensors import as_tensor, batches, check_data
def kept():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))
files = [np.load(path, mmap_mode="r") for path in sys.argv[1:]]
for file in files:
    as_tensor(np.asarray(file[:10]))
resource.setrlimit(resource.RLIMIT_DATA, (kept() + 2**26, -1))  # room for 64 MiB, not for a copy
for file in files:
    x = check_data(as_tensor(file), file.shape[1:], (0.0, 1.0))
    print(sum(float(batch.sum()) for batch in itertools.islice(batches(x, 1000), 50)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and its limits")
def test_a_large_file_takes_no_memory(tmp_path: Path) -> None:
    """Files of 300 MB, without content (they take no room on the disk either)."""
    counts = {np.uint8: 400_000, np.float32: 100_000}
    paths = [tmp_path / f"{dtype.__name__}.npy" for dtype in counts]
    for path, (dtype, count) in zip(paths, counts.items(), strict=True):
        shape = (count, 1, 28, 28)
        np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert run.stdout.split() == ["0.0", "0.0"]
