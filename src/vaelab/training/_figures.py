"""What is told of a step and of an epoch: sums over data, and the figures made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vaelab.metrics import per_datum_given
from vaelab.model import Model
from vaelab.objectives import Objective
from vaelab.records import Terms

__all__ = ["of_epoch", "of_step", "of_valid", "summed"]


@torch.no_grad()
def summed(terms: Terms, apart: Tensor | None) -> Tensor:
    """Sums over data: loss, rate, distortion, and the term of a separation if there is one."""
    values = [terms.loss, terms.rate, terms.distortion]
    return torch.stack(values if apart is None else [*values, apart]).sum(1)


def of_step(sums: Tensor, count: int) -> dict[str, float]:
    """Figures of a step.

    Arguments:
        sums: Loss, rate, distortion, the term of a separation if there is one, the gradient's
            norm, and whether it was clipped: `(5,)` or `(6,)`.
        count: How many data the step had.
    """
    _, rate, distortion, *apart, norm, _ = sums.tolist()
    values = {
        "images": count,
        "elbo": -(rate + distortion) / count,
        "rate": rate / count,
        "distortion": distortion / count,
        "gradient_norm": norm,
    }
    if apart:
        values["separation"] = apart[0] / count
    return values


def of_epoch(sums: Tensor, count: int, steps: int, objective: Objective) -> dict[str, float]:
    """Figures of an epoch.

    Arguments:
        sums: The sums of its steps, as for `of_step`.
        count: How many data it had.
        steps: How many steps it had.
        objective: What was minimised.
    """
    loss, rate, distortion, *apart, norm, clipped = sums.tolist()
    values = {"gradient_norm": norm / steps, "clipped": clipped / steps}
    values |= _named("train", objective, [loss / count, rate / count, distortion / count])
    if apart:
        values["train_separation"] = apart[0] / count
    return values


@torch.no_grad()
def of_valid(
    model: Model, objective: Objective, x: Tensor, y: np.ndarray | None, *, seed: int, step: int
) -> dict[str, float]:
    """Figures of the data held out, if there are any, always with the same draws.

    Arguments:
        model: The model, which is in training mode.
        objective: What is minimised.
        x: The data held out, at rest.
        y: Numbers of their classes, if the model is conditional.
        seed: Of the draws.
        step: How many steps were taken.
    """
    if len(x) == 0:
        return {}
    model.eval()
    terms = per_datum_given(model, objective, x, y, seed=seed, step=step)
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
