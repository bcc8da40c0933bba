"""One training run: its state, the step that changes it, and the way back when it fails."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.linalg import vector_norm

from vaelab import checkpoints, checks
from vaelab.checkpoints import Snapshot
from vaelab.conditioning import bound, class_weights
from vaelab.distributions import Share
from vaelab.graphs import Companions, Graph
from vaelab.model import Model
from vaelab.objectives import Objective
from vaelab.ranks import Ranks
from vaelab.records import Callback, Terms, Training
from vaelab.separation import Separation
from vaelab.tensors import binarized, to_float
from vaelab.training._data import Data
from vaelab.training._diagnosis import likely_cause
from vaelab.training._draws import Draws, sharing
from vaelab.training._figures import of_epoch, of_step, of_valid, summed
from vaelab.training._optimizer import adamw, one_cycle, take_step
from vaelab.training._shared import add_up

__all__ = ["Loop"]

REMEMBERED = 100
"""Steps between two states that a run can go back to; a copy takes less than a fifth of a step."""

RETRIES = 3
SLOWER = 0.3
"""How often a run goes back after a loss that is not finite, and by what its rate is multiplied."""

DISTANT = 25
"""Steps between two looks at the loss where a look makes the processor wait for a device."""


class _DivergedError(Exception):
    """The loss, its gradient or a validation figure is NaN or infinite."""


class Loop:
    """The state of a training run, the same on each of the processes that share its batches.

    Arguments:
        model: The model, with the weights it starts from, on its device.
        objective: What is minimised.
        data: What is trained on, and held out.
        settings: Resolved settings.
        shuffler: Where the order of the data comes from.
        seed: Seed of the validation's draws.
        callback: Called with `"step"` or `"epoch"` and named values.
        constant: Whether the learning rate is the largest all along.
        separation: A term of pairs that is added to the loss, and the graph whose edges they are.

    Attributes:
        steps, epoch, position: Steps taken, epochs completed, batches seen of the current epoch.
        history: A record an epoch.
        best: Weights of the model that was best on the data held out.
        stopped: Why training ended before its last epoch, else empty.
        ranks: The processes; in each, the loop takes the gradient of its share of a batch, and
            the step of all.
        asked: Gives the number of a signal that asked this process to stop, or `None`.
        called: Whether a signal asked any of several processes to stop; the same on all of them.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        data: Data,
        *,
        settings: Training,
        shuffler: torch.Generator,
        seed: int,
        callback: Callback | None,
        constant: bool = False,
        separation: tuple[Separation, Graph] | None = None,
    ) -> None:
        self.model, self.callback, self.constant = model, callback, constant
        self.settings, self.shuffler, self.seed = settings, shuffler, seed
        self.ranks, self.device = Ranks.here(), next(model.parameters()).device
        self.draws = Draws(self.ranks, self.device, seed)
        self.asked: Callable[[], int | None] = lambda: None
        self.called = False
        self.data, (self.valid, labels) = data, data.valid
        self.valid_y = None if labels is None else labels.cpu().numpy()
        if settings.binarize == "dynamic" and len(self.valid):
            self.valid = binarized(self.valid, seed).to(self.valid.device)
        self.epochs = settings.epochs or 1
        self.batches = data.batches(settings, shuffler, self.ranks)
        self.objective = objective.counted_in_steps(self.batches.steps)
        self.separation = separation and separation[0]
        self.companions = separation and Companions(separation[1], data.held, data.like.device)
        self.total = settings.steps or self.epochs * self.batches.steps
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.clip_norm, self.peak = settings.clip_norm or math.inf, settings.learning_rate or 0.0
        self.optimizer = adamw(model, settings.weight_decay)
        terms: Callable[..., tuple[Terms, Tensor | None]] = self._terms
        self.terms = torch.compile(terms) if settings.compile else terms
        self.watched = 1 if self.device.type == "cpu" else DISTANT
        self.steps = self.epoch = self.position = 0
        self.factor, self.recoveries, self.stale = 1.0, 0, 0
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] | None = None
        self.best_value, self.best_epoch, self.stopped = -math.inf, 0, ""
        self.sums = torch.zeros(5 if separation is None else 6, device=self.device)
        self.order, self.began = shuffler.get_state(), time.perf_counter()
        self.good = self.ranks.first(self.capture, checkpoints.pack, checkpoints.unpack)
        if not self.ranks.alone:
            self.restore(self.good)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.epoch >= self.epochs or bool(self.stopped)

    @property
    def seconds(self) -> float:
        """How long the run has taken, in all the processes that took part."""
        return time.perf_counter() - self.began

    def run(
        self,
        after_step: Callable[[], None] = lambda: None,
        after_epoch: Callable[[], None] = lambda: None,
    ) -> None:
        """Trains to the end; the two functions are called while the state is whole."""
        while not self.finished:
            try:
                self._epoch(after_step)
            except _DivergedError:
                self._go_back()
            else:
                after_epoch()

    def capture(self) -> Snapshot:
        """A copy of the state, the best weights apart."""
        values = {name: getattr(self, name) for name in _VALUES}
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for index, entries in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in entries.items()}
        tensors |= {"sums": self.sums, "order": self.order, **self.draws.states()}
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        return Snapshot(values | {"history": list(self.history), "seconds": self.seconds}, copies)

    def restore(self, snapshot: Snapshot) -> None:
        """Sets the state to that of a snapshot, which stays as it is."""
        for name in _VALUES:
            setattr(self, name, snapshot.values[name])
        self.history = list(snapshot.values["history"])
        self.began = time.perf_counter() - snapshot.values["seconds"]
        tensors = {name: tensor.clone() for name, tensor in snapshot.tensors.items()}
        self.model.load_state_dict(_below("model", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _below("optimizer", tensors).items():
            index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.sums, self.order = tensors["sums"].to(self.device), tensors["order"]
        self.shuffler.set_state(self.order)
        self.draws.restore(tensors)

    def _epoch(self, after_step: Callable[[], None]) -> None:
        """The rest of an epoch, or all of it."""
        self.order = self.shuffler.get_state()
        batches = self.batches.rows(skip=self.position)
        while self.steps < self.total and (rows := next(batches, None)) is not None:
            due = self.steps % REMEMBERED == 0 or self.position == 0
            before = self.capture() if due else self.good
            sums = self._step(rows, look=due or self.steps % self.watched == 0)
            self.good = before  # a step could be taken from it
            self._tell(sums, len(rows))
            after_step()
        self._end_epoch()

    @property
    def sound(self) -> bool:
        """Whether all losses and gradients of the epoch were finite."""
        return bool(torch.isfinite(self.sums).all())

    def check(self) -> None:
        """Goes back, unless all losses and gradients of the epoch were finite."""
        if not self.sound:
            raise _DivergedError

    def _terms(
        self,
        x: Tensor,
        y: Tensor | None,
        near: tuple[Tensor, Tensor | None] | None,
        step: int | None,
        share: Share | None,
    ) -> tuple[Terms, Tensor | None]:
        """The objective of data, and how far they are from their neighbours, if any are given."""
        model, bfloat16 = self._given(y), self.settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16) if bfloat16 else nullcontext():
            if near is None or self.separation is None:
                known = None if share is None else sharing(model.encode(x), share)
                return self.objective(model, x, step=step, q=known), None
            q, beside = model.encode(x), self._given(near[1]).encode(near[0])
            apart = self.separation(q.mean, beside.mean)
            return self.objective(model, x, step=step, q=q), apart

    def _given(self, y: Tensor | None) -> Model:
        model = self.model
        return model if y is None else bound(model, class_weights(y, model.classes))

    def _at(self, rows: Tensor, share: Share | None = None) -> tuple[Tensor, Tensor | None]:
        """The data of some rows in computation's form, and the numbers of their classes."""
        there, labels = self.data.at(rows)
        x = to_float(there.to(self.device, non_blocking=True))
        y = None if labels is None else labels.to(self.device)
        if self.settings.binarize == "dynamic":
            x = torch.bernoulli(x) if share is None else share.bits(x)
        return x, y

    def _step(self, rows: Tensor, *, look: bool) -> Tensor:
        """One step; returns what it adds to the sums. A look at the loss waits for the device."""
        rate = self.learning_rate(self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for parameter in self.parameters:
            parameter.grad = None
        mine = self.ranks.share(rows)
        share = self.draws.share(len(rows), self.steps)
        if len(mine):
            loss, sums = self._gradient(mine, len(rows), share)
        else:
            loss = sums = torch.zeros(3, device=self.device)
        if share is not None:
            asked = sums.new_full((1,), float(self.asked() is not None))
            add_up(self.draws, self.parameters, [sums, asked], len(rows))
            loss, self.called = sums[0], look and asked.item() > 0
        norm = self._clip()
        if look and not math.isfinite(loss.item() + norm.item()):
            raise _DivergedError
        take_step(self.optimizer)
        self.steps += 1
        self.position += 1
        told = torch.cat([sums, torch.stack([norm, norm > self.clip_norm])])
        self.sums += told
        return told

    def _gradient(self, rows: Tensor, count: int, share: Share | None) -> tuple[Tensor, Tensor]:
        """Takes the gradient of some rows of a batch of `count`; returns the loss, and sums."""
        x, y = self._at(rows, share)
        near = None if self.companions is None else self._at(self.companions.draw(rows))
        grown = self.objective.kl_weight(self.steps) == self.objective.kl_weight(None)
        terms, apart = self.terms(x, y, near, None if grown else self.steps, share)
        loss = terms.loss.sum()
        if apart is not None and self.separation is not None:
            loss = loss + self.separation.weight * x[0].numel() * apart.sum()
        (loss / count).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), summed(terms, apart)

    def _clip(self) -> Tensor:
        """Scales the gradient down to the largest norm allowed; returns the norm it had."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if self.device.type == "cpu":  # there torch's own total takes longer
            norm: Tensor = vector_norm(torch.stack([vector_norm(g) for g in gradients]))
            clipped = norm.item() > self.clip_norm
        else:
            norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
            clipped = True  # a look would wait for the device
        if clipped:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip_norm, norm)
        return norm

    def learning_rate(self, step: int) -> float:
        """Adam's rate at a step, with what recoveries left of it."""
        rise = self.settings.warmup_fraction * self.total
        share = 1.0 if self.constant else one_cycle(step, rise, self.total)
        return self.peak * self.factor * share

    def _end_epoch(self) -> None:
        self.check()
        record: dict[str, float] = self.ranks.agreed(self._record)
        if not all(math.isfinite(v) for name, v in record.items() if name.startswith("valid_")):
            raise _DivergedError
        self.history.append(record)
        self.epoch, self.position = self.epoch + 1, 0
        self.sums = torch.zeros_like(self.sums)
        self.order = self.shuffler.get_state()
        self._judge(record)
        if self.callback is not None:
            self.callback("epoch", record)

    def _record(self) -> dict[str, float]:
        """What is known of the epoch that ends."""
        steps = self.position
        count = min(self.batches.count, steps * self.batches.batch_size)
        held = self.model, self.objective, self.valid, self.valid_y
        return {
            "epoch": float(self.epoch + 1),
            "steps": float(self.steps),
            "seconds": self.seconds,
            "learning_rate": self.learning_rate(self.steps - steps),
            "kl_weight": self.objective.kl_weight(self.steps),
            "recoveries": float(self.recoveries),
            **of_epoch(self.sums, count, steps, self.objective),
            **of_valid(*held, seed=self.seed, step=self.steps),
        }

    def _judge(self, record: Mapping[str, float]) -> None:
        """Keeps the best weights, and ends training when they have stayed the best for long."""
        value = record.get(f"valid_{self.objective.name}")
        if value is None:
            return
        growing = self.objective.kl_weight(self.steps) != self.objective.kl_weight(None)
        if growing or value > self.best_value:  # values of different weights do not compare
            self.best_value, self.stale = (-math.inf if growing else value), 0
            self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
            self.best_epoch = self.epoch
        else:
            self.stale += 1
        if self.settings.patience is not None and self.stale >= self.settings.patience:
            self.stopped = f"no improvement in {self.stale} epochs"

    def _go_back(self) -> None:
        """Goes back to the last good state with a lower rate, or ends with the best model."""
        step, began = self.steps, self.began
        recoveries, factor = self.recoveries + 1, self.factor * SLOWER
        self.restore(self.good)
        self.began = began
        what = f"the loss or its gradient is not finite at step {step + 1:,}"
        if recoveries <= RETRIES and step > self.steps:  # else there is no update to shrink
            self.recoveries, self.factor = recoveries, factor
            self.warn(
                f"{what}; training goes on from step {self.steps:,} with the learning rate lowered "
                f"to {self.peak * factor:.2g} ({recoveries} of {RETRIES} times)."
            )
            return
        cause = likely_cause(self.data.seen, self.settings)
        if recoveries > 1:
            what = f"{what}, and {recoveries - 1} lower learning rates did not help"
        if not self.history:
            raise checks.TrainingError(f"{what}; {cause}")
        kept = f"epoch {self.best_epoch}" if self.best_epoch else f"step {self.steps:,}"
        self.stopped = what
        self.warn(f"{what}; training ends with the model of {kept}; {cause}")

    def warn(self, line: str) -> None:
        """Tells something that the person should know, once, however many processes there are."""
        if self.ranks.rank == 0:
            warnings.warn(line, checks.VaelabWarning, stacklevel=3)

    def conclude(self) -> Model:
        """The model that training gives: the last, or the best where it ended early."""
        if self.best is not None and (self.stopped or self.settings.patience is not None):
            self.model.load_state_dict(self.best)
        return self.model.eval()

    def _tell(self, sums: Tensor, count: int) -> None:
        if self.callback is None:
            return
        values = {
            "step": self.steps,
            "steps": self.total,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }
        self.callback("step", values | of_step(sums, count))


_VALUES = (
    "steps",
    "epoch",
    "position",
    "factor",
    "recoveries",
    "stale",
    "best_value",
    "best_epoch",
    "stopped",
)
"""Attributes of a `Loop` that are plain values and belong to its state."""


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}
