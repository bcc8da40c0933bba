"""The likely cause of a loss that is not finite, for the person who reads the error."""

from __future__ import annotations

from torch import Tensor

from vaelab.records import Training
from vaelab.tensors import to_float

__all__ = ["likely_cause"]

LOOKED_AT = 10_000
LARGE = 1e15
"""Squares of data further from zero than this are near the end of float32."""

FAST = 2e-2
"""A learning rate that most networks do not bear."""


def likely_cause(x: Tensor, settings: Training) -> str:
    """One sentence that names what to look at, the likeliest first.

    Arguments:
        x: The training data at rest, `(N, *shape)`.
        settings: The settings they were trained with, resolved.

    >>> import torch
    >>> likely_cause(torch.tensor([[0.0, 1e30], [0.0, 2e30]]), Training())
    'the data reach 2e+30: standardise them, to mean 0 and standard deviation 1 say.'
    """
    some = to_float(x[:LOOKED_AT])
    reach = some.abs().max().item()
    if reach > LARGE:
        advice = "standardise them, to mean 0 and standard deviation 1 say."
        return f"the data reach {reach:.2g}: {advice}"
    rate = settings.learning_rate or 0.0
    if rate > FAST:
        return f"the learning rate is high ({rate:g}): lower it."
    flat = some.flatten(1)
    constant = (flat == flat[0]).all(0).nonzero().flatten()
    if len(some) > 1 and len(constant) and x.dim() == 2:
        return f"feature {int(constant[0])} is constant: remove it, or fix the likelihood's scale."
    return (
        f"lower the learning rate (it is {rate:g}) or check the data's range "
        f"(it reaches {reach:.2g})."
    )
