"""Floor 7: the one training loop.

Mini-batches are gathered from tensors in memory, without a loader. Everything random (first
weights, order of the data, draws of z) follows from one seed, and torch's global random state is
left as it was. The order of the data is the same for every model that is given the same seed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor

from vaelab import checks
from vaelab.distributions import seeded
from vaelab.metrics import per_datum
from vaelab.model import Model
from vaelab.objectives import Objective
from vaelab.parts import Part, fresh
from vaelab.records import Training
from vaelab.tensors import to_float

__all__ = ["Callback", "Trained", "resolve", "train"]

Callback = Callable[[str, Mapping[str, float]], None]

BETAS = (0.9, 0.99)
"""Adam's; a shorter memory of the squared gradients than its usual 0.999 suits short runs."""

FEW = 32_000
"""Fewer training data than this are few: they get more passes, in smaller batches."""

START = 10_000
"""How many of the training data the parts' starting weights are taken from."""

STEPS = 1_300
"""How many steps few data get; more would fit their accidents."""


class Trained(NamedTuple):
    """What training gives.

    Attributes:
        model: The trained model, in evaluation mode.
        history: A record an epoch: `epoch`, `steps`, `seconds`, `learning_rate`, and `elbo`,
            `rate`, `distortion` in nats a datum, of training (`train_...`, means over the epoch)
            and of the data held out (`valid_...`), with the objective under its own name.
        settings: The settings with every choice made.
    """

    model: Model
    history: list[dict[str, float]]
    settings: Training


def resolve(settings: Training, count: int, elements: int) -> Training:
    """The settings with every choice made for `count` training data of `elements` numbers each.

    From 32,000 data on: 8 epochs of batches of 128. Fewer get batches of 64 and as many epochs as
    make 1,300 steps, between 8 and 21.

    >>> resolve(Training(), 57_000, 784)
    Training(epochs=8, batch_size=128, ..., clip_norm=313.6, ...)
    >>> resolve(Training(), 3_800, 784).epochs
    21
    """
    few = count < FEW
    batch_size = settings.batch_size or (64 if few else 128)
    passes = min(21, max(8, math.ceil(STEPS * batch_size / count))) if few else 8
    return replace(
        settings,
        epochs=settings.epochs or passes,
        batch_size=min(batch_size, count),
        clip_norm=settings.clip_norm or max(100.0, 0.4 * elements),
    )


def train(
    model: Model,
    objective: Objective,
    x: Tensor,
    *,
    settings: Training,
    seed: int = 0,
    callback: Callback | None = None,
) -> Trained:
    """Trains a copy of `model`, from fresh weights, to minimise `objective`.

    Arguments:
        model: The model; it is not changed.
        objective: What is minimised.
        x: Training data at rest, `(N, *shape)`, on any device.
        settings: How to train; see `Training`.
        seed: Everything random follows from it.
        callback: Called with `"step"` or `"epoch"` and named values.

    Returns:
        The trained model, its history and the settings used.

    Raises:
        checks.TrainingError: The loss is NaN or infinite.
    """
    shuffler = torch.Generator().manual_seed(checks.seed(seed))  # one order for every model
    order = torch.randperm(len(x), generator=shuffler)
    held = _held_out(settings.validation_fraction, len(x))
    valid, order = x[order[:held]], order[held:]
    settings = resolve(settings, len(order), x[0].numel())
    with seeded(seed):
        model = fresh(model).to(x.device).train()
        for part in model.parts.values():
            cast("Part", part).start(to_float(x[order[:START]]))
        loop = _Loop(model, objective, x, order, settings, shuffler, callback)
        history = []
        for _ in range(loop.epochs):
            record = loop.epoch() | _validate(model, objective, valid, seed, loop.steps)
            history.append(record)
            if callback is not None:
                callback("epoch", record)
    return Trained(model.eval(), history, settings)


def _held_out(fraction: float, count: int) -> int:
    if fraction == 0 or count == 1:
        return 0
    return min(max(1, round(fraction * count)), count - 1)


def _validate(
    model: Model, objective: Objective, valid: Tensor, seed: int, steps: int
) -> dict[str, float]:
    """The same objective on the data held out, always with the same draws."""
    if len(valid) == 0:
        return {}
    model.eval()
    terms = per_datum(model, objective, valid, seed=seed, step=steps)
    model.train()
    return _named("valid", objective, [float(values.mean()) for values in terms])


def _named(prefix: str, objective: Objective, means: Sequence[float]) -> dict[str, float]:
    loss, rate, distortion = means
    return {
        f"{prefix}_{objective.name}": -loss,
        f"{prefix}_elbo": -(rate + distortion),
        f"{prefix}_rate": rate,
        f"{prefix}_distortion": distortion,
    }


def _groups(model: Model, weight_decay: float) -> list[dict[str, object]]:
    """The weights of layers, which decay, and all other parameters, which do not."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    weights = [p for name, p in named if name.endswith("weight")]
    others = [p for name, p in named if not name.endswith("weight")]
    return [
        {"params": weights, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


class _Loop:
    """The state of a training run: what a step changes."""

    def __init__(
        self,
        model: Model,
        objective: Objective,
        x: Tensor,
        order: Tensor,
        settings: Training,
        shuffler: torch.Generator,
        callback: Callback | None,
    ) -> None:
        self.model, self.objective, self.x, self.order = model, objective, x, order
        self.settings, self.shuffler, self.callback = settings, shuffler, callback
        self.epochs = settings.epochs or 1
        self.batch_size = settings.batch_size or len(order)
        self.total = self.epochs * math.ceil(len(order) / self.batch_size)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.clip_norm = settings.clip_norm or math.inf
        self.optimizer = torch.optim.AdamW(
            _groups(model, settings.weight_decay),
            lr=settings.learning_rate,
            betas=BETAS,
            fused=True,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._share)
        self.steps = 0
        self.done = 0
        self.started = time.perf_counter()

    def _share(self, step: int) -> float:
        """Share of the largest learning rate at a step: a linear rise, then half a cosine."""
        rise = self.settings.warmup_fraction * self.total
        if step < rise:
            return (step + 1) / (rise + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, self.total - rise)))

    def epoch(self) -> dict[str, float]:
        """One pass over the data in a new order; returns its record."""
        sums = torch.zeros(3, device=self.x.device)
        order = self.order[torch.randperm(len(self.order), generator=self.shuffler)]
        rate = float(self.schedule.get_last_lr()[0])
        for rows in torch.split(order, self.batch_size):
            sums += self._step(rows)
        self.done += 1
        return {
            "epoch": float(self.done),
            "steps": float(self.steps),
            "seconds": time.perf_counter() - self.started,
            "learning_rate": rate,
        } | _named("train", self.objective, (sums / len(order)).tolist())

    def _step(self, rows: Tensor) -> Tensor:
        """One step on the data in `rows`; returns the sums of loss, rate and distortion."""
        batch = to_float(self.x.index_select(0, rows.to(self.x.device)))
        terms = self.objective(self.model, batch, step=self.steps)
        loss = terms.loss.mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        if not torch.isfinite(loss + norm):
            raise checks.TrainingError(
                f"the loss or its gradient is not finite at step {self.steps + 1}; lower the "
                f"learning rate (it is {self.settings.learning_rate:g}) or check the data's range."
            )
        self.optimizer.step()
        self.schedule.step()
        self.steps += 1
        sums = torch.stack([terms.loss.detach(), terms.rate.detach(), terms.distortion.detach()])
        self._tell(sums, len(rows))
        return sums.sum(1)

    def _tell(self, terms: Tensor, count: int) -> None:
        if self.callback is None:
            return
        _, rate, distortion = terms.mean(1).tolist()
        self.callback(
            "step",
            {
                "step": self.steps,
                "steps": self.total,
                "images": count,
                "elbo": -(rate + distortion),
                "rate": rate,
                "distortion": distortion,
            },
        )
