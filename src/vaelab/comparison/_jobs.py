"""Recipes trained one after the other, or side by side: in processes, or as tasks of Ray."""

from __future__ import annotations

import os
import secrets
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vaelab import checks, cluster, machine, storage
from vaelab.comparison._evidence import Evidence
from vaelab.comparison._judging import judge
from vaelab.distributions import seeded
from vaelab.estimator import VAE, load
from vaelab.generation import Features
from vaelab.progress import Counter
from vaelab.records import Callback, Checkpoints, Dataset
from vaelab.tensors import as_tensor
from vaelab.training import difference, identity, resolve

__all__ = ["STOP", "Job", "Progress", "run"]

STOP = ".stop"
"""A file that asks the processes that train to keep their state and end."""

POLL, ENDING = 0.2, 60.0
"""Seconds between looks for a signal, and those that recipes have to end."""

Progress = Callable[[str, int], Callback]


class _Result(NamedTuple):
    vae: VAE
    figures: dict[str, Any]
    elbos: np.ndarray
    latents: np.ndarray
    notes: list[str]


@dataclass(frozen=True, eq=False)
class Job:
    """What every recipe of a comparison shares.

    `parent` is the process that waits for the results, and that its workers do not outlive; 0 where
    Ray sees to that.
    """

    train: Dataset
    test: Dataset
    folder: Path | None
    particles: int
    progress: Progress | None
    threads: int
    resume: bool
    checkpoint_seconds: float
    parent: int
    features: Features | None = None

    def __call__(self, name: str, vae: VAE, position: int) -> _Result:
        """Trains and judges one recipe, unless that was done before."""
        away = os.getpid() != self.parent
        if away and self.parent:
            machine.end_after(self.parent)
        if away and self._stopped():
            raise checks.Interrupted
        with machine.threads(self.threads), _collected(away) as notes:
            done = self._finished(name, vae)
            if done is None:
                self._fit(name, vae, position, away)
            vae = done or vae
            evidence = Evidence(
                vae,
                self.test,
                self.train,
                vae.training_.binarize,
                self.particles,
                features=self.features,
            )
            if done is not None:
                figures: dict[str, Any] = dict(done.figures_)
            else:
                figures = dict(
                    judge(evidence),
                    seconds=vae.history_[-1]["seconds"],
                    threads=self.threads,
                )
                if self.folder is not None:
                    vae.save(self.folder / name, figures=figures)
            codes = (evidence.among, evidence.codes)
            latents = np.concatenate([part.loc for part in codes if part is not None])
            elbos = evidence.terms.elbo
        vae.model_.cpu()  # results travel between processes
        return _Result(vae, figures, elbos, latents, notes)

    def _fit(self, name: str, vae: VAE, position: int, away: bool) -> None:
        callback = None if self.progress is None else self.progress(name, position)
        if self.folder is not None:
            folder = self.folder / name / storage.CHECKPOINTS
            vae.set_params(checkpoints=Checkpoints(folder, self.checkpoint_seconds, self.resume))
            if away:
                callback = _Watched(callback, self._stopped)
        vae.set_params(callback=callback).fit(self.train)
        vae.set_params(callback=None, checkpoints=None)

    def _stopped(self) -> bool:
        """Whether the parent process asks its workers to end, or is gone."""
        asked = self.folder is not None and (self.folder / STOP).exists()
        return asked or (self.parent != 0 and os.getppid() != self.parent)

    def _finished(self, name: str, vae: VAE) -> VAE | None:
        """The model of a recipe, if it was trained before with the same settings and data."""
        if self.folder is None or not self.resume or not storage.is_model(self.folder / name):
            return None
        x = as_tensor(self.train.x)
        there, recipe = load(self.folder / name), vae.resolved(self.train.shape, x, self.train.y)
        settings = recipe.training
        if settings.minutes is not None and settings.steps is None:
            settings = replace(settings, steps=there.training_.steps)
        settings = resolve(settings, x, recipe.separation)
        data, old = str(there.data_["fingerprint"]), there.recipe_
        was = identity(
            there.model_, old.objective, there.training_, there.seed, data, old.separation
        )
        now = identity(
            recipe.model(),
            recipe.objective,
            settings,
            vae.seed,
            self.train.fingerprint,
            recipe.separation,
        )
        return there if difference(was, now) is None else None


@contextmanager
def _collected(away: bool) -> Iterator[list[str]]:
    """In another process, warnings within are collected, to be told by the parent."""
    notes: list[str] = []
    if not away:
        yield notes
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", checks.VaelabWarning)
        yield notes
    notes += [str(w.message) for w in caught if issubclass(w.category, checks.VaelabWarning)]


class _Watched:
    """A callback of a worker: it ends training when it is told that it should."""

    def __init__(self, callback: Callback | None, stopped: Callable[[], bool]) -> None:
        self.callback, self.stopped = callback, stopped

    def __call__(self, event: str, values: Mapping[str, float]) -> None:
        """Takes the values of a step or an epoch."""
        if self.callback is not None:
            self.callback(event, values)
        if self.stopped():
            raise checks.Interrupted


def run(job: Job, vaes: Mapping[str, VAE], jobs: int, engine: str = "local") -> dict[str, _Result]:
    """The results by name; side by side, the longest job is begun first."""
    if engine == "ray":
        results = _on_cluster(job, vaes, jobs)
    elif jobs == 1 or len(vaes) == 1:
        return {name: job(name, vae, 0) for name, vae in vaes.items()}
    else:
        results = _in_processes(job, vaes, jobs)
    for name, result in results.items():
        for line in result.notes:
            warnings.warn(f"{name}: {line}", checks.VaelabWarning, stacklevel=4)
    return results


def _longest_first(job: Job, vaes: Mapping[str, VAE]) -> list[str]:
    return sorted(vaes, key=lambda name: -_work(vaes[name], job.train.shape))


def _in_processes(job: Job, vaes: Mapping[str, VAE], jobs: int) -> dict[str, _Result]:
    try:
        with machine.processes(min(jobs, len(vaes)), job.threads) as executor:
            with machine.interrupts_ignored():  # by the workers: we tell them when to stop
                futures = {
                    name: executor.submit(job, name, vaes[name], i)
                    for i, name in enumerate(_longest_first(job, vaes))
                }
            _await(futures.values(), job.folder)
            return {name: futures[name].result() for name in vaes}
    except BrokenProcessPool as error:
        raise checks.TrainingError(
            "a process that trained a recipe died, perhaps for want of memory; train fewer side by "
            "side (--jobs 1) or on fewer data (--limit)."
        ) from error


def _on_cluster(job: Job, vaes: Mapping[str, VAE], jobs: int) -> dict[str, _Result]:
    """The results of recipes that are tasks of Ray, each with its share of cores and GPUs."""
    with cluster.joined():
        room = cluster.room()
        job = replace(job, parent=0, threads=max(1, min(job.threads, room.largest)))
        run = secrets.token_hex(4)
        if job.folder is not None:
            job.folder.mkdir(parents=True, exist_ok=True)
        order = _longest_first(job, vaes)
        calls = {name: (name, vaes[name], i, run) for i, name in enumerate(order)}
        gpus = min(1.0, room.gpus / min(jobs, len(vaes)))
        done = None if job.progress is None else Counter("recipes")
        try:
            with cluster.placed(_task, job, calls, cpus=job.threads, gpus=gpus) as futures:
                _await(futures.values(), job.folder, done)
                return {name: futures[name].result() for name in vaes}
        finally:
            if job.folder is not None:
                for name in vaes:
                    _mark(job.folder, name, run).unlink(missing_ok=True)


def _task(job: Job, name: str, vae: VAE, position: int, run: str) -> _Result | None:
    """A job as a task of Ray, which goes on from its checkpoint when it is begun again."""
    if job.folder is not None:
        mark = _mark(job.folder, name, run)
        job = replace(job, resume=job.resume or mark.exists())
        mark.touch()
    try:
        return job(name, vae, position)
    except checks.Interrupted:  # whoever asked for it waits for the end, not for a result
        return None


def _mark(folder: Path, name: str, run: str) -> Path:
    """The file that tells that a recipe was begun in this run."""
    return folder / f".{name}.{run}.part"


def _await(
    futures: Collection[Future[Any]], folder: Path | None, progress: Counter | None = None
) -> None:
    """Waits for all; on a failure or a signal, the others keep their state and end.

    Raises:
        BaseException: The first failure.
        checks.Interrupted: A signal came.
    """
    failure: BaseException | None = None
    with machine.signals_noted() as asked:
        waiting = set(futures)
        while waiting and failure is None and asked() is None:
            done, waiting = wait(waiting, timeout=POLL, return_when=FIRST_COMPLETED)
            failure = next((e for future in done if (e := future.exception())), None)
            if progress is not None:
                progress(len(futures) - len(waiting), len(futures))
        running = {future for future in waiting if not future.cancel()}
        if running and folder is not None:
            (folder / STOP).touch()
            try:
                wait(running, timeout=ENDING)
            finally:
                (folder / STOP).unlink(missing_ok=True)
        signal = asked()
    if failure is not None:
        raise failure
    if signal is not None:
        kept = "" if folder is None else "; what was trained is kept"
        raise checks.Interrupted(f"interrupted{kept}", signal)


def _work(vae: VAE, shape: tuple[int, ...]) -> float:
    """Seconds that a small batch takes, to begin with the longest job; no result depends on it."""
    recipe = vae.resolved(shape)
    model, x = recipe.model(), torch.zeros(64, *shape)
    if model.classes:
        model = model.given(torch.tensor([0]))
    seconds = []
    with seeded(0):
        for _ in range(3):
            started = time.perf_counter()
            recipe.objective(model, x).loss.mean().backward()  # type: ignore[no-untyped-call]
            seconds.append(time.perf_counter() - started)
    return min(seconds)
