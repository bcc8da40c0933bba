"""What is done between the steps of a run: telling, keeping its state, stopping when asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from signal import SIGTERM
from typing import Any

import torch

from vaelab import checkpoints, checks
from vaelab.checkpoints import Snapshot
from vaelab.records import Callback, Checkpoints
from vaelab.training._loop import Loop
from vaelab.training._settings import difference

__all__ = ["Keeper"]

SHARE = 1 / 60
"""Largest share of the time that goes into writing checkpoints."""

GUESS = 0.02
"""Seconds that a checkpoint is taken to cost before one was written."""


class Keeper:
    """Writes a run's checkpoints, reads them, and ends the run when a signal asks for it.

    Arguments:
        loop: The run.
        settings: Where and how often to write.
        identity: What must be the same for the run to be continued.
        asked: Gives the number of a signal that asked to stop, or `None`.
    """

    def __init__(
        self,
        loop: Loop,
        settings: Checkpoints,
        identity: dict[str, Any],
        asked: Callable[[], int | None],
    ) -> None:
        self.loop, self.identity, self.ranks = loop, identity, loop.ranks
        loop.asked = asked
        self.folder, self.every = Path(settings.folder), settings.seconds
        self.cost, self.last = GUESS, time.perf_counter()
        self.written: tuple[object, ...] = ()
        self.failure = ""
        loop.callback = self._guarded(loop.callback)
        snapshot = self.ranks.first(partial(self._found, resume=settings.resume), _pack, _unpack)
        if snapshot is not None:
            self._resume(snapshot)

    def _found(self, *, resume: bool) -> Snapshot | None:
        """The newest checkpoint, if the run is to be resumed and there is one."""
        if resume:
            return checkpoints.latest(self.folder)
        if next(self.folder.glob("step-*"), None) is not None:
            raise checks.StorageError(
                f"{self.folder} holds the checkpoints of another run; continue it by resuming, "
                "choose another folder, or remove it."
            )
        return None

    def after_step(self) -> None:
        """Writes a checkpoint if one is due; ends the run if a signal came."""
        loop, signal = self.loop, self._signal()
        if signal is not None:
            loop.check()
            self.write()
            where = f"step {loop.steps:,} of {loop.total:,}"
            if self.failure:
                raise checks.Interrupted(f"interrupted at {where}; {self.failure}", signal)
            raise checks.Interrupted(f"interrupted at {where}; the state is kept", signal)
        if time.perf_counter() - self.last >= max(self.every, self.cost / SHARE):
            self.write()

    def _signal(self) -> int | None:
        """The signal that ends the run now, on all processes after the same step."""
        noted = self.loop.asked()
        if self.ranks.alone:
            return noted
        return (noted or SIGTERM) if self.loop.called else None

    def after_epoch(self) -> None:
        """Writes a checkpoint, unless that is too soon after the last."""
        if time.perf_counter() - self.last >= self.cost / SHARE:
            self.write()

    def write(self) -> None:
        """Writes the state now; a failure is told once, and the checkpoints that are there stay."""
        loop = self.loop
        state = (loop.steps, loop.epoch, loop.finished)
        if state == self.written or self.ranks.rank > 0:
            return
        if not self.ranks.alone and not loop.sound:  # all go back when they look at the loss
            return
        began = time.perf_counter()
        if not self.folder.is_dir():
            loop.warn(f"{self.folder} was removed during the run; it is made again.")
        try:
            checkpoints.write(self.folder, loop.steps, self._snapshot())
            self.written, self.failure = state, ""
        except OSError as error:
            failure = (
                f"no checkpoint could be written to {self.folder} ({error.strerror or error}); "
                "those that are there are intact"
            )
            if failure != self.failure:
                loop.warn(f"{failure}; training goes on.")
            self.failure = failure
        self.last = time.perf_counter()
        self.cost = self.last - began

    def _guarded(self, callback: Callback | None) -> Callback | None:
        """The callback; should it raise, the state is kept first."""
        if callback is None:
            return None

        def guarded(event: str, values: Mapping[str, float]) -> None:
            try:
                callback(event, values)
            except BaseException:
                self.write()
                raise

        return guarded

    def _snapshot(self) -> Snapshot:
        """The state, the one to go back to if it is another, and the best weights."""
        loop = self.loop
        loop.check()
        now = loop.capture()
        values: dict[str, Any] = {
            "identity": self.identity,
            "finished": loop.finished,
            "circumstances": self._circumstances(),
            "now": now.values,
        }
        tensors = {f"now.{name}": tensor for name, tensor in now.tensors.items()}
        if loop.good.values["steps"] != loop.steps:
            values["good"] = loop.good.values
            tensors |= {f"good.{name}": tensor for name, tensor in loop.good.tensors.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in (loop.best or {}).items()}
        return Snapshot(values, tensors)

    def _resume(self, snapshot: Snapshot) -> None:
        """Puts the run where a checkpoint left it."""
        loop, values = self.loop, snapshot.values
        self._compare(values["identity"], finished=values["finished"])
        there = {"processes": 1} | values["circumstances"]  # older ones were of one process
        change = difference(there, self._circumstances())
        if change is not None:
            loop.warn(
                f"{self.folder}: {change}; training continues, but the last bits of its result may "
                "differ from those of a run that was not interrupted."
            )
        parts: dict[str, dict[str, Any]] = {"now": {}, "good": {}, "best": {}}
        for name, tensor in snapshot.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor.to(loop.device) if part == "best" else tensor
        now = Snapshot(values["now"], parts["now"])
        loop.restore(now)
        loop.good = Snapshot(values["good"], parts["good"]) if "good" in values else loop.capture()
        loop.best = parts["best"] or None
        self.written = (loop.steps, loop.epoch, loop.finished)
        if loop.stopped and loop.epochs > values["identity"]["training"]["epochs"]:
            loop.stopped, loop.stale = "", 0

    def _compare(self, there: dict[str, Any], *, finished: bool) -> None:
        here = self.identity
        was, now = there["training"], here["training"]
        budget = {name: was.get(name) for name in ("epochs", "steps", "minutes")}
        if finished and all((was[name] or 0) <= (now[name] or 0) for name in budget):
            here = here | {"training": now | budget}
        elif finished and difference(there, here | {"training": now | budget}) is None:
            fewer = (n for n in ("minutes", "steps", "epochs") if (was.get(n) or 0) > (now[n] or 0))
            name = next(fewer)
            raise checks.StorageError(
                f"{self.folder} holds a finished run of {was[name]} {name}, which can be extended "
                f"to more {name} but not to fewer; give at least {was[name]}, or choose another "
                "folder."
            )
        found = difference(there, here)
        if found is not None:
            raise checks.StorageError(
                f"{self.folder} holds a run with other settings or data: {found}; resume it with "
                "those it was begun with, or choose another folder."
            )

    def _circumstances(self) -> dict[str, Any]:
        """What changes the rounding of results, though not their meaning."""
        return {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "processes": self.ranks.count,
        }


def _pack(snapshot: Snapshot | None) -> bytes:
    return b"" if snapshot is None else checkpoints.pack(snapshot)


def _unpack(content: bytes) -> Snapshot | None:
    return checkpoints.unpack(content) if content else None
