"""A budget of minutes, made one of steps by a look at how fast this machine trains."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median

from vaelab import checkpoints
from vaelab.ranks import Ranks
from vaelab.training._loop import Loop

__all__ = ["earlier_steps", "steps_within"]

WARMING = 5
"""Steps at the start that are not timed: the first ones take memory and find kernels."""

LOOK, FEWEST = 1.0, 10
"""Seconds that the look takes, and steps that are timed, at least."""


def steps_within(minutes: float, begin: Callable[[], Loop]) -> int:
    """How many steps fit into so many minutes, at least one.

    A trial run is timed for a second or a little more, its validation too; what it took counts.
    Of several processes, rank 0 looks at the clock.

    Arguments:
        minutes: For all of training.
        begin: Makes a run like the one to be timed, which may be spoilt.
    """
    ranks, began = Ranks.here(), time.perf_counter()
    trial = begin()
    ends = [began]

    def note() -> None:
        ends.append(time.perf_counter())
        enough = len(ends) > WARMING + FEWEST and ends[-1] - ends[WARMING] > LOOK
        if ranks.agreed(lambda: enough):
            trial.total, trial.stopped = trial.steps, "timed"

    trial.run(after_step=note)
    now = time.perf_counter()
    gaps = [after - before for before, after in pairwise(ends)]
    seconds = median(gaps[WARMING:] or gaps) + (now - ends[-1]) / trial.batches.steps
    steps = max(1, math.floor((60 * minutes - (now - began)) / seconds))
    return int(ranks.agreed(lambda: steps))


def earlier_steps(folder: Path, minutes: float) -> int | None:
    """The steps that a run in `folder` made of the same minutes; `None` if there is no such run."""
    snapshot = checkpoints.latest(folder)
    was: Mapping[str, object] = snapshot.values["identity"]["training"] if snapshot else {}
    steps = was.get("steps") if was.get("minutes") == minutes else None
    return steps if isinstance(steps, int) else None
