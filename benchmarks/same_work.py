"""Vaelab's training loop against a lean plain one with the same layers and optimiser."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import vaelab
from baselines import Plain, adamw, conv_twin, dense_twin, epoch
from common import (
    OWN_BATCH,
    Digits,
    Goal,
    Row,
    Settings,
    digits,
    epoch_of_vaelab,
    ratios,
    seconds,
    without_validation,
)

TWINS: dict[str, Callable[[vaelab.Recipe], Plain]] = {"vae": dense_twin, "conv": conv_twin}


def run(settings: Settings) -> list[Row]:
    """Images a second of each loop, side by side."""
    data = digits(6_000 if settings.quick else None)
    rounds = 2 if settings.quick else 9
    return [row for name in TWINS for row in _compare(name, data, rounds)]


def _compare(name: str, data: Digits, rounds: int) -> list[Row]:
    recipe = without_validation(name, data.shape)
    network = TWINS[name](recipe)
    optimizer = adamw(network)
    warm = data.x[: 20 * OWN_BATCH]
    epoch(network, optimizer, warm, OWN_BATCH)
    vaelab.VAE(recipe, epochs=1, batch_size=OWN_BATCH).fit(warm)
    silent, once, told, plain = [], [], [], []
    for number in range(rounds):
        if number % 2:  # in turn, so that a drift of the machine favours neither
            plain.append(seconds(lambda: epoch(network, optimizer, data.x, OWN_BATCH)))
        loop, other = epoch_of_vaelab(recipe, data.train)
        silent.append(loop)
        once.append(other)
        told.append(_with_callback(recipe, data))
        if not number % 2:
            plain.append(seconds(lambda: epoch(network, optimizer, data.x, OWN_BATCH)))
    return _rows(name, len(data.x), silent, once, told, plain)


def _with_callback(recipe: vaelab.Recipe, data: Digits) -> float:
    """Seconds of an epoch while a callback does nothing but look at the clock at every step.

    From the first step's end to the last's, and in proportion for the first.
    """
    clock: list[tuple[float, float]] = []

    def callback(event: str, values: Mapping[str, float]) -> None:
        if event == "step":
            clock.append((time.perf_counter(), values["images"]))

    vaelab.VAE(recipe, epochs=1, batch_size=OWN_BATCH, callback=callback).fit(data.train)
    images = sum(count for _, count in clock)
    return (clock[-1][0] - clock[0][0]) * images / (images - clock[0][1])


def _rows(
    name: str,
    images: int,
    silent: list[float],
    once: list[float],
    told: list[float],
    plain: list[float],
) -> list[Row]:
    loops = {"vaelab": silent, "vaelab with a callback": told, "plain PyTorch": plain}
    goal = Goal(1.0, at_least=True)
    return [
        *(
            Row(f"{name}: {loop}", tuple(images / taken for taken in all_taken), "images/s")
            for loop, all_taken in loops.items()
        ),
        Row(f"{name}: vaelab / plain", ratios(plain, silent), "×", goal),
        Row(f"{name}: vaelab with a callback / plain", ratios(plain, told), "×", goal),
        Row(f"{name}: all else in `fit`", tuple(once), "s", note="start, checks, fingerprint"),
    ]
