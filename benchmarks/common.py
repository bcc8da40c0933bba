"""What all benchmarks share: rows of results, data, timing, one score in nats, and children."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

import vaelab

HERE = Path(__file__).parent
BATCH = 128
"""Batch of the classic recipe, and of the peers."""

OWN_BATCH = 512
"""Batch that vaelab takes by default for so many digits."""

Codes = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images `(N, 1, 28, 28)` to the means and standard deviations of q(z|x), `(N, D)` each."""

Logits = Callable[[Tensor], Tensor]
"""Latent points `(N, D)` to the logits of pixels, N times 784 in any shape."""


@dataclass(frozen=True)
class Settings:
    """How to run a benchmark: `quick` is a smoke test, whose figures mean nothing."""

    quick: bool = False
    threads: int = 1


@dataclass(frozen=True)
class Goal:
    """What a median should reach."""

    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether a value reaches the goal."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


@dataclass(frozen=True)
class Row:
    """One figure: repeated measurements of one thing; none where it was never reached."""

    name: str
    values: tuple[float, ...]
    unit: str
    goal: Goal | None = None
    note: str = ""

    @property
    def median(self) -> float | None:
        """The figure that is reported."""
        return statistics.median(self.values) if self.values else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; `None` without a goal."""
        if self.goal is None:
            return None
        return self.median is not None and self.goal.met(self.median)


def ratios(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """Ratios of measurements that were taken side by side."""
    return tuple(a / b for a, b in zip(above, below, strict=True))


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@dataclass(frozen=True, eq=False)
class Digits:
    """MNIST: as data sets, as tensors in [0, 1], and one draw of noise for each test digit."""

    train: vaelab.Dataset
    x: Tensor
    test: Tensor
    noise: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one digit."""
        return self.train.shape


def digits(limit: int | None = None) -> Digits:
    """All of MNIST, or the same random part of it each time."""
    train, test = (part.limited(limit) for part in vaelab.data.load("mnist"))
    if limit is None and len(train) != 60_000:
        raise SystemExit("The whole of MNIST is needed: set VAELAB_DATA, or go online once.")
    x, x_test = (torch.from_numpy(part.x).float().div_(255) for part in (train, test))
    noise = np.random.default_rng(0).standard_normal((len(test), 2)).astype(np.float32)
    return Digits(train, x, x_test, torch.from_numpy(noise))


def elbo_of_each(x: Tensor, loc: Tensor, scale: Tensor, logits: Tensor) -> Tensor:
    """ELBO of each datum in nats, `(N,)`, given the logits at one draw of z for each."""
    loc, scale = loc.double(), scale.double()
    targets, values = x.flatten(1).double(), logits.reshape(len(x), -1).double()
    distortion = binary_cross_entropy_with_logits(values, targets, reduction="none").sum(1)
    rate = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(1)
    return -(rate + distortion)


@torch.no_grad()
def elbo(encode: Codes, decode: Logits, data: Digits) -> float:
    """Mean ELBO on the test digits, always with the same noise; torch's random state stays."""
    total = 0.0
    for x, noise in zip(torch.split(data.test, 1000), torch.split(data.noise, 1000), strict=True):
        loc, scale = encode(x)
        total += float(elbo_of_each(x, loc, scale, decode(loc + scale * noise)).sum())
    return total / len(data.test)


def model_elbo(model: vaelab.Model, data: Digits) -> float:
    """Mean ELBO of a model of vaelab on the test digits."""

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        q = model.encode(x)
        return q.mean, q.stddev

    def decode(z: Tensor) -> Tensor:
        logits: Tensor = model.decode(z).base_dist.logits  # type: ignore[attr-defined]
        return logits

    return elbo(encode, decode, data)


def without_validation(name: str, shape: tuple[int, ...]) -> vaelab.Recipe:
    """A named recipe that trains on all data and holds none out."""
    recipe = vaelab.recipes.build(name, shape)
    return replace(recipe, training=replace(recipe.training, validation_fraction=0.0))


def epoch_of_vaelab(recipe: vaelab.Recipe, train: vaelab.Dataset) -> tuple[float, float]:
    """Seconds of one epoch of training, and of all else in `fit`, with no callback.

    The first is that of the second of two epochs, as the history tells; the second is what is left
    of the time that `fit` took.
    """
    vae = vaelab.VAE(recipe, epochs=2, batch_size=OWN_BATCH)
    taken = seconds(lambda: vae.fit(train))
    first, both = (record["seconds"] for record in vae.history_)
    return both - first, taken - both


def child(
    script: str, settings: dict[str, Any], *, threads: int, python: str = sys.executable
) -> dict[str, Any]:
    """Runs a script of `children/` in a process of its own; returns what it reports."""
    environment = os.environ | {
        name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    }
    command = [python, str(HERE / "children" / script), json.dumps(settings | {"threads": threads})]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-4000:]}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def figure(value: float) -> str:
    """A number with about four digits, for people.

    Digits before the point are all kept.
    """
    if value == 0:
        return "0"
    digits_after = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits_after, 4)}f}"
