"""Trackers, against the real packages: every value given is read back from their stores."""

from __future__ import annotations

import contextlib
import logging
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vaelab import VAE, checks, trackers
from vaelab.records import Checkpoints, Dataset
from vaelab.trackers import TRACKERS, MLflow, TensorBoard, Tracker, combined, make

Event = tuple[str, dict[str, float]]
Curves = dict[str, list[tuple[int, float]]]

EPOCH = 7
"""Steps an epoch in the made-up trainings."""


def events(first: int, last: int) -> list[Event]:
    """What a training tells from step `first` to step `last`; exactly resumable."""
    told: list[Event] = []
    for step in range(first, last + 1):
        values = {"elbo": -100 / step, "rate": step / 3, "images": 64.0}
        told.append(("step", {"step": step, "steps": 28, **values}))
        if step % EPOCH == 0:
            record = {"epoch": step / EPOCH, "steps": float(step), "valid_elbo": -90 / step}
            told.append(("epoch", record))
    return told


def curves(told: list[Event], every: int) -> Curves:
    """The curves that should be kept of events, without repeated steps."""
    kept: dict[str, dict[int, float]] = {}
    for event, values in told:
        step = int(values["step"] if event == "step" else values["steps"])
        for name, value in values.items():
            if name not in ("step", "steps", "images") and (event == "epoch" or step % every == 0):
                kept.setdefault(f"{event}/{name}", {})[step] = value
    return {name: sorted(points.items()) for name, points in kept.items()}


def tell(tracker: Tracker, told: list[Event]) -> None:
    for event, values in told:
        tracker(event, values)


def from_tensorboard(folder: Path) -> Curves:
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it says what it purges
    store = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        name: [(e.step, e.value) for e in store.Scalars(name)] for name in store.Tags()["scalars"]
    }


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store in files: the one kind that mlflow-skinny has without further packages."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return (tmp_path / "mlruns").as_uri()


def runs(uri: str, experiment: str = "vaelab") -> list[Any]:
    """The runs of an experiment, the oldest first."""
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(reversed(client.search_runs([found.experiment_id])))


def from_mlflow(uri: str, run: Any) -> Curves:
    client = MlflowClient(tracking_uri=uri)
    return {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


def close_to(expected: Curves) -> Curves:
    """The curves as TensorBoard keeps them, in 32 bits."""
    return {k: [(step, float(np.float32(v))) for step, v in c] for k, c in expected.items()}


@pytest.mark.parametrize("every", [1, 3, 50])
def test_tensorboard_has_every_value(tmp_path: Path, every: int) -> None:
    with TensorBoard(tmp_path / "a" / "b", every=every) as tracker:
        tell(tracker, events(1, 28))
    found = from_tensorboard(tmp_path / "a" / "b")
    assert found == close_to(curves(events(1, 28), every))
    assert len(found["epoch/valid_elbo"]) == 4


@pytest.mark.parametrize("every", [1, 3, 50])
def test_mlflow_has_every_value(uri: str, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "BATCH", 5)
    with MLflow(run="vae", uri=uri, every=every) as tracker:
        tell(tracker, events(1, 28))
    [run] = runs(uri)
    assert from_mlflow(uri, run) == curves(events(1, 28), every)
    assert (run.info.run_name, run.info.status) == ("vae", "FINISHED")
    assert run.info.end_time is not None


def test_the_values_of_a_real_training_are_tracked(tmp_path: Path, uri: str) -> None:
    heard: list[Event] = []
    tools = (TensorBoard(tmp_path, every=2), MLflow(run="vae", uri=uri, every=2))
    callback = combined(*tools, lambda event, values: heard.append((event, dict(values))))
    x = np.random.default_rng(0).random((40, 4), dtype=np.float32)
    VAE("gaussian", epochs=3, batch_size=8, callback=callback).fit(x)
    for tool in tools:
        tool.close()
    expected = curves(heard, every=2)
    assert from_tensorboard(tmp_path) == close_to(expected)
    assert from_mlflow(uri, runs(uri)[0]) == expected
    assert {"step/elbo", "step/rate", "epoch/train_elbo", "epoch/valid_elbo"} <= set(expected)
    assert len(expected["epoch/valid_elbo"]) == 3


def test_a_resumed_training_goes_on_with_tensorboards_curves(tmp_path: Path) -> None:
    """Steps 15 to 17 come twice: the checkpoint was at step 14."""
    for told in (events(1, 17), events(15, 28)):
        with TensorBoard(tmp_path, every=4) as tracker:
            tell(tracker, told)
    assert from_tensorboard(tmp_path) == close_to(curves(events(1, 28), 4))


def test_a_closed_tracker_begins_anew_where_values_go_on(tmp_path: Path) -> None:
    tracker = TensorBoard(tmp_path, every=4)
    for told in (events(1, 14), events(15, 28)):
        tell(tracker, told)
        tracker.close()
    assert from_tensorboard(tmp_path) == close_to(curves(events(1, 28), 4))


def test_a_training_that_begins_again_replaces_tensorboards_curves(tmp_path: Path) -> None:
    for told in (events(1, 28), events(1, 10)):
        with TensorBoard(tmp_path, every=4) as tracker:
            tell(tracker, told)
    assert from_tensorboard(tmp_path) == close_to(curves(events(1, 10), 4))


def test_a_resumed_training_goes_on_with_its_unfinished_mlflow_run(uri: str) -> None:
    with MLflow(run="other", uri=uri) as tracker:
        tell(tracker, events(1, 7))
    with contextlib.suppress(KeyboardInterrupt), MLflow(run="vae", uri=uri, every=4) as tracker:
        tell(tracker, events(1, 17))
        raise KeyboardInterrupt
    assert [run.info.status for run in runs(uri)] == ["FINISHED", "FAILED"]
    resumed = MLflow(run="vae", uri=uri, every=4)
    tell(resumed, events(15, 27))
    assert [run.info.status for run in runs(uri)] == ["FINISHED", "RUNNING"]
    tell(resumed, events(28, 28))
    resumed.close()
    run = runs(uri)[1]
    assert run.info.status == "FINISHED"
    found = from_mlflow(uri, run)
    assert found["step/elbo"].count((16, -100 / 16)) == 2, "MLflow keeps both, and they agree"
    assert {k: sorted(set(c)) for k, c in found.items()} == curves(events(1, 28), 4)


def test_only_a_resumed_training_goes_on_with_a_run(uri: str) -> None:
    tell(MLflow(run="vae", uri=uri), events(1, 7))  # never closed: still running
    with MLflow(run="vae", uri=uri) as tracker:
        tell(tracker, events(1, 14))
    assert len(runs(uri)) == 2
    with MLflow(run="another", uri=uri) as tracker:
        tell(tracker, events(8, 14))
    with MLflow(run=None, uri=uri) as tracker:
        tell(tracker, events(8, 14))
    assert len(runs(uri)) == 4
    with MLflow(run="vae", uri=uri) as tracker:
        tell(tracker, events(8, 14))
    assert len(runs(uri)) == 4
    with MLflow(run="vae", uri=uri) as tracker:  # all of this name are finished now
        tell(tracker, events(8, 14))
    assert len(runs(uri)) == 5


def test_what_mlflow_has_is_there_after_each_epoch(uri: str, tmp_path: Path) -> None:
    both = combined(MLflow(run="vae", uri=uri, every=1), TensorBoard(tmp_path, every=1))
    for event, values in events(1, 9):
        both(event, values)
    expected = curves(events(1, 7), 1)
    assert from_mlflow(uri, runs(uri)[0]) == expected
    seen = {k: c[:7] for k, c in from_tensorboard(tmp_path).items()}
    assert seen == close_to(expected)


def test_two_processes_may_make_the_experiment_at_once(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    MlflowClient(tracking_uri=uri).create_experiment("vaelab")
    real = MlflowClient.get_experiment_by_name
    answers: Iterator[Any] = iter([lambda *_: None, real])  # the first look came too early
    with monkeypatch.context() as patch, MLflow(run="vae", uri=uri) as tracker:
        patch.setattr(MlflowClient, "get_experiment_by_name", lambda *a: next(answers)(*a))
        tell(tracker, events(1, 7))
    assert len(runs(uri)) == 1


def test_training_goes_on_if_mlflow_refuses_values(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise MlflowException("no room left\nand more")

    tracker = MLflow(run="vae", uri=uri)
    tell(tracker, events(1, 7))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", refuse)
        with pytest.warns(checks.VaelabWarning, match="of run 'vae' .no room left.; its curves"):
            tell(tracker, events(8, 14))
    tell(tracker, events(15, 21))
    tracker.close()
    assert [step for step, _ in from_mlflow(uri, runs(uri)[0])["epoch/epoch"]] == [7, 21]


def test_a_store_that_cannot_be_used_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with pytest.raises(checks.ArgumentError, match=r"^tracker = 'mlflow' cannot use its") as caught:
        tell(MLflow(run="vae", uri="nowhere://x"), events(1, 7))
    assert "\n" not in str(caught.value)
    assert "set MLFLOW_TRACKING_URI to a server" in str(caught.value)


def test_nothing_but_the_end_is_printed(
    uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow prints where a run is to be seen, if it is on a server."""
    real = MlflowClient.set_terminated

    def told(*args: Any) -> None:
        sys.stdout.write("View run at http://localhost")
        real(*args)

    monkeypatch.setattr(MlflowClient, "set_terminated", told)
    with MLflow(run="vae", uri=uri) as tracker:
        tell(tracker, events(1, 7))
    output = capsys.readouterr()
    assert output.out == ""
    assert "View run" in output.err


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_trackers_can_be_sent_to_another_process(tmp_path: Path, uri: str, dumps: Any) -> None:
    sent = combined(TensorBoard(tmp_path, every=1), MLflow(run="vae", uri=uri, every=1))
    received = pickle.loads(dumps(sent))
    for event, values in events(1, 7):
        received(event, values)
    assert from_tensorboard(tmp_path) == close_to(curves(events(1, 7), 1))
    assert from_mlflow(uri, runs(uri)[0]) == curves(events(1, 7), 1)


def test_nothing_is_opened_before_the_first_value(tmp_path: Path) -> None:
    code = (
        "import sys; from vaelab.trackers import *\n"
        f"for name in TRACKERS: make(name, {str(tmp_path / 'run')!r}, 'vae').close()\n"
        "print([m for m in ('torch', 'tensorboard', 'mlflow', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert run.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_makes_trackers_by_name(tmp_path: Path) -> None:
    board, flow = make("tensorboard", tmp_path, "vae"), make("mlflow", tmp_path, "vae")
    assert isinstance(board, TensorBoard)
    assert isinstance(flow, MLflow)
    assert board.folder == tmp_path / "tensorboard"
    assert (flow.run, flow.experiment, flow.uri) == ("vae", "vaelab", None)
    with pytest.raises(checks.ArgumentError, match="tracker = 'tensorbord' is not known; did you"):
        make("tensorbord", tmp_path, "vae")


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(checks.ArgumentError) as caught:
        make(name, tmp_path, "vae")
    assert str(caught.value) == (
        f"tracker = '{name}' needs the package {name}, which is not installed; "
        f"install it with: pip install 'vaelab[{name}]'."
    )


def test_every_is_at_least_one(tmp_path: Path) -> None:
    for make_one in (lambda: TensorBoard(tmp_path, every=0), lambda: MLflow(run=None, every=0)):
        with pytest.raises(checks.ArgumentError, match="every = 0, but it must be a whole number"):
            make_one()


def test_other_events_are_passed_over(tmp_path: Path) -> None:
    with TensorBoard(tmp_path / "board") as tracker:
        tracker("resumed", {"count": 3.0})
    assert not (tmp_path / "board").exists()


def test_training_closes_its_tracker_and_tells_mlflow_how_it_ended(
    tmp_path: Path, uri: str, train: Dataset
) -> None:
    """An interrupted run has failed; resumed, it goes on as the same run and is finished."""
    state = tmp_path / "checkpoints"
    tracker = MLflow(run="mine", uri=uri, every=1)
    board = TensorBoard(tmp_path / "board", every=1)

    def stop(event: str, values: Mapping[str, float]) -> None:
        if event == "step" and values["step"] == 5:
            raise checks.Interrupted

    vae = VAE("linear", epochs=1, batch_size=64, checkpoints=state)
    with pytest.raises(checks.Interrupted):
        vae.set_params(callback=combined(tracker, board, stop)).fit(train)
    assert (tracker.opened, board.opened) == (False, False)
    assert [run.info.status for run in runs(uri)] == ["FAILED"]
    vae.set_params(checkpoints=Checkpoints(state, resume=True), callback=combined(tracker, board))
    vae.fit(train)
    assert [run.info.status for run in runs(uri)] == ["FINISHED"]
    steps = [step for step, _ in from_tensorboard(tmp_path / "board")["step/elbo"]]
    assert steps == list(range(1, 10))


def test_tensorboard_reads_a_new_event_file_after_those_there(tmp_path: Path) -> None:
    """Files are read in the order of their names, which within a second says nothing of age."""
    there = tmp_path / f"events.out.tfevents.{int(time.time())}.zzz"
    there.touch()
    with TensorBoard(tmp_path, every=1) as tracker:
        tell(tracker, events(1, 3))
        assert max(tmp_path.iterdir()) != there
