"""Floor 7: the one training loop.

Everything random (first weights, order of the data, draws of z) follows from one seed, and torch's
global random state is left as it was. The order of the data is the same for every model that is
given the same seed. With checkpoints, a run that was interrupted, or killed, continues exactly: it
ends with the same bits as one that was not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from vaelab import checkpoints as snapshots
from vaelab import checks, machine
from vaelab.data.shards import ShardError
from vaelab.distributions import seeded
from vaelab.graphs import Graph, kept_graph
from vaelab.model import Model
from vaelab.objectives import Objective
from vaelab.parts import Part, fresh
from vaelab.posteriors import Posterior
from vaelab.ranks import Ranks
from vaelab.records import Callback, Checkpoints, Training
from vaelab.separation import Separation
from vaelab.streaming import Stream
from vaelab.tensors import to_float
from vaelab.training._budget import earlier_steps, steps_within
from vaelab.training._data import Data, of
from vaelab.training._keeper import Keeper
from vaelab.training._loop import Loop
from vaelab.training._settings import (
    check_device,
    difference,
    identity,
    resolve,
)
from vaelab.training._shared import check_alike, check_shared

__all__ = [
    "Trained",
    "check_device",
    "difference",
    "identity",
    "resolve",
    "train",
]


class Trained(NamedTuple):
    """What training gives.

    Attributes:
        model: The trained model, in evaluation mode, on the device it was trained on.
        history: A record an epoch: `epoch`, `steps`, `seconds`, `learning_rate` (at its start),
            `kl_weight`, `gradient_norm` (mean, before clipping), `clipped` (share of the steps),
            `recoveries`, and `elbo`, `rate`, `distortion` in nats a datum, of training
            (`train_...`, means over the epoch) and of the data held out (`valid_...`), with the
            objective under its own name; with a separation, its own term's mean over the data of
            an epoch, in nats, is `train_separation`.
        settings: The settings with every choice made.
    """

    model: Model
    history: list[dict[str, float]]
    settings: Training


def train(
    model: Model,
    objective: Objective,
    x: Tensor | Stream,
    *,
    settings: Training,
    y: Tensor | None = None,
    seed: int = 0,
    callback: Callback | None = None,
    checkpoints: Checkpoints | None = None,
    fingerprint: str | None = None,
    keep: bool = False,
    constant: bool = False,
    separation: Separation | None = None,
) -> Trained:
    """Trains a copy of `model`, from fresh weights, to minimise `objective`.

    When the loss or its gradient is not finite, training goes back to the last good state (at most
    100 steps) and on with 0.3 times the learning rate, three times at most; then it ends with the
    model that was best on the data held out. Either is told in a `VaelabWarning`.

    With `checkpoints`, Ctrl-C and SIGTERM let the step end, write the state and raise
    `checks.Interrupted`; a second Ctrl-C interrupts at once. Continued on the same machine with
    the same settings, data and number of threads, a run has the same bits as one that was never
    interrupted, all but the `seconds` in its history.

    Within a group of `torch.distributed`, all of whose processes call this with the same data and
    settings, each batch is shared among them; see `vaelab.ranks`. Batches, their order, and the
    noise of a datum are those of one process, and so are the weights but for the rounding of sums.
    What a posterior of torch's own classes draws is other noise, and differs between the processes.
    Rank 0 alone validates, calls back and writes checkpoints; every process returns the model.

    Arguments:
        model: The model; it is not changed.
        objective: What is minimised.
        x: Training data at rest, `(N, *shape)`, which may be memory-mapped; or a stream of shards,
            whose sample is what weights start from, and is validated on.
        settings: How to train; see `Training`.
        y: Number of the class of each datum, `(N,)` in `int64`: a conditional model needs them,
            others take none. Shards have their own.
        seed: Everything random follows from it.
        callback: Called with `"step"` or `"epoch"` and named values, and at last, however training
            ends, with `"end"`; what it raises ends training, after the state was kept. While a
            neighbour graph is computed before, with `"graph"`, how much is `done`, and of how much.
        checkpoints: Where to keep the state.
        fingerprint: What tells the data from others; by default, that of a `Dataset` of `x`, `y`.
        keep: Whether to go on from the weights that `model` has, instead of fresh ones.
        constant: Whether the learning rate is the largest all along.
        separation: A term that keeps neighbours together, added to the objective; its graph is
            that of `x`, in the units of the posterior, and the data held out are nobody's
            neighbours. Weight 0 is as without it.

    Returns:
        The trained model, its history and the settings used.

    Raises:
        checks.ArgumentError: A device is not there, or labels do not suit the model; or several
            processes were given different things, or a loss that is no mean over data.
        checks.TrainingError: The loss is NaN or infinite from the start, or another process has
            ended.
        checks.StorageError: The checkpoints are those of another run, all damaged, or being
            written by another process.
        checks.Interrupted: A signal asked to stop, and the state was kept.
        ShardError: A shard cannot be read; with checkpoints, the state was kept.
        OSError: The folder of the checkpoints cannot be written.
    """
    ranks = Ranks.here()
    _check_labels(model, x, y)
    check_shared(ranks, model, separation)
    shuffler = torch.Generator().manual_seed(checks.seed(seed))  # one order for every model
    data = of(x, y, settings, seed, labelled=bool(model.classes))
    settings = data.settled(settings, separation)
    settings = resolve(settings, data.like, separation, held=len(data.held))
    if not fingerprint and (checkpoints or not ranks.alone):
        fingerprint = data.fingerprint
    if not ranks.alone:
        check_alike(ranks, identity(model, objective, settings, seed, fingerprint or ""))
    callback = callback if ranks.rank == 0 else None
    data = data.prepared(settings, model.value_range)
    with seeded(seed):
        begun = copy.deepcopy(model) if keep else _begun(model, data.first.cpu())
        model = begun.train().to(torch.device(str(settings.device)))
        begin = partial(Loop, objective=objective, data=data, seed=seed, constant=constant)
        if separation is not None and separation.weight:
            graph = _graph(separation, model, data.seen.cpu(), callback)
            begin = partial(begin, separation=(separation, graph))
        settings = _budgeted(settings, data, model, begin, checkpoints)
        loop = begin(model, settings=settings, shuffler=shuffler, callback=callback)
        try:
            if checkpoints is None:
                loop.run()
            else:
                what = model, loop.objective, settings, seed, fingerprint or ""
                same = identity(*what, separation=loop.separation)
                with _kept(loop, checkpoints, same) as keeper:
                    loop.run(keeper.after_step, keeper.after_epoch)
        finally:
            if callback is not None:
                callback("end", {"steps": loop.steps, "finished": float(loop.finished)})
    return Trained(loop.conclude(), loop.history, settings)


def _begun(model: Model, x: Tensor) -> Model:
    """A copy with fresh weights that start from data at rest."""
    model = fresh(model)
    for part in model.parts.values():
        cast("Part", part).start(to_float(x))
    return model


def _graph(separation: Separation, model: Model, x: Tensor, callback: Callback | None) -> Graph:
    """The neighbour graph of data at rest, as the posterior reads them."""

    def progress(done: int, total: int) -> None:
        if callback is not None:
            callback("graph", {"done": done, "total": total})

    unit = cast("Posterior", model.parts["posterior"]).unit
    return kept_graph(x, neighbours=separation.neighbours, unit=unit, progress=progress)


def _budgeted(
    settings: Training,
    data: Data,
    model: Model,
    begin: Callable[..., Loop],
    checkpoints: Checkpoints | None,
) -> Training:
    """The settings with minutes, if they are the budget, made steps; as before if resumed."""
    if settings.minutes is None or settings.steps is not None:
        return settings
    ranks, steps = Ranks.here(), None
    if checkpoints is not None and checkpoints.resume:
        folder, minutes = Path(checkpoints.folder), settings.minutes
        steps = ranks.agreed(lambda: earlier_steps(folder, minutes))
    if steps is None:

        def trial() -> Loop:
            shuffler = torch.Generator().manual_seed(0)
            return begin(copy.deepcopy(model), settings=settings, shuffler=shuffler, callback=None)

        with seeded(0):
            steps = steps_within(settings.minutes, trial)
    settings = replace(settings, steps=steps)  # what was chosen before stays
    return resolve(settings, data.like, held=len(data.held))


@contextmanager
def _kept(loop: Loop, settings: Checkpoints, same: dict[str, object]) -> Iterator[Keeper]:
    """Within, a run's state is kept by rank 0 alone, and signals wait for its steps."""
    with ExitStack() as stack:
        folder = snapshots.locked(Path(settings.folder))
        loop.ranks.agreed(lambda: stack.enter_context(folder))
        asked = stack.enter_context(machine.signals_noted())
        keeper = Keeper(loop, settings, same, asked)
        try:
            yield keeper
        except ShardError as error:
            where = f"step {loop.steps:,} of {loop.total:,}"
            if not loop.sound:
                raise
            keeper.write()
            raise ShardError(f"{error} Training stands at {where}; the state is kept.") from error
        keeper.write()


def _check_labels(model: Model, x: Tensor | Stream, y: Tensor | None) -> None:
    """Refuses labels that the model does not take, and a conditional model without labels."""
    if isinstance(x, Stream):
        if y is not None:
            raise checks.ArgumentError("y is given, but shards have labels of their own.")
        y = x.sample.y if model.classes else None
    count = len(x.rows) if isinstance(x, Stream) else len(x)
    if y is None and model.classes:
        raise checks.ArgumentError(
            f"y = None, but the model is conditional; give the class of each datum, ({count},)."
        )
    if y is not None:
        if y.shape != (count,):
            raise checks.ArgumentError(f"y has shape {tuple(y.shape)}, but it must be ({count},).")
        model.given(y)
