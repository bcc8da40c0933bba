"""Floor 1: callbacks that write the curves of a training to TensorBoard or MLflow.

Both need a package that vaelab does not install by itself. Nothing of it is loaded, and nothing is
opened, before the first values come, so that a tracker can be sent to another process.
"""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from vaelab import checks
from vaelab.records import Callback

__all__ = ["TRACKERS", "MLflow", "TensorBoard", "Tracker", "combined", "make"]

NO_CURVES = ("step", "steps", "images")
"""Values that say where training is, not how it goes."""

BATCH = 100
"""Values that MLflow is sent at once: a request for each step would slow training, and a request
for each epoch would keep who watches a long one waiting."""


class Tracker(ABC):
    """A callback that writes values as curves over the steps of a training.

    The values of a step become `step/<name>`, every `every` steps; those of an epoch become
    `epoch/<name>`, at the step where the epoch ended. A resumed training thereby goes on with the
    same curves. Training closes its tracker; whoever calls one by hand closes it, or uses it in a
    `with` statement.

    Arguments:
        every: Steps between two values of a `step/` curve; at least 1.

    Raises:
        checks.ArgumentError: The package is not installed, or `every` is below 1.
    """

    name: ClassVar[str]
    package: ClassVar[str]

    def __init__(self, *, every: int) -> None:
        self.every = checks.integer("every", every)
        checks.needs(f"tracker = {self.name!r}", self.package, extra=self.name)
        self.start: int | None = None
        self.opened = False

    def __call__(self, event: str, values: Mapping[str, float]) -> None:
        """Takes the values of a step or an epoch; closes at the end of training."""
        if event == "end":
            self.close(failed=not values["finished"])
        if event not in ("step", "epoch"):
            return
        step = int(values["step" if event == "step" else "steps"])
        self.start = step if self.start is None else self.start
        if event == "step" and step % self.every:
            return
        if not self.opened:
            self.open(self.start)
            self.opened = True
        curves = {f"{event}/{k}": float(v) for k, v in values.items() if k not in NO_CURVES}
        self.write(step, curves)
        if event == "epoch":
            self.flush()

    def close(self, *, failed: bool = False) -> None:
        """Ends tracking; values that come later begin anew.

        Arguments:
            failed: Whether training ended before its time. MLflow is told, and if training is
                resumed goes on with such a run only.
        """
        if self.opened:
            self.end(failed)
        self.opened, self.start = False, None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close(failed=kind is not None)

    @classmethod
    @abstractmethod
    def of(cls, folder: str | os.PathLike[str], run: str | None) -> Self:
        """The tracker of a training called `run` whose results go to `folder`."""

    @abstractmethod
    def open(self, start: int) -> None:
        """Begins to track a training of which `start` is the first step."""

    @abstractmethod
    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the values of curves at a step."""

    @abstractmethod
    def flush(self) -> None:
        """Lets readers see what was written so far."""

    @abstractmethod
    def end(self, failed: bool) -> None:
        """Closes what `open` opened."""


class TensorBoard(Tracker):
    """Writes event files for TensorBoard: `tensorboard --logdir <folder>` shows them.

    A training that is resumed into the same folder repeats the steps since its last checkpoint.
    TensorBoard is told to drop what it had from the first of them on, so that curves have one
    value a step; a training that begins again in the same folder replaces the curves.

    Arguments:
        folder: Made if it does not exist.
        every: Steps between two values of a `step/` curve.

    >>> with TensorBoard("runs/demo/vae/tensorboard", every=100) as tracker:
    ...     tracker("step", {"step": 99, "steps": 1300, "elbo": -140.0})  # not yet: opens nothing
    """

    name = "tensorboard"
    package = "tensorboard"

    def __init__(self, folder: str | os.PathLike[str], *, every: int = 50) -> None:
        super().__init__(every=every)
        self.folder = Path(folder)
        self.writer: Any = None

    @classmethod
    def of(cls, folder: str | os.PathLike[str], run: str | None) -> Self:
        """Writes to `folder`/tensorboard, which tells the run."""
        return cls(Path(folder) / "tensorboard")

    def open(self, start: int) -> None:
        """Begins an event file, which replaces what others in the folder have from `start` on."""
        from torch.utils.tensorboard import SummaryWriter

        while next(self.folder.glob(f"events.out.tfevents.{int(time.time())}.*"), None):
            time.sleep(0.05)  # files are read in the order of the seconds in their names
        self.writer = SummaryWriter(str(self.folder), purge_step=start)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the values of curves at a step."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Lets readers see what was written so far."""
        self.writer.flush()

    def end(self, failed: bool) -> None:
        """Closes the event file."""
        self.writer.close()
        self.writer = None


class MLflow(Tracker):
    """Writes metrics to an MLflow run.

    A resumed training, one whose first step is not 1, goes on with the newest run of the same name
    that is not finished; where there is none, and for any other training, a new run is begun.
    MLflow keeps every value it is sent: the steps that a resumed training repeats after its last
    checkpoint have two values there, equal ones where resuming is exact.

    If MLflow does not take some values, a warning says so, and training goes on. Where a server
    does not answer, MLflow tries again for minutes; `MLFLOW_HTTP_REQUEST_MAX_RETRIES` sets how
    often.

    Arguments:
        run: Name of the run. Without one MLflow makes a name up, and a resumed training has a run
            of its own.
        experiment: Name of the experiment that the run belongs to; made if it does not exist.
        uri: Address of the tracking server, or of a store; by default what MLflow is configured
            for (`MLFLOW_TRACKING_URI`), else its store in the working directory.
        every: Steps between two values of a `step/` curve.

    Raises:
        checks.ArgumentError: The package is not installed; or, with the first values, MLflow
            cannot use the store.

    >>> with MLflow(run="vae", uri="http://localhost:5000", every=100) as tracker:
    ...     tracker("step", {"step": 99, "steps": 1300, "elbo": -140.0})  # not yet: opens nothing
    """

    name = "mlflow"
    package = "mlflow"

    def __init__(
        self,
        *,
        run: str | None,
        experiment: str = "vaelab",
        uri: str | None = None,
        every: int = 50,
    ) -> None:
        super().__init__(every=every)
        self.run, self.experiment, self.uri = run, experiment, uri
        self.client: Any = None
        self.run_id = ""
        self.pending: list[Any] = []

    @classmethod
    def of(cls, folder: str | os.PathLike[str], run: str | None) -> Self:
        """Writes where MLflow is configured to, which need not be near `folder`."""
        return cls(run=run)

    def open(self, start: int) -> None:
        """Begins a run, or goes on with one if `start` is not 1."""
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            self.client = MlflowClient(tracking_uri=self.uri)
            experiment = self._experiment()
            self.run_id = (self._unfinished(experiment) if start > 1 else None) or str(
                self.client.create_run(experiment, run_name=self.run).info.run_id
            )
        except MlflowException as error:
            raise checks.ArgumentError(
                f"tracker = 'mlflow' cannot use its store ({_line(error)}); set "
                "MLFLOW_TRACKING_URI to a server, or for a store in the working directory: "
                "pip install sqlalchemy alembic."
            ) from error

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            with contextlib.suppress(MlflowException):  # another process has just made it
                return str(self.client.create_experiment(self.experiment))
            found = self.client.get_experiment_by_name(self.experiment)
        return str(found.experiment_id)

    def _unfinished(self, experiment: str) -> str | None:
        """The newest run of this name that is not finished, now running again."""
        runs = self.client.search_runs(
            [experiment], "attributes.status != 'FINISHED'", order_by=["attributes.start_time DESC"]
        )
        for run in runs:
            if run.info.run_name == self.run:
                self.client.update_run(run.info.run_id, status="RUNNING")
                return str(run.info.run_id)
        return None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the values of curves at a step; sends them when there are enough."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.pending += [Metric(name, value, now, step) for name, value in values.items()]
        if len(self.pending) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Sends the values that wait."""
        metrics, self.pending = self.pending, []
        if metrics:
            self._send(partial(self.client.log_batch, self.run_id, metrics=metrics))

    def end(self, failed: bool) -> None:
        """Sends the values that wait, and ends the run."""
        self.flush()
        status = "FAILED" if failed else "FINISHED"
        with contextlib.redirect_stdout(sys.stderr):  # MLflow prints the address of the run
            self._send(partial(self.client.set_terminated, self.run_id, status))
        self.client = None

    def _send(self, request: Callable[[], object]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            request()
        except MlflowException as error:
            warnings.warn(
                f"MLflow refused values of run {self.run!r} ({_line(error)}); its curves may have "
                "a gap, and training goes on.",
                checks.VaelabWarning,
                stacklevel=2,
            )


def _line(error: Exception) -> str:
    return textwrap.shorten(str(error).strip().partition("\n")[0], 160, placeholder=" ...")


TRACKERS: dict[str, type[Tracker]] = {kind.name: kind for kind in (TensorBoard, MLflow)}
"""The trackers by name."""


def make(name: str, folder: str | os.PathLike[str], run: str | None) -> Tracker:
    """The tracker called `name` of the training called `run` whose results go to `folder`.

    TensorBoard's event files go to `folder`/tensorboard, MLflow's metrics where it is configured
    to keep them.

    Raises:
        checks.ArgumentError: No such tracker, or its package is not installed.

    >>> make("tensorboard", "runs/demo/vae", "vae").folder.as_posix()
    'runs/demo/vae/tensorboard'
    """
    return TRACKERS[checks.choice("tracker", name, TRACKERS)].of(folder, run)


def combined(*callbacks: Callback) -> Callback:
    """Several callbacks as one, called in this order.

    >>> heard = []
    >>> both = combined(lambda event, values: heard.append(event), lambda *_: heard.append("too"))
    >>> both("epoch", {"steps": 10})
    >>> heard
    ['epoch', 'too']
    """
    return partial(_each, callbacks)


def _each(callbacks: tuple[Callback, ...], event: str, values: Mapping[str, float]) -> None:
    for callback in callbacks:
        callback(event, values)
