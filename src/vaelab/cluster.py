"""Floor 2: work placed on a Ray cluster; the only file that imports Ray.

Ray starts the processes, moves what they are given, and starts again what died: see
https://docs.ray.io. It is an extra, `pip install 'vaelab[ray]'`, and wanted only here. Folders that
the work reads and writes must be on storage that all machines of the cluster see.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stdout
from typing import Any, NamedTuple

from vaelab import checks, machine

__all__ = ["ENGINES", "Room", "check", "joined", "mapped", "placed", "room"]

ENGINES = ("local", "ray")
"""Where work that can be spread is done: by processes of this machine, or on a Ray cluster."""

RETRIES = 3
"""How often a task whose process died is begun again."""

BLOCKS = 4096
"""Into how many pieces a long list of items is cut, at most; a piece goes to one worker."""


class Room(NamedTuple):
    """What a cluster has.

    Attributes:
        cpus: Cores of all machines.
        largest: Cores of the machine that has most.
        gpus: GPUs of all machines.
    """

    cpus: int
    largest: int
    gpus: int


def check(engine: str) -> None:
    """Refuses an engine that is not known, or whose package is not installed.

    Raises:
        checks.ArgumentError: It is refused.

    >>> check("spark")
    Traceback (most recent call last):
    ...
    vaelab.checks.ArgumentError: engine = 'spark' is not known. Known: local, ray.
    """
    if checks.choice("engine", engine, ENGINES) == "ray":
        checks.needs("engine = 'ray'", "ray", extra="ray")


@contextmanager
def joined() -> Iterator[None]:
    """Within, this process is connected to a Ray cluster.

    It is the one that this process is connected to already, and stays so; else the one that the
    variable `RAY_ADDRESS` of the environment names (`auto`, or `host:6379`); else one on this
    machine alone, which ends with the block. Ray's usage statistics are off unless the variable
    `RAY_USAGE_STATS_ENABLED` says otherwise.

    Raises:
        checks.ArgumentError: No cluster answers, or Ray is not installed.
    """
    check("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with _hushed():
        import ray

        if ray.is_initialized():
            yield
            return
        address = os.environ.get("RAY_ADDRESS") or "local"
        try:
            ray.init(
                address=address,
                num_cpus=machine.cores() if address == "local" else None,
                include_dashboard=False if address == "local" else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise checks.ArgumentError(
                f"engine = 'ray' finds no Ray cluster at {address} ({_line(error)}); set "
                "RAY_ADDRESS to one that runs, or unset it for one on this machine."
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _hushed() -> Iterator[None]:
    """Within, Ray warns of none of its own parts, and tells on standard error who died."""
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        for kind in (FutureWarning, DeprecationWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
        yield


def room() -> Room:
    """What the cluster has to which this process is connected."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    return Room(sum(cpus), max(cpus, default=0), gpus)


@contextmanager
def placed(
    function: Callable[..., Any],
    shared: object,
    calls: Mapping[str, Sequence[object]],
    *,
    cpus: int,
    gpus: float = 0,
) -> Iterator[dict[str, Future[Any]]]:
    """Calls of a function as Ray tasks; those that have not ended with the block are killed.

    A call whose process dies is made again, at most three times.

    Arguments:
        function: Called as `function(shared, *arguments)`, in a process of its own.
        shared: What all calls are given; it is sent to each machine once.
        calls: Names of the calls, and the other arguments of each.
        cpus: Cores that a call takes.
        gpus: GPUs that a call takes; a share of one, if below 1.

    Yields:
        What each call will return, or raise, by name. Ray decides when it begins, so it cannot be
        cancelled. A call that Ray gave up raises `checks.TrainingError`.
    """
    import ray

    task = ray.remote(function)
    there = ray.put(shared)
    futures: dict[str, Future[Any]] = {}
    refs = {}
    try:
        for name, arguments in calls.items():
            options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": RETRIES, "name": name}
            refs[name] = task.options(**options).remote(there, *arguments)
            futures[name] = _promised(refs[name])
        yield futures
    finally:
        for name, future in futures.items():
            if not future.done():
                ray.cancel(refs[name], force=True)


def _promised(ref: Any) -> Future[Any]:
    """What a task will return or raise: its own error rather than Ray's account of it."""
    import ray

    promise: Future[Any] = Future()
    promise.set_running_or_notify_cancel()

    def take(found: Future[Any]) -> None:
        error = found.exception()
        if error is None:
            promise.set_result(found.result())
        elif isinstance(error, ray.exceptions.RayTaskError):
            promise.set_exception(error.cause)
        else:
            told = checks.TrainingError(
                f"Ray gave up a task ({_line(error)}); a worker may have died for want of memory: "
                "give each more room, by fewer side by side (--jobs) or fewer data (--limit)."
            )
            promise.set_exception(told)

    ref.future().add_done_callback(take)
    return promise


def mapped(
    make: Callable[..., Callable[[int], int]],
    arguments: Mapping[str, object],
    items: Sequence[int],
    *,
    workers: int,
    gpus: float = 0,
) -> Iterator[tuple[int, int]]:
    """Items given to actors of Ray Data, and what each gave; in the order in which they are done.

    An item whose actor dies is given to another, however often: what is made of items must itself
    count, where one may kill whoever takes it.

    Arguments:
        make: Called as `make(**arguments)` once in each actor; gives what is called with an item.
        arguments: Plain values.
        items: Whole numbers.
        workers: Actors, each of which has a core.
        gpus: GPUs of each.

    Yields:
        An item, and the whole number that was made of it.

    Raises:
        checks.VaelabError: The first that an actor raised; or Ray gave up.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    blocks = min(len(items), BLOCKS)
    given = ray.data.from_items([{"item": k} for k in items], override_num_blocks=blocks)
    found = given.map_batches(
        _Actor,
        fn_constructor_args=(make, dict(arguments)),
        batch_size=1,
        compute=ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
        num_cpus=1,
        num_gpus=gpus,
    )
    try:
        for row in found.iter_rows():
            if row["error"]:
                raise _KINDS[row["kind"]](row["error"])
            yield int(row["item"]), int(row["made"])
    except ray.exceptions.RayError as error:
        raise checks.VaelabError(
            f"Ray gave up ({_line(error)}); what was done is kept: run it again, with fewer "
            "--workers if they died for want of memory."
        ) from error


_KINDS = {
    kind.__name__: kind
    for kind in (checks.VaelabError, checks.ArgumentError, checks.DataError, checks.StorageError)
}


class _Actor:
    """A worker in a process of Ray's: what is made once, and called with each item."""

    def __init__(
        self, make: Callable[..., Callable[[int], int]], arguments: Mapping[str, object]
    ) -> None:
        self.make, self.arguments = make, arguments
        self.work: Callable[[int], int] | None = None

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Rows of an item, what was made of it, and an error: its kind and message."""
        (item,) = batch["item"].tolist()
        try:
            if self.work is None:
                self.work = self.make(**self.arguments)
            return {"item": [item], "made": [self.work(item)], "kind": [""], "error": [""]}
        except (checks.VaelabError, OSError) as error:
            return {"item": [item], "made": [0], "kind": [_kind(error)], "error": [str(error)]}


def _kind(error: BaseException) -> str:
    """Which of the kinds an error is, the nearest by descent; the system's are storage's."""
    return next((c.__name__ for c in type(error).__mro__ if c.__name__ in _KINDS), "StorageError")


def _line(error: BaseException) -> str:
    """The first line of an error's message: Ray's own are long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
