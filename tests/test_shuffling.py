"""Shuffling: every row once an epoch, exact resuming, the law of clustered sampling, memory."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from vaelab import checks, shuffling
from vaelab.shuffling import Shuffle, window_rows
from vaelab.tensors import as_tensor

NONE = torch.zeros(0, dtype=torch.int64)


def numbered(count: int) -> torch.Tensor:
    """Rows of four bytes that hold their own number."""
    return torch.arange(count, dtype=torch.float32)[:, None]


def shuffle(
    x: torch.Tensor, batch: int, window: int, held: torch.Tensor = NONE, seed: int = 0
) -> Shuffle:
    generator = torch.Generator().manual_seed(seed)
    return Shuffle(x, held, batch_size=batch, window=window, generator=generator)


def rows(batches: Iterator[torch.Tensor]) -> list[int]:
    return torch.cat(list(batches)).flatten().int().tolist()


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, int, int, int, torch.Tensor]:
    """Bytes a block, rows, rows a batch, rows a window, and rows that are held."""
    count = draw(st.integers(1, 70))
    held = draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
    sizes = (draw(st.integers(1, 40)), count, draw(st.integers(1, 90)), draw(st.integers(1, 90)))
    return *sizes, torch.tensor(sorted(held), dtype=torch.int64)


@given(cases())
def test_every_row_comes_once_an_epoch_in_full_batches(
    case: tuple[int, int, int, int, torch.Tensor],
) -> None:
    block, count, batch, window, held = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffling, "BLOCK_BYTES", block)
        made = shuffle(numbered(count), batch, window, held)
        for _ in range(2):
            lengths = [len(b) for b in made.epoch()]
            assert sorted(rows(made.epoch())) == sorted(set(range(count)) - set(held.tolist()))
    assert len(lengths) == made.steps == math.ceil(made.count / batch)
    assert sum(lengths) == made.count == count - len(held)
    assert all(length == batch for length in lengths[:-1])
    assert 0 < lengths[-1] <= batch


@given(cases())
def test_an_epoch_is_resumed_exactly_at_any_batch(
    case: tuple[int, int, int, int, torch.Tensor],
) -> None:
    block, count, batch, window, held = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffling, "BLOCK_BYTES", block)
        first = shuffle(numbered(count), batch, window, held)
        whole = [b.flatten().tolist() for b in first.epoch()]
        for skip in range(first.steps + 2):
            again = shuffle(numbered(count), batch, window, held)
            batches = again.epoch(skip)
            state = again.generator.get_state()
            assert torch.equal(state, first.generator.get_state()), "all draws come first"
            assert [b.flatten().tolist() for b in batches] == whole[skip:]
            assert torch.equal(state, again.generator.get_state())


@pytest.mark.parametrize("window", [100, 1000])
def test_the_seed_and_the_epoch_make_the_order(
    window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffling, "BLOCK_BYTES", 16)
    x = numbered(1000)
    first, same, other = (shuffle(x, 32, window, seed=seed) for seed in (0, 0, 1))
    orders = [rows(first.epoch()) for _ in range(3)]
    assert [rows(same.epoch()) for _ in range(3)] == orders
    assert rows(other.epoch()) not in orders
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("window", [20, 100])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(3,), (1, 4, 5)])
def test_a_file_gives_the_batches_that_memory_gives(
    tmp_path: Path, shape: tuple[int, ...], dtype: type, window: int
) -> None:
    array = np.random.default_rng(0).integers(0, 256, (100, *shape)).astype(dtype)
    np.save(tmp_path / "x.npy", array)
    mapped = as_tensor(np.load(tmp_path / "x.npy", mmap_mode="r"))
    pairs = zip(
        shuffle(mapped, 8, window).epoch(),
        shuffle(as_tensor(array), 8, window).epoch(),
        strict=True,
    )
    for left, right in pairs:
        assert torch.equal(left, right)
        assert left.shape[1:] == shape
        assert left.dtype == mapped.dtype


class Reads(TorchFunctionMode):
    """Keeps the rows that are gathered from data."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[int]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if getattr(func, "__name__", "") == "index_select":
            self.rows.append(args[2].tolist())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("window", [30, 200])
def test_nothing_is_read_of_batches_that_are_passed_over(
    window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffling, "BLOCK_BYTES", 16)
    made = shuffle(numbered(200), 10, window)
    for skip in range(20):
        with Reads() as reads:
            wanted = rows(made.epoch(skip))
        assert set(itertools.chain(*reads.rows)) == set(wanted)
        assert len(wanted) == 200 - 10 * skip
    with Reads() as reads:
        assert list(made.epoch(20)) == []
    assert reads.rows == []


def test_a_window_is_read_forward_in_whole_blocks_before_its_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shuffling, "BLOCK_BYTES", 16)  # four rows
    with Reads() as reads:
        batches = list(shuffle(numbered(400), 10, 100).epoch())
    assert len(reads.rows) == 4 + len(batches)
    for k in range(4):
        window, *parts = reads.rows[k * 11 : (k + 1) * 11]
        assert window == sorted(window) == sorted(itertools.chain(*parts))
        assert all(window[i] % 4 == 0 and window[i + 3] == window[i] + 3 for i in range(0, 100, 4))


EPOCHS = 20
CLASSES = 10


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Epochs of 16,000 rows: 1,000 blocks of 16 rows, 100 blocks a window; `(epochs, rows)`."""
    monkeypatch.setattr(shuffling, "BLOCK_BYTES", 64)
    made = shuffle(numbered(16_000), 64, 1600)
    return torch.tensor([rows(made.epoch()) for _ in range(EPOCHS)])


def test_shares_in_a_window_follow_the_law_of_clustered_sampling(orders: torch.Tensor) -> None:
    """For a file sorted by class: sd = √(p(1 − p) / B · (M − B) / (M − 1)), M = 1000, B = 100."""
    windows = torch.nn.functional.one_hot(orders // 1600, CLASSES).float().view(-1, 1600, CLASSES)
    sd = float((windows.mean(1) - 0.1).square().mean().sqrt())
    assert sd == pytest.approx(math.sqrt(0.1 * 0.9 / 100 * 900 / 999), rel=0.1)


def test_no_batch_is_of_one_class(orders: torch.Tensor) -> None:
    batches = torch.nn.functional.one_hot(orders // 1600, CLASSES).float().view(-1, 64, CLASSES)
    assert batches.mean(1).max() < 0.4


def test_place_in_the_epoch_does_not_tell_the_place_in_the_file(orders: torch.Tensor) -> None:
    """1,000 blocks at random: correlations have a standard deviation of at most 1/√1000."""
    place = torch.arange(16_000.0)
    found = torch.stack(
        [torch.corrcoef(torch.stack([place, order.float()]))[0, 1] for order in orders]
    )
    assert found.abs().max() < 4 / math.sqrt(1000)
    assert abs(found.mean()) < 4 / math.sqrt(1000 * EPOCHS)
    neighbours = (orders[:, 1:] - orders[:, :-1]).abs() == 1
    assert neighbours.float().mean() < 4 / 1600, "rows of a block do not stay together"


def test_a_whole_permutation_is_uniform() -> None:
    made = shuffle(numbered(4), 4, 4)
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    for _ in range(2400):
        counts[tuple(rows(made.epoch()))] += 1
    chi_squared = sum((n - 100) ** 2 / 100 for n in counts.values())
    assert chi_squared < 49.7  # 23 degrees of freedom: one seed in a thousand is above


def test_the_window_follows_from_shape_and_type() -> None:
    def rows_of(count: int, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return window_rows(torch.zeros(1, *shape, dtype=dtype).expand(count, *shape))

    assert rows_of(2_000_000, (1, 28, 28), torch.uint8) == 2_000_000
    assert rows_of(2**21, (1024,), torch.uint8) == 2**21, "2 GiB are permuted as a whole"
    assert rows_of(2**21 + 1, (1024,), torch.uint8) == 2**28 // (1024 + 32)
    assert rows_of(2**21, (1024,), torch.float32) == 2**28 // (4096 + 32)
    assert rows_of(3, (2**30,), torch.uint8) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: shuffle(x, 0, 5), "batch_size = 0, but it must be a whole number"),
        (lambda x: shuffle(x, 1, 0), "window = 0, but it must be a whole number"),
        (lambda x: shuffle(x, 1, 5).epoch(-1), "skip = -1, but it must be a whole number"),
        (lambda x: shuffle(x, 1, 5, torch.arange(5)), "held = 5 rows, but at least one of the 5"),
    ],
)
def test_what_cannot_be_shuffled_is_refused(
    make: Callable[[torch.Tensor], object], message: str
) -> None:
    with pytest.raises(checks.ArgumentError, match=message):
        make(numbered(5))


MEASURE = """
import itertools, sys, numpy as np, torch
from vaelab.shuffling import Shuffle
from vaelab.tensors import as_tensor
def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))
x = as_tensor(np.load(sys.argv[1], mmap_mode="r"))
def made(x):
    held, generator = torch.arange(9), torch.Generator()
    return Shuffle(x, held, batch_size=100_000, window=1_000_000, generator=generator)
list(made(x[:1_500_000]).epoch())
before = anonymous()
print(max(anonymous() - before for _ in itertools.islice(made(x).epoch(), 60)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file of 160 MB, whose permutation would take as much; a byte a row makes 20 MB."""
    path, shape = tmp_path / "x.npy", (20_000_000, 8)
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).flush()
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, path],
        capture_output=True, text=True, check=True, timeout=120,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"},  # what is freed is given back
    )  # fmt: skip
    assert float(run.stdout) < 100
