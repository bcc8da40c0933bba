"""Several processes train one model: its weights are those of one process up to rounding."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import vaelab.data
from conftest import blobs
from nursery import CONTEXT, ENVIRONMENT, prepare
from program import in_little_time, with_blobs
from vaelab import checkpoints, checks, recipes
from vaelab.checkpoints import Snapshot
from vaelab.cli import cli, main
from vaelab.cli.shared import note
from vaelab.distributions import DiagonalNormal, Share, SharedNormal
from vaelab.objectives import ELBO
from vaelab.ranks import Ranks, _take_gpu
from vaelab.records import Checkpoints, Training
from vaelab.separation import Separation
from vaelab.shuffling import Shuffle
from vaelab.tensors import as_tensor
from vaelab.training import Trained, train
from vaelab.training._draws import Draws
from vaelab.training._loop import Loop

PROGRAM = Path(__file__).with_name("program.py")

DATA = blobs(39)
QUICK = Training(epochs=2, batch_size=12)
"""37 data are trained on: the last of the four batches of an epoch has one, so that of two or
three processes all but the first have none."""

RECIPES = ["vae", "beta", "iwae", "vamp", "conv", "conditional"]

TOLERANCE = 5e-5
"""Most by which weights may differ after eight steps for the order of sums; a tenth was seen."""


@pytest.fixture(scope="module", autouse=True)
def _nursery() -> None:
    prepare()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def place(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun puts into the environment of a process."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }


Work = Callable[..., Snapshot]


def together(count: int, folder: Path, work: Work, **given: Any) -> list[Snapshot]:
    """What a function of this file returns in each of several processes of a group."""
    port = free_port()
    given["folder"] = folder
    members = [
        CONTEXT.Process(target=member, args=(place(rank, count, port), work, given))
        for rank in range(count)
    ]
    for process in members:
        process.start()
    ended(members, folder)
    paths = [folder / f"result-{rank}" for rank in range(count)]
    return [checkpoints.unpack(path.read_bytes()) for path in paths]


def ended(members: list[Any], folder: Path) -> None:
    """Waits for processes, which must end well; none is left behind."""
    try:
        for process in members:
            process.join(120)
            told = folder / "err-0"
            assert process.exitcode == 0, told.read_text() if told.exists() else "see above"
    finally:
        for process in members:
            process.kill()


def member(environment: dict[str, str], work: Work, given: dict[str, Any]) -> None:
    os.environ.update(ENVIRONMENT | environment)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    result = work(**given)
    (given["folder"] / f"result-{environment['RANK']}").write_bytes(checkpoints.pack(result))
    torch.distributed.destroy_process_group()


def run(name: str = "vae", settings: Training = QUICK, seed: int = 0, **given: Any) -> Trained:
    recipe = recipes.build(name, DATA.shape, {"classes": 3} if name == "conditional" else {})
    y = torch.from_numpy(DATA.y) if name == "conditional" else None
    x = as_tensor(DATA.x)
    return train(recipe.model(), recipe.objective, x, settings=settings, y=y, seed=seed, **given)


def result(trained: Trained, name: str = "") -> Snapshot:
    weights = {name + key: tensor for key, tensor in trained.model.state_dict().items()}
    return Snapshot({name + "history": trained.history}, weights)


def every(folder: Path) -> Snapshot:
    """All kinds of models, one after the other; and the rows that the first of them read."""
    rows: list[torch.Tensor] = []
    read = Loop._at

    def noted(loop: Loop, wanted: torch.Tensor, share: Any = None) -> Any:
        rows.append(wanted)
        return read(loop, wanted, share)

    found = Snapshot({}, {})
    for name in RECIPES:
        settings = replace(QUICK, binarize="dynamic") if name == "beta" else QUICK
        Loop._at = noted if name == "vae" else read  # type: ignore[method-assign]
        one = result(run(name, settings), f"{name}.")
        found = Snapshot(found.values | one.values, found.tensors | one.tensors)
    return Snapshot(found.values, found.tensors | {"rows": torch.cat(rows)})


def distance(first: Snapshot, second: Snapshot, name: str = "vae") -> float:
    """The largest difference between the weights of a recipe."""
    keys = {key for key in first.tensors if key.startswith(f"{name}.")}
    assert keys == {key for key in second.tensors if key.startswith(f"{name}.")} != set()
    return max(float((first.tensors[key] - second.tensors[key]).abs().max()) for key in keys)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return every(tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module", params=[2, 3])
def several(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Snapshot]:
    return together(request.param, tmp_path_factory.mktemp("several"), every)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """What two processes that are left alone make of the first recipe."""
    return together(2, tmp_path_factory.mktemp("pair"), plain)[0]


def plain(folder: Path) -> Snapshot:
    return result(run(), "vae.")


@pytest.mark.parametrize("name", RECIPES)
def test_weights_are_those_of_one_process(
    name: str, alone: Snapshot, several: list[Snapshot]
) -> None:
    assert distance(alone, several[0], name) < TOLERANCE
    for other in several[1:]:
        assert distance(several[0], other, name) == 0
        assert other.values == several[0].values
    for one, many in zip(
        alone.values[f"{name}.history"], several[0].values[f"{name}.history"], strict=True
    ):
        assert one.keys() == many.keys()
        for key in one.keys() - {"seconds"}:
            assert many[key] == pytest.approx(one[key], rel=1e-4, abs=1e-5), key


def test_other_noise_is_told_from_rounding(alone: Snapshot) -> None:
    assert distance(alone, result(run(seed=1), "vae.")) > 100 * TOLERANCE


def test_each_datum_is_read_once_an_epoch(alone: Snapshot, several: list[Snapshot]) -> None:
    once = alone.tensors["rows"]
    assert len(once) == 2 * 37
    shares = [one.tensors["rows"] for one in several]
    assert sum(map(len, shares)) == len(once)
    assert torch.equal(torch.cat(shares).sort().values, once.sort().values)
    assert max(map(len, shares)) <= 2 * (3 * 12 / len(shares) + 1)


# ---------------------------------------------------------------- what a process has


@pytest.mark.parametrize("size", [0, 1, 2, 7, 12])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shares_make_the_whole(count: int, size: int) -> None:
    rows = torch.arange(size)
    shares = [Ranks(rank, count).share(rows) for rank in range(count)]
    assert torch.equal(torch.cat(shares), rows)
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("particles", [1, 3])
def test_noise_and_bits_of_shares_are_those_of_the_whole(particles: int) -> None:
    loc, scale, grey = torch.randn(7, 2), torch.rand(7, 2) + 0.1, torch.rand(7, 5, 5)
    torch.manual_seed(3)
    whole, bits = DiagonalNormal(loc, scale).rsample((particles,)), torch.bernoulli(grey)
    for rank in range(3):
        start, stop = Ranks(rank, 3).bounds(7)
        share = Share(torch.Generator().manual_seed(3), start, stop, 7)
        q = SharedNormal(loc[start:stop], scale[start:stop], share)
        assert torch.equal(q.rsample((particles,)), whole[:, start:stop])
        assert torch.equal(share.bits(grey[start:stop]), bits[start:stop])


def test_what_a_part_draws_by_itself_differs_by_process_and_step() -> None:
    def drawn(rank: int, step: int) -> float:
        draws = Draws(Ranks(rank, 2), torch.device("cpu"), seed=0)
        before = draws.states()["random"]
        assert draws.share(8, step) is not None
        number = float(torch.randn(()))
        assert torch.equal(draws.states()["random"], before), "the common draws do not move"
        return number

    places = [(0, 4), (1, 4), (0, 5), (1, 5)]
    numbers = [drawn(*place) for place in places]
    assert len(set(numbers)) == len(places)
    assert numbers == [drawn(*place) for place in places]


@pytest.mark.parametrize("passed", [0, 2])
def test_of_a_window_only_its_shares_are_read(passed: int) -> None:
    x = torch.arange(100.0)[:, None].expand(100, 5000).contiguous()
    reads: list[torch.Tensor] = []
    for rank in range(3):
        ranks, generator = Ranks(rank, 3), torch.Generator().manual_seed(0)
        how = {"batch_size": 11, "window": 30, "generator": generator}
        shuffle = Shuffle(x, torch.tensor([0, 50]), **how, ranks=ranks)  # type: ignore[arg-type]
        here: list[torch.Tensor] = []
        shuffle._read = here.append  # type: ignore[method-assign]
        wanted = torch.cat([ranks.share(rows) for rows in shuffle.rows(skip=passed)])
        assert torch.equal(torch.cat(here).sort().values, wanted.sort().values)
        reads.append(wanted)
    assert len(torch.cat(reads).unique()) == 98 - 11 * passed == sum(map(len, reads))


# ---------------------------------------------------------------- refusals


def refusals(folder: Path) -> Snapshot:
    """What is said of what cannot be trained together, and the steps that minutes give."""
    rank, lines = Ranks.here().rank, []
    batch = recipes.build("vae", DATA.shape).model()
    batch.parts["posterior"].network.norm = torch.nn.BatchNorm1d(4)
    x, objective = as_tensor(DATA.x), ELBO()
    other = replace(QUICK, weight_decay=0.1 * rank)
    used = folder / "used"
    if rank == 0:
        used.mkdir()
        (used / "step-1").touch()
    for refused in (
        lambda: run(separation=Separation(0.5)),
        lambda: train(batch, objective, x, settings=QUICK),
        lambda: run(seed=rank),
        lambda: run(settings=other),
        lambda: run(checkpoints=Checkpoints(used)),
    ):
        with pytest.raises((checks.ArgumentError, checks.StorageError, checks.TrainingError)) as e:
            refused()
        lines.append(str(e.value).replace(f"{folder}/", ""))
    timed = run(settings=Training(minutes=0.001, batch_size=12))
    return Snapshot({"lines": lines, "steps": timed.settings.steps}, {})


def test_what_cannot_be_shared_is_refused_in_a_line(tmp_path: Path) -> None:
    one, two = together(2, tmp_path, refusals)
    norm = "parts.posterior.network.norm is a BatchNorm1d,"
    batch = "but it depends on whole batches and 2 processes share them;"
    alike = "in what they were given"
    same = "give all processes the same data and settings."
    used = "used holds the checkpoints of another run; continue it by resuming, choose another "
    common = [
        f"separation = 0.5, {batch} set it to 0, or train in one process.",
        f"{norm} {batch} use LayerNorm, or train in one process.",
    ]
    other = f"another rank differs {alike}; {same}"
    mine = f"rank 0 and rank 1 differ {alike}: "
    assert one.values["lines"] == [*common, other, other, f"{used}folder, or remove it."]
    assert two.values["lines"] == [
        *common,
        f"{mine}seed was 0 and is now 1; {same}",
        f"{mine}training.weight_decay was 0.0 and is now 0.1; {same}",
        f"{used}folder, or remove it.",
    ]
    assert one.values["steps"] == two.values["steps"] >= 1


def test_compare_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in place(0, 2, 1).items():
        monkeypatch.setenv(name, value)
    line = "compare runs recipes side by side; start it without torchrun, or start train with it."
    with pytest.raises(checks.ArgumentError) as error:
        cli.main(["compare", "blobs"], standalone_mode=False)
    assert str(error.value) == line


def test_each_process_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in place(1, 2, 1).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(checks.ArgumentError) as error:
        _take_gpu(1)
    assert str(error.value) == (
        "nproc-per-node = 2, but each process takes a GPU, of which this machine has 1; "
        "give --nproc-per-node 1, or --device cpu."
    )


# ---------------------------------------------------------------- checkpoints and failures


def at_step(step: int, rank: int, act: Callable[[Any], Any]) -> None:
    """Lets one process act once, before it takes the gradient of a step."""
    take, done = Loop._gradient, []

    def acting(loop: Loop, *given: Any) -> Any:
        found = take(loop, *given)
        if loop.steps == step and loop.ranks.rank == rank and not done:
            done.append(step)
            return act(found)
        return found

    Loop._gradient = acting  # type: ignore[method-assign]


def asked(folder: Path) -> Snapshot:
    """A signal to the second process, in its third step."""

    def act(found: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return found

    write, written = checkpoints.write, []

    def noted(*given: Any) -> Any:
        written.append(given[1])
        return write(*given)

    checkpoints.write = noted
    signal.signal(signal.SIGINT, signal.default_int_handler)
    at_step(2, 1, act)
    with pytest.raises(checks.Interrupted) as told:
        run(checkpoints=Checkpoints(folder / "state"))
    known = {"line": str(told.value), "signal": told.value.signal, "written": written}
    return Snapshot(known, {})


def resumed(folder: Path) -> Snapshot:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = result(run(checkpoints=Checkpoints(folder / "state", resume=True)), "vae.")
    lines = [str(one.message).replace(f"{folder}/", "") for one in told]
    return Snapshot(found.values | {"told": lines}, found.tensors)


def test_a_signal_to_one_stops_all_and_any_number_goes_on(pair: Snapshot, tmp_path: Path) -> None:
    stopped = together(2, tmp_path, asked)
    line = "interrupted at step 3 of 8; the state is kept"
    assert [one.values for one in stopped] == [
        {"line": line, "signal": signal.SIGTERM, "written": [3]},
        {"line": line, "signal": signal.SIGINT, "written": []},
    ]
    assert [path.name[:14] for path in (tmp_path / "state").glob("step-*")] == ["step-000000003"]
    for name in ("one", "three"):
        shutil.copytree(tmp_path / "state", tmp_path / name / "state")
    two = together(2, tmp_path, resumed)
    assert distance(two[0], pair) == distance(two[1], pair) == 0
    assert [one.values["told"] for one in two] == [[], []]
    three = together(3, tmp_path / "three", resumed)
    assert 0 <= distance(three[0], pair) < TOLERANCE
    more = "; training continues, but the last bits of its result may differ from those of a run "
    told = f"state: processes was 2 and is now 3{more}that was not interrupted."
    assert [one.values["told"] for one in three] == [[told], [], []]
    one = resumed(tmp_path / "one")
    assert 0 <= distance(one, pair) < TOLERANCE
    assert len(one.values["told"]) == 1


def spoilt(folder: Path) -> Snapshot:
    """Sums of the second process that are not finite, in the seventh step."""
    at_step(6, 1, lambda found: (found[0], found[1] * torch.nan))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = result(run(), "vae.")
    return Snapshot(found.values | {"told": [str(one.message) for one in told]}, found.tensors)


def test_all_go_back_where_the_loss_of_one_is_not_finite(pair: Snapshot, tmp_path: Path) -> None:
    one, two = together(2, tmp_path, spoilt)
    assert distance(one, two) == 0 < distance(one, pair)
    assert [record["recoveries"] for record in two.values["vae.history"]] == [0, 1]
    assert two.values["told"] == []
    (line,) = one.values["told"]
    assert line.startswith("the loss or its gradient is not finite at step 7; training goes on")


# ---------------------------------------------------------------- the program

TRAIN = ["train", "vae", "blobs", "--epochs", "20", "--checkpoint-seconds", "0", "--out", "run"]


def program(environment: dict[str, str], folder: Path) -> None:
    """The command line in one of several processes; what it tells goes to files."""
    os.environ.update(ENVIRONMENT | environment)
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{name}-{environment['RANK']}", os.O_WRONLY | os.O_CREAT), number)
    torch.set_num_threads(1)
    with_blobs()
    in_little_time()
    load = vaelab.data.load

    def telling(*given: Any, **named: Any) -> Any:
        sys.stdout.write("read\n")
        warnings.warn("look", checks.VaelabWarning, stacklevel=1)
        note("noted")
        return load(*given, **named)

    vaelab.data.load = telling
    main(TRAIN)


def files(folder: Path) -> tuple[bytes, dict[str, float]]:
    """Weights and figures of a model folder, all but the time."""
    figures = json.loads((folder / "config.json").read_text())["figures"]
    return (folder / "model.safetensors").read_bytes(), {**figures, "seconds": 0}


def begin(folder: Path, restarts: int = 0) -> list[Any]:
    """Two processes of the command line, as torchrun starts them."""
    folder.mkdir(exist_ok=True)
    port, count = free_port(), {"TORCHELASTIC_RESTART_COUNT": str(restarts)}
    places = [place(rank, 2, port) | count for rank in range(2)]
    members = [CONTEXT.Process(target=program, args=(here, folder)) for here in places]
    for process in members:
        process.start()
    return members


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes that were left alone."""
    folder = tmp_path_factory.mktemp("whole")
    ended(begin(folder), folder)
    return folder


def test_only_the_first_process_tells(whole: Path) -> None:
    assert [(whole / name).read_text() for name in ("out-1", "err-1")] == ["", ""]
    out, err = ((whole / name).read_text().splitlines() for name in ("out-0", "err-0"))
    assert out[0] == "read"
    assert any("ELBO" in line for line in out)
    assert err == ["note: look", "noted", "model: run"]


def test_a_killed_process_ends_the_others_and_all_go_on(whole: Path, tmp_path: Path) -> None:
    """What torchrun does, without its seconds: see the slow test of torchrun itself."""
    folder = tmp_path / "torn"
    members = begin(folder)
    wait_for_checkpoint(folder, members[0].is_alive)
    os.kill(members[1].pid, signal.SIGKILL)
    members[0].join(60)
    assert members[0].exitcode == 1
    lines = (folder / "err-0").read_text().splitlines()
    assert lines[:-1] == ["note: look", "noted"]
    assert lines[-1].startswith(
        "error: another of the processes that train together has ended; torchrun's --max-restarts "
        "goes on from the last checkpoint ("
    )
    ended(begin(folder, restarts=1), folder)
    assert files(folder / "run") == files(whole / "run")


@pytest.mark.slow
def test_torchrun_starts_killed_workers_anew_and_they_go_on(whole: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "--max-restarts", "1", str(PROGRAM), *TRAIN]
    surroundings = os.environ | ENVIRONMENT | {"GLOO_SOCKET_IFNAME": "lo"}
    with (tmp_path / "out").open("w") as out, (tmp_path / "err-0").open("w") as err:
        agent = subprocess.Popen(command, cwd=tmp_path, env=surroundings, stdout=out, stderr=err)
    try:
        wait_for_checkpoint(tmp_path, lambda: agent.poll() is None)
        workers = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        assert len(workers) == 2
        os.kill(int(workers[1]), signal.SIGKILL)
        told = agent.wait(120), (tmp_path / "err-0").read_text()
    finally:
        agent.kill()
    assert told[0] == 0, told[1]
    assert told[1].count("model: run") == 1
    assert files(tmp_path / "run") == files(whole / "run")
    assert "read\n" + (tmp_path / "out").read_text() == (whole / "out-0").read_text()


def wait_for_checkpoint(folder: Path, runs: Callable[[], bool]) -> None:
    for _ in range(1200):
        if next(folder.glob("run/checkpoints/step-*"), None) is not None:
            return
        assert runs(), (folder / "err-0").read_text()
        time.sleep(0.05)
    pytest.fail("no checkpoint appeared")
