"""Training on shards: every row once an epoch, a stated shuffle, flat memory, exact resuming."""

from __future__ import annotations

import itertools
import math
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import blobs
from test_shards import MEMORY, npy, parquet, put
from vaelab import VAE, Checkpoints, checks, data, load, streaming
from vaelab.cli import main
from vaelab.data import Shards
from vaelab.data.shards import ShardError, meant
from vaelab.ranks import Ranks
from vaelab.records import Training
from vaelab.streaming import Stream, Windows, sample
from vaelab.training._data import of

NONE = torch.zeros(0, dtype=torch.int64)
REALS = (-math.inf, math.inf)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pauses are short, and the memory file system is empty afterwards."""
    monkeypatch.setattr("vaelab.data.remote.PAUSES", (0.0, 0.0))
    yield
    empty()


def empty() -> None:
    MEMORY.store.clear()
    MEMORY.pseudo_dirs[:] = [""]


def numbered(counts: list[int], place: str = "memory://rows") -> Shards:
    """Shards whose rows hold their own number, counted over all."""
    empty()
    starts = [0, *itertools.accumulate(counts)]
    for k, count in enumerate(counts):
        put(f"{place}/{k:03}.npy", npy(starts[k] + np.arange(count, dtype=np.float32)[:, None]))
    return data.shards(place)


def windows(shards: Shards, batch: int, window: int, held: Any = NONE, seed: int = 0) -> Windows:
    generator = torch.Generator().manual_seed(seed)
    return Windows(
        shards, held, batch_size=batch, window=window, generator=generator, value_range=REALS
    )


def batches(made: Windows, skip: int = 0) -> list[list[int]]:
    return [made.at(rows).x.flatten().int().tolist() for rows in made.rows(skip)]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], int, int, torch.Tensor]:
    """Rows of each shard, rows a batch, rows a window, and rows that are held."""
    counts = draw(st.lists(st.integers(1, 7), min_size=1, max_size=7))
    total = sum(counts)
    held = draw(st.sets(st.integers(0, total - 1), max_size=total - 1))
    sizes = (draw(st.integers(1, 25)), draw(st.integers(1, 40)))
    return counts, *sizes, torch.tensor(sorted(held), dtype=torch.int64)


@settings(max_examples=50)
@given(cases())
def test_every_row_comes_once_an_epoch_and_is_resumed_exactly(
    case: tuple[list[int], int, int, torch.Tensor],
) -> None:
    counts, batch, window, held = case
    shards = numbered(counts)
    first = windows(shards, batch, window, held)
    whole = batches(first)
    state = first.generator.get_state()
    free = set(range(sum(counts))) - set(held.tolist())
    assert sorted(itertools.chain(*whole)) == sorted(free)
    assert len(whole) == first.steps == math.ceil(first.count / batch)
    assert first.count == len(free)
    assert all(len(one) == batch for one in whole[:-1])
    for skip in range(first.steps + 2):
        again = windows(shards, batch, window, held)
        rows = again.rows(skip)
        assert torch.equal(again.generator.get_state(), state), "all draws come first"
        assert [again.at(one).x.flatten().int().tolist() for one in rows] == whole[skip:]


def test_the_seed_and_the_epoch_make_the_order() -> None:
    shards = numbered([10] * 20)
    first, same, other = (windows(shards, 8, 40, seed=seed) for seed in (0, 0, 1))
    orders = [batches(first) for _ in range(3)]
    assert [batches(same) for _ in range(3)] == orders
    assert batches(other) not in orders
    assert len({str(order) for order in orders}) == 3


def noted(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The shards that are read from now on, in their order."""
    read: list[int] = []
    usual = Shards.rows

    def reading(self: Shards, k: int) -> Any:
        read.append(k)
        return usual(self, k)

    monkeypatch.setattr(Shards, "rows", reading)
    return read


def test_windows_that_are_passed_over_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = numbered([10] * 12)
    read = noted(shards, monkeypatch)
    for skip, expected in ((0, 12), (3, 12), (4, 9), (8, 6), (11, 6), (12, 3), (16, 0)):
        read.clear()
        batches(windows(shards, 8, 30), skip)
        assert len(read) == len(set(read)) == expected, skip


@pytest.mark.parametrize("count", [5, 50])
def test_memory_holds_two_windows_however_many_shards_there_are(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two windows of two shards each: the same for 5 shards and for 50."""
    rows, size = 16, 4096
    empty()
    for k in range(count):
        put(f"memory://large/{k}.npy", npy(np.full((rows, size), k, np.uint8)))
    shards = data.shards("memory://large")
    alive: list[int] = []
    held: list[tuple[weakref.ref[torch.Tensor], int]] = []
    usual, whole = Shards.rows, Windows._window

    def resident() -> int:
        return sum(size for one, size in held if one() is not None)

    def reading(self: Shards, k: int) -> Any:
        alive.append(resident())
        return usual(self, k)

    def kept(self: Windows, *given: Any) -> Any:
        piece = whole(self, *given)
        held.append((weakref.ref(piece.x), piece.x.nbytes))
        alive.append(resident())
        return piece

    monkeypatch.setattr(Shards, "rows", reading)
    monkeypatch.setattr(Windows, "_window", kept)
    made, seen = windows(shards, 5, 2 * rows), 0
    for batch in made.rows():
        seen += len(made.at(batch).x)
        alive.append(resident())
        assert len(held) <= seen // (2 * rows) + 2, "one window ahead"
    assert seen == count * rows
    assert rows * size <= max(alive) <= 2 * 2 * rows * size


def test_the_next_window_is_read_while_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = numbered([10] * 6)
    gate, read = threading.Event(), noted(shards, monkeypatch)
    noting = Shards.rows

    def waiting(self: Shards, k: int) -> Any:
        if len(read) == 2:
            assert gate.wait(10), "the first batch waits for the second window"
        return noting(self, k)

    monkeypatch.setattr(Shards, "rows", waiting)
    rows = windows(shards, 5, 20).rows()
    next(rows)
    assert len(read) == 2
    gate.set()
    for _ in range(500):
        if len(read) == 4:
            break
        time.sleep(0.01)
    assert len(read) == 4, "two windows of two shards, and no more"
    rows.close()  # type: ignore[attr-defined]


def test_shares_in_a_window_follow_the_law_of_clustered_sampling() -> None:
    """Shards of one class each: sd = √(p(1 − p) / B · (M − B) / (M − 1)), M = 60, B = 10."""
    shards = numbered([4] * 60)
    made = windows(shards, 40, 40)
    shares = []
    for _ in range(25):
        found = torch.tensor(batches(made))
        shares.append((found < 60).float().mean(1))  # shards 0 to 14: a quarter
    sd = float((torch.cat(shares) - 0.25).square().mean().sqrt())
    assert sd == pytest.approx(math.sqrt(0.25 * 0.75 / 10 * 50 / 59), rel=0.2)


def test_rows_of_a_shard_do_not_stay_together() -> None:
    order = list(itertools.chain(*batches(windows(numbered([50] * 8), 10, 200))))
    assert np.mean(np.abs(np.diff(order)) == 1) < 4 / 200
    one = numbered([4])
    made, counts = windows(one, 4, 4), dict.fromkeys(itertools.permutations(range(4)), 0)
    for _ in range(240):
        counts[tuple(batches(made)[0])] += 1
    assert sum((n - 10) ** 2 / 10 for n in counts.values()) < 49.7  # one seed in a thousand


def test_a_sample_has_rows_of_several_shards_with_their_numbers() -> None:
    shards = numbered([30] * 12)
    piece, rows = sample(shards, seed=1)
    assert piece.x.flatten().int().tolist() == rows.tolist()
    assert sorted(rows.tolist()) == list(range(360)), "few data are all taken"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "SAMPLED", 10)
        some = sample(shards, seed=1)[1]
        assert len({row // 30 for row in some.tolist()}) == 8
        patch.setattr(streaming, "WINDOW_BYTES", 4 * 40)
        few = sample(shards, seed=1)[1]
        assert len(few) == 40
        assert len({row // 30 for row in few.tolist()}) == 8


# Fitting.

TRAIN = blobs(360, seed=0)
SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 16, "training": {"window": 130}}


def shown(folder: Path | str, count: int = 9) -> Shards:
    """The blobs in shards of 40."""
    for k, part in enumerate(np.split(TRAIN.x, count)):
        put(f"{folder}/{k}.npy", npy(part))
    return data.shards(str(folder))


def same(first: VAE, second: VAE) -> bool:
    there, here = first.model_.state_dict(), second.model_.state_dict()
    return all(torch.equal(there[name], here[name]) for name in there)


def test_fitting_learns_as_from_memory_and_repeats() -> None:
    shards = shown("memory://blobs")
    streamed = VAE(epochs=12, batch_size=32, training={"window": 130}).fit(shards)
    again = VAE(epochs=12, batch_size=32, training={"window": 130}).fit(shards)
    whole = VAE(epochs=12, batch_size=32).fit(TRAIN)
    test = blobs(200, seed=1)
    assert same(streamed, again)
    assert streamed.score(test) == pytest.approx(whole.score(test), abs=2.5)
    assert streamed.score(test) > VAE(epochs=1, batch_size=360).fit(TRAIN).score(test) + 5
    assert streamed.data_["count"] == 360
    assert streamed.data_["fingerprint"] == shards.fingerprint
    assert streamed.likelihood_ == whole.likelihood_


def test_what_is_computed_of_shards_is_that_of_their_rows() -> None:
    shards = shown("memory://blobs")
    vae = VAE(**SETTINGS).fit(shards)
    assert np.allclose(vae.transform(shards), vae.transform(TRAIN.x), atol=1e-5)
    assert vae.score(shards) == pytest.approx(vae.score(TRAIN), abs=0.5)
    assert vae.score_samples(shards, particles=2).shape == (360,)


def test_held_rows_are_never_trained_on() -> None:
    stream = Stream(numbered([20] * 5))
    asked = Training(validation_fraction=0.4, batch_size=7, window=40)
    made = of(stream, None, asked, 0, labelled=False)
    order = made.batches(asked, torch.Generator(), Ranks())
    given = {int(one) for rows in order.rows() for one in made.at(rows).x.flatten()}
    held = {int(one) for one in made.valid.x.flatten()}
    assert len(held) == 40
    assert given == set(range(100)) - held


def test_a_conditional_model_takes_labels_from_the_shards() -> None:
    for k, rows in enumerate(np.split(np.arange(360), 6)):
        frame = pd.DataFrame(TRAIN.x[rows, 0, 4:8, 4:8].reshape(60, -1))
        frame.columns = [f"p{j}" for j in range(16)]
        names = np.array(TRAIN.class_names)[TRAIN.y[rows]]  # type: ignore[index]
        put(f"memory://table/{k}.parquet", parquet(frame.assign(kind=names)))
    shards = data.shards("memory://table", labels="kind")
    vae = VAE("conditional", **SETTINGS).fit(shards)
    assert vae.data_["class_names"] == ["left", "right", "top"]
    assert vae.transform(shards).shape == (360, 2)
    y = np.concatenate([shards.rows(k).y for k in range(6)])
    assert np.array_equal(vae.transform(shards, y), vae.transform(shards))
    assert not np.allclose(vae.transform(shards, (y + 1) % 3), vae.transform(shards))
    assert VAE(**SETTINGS).fit(shards).model_.classes == 0, "other recipes ignore labels"
    plain = shown("memory://blobs")
    with pytest.raises(checks.DataError) as caught:
        VAE("conditional", **SETTINGS).fit(plain)
    assert str(caught.value) == (
        "recipe 'conditional' needs labels that lie in the shards, but was given blobs without "
        "labels; name their column: shards(..., labels='class')."
    )


REFUSED: list[tuple[Any, str]] = [
    (
        lambda s: VAE(separation=0.5, **SETTINGS).fit(s),
        "separation = 0.5, but it needs the neighbours among all data, and these lie in shards; "
        "set it to 0.",
    ),
    (
        lambda s: VAE(epochs=1, training={"binarize": "static"}).fit(s),
        "binarize = 'static', but its bits are drawn for all data at once, and these lie in "
        "shards; use 'dynamic', or write shards of bits.",
    ),
    (
        lambda s: VAE().partial_fit(s),
        "blobs: is data in shards, never all in memory, but here all are needed; give one shard, "
        "shards.read(0) say, or another array.",
    ),
    (
        lambda s: data.load("memory://blobs"),
        "memory://blobs: is data in shards, which are not loaded into memory; train or encode "
        "them, or open them in Python with vaelab.data.shards.",
    ),
]


@pytest.mark.parametrize(("act", "message"), REFUSED)
def test_what_needs_all_data_is_refused(act: Any, message: str) -> None:
    shards = shown("memory://blobs")
    with pytest.raises(checks.VaelabError) as caught:
        act(shards)
    assert str(caught.value) == message


def test_values_outside_the_likelihoods_range_name_their_shard() -> None:
    for k in range(12):
        put(f"memory://unit/{k:02}.npy", npy(np.random.default_rng(k).random((20, 4))))
    shards = data.shards("memory://unit")
    odd = next(k for k in range(12) if 20 * k not in set(sampled_few(shards)))
    put(f"memory://unit/{odd:02}.npy", npy(np.full((20, 4), 7.0)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "SAMPLED", 10)
        with pytest.raises(ShardError) as caught:
            VAE(epochs=1, likelihood="bernoulli").fit(shards)
    assert str(caught.value).startswith(f"memory://unit: shard {odd:02}.npy: data range from 7 to")


def sampled_few(shards: Shards) -> list[int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "SAMPLED", 10)
        return [row - row % 20 for row in sample(shards)[1].tolist()]


@pytest.mark.parametrize("step", [3, 14, 30])
def test_a_shard_that_fails_ends_training_and_mended_it_goes_on_to_the_same_bits(
    step: int, tmp_path: Path
) -> None:
    shards = shown(tmp_path / "data")
    broken: list[Path] = []

    def breaks(event: str, values: Any) -> None:
        if event == "step" and values["step"] == step and not broken:
            for name in shards.names:  # all, so that the next window fails, whichever it is
                path = tmp_path / "data" / name
                broken.append(path.rename(path.with_suffix(".away")))

    whole = VAE(**SETTINGS | {"epochs": 3}).fit(shards)
    with pytest.raises(ShardError) as caught:
        VAE(checkpoints=tmp_path / "kept", callback=breaks, **SETTINGS | {"epochs": 3}).fit(shards)
    message = str(caught.value)
    named = next(name for name in shards.names if f"shard {name}" in message)
    assert message.startswith(f"{tmp_path / 'data'}: shard {named}: cannot be read, after 3 tries")
    assert message.endswith("; the state is kept.")
    stood = int(message.split("Training stands at step ")[1].split()[0])
    assert step <= stood < step + 2 * 130 // 16 + 2
    for path in broken:
        path.rename(path.with_suffix(".npy"))
        path.with_suffix(".npy").touch()
    resumed = Checkpoints(tmp_path / "kept", resume=True)
    seen: list[float] = []
    vae = VAE(
        checkpoints=resumed,
        callback=lambda event, values: seen.append(values["step"]) if event == "step" else None,
        **SETTINGS | {"epochs": 3},
    ).fit(data.shards(tmp_path / "data"))
    assert seen[0] == stood + 1
    assert same(vae, whole)


def test_other_shards_are_another_run(tmp_path: Path) -> None:
    shards = shown(tmp_path / "data")
    VAE(checkpoints=tmp_path / "kept", **SETTINGS).fit(shards)
    put(f"{tmp_path}/data/3.npy", npy(TRAIN.x[:40]))
    with pytest.raises(checks.StorageError, match="other settings or data: data was"):
        VAE(checkpoints=Checkpoints(tmp_path / "kept", resume=True), **SETTINGS).fit(
            data.shards(tmp_path / "data")
        )


def test_all_processes_end_where_one_cannot_read() -> None:
    class Others(Ranks):
        def any(self, flag: bool) -> bool:
            return True

    made = windows(numbered([4] * 3), 2, 4)
    made.ranks = Others()
    with pytest.raises(ShardError) as caught:
        next(made.rows())
    assert str(caught.value) == "memory://rows: another process could not read a shard."


# The command line.


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("VAELAB_QUIET", "")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        return int(ended.value.code or 0), *capfd.readouterr()

    return call


QUICK = ("--epochs", 2, "--batch-size", 32, "--set", "training.window=100")


@pytest.mark.filterwarnings("ignore:log p:vaelab.checks.VaelabWarning")
@pytest.mark.parametrize("address", [False, True])
def test_the_command_trains_on_shards_and_encodes_them(
    run: Run, address: bool, tmp_path: Path
) -> None:
    shown(tmp_path / "blobs")
    place = (tmp_path / "blobs").as_uri() if address else str(tmp_path / "blobs")
    out, codes = tmp_path / "model", tmp_path / "codes.csv"
    code, _, err = run("train", "vae", place, "--out", out, *QUICK)
    assert code == 0, err
    vae = load(out)
    assert vae.data_["count"] == 320, "one shard of nine is for the test"
    assert vae.figures_["elbo"] < 0  # type: ignore[attr-defined]
    code, _, err = run("encode", out, place, "--out", codes)
    assert code == 0, err
    frame = pd.read_csv(codes)
    assert set(frame["split"]) == {f"{k}.npy" for k in range(9)}
    assert len(frame) == 360
    one = frame[frame["split"] == "4.npy"].sort_values("row")[["mean_1", "mean_2"]].to_numpy()
    assert np.allclose(one, vae.transform(TRAIN.x[160:200]), atol=1e-4)


@pytest.mark.filterwarnings("ignore:log p:vaelab.checks.VaelabWarning")
def test_the_command_tells_how_to_go_on_once_a_shard_is_mended(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown(tmp_path / "blobs")
    words = ("train", "vae", tmp_path / "blobs", "--out")
    code, _, err = run(*words, tmp_path / "whole", *QUICK)
    assert code == 0, err
    usual, left = Shards.rows, [14]  # 9 for the samples, and 5 more: one window and the next

    def failing(self: Shards, k: int) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise ShardError(f"{self.location}: shard {self.names[k]}: cannot be read.")
        return usual(self, k)

    with monkeypatch.context() as patch:
        patch.setattr(Shards, "rows", failing)
        code, _, err = run(*words, tmp_path / "model", *QUICK)
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 1
    assert "npy: cannot be read. Training stands at step " in line
    assert f"; the state is kept. Continue with: vaelab train vae {tmp_path}/blobs" in line
    assert line.endswith(" --resume")
    code, _, err = run(*words, tmp_path / "model", *QUICK, "--resume")
    assert code == 0, err
    assert same(load(tmp_path / "model"), load(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--limit", 50),
            "--limit 50, but data in shards are taken as they are; leave it out.",
        ),
        (
            ("--read", "column=a"),
            "--read column=a, but it means nothing for data in shards; leave it out.",
        ),
        (("--separation", 1), "separation = 1, but it needs the neighbours among all data, and"),
    ],
)
def test_what_means_nothing_for_shards_is_refused(
    run: Run, words: tuple[object, ...], message: str, tmp_path: Path
) -> None:
    shown(tmp_path / "blobs")
    code, _, err = run("train", "vae", tmp_path / "blobs", "--out", tmp_path / "m", *QUICK, *words)
    assert code == 1
    assert f"error: {message}" in err


def test_only_folders_of_shards_alone_and_addresses_are_meant(tmp_path: Path) -> None:
    for name in ("arrays", "mixed", "pictures", "empty"):
        (tmp_path / name).mkdir()
    for name in ("arrays/0.npy", "arrays/1.npy", "mixed/0.npy"):
        (tmp_path / name).write_bytes(npy(TRAIN.x[:2]))
    for name in ("arrays/.notes", "mixed/notes.txt", "pictures/0.png"):
        (tmp_path / name).write_bytes(b"")
    found = [path.name for path in sorted(tmp_path.iterdir()) if meant(str(path))]
    assert found == ["arrays"]
    assert meant("s3://bucket/x")
    assert not meant(str(tmp_path / "arrays" / "0.npy"))
    assert not meant("mnist")


def test_shards_are_divided_whole_and_always_alike() -> None:
    shards = numbered([3, 4, 5, 6])
    train, test = shards.split(0.5, seed=3)
    assert sorted(train.names + test.names) == list(shards.names)
    assert (len(train.names), len(train) + len(test)) == (2, 18)
    assert shards.split(0.5, seed=3)[1].names == test.names
    assert len({train.fingerprint, test.fingerprint, shards.fingerprint}) == 3
    for part in (train, test):
        starts = [shards.read(shards.names.index(name)) for name in part.names]
        assert all(np.array_equal(part.read(k), one) for k, one in enumerate(starts))
    with pytest.raises(checks.DataError) as caught:
        numbered([3]).split()
    assert str(caught.value) == (
        "memory://rows: holds 1 shard, but at least 2 are needed: one to train on, one to test on."
    )
