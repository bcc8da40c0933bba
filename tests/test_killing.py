"""Real processes, really killed: whatever happens, a run ends with the bits of one left alone."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nursery import ENVIRONMENT, Forked, prepare

PROGRAM = [sys.executable, str(Path(__file__).with_name("program.py"))]
TRAIN = ["train", "vae", "blobs", "--epochs", "120", "--checkpoint-seconds", "0", "--out"]
COMPARE = [
    "compare", "blobs", "--recipes", "vae,linear,conv", "--epochs", "12", "--particles", "2",
    "--jobs", "2", "--checkpoint-seconds", "0", "--out",
]  # fmt: skip


Process = Forked | subprocess.Popen[str]


def start(arguments: list[str], folder: Path, **how: Any) -> Forked:
    return Forked(arguments, folder, **how)


def start_afresh(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    """As `start`, but with all that a person waits for: seconds pass before anything is done."""
    return subprocess.Popen(
        [*PROGRAM, *arguments], cwd=folder, env=os.environ | ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finish(
    arguments: list[str], folder: Path, begin: Callable[..., Process] = start, **how: Any
) -> str:
    process = begin(arguments, folder, **how)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return err


def result(model: Path) -> tuple[bytes, list[dict[str, float]], dict[str, object]]:
    """Weights, history and figures of a model folder, all but the time."""
    history = [json.loads(line) for line in (model / "history.jsonl").read_text().splitlines()]
    config = json.loads((model / "config.json").read_text())
    config["figures"].pop("seconds", None)
    for record in history:
        del record["seconds"]
    return (model / "model.safetensors").read_bytes(), history, config


@pytest.fixture(scope="module", autouse=True)
def _nursery() -> None:
    prepare()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run that was left alone, and how many seconds it took."""
    return run_whole(tmp_path_factory, start)


@pytest.fixture(scope="module")
def whole_afresh(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    return run_whole(tmp_path_factory, start_afresh)


def run_whole(factory: pytest.TempPathFactory, begin: Callable[..., Process]) -> tuple[Path, float]:
    folder = factory.mktemp("whole")
    began = time.monotonic()
    finish([*TRAIN, "run"], folder, begin)
    return folder / "run", time.monotonic() - began


def kill_and_resume(
    times: int, seed: int, whole: tuple[Path, float], folder: Path, begin: Callable[..., Process]
) -> None:
    """Kills a run at random moments of its whole life, each time going on from where it stood."""
    rng = random.Random(seed)
    reference, seconds = whole
    killed, arguments = 0, [*TRAIN, "run", "--resume"]
    for moment in sorted(rng.uniform(0.0, seconds) for _ in range(times)):  # one before the end
        process = begin(arguments, folder)
        time.sleep(moment)
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert killed > 0
    finish(arguments, folder, begin)
    assert result(folder / "run") == result(reference)
    assert not [path for path in folder.rglob("*.part") if path.parent.name == "checkpoints"]


def test_three_kills_change_no_bit(whole: tuple[Path, float], tmp_path: Path) -> None:
    kill_and_resume(3, 0, whole, tmp_path, start)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_twenty_kills_change_no_bit(
    seed: int, whole_afresh: tuple[Path, float], tmp_path: Path
) -> None:
    kill_and_resume(4, seed, whole_afresh, tmp_path, start_afresh)


def wait_for(pattern: str, folder: Path, process: Process) -> None:
    for _ in range(6000):
        if next(folder.glob(pattern), None) is not None:
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    pytest.fail(f"{pattern} did not appear")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_the_state_and_tells_how_to_go_on(
    number: signal.Signals, code: int, whole: tuple[Path, float], tmp_path: Path
) -> None:
    process = start([*TRAIN, "run"], tmp_path)
    wait_for("run/checkpoints/step-*", tmp_path, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    line = err.strip().splitlines()[-1]
    assert line.startswith("error: interrupted at step ")
    told, _, command = line.partition("; continue with: vaelab ")
    assert told.endswith(" of 1,080; the state is kept")
    finish(shlex.split(command), tmp_path)
    assert result(tmp_path / "run") == result(whole[0])


def test_two_processes_do_not_write_to_the_same_folder(tmp_path: Path) -> None:
    endless = [*TRAIN, "run", "--epochs", "100000"]
    first = start(endless, tmp_path)
    try:
        wait_for("run/checkpoints/step-*", tmp_path, first)
        second = start([*endless, "--resume"], tmp_path)
        _, err = second.communicate(timeout=60)
        assert first.poll() is None, "the first must have gone on meanwhile"
    finally:
        first.kill()
        first.communicate()
    assert second.returncode == 1
    assert err.startswith("error: run/checkpoints is in use by another process")
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on the size of files")
def test_a_disk_without_room_leaves_the_last_checkpoint_intact(
    whole: tuple[Path, float], tmp_path: Path
) -> None:
    """A limit on the size of files stands in for a full disk: the system refuses to write."""
    process = start([*TRAIN, "run"], tmp_path)
    wait_for("run/checkpoints/step-*", tmp_path, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    before = {path: path.read_bytes() for path in tmp_path.glob("run/checkpoints/step-*")}
    limited = start([*TRAIN, "run", "--resume"], tmp_path, most_bytes=200 * 1024)
    _, err = limited.communicate(timeout=300)
    lines = err.splitlines()
    assert limited.returncode == 1
    assert lines[0].startswith("note: no checkpoint could be written to run/checkpoints")
    assert lines[0].endswith("those that are there are intact; training goes on.")
    assert lines[-1] == "error: run: File too large."
    assert {path: path.read_bytes() for path in tmp_path.glob("run/checkpoints/step-*")} == before
    finish([*TRAIN, "run", "--resume"], tmp_path)
    assert result(tmp_path / "run") == result(whole[0])


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison that was left alone."""
    folder = tmp_path_factory.mktemp("compared")
    finish([*COMPARE, "run"], folder, drawn=False)
    return folder / "run"


@pytest.mark.parametrize("how", ["kill", "interrupt", "terminate"])
def test_a_comparison_goes_on_where_it_stood(how: str, compared: Path, tmp_path: Path) -> None:
    process = start([*COMPARE, "run"], tmp_path, drawn=False)
    wait_for("run/*/model.safetensors", tmp_path, process)
    if how == "kill":
        process.kill()
        process.communicate()
    else:
        number = {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM}[how]
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=90)
        assert process.returncode == 128 + number
        assert "; continue with: vaelab compare blobs" in err.splitlines()[-1], err
    models = list(tmp_path.glob("run/*/model.safetensors"))
    finished = {path: path.stat().st_mtime_ns for path in models}
    assert not (tmp_path / "run/metrics.json").exists()
    finish([*COMPARE, "run", "--resume"], tmp_path, drawn=how == "kill")
    for path, before in finished.items():
        assert path.stat().st_mtime_ns == before, "finished recipes stay untouched"
    for name in ("vae", "linear", "conv"):
        assert result(tmp_path / "run" / name) == result(compared / name)
    folders = (tmp_path / "run", compared)
    documents = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    for document in documents:
        for figures in document["models"].values():
            del figures["seconds"]
    assert documents[0] == documents[1]


def test_a_comparison_is_not_resumed_with_other_settings(tmp_path: Path) -> None:
    quick = ["compare", "blobs", "--recipes", "linear", "--epochs", "1", "--out", "run"]
    finish(quick, tmp_path, drawn=False)
    for change, message in (
        (["--seed", "1"], "settings.seed was 0 and is now 1"),
        (["--recipes", "vae"], "recipes was ['linear'] and is now ['vae']"),
        (["--batch-size", "7"], "settings.batch_size was None and is now 7"),
    ):
        process = start([*quick, *change, "--resume"], tmp_path)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert f"error: run holds a run with other settings: {message}; resume it" in err
