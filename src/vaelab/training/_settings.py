"""The settings of training, with every choice made."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from vaelab import checks
from vaelab.model import Model
from vaelab.objectives import Objective
from vaelab.parts import describe
from vaelab.records import Training
from vaelab.separation import Separation
from vaelab.shuffling import window_rows

__all__ = ["check_device", "difference", "held_out", "identity", "resolve"]

RATE = 4e-3
"""Adam's largest rate for batches of up to 128."""

BATCHES = (512, 256, 128, 64)
"""Batch sizes, the one preferred first: larger ones compute faster, and take fewer steps."""

PASSES = (10, 21)
"""The fewest and the most epochs that are taken by themselves."""

PASSES_OF_PAIRS = 20
"""The fewest with a separation, for which each datum is seen with one neighbour an epoch."""

SHOWN = 83_200
"""How many data are shown in all where there are few, 1,300 batches of 64; more would fit their
accidents."""

STEEPER = 10.0
"""By how much a separation of weight 1 lets the norm of the gradient be larger."""

VALIDATED = 10_000
"""How many data are held out at most."""


def held_out(settings: Training, count: int) -> int:
    """How many of `count` data are held out from training."""
    if settings.validation_fraction == 0 or count == 1:
        return 0
    return min(max(1, round(settings.validation_fraction * count)), count - 1, VALIDATED)


def resolve(
    settings: Training, x: Tensor, separation: Separation | None = None, *, held: int | None = None
) -> Training:
    """The settings with every choice made for data at rest.

    The batch is the largest of 512, 256, 128 and 64 with which 10 epochs have at least 1,000 steps,
    so 512 from 51,200 training data on, and 64 for few. Few data get as many epochs as show 83,200,
    at most 21, others 10, or 20 with a separation. The learning rate is 0.004 for batches of up to
    128, and grows with the square root of larger ones.

    Arguments:
        settings: The settings as they were given.
        x: The data, `(N, *shape)`, those held out among them.
        separation: A term that is added to the objective, whose gradient is large, so that the
            norm allowed grows with its weight.
        held: How many of the data are held out; by default as many as `held_out` says.

    Raises:
        checks.ArgumentError: The device is not known or not there.

    >>> resolve(Training(device="cpu"), torch.zeros(60_000, 784, dtype=torch.uint8))
    Training(epochs=10, ..., batch_size=512, learning_rate=0.008, ..., clip_norm=313.6, ...)
    >>> resolve(Training(), torch.zeros(4_000, 784)).epochs
    21
    """
    count = len(x) - (held_out(settings, len(x)) if held is None else held)
    fewest, most = PASSES
    usual = next((size for size in BATCHES if fewest * count >= 1_000 * size), BATCHES[-1])
    batch_size = min(count, settings.batch_size or usual)
    steeper = 1.0 if separation is None else 1 + STEEPER * separation.weight
    fewest = fewest if separation is None else PASSES_OF_PAIRS
    passes = min(most, max(fewest, math.ceil(SHOWN / count)))
    epochs = settings.epochs
    if settings.steps is not None:
        epochs = math.ceil(settings.steps / math.ceil(count / batch_size))
    return replace(
        settings,
        epochs=epochs or passes,
        batch_size=batch_size,
        learning_rate=settings.learning_rate or RATE * math.sqrt(max(1.0, batch_size / 128)),
        clip_norm=settings.clip_norm or max(100.0, 0.4 * x[0].numel()) * steeper,
        window=min(len(x), settings.window or window_rows(x)),
        device=_device(settings.device, x),
        precision="float32" if settings.precision == "auto" else settings.precision,
    )


def check_device(name: str) -> str:
    """Returns the name of a device, `"auto"` included, if it can be used here.

    Raises:
        checks.ArgumentError: It is not known, or not there.
    """
    if name == "auto":
        return name
    try:
        torch.empty(0, device=torch.device(name))
    except (RuntimeError, AssertionError) as error:  # torch raises either where there is none
        raise checks.ArgumentError(
            f"device = {name!r} cannot be used here ({str(error).splitlines()[0]}); give 'cpu', "
            "'cuda', 'cuda:1' or 'mps', or 'auto'."
        ) from error
    return name


def _device(name: str, x: Tensor) -> str:
    """`"auto"` is where the data are, or a CUDA device if there is one."""
    if check_device(name) != "auto":
        return str(torch.device(name))
    there = x.device.type == "cpu" and torch.cuda.is_available()
    return "cuda" if there else str(x.device)


def identity(
    model: Model,
    objective: Objective,
    settings: Training,
    seed: int,
    data: str,
    separation: Separation | None = None,
) -> dict[str, Any]:
    """What must be the same for a run to be continued, as plain values.

    Arguments:
        model: The model, of whatever weights.
        objective: What is minimised.
        settings: Resolved settings.
        seed: The seed.
        data: Fingerprint of the training data.
        separation: A term that is added to the objective.
    """
    parts: dict[str, Any] = {}
    for name, part in model.parts.items():
        try:
            parts[name] = describe(part)
        except checks.StorageError:  # a network that is no Part has no description
            parts[name] = repr(part)
    return {
        "model": parts,
        "objective": {"objective": objective.name, **vars(objective)},
        "separation": None if separation is None else vars(separation),
        "training": {"minutes": settings.minutes, **asdict(settings)},  # told before their steps
        "seed": seed,
        "data": data,
    }


def difference(there: object, here: object, name: str = "") -> str | None:
    """The first thing that two nests of plain values differ in, in words; `None` if in nothing.

    >>> difference({"training": {"epochs": 3}}, {"training": {"epochs": 4}})
    'training.epochs was 3 and is now 4'
    """
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*there, *(set(here) - set(there))]:
            inner = f"{name}.{key}" if name else str(key)
            found = difference(there.get(key), here.get(key), inner)
            if found is not None:
                return found
        return None
    if isinstance(there, list | tuple) and isinstance(here, list | tuple):
        return None if list(there) == list(here) else f"{name} was {there} and is now {here}"
    return None if there == here else f"{name} was {there} and is now {here}"
