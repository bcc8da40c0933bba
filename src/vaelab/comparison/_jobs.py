"""Recipes trained one after the other, or side by side in processes of their own."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vaelab import checks, machine, storage
from vaelab.comparison._evidence import Evidence
from vaelab.comparison._judging import judge
from vaelab.distributions import seeded
from vaelab.estimator import VAE, load
from vaelab.generation import Features
from vaelab.records import Callback, Checkpoints, Dataset
from vaelab.tensors import as_tensor
from vaelab.training import difference, identity, resolve

__all__ = ["STOP", "Job", "Progress", "run"]

STOP = ".stop"
"""A file that asks the processes that train to keep their state and end."""

POLL, ENDING = 0.2, 60.0
"""Seconds between looks for a signal, and those that recipes have to end."""

ORPHANED = 5.0
"""Seconds that a process lives on when the one that started it is gone."""

Progress = Callable[[str, int], Callback]


class _Result(NamedTuple):
    vae: VAE
    figures: dict[str, Any]
    elbos: np.ndarray
    latents: np.ndarray
    notes: list[str]


@dataclass(frozen=True, eq=False)
class Job:
    """What every recipe of a comparison shares."""

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
        if away:
            _end_after(self.parent)
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
                callback = _Watched(callback, self.folder / STOP, self.parent)
        vae.set_params(callback=callback).fit(self.train)
        vae.set_params(callback=None, checkpoints=None)

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


@cache
def _end_after(parent: int) -> None:
    """Ends this process a while after its parent is gone: nobody would take its results.

    The while is for training to keep its state.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        time.sleep(ORPHANED)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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
    """A callback of a worker: it ends training when the parent process asks for it, or is gone."""

    def __init__(self, callback: Callback | None, stop: Path, parent: int) -> None:
        self.callback, self.stop, self.parent = callback, stop, parent

    def __call__(self, event: str, values: Mapping[str, float]) -> None:
        """Takes the values of a step or an epoch."""
        if self.callback is not None:
            self.callback(event, values)
        if self.stop.exists() or os.getppid() != self.parent:
            raise checks.Interrupted


def run(job: Job, vaes: Mapping[str, VAE], jobs: int) -> dict[str, _Result]:
    """The results by name; side by side, the longest job is begun first."""
    if jobs == 1 or len(vaes) == 1:
        return {name: job(name, vae, 0) for name, vae in vaes.items()}
    from loky import ProcessPoolExecutor

    order = sorted(vaes, key=lambda name: -_work(vaes[name], job.train.shape))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(job.threads))
    executor = ProcessPoolExecutor(max_workers=min(jobs, len(vaes)), env=threads)
    try:
        with machine.interrupts_ignored():  # by the workers: we tell them when to stop
            futures = {
                name: executor.submit(job, name, vaes[name], i) for i, name in enumerate(order)
            }
        _await(futures.values(), job.folder)
        results = {name: futures[name].result() for name in vaes}
    except BrokenProcessPool as error:
        raise checks.TrainingError(
            "a process that trained a recipe died, perhaps for want of memory; train fewer side by "
            "side (--jobs 1) or on fewer data (--limit)."
        ) from error
    finally:
        executor.shutdown(wait=True, kill_workers=True)
    for name, result in results.items():
        for line in result.notes:
            warnings.warn(f"{name}: {line}", checks.VaelabWarning, stacklevel=4)
    return results


def _await(futures: Iterable[Future[_Result]], folder: Path | None) -> None:
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
