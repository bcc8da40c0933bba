"""The optimiser of a run, and how its learning rate rises and falls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["adamw", "one_cycle", "take_step"]

BETAS = (0.9, 0.99)
"""Adam's; a shorter memory of the squared gradients than its usual 0.999 suits short runs."""


def adamw(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW with a rate of 0: the weights of layers decay, all other parameters do not."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    weights = [p for name, p in named if name.endswith("weight")]
    others = [p for name, p in named if not name.endswith("weight")]
    groups = [
        {"params": weights, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    trained = [group for group in groups if group["params"]]  # parameters may be frozen
    return torch.optim.AdamW(trained, lr=0.0, betas=BETAS, fused=True)


@torch.no_grad()
def take_step(optimizer: torch.optim.AdamW) -> None:
    """What `optimizer.step()` of a fused AdamW does, to the bit.

    On a processor, what that does around its kernel takes as long as the kernel itself, on networks
    of the size that suits one; so the kernel is called at once, but for a first step, which makes
    the state.
    """
    groups = optimizer.param_groups
    if groups[0]["params"][0].device.type != "cpu" or not _kernel_is_known():
        optimizer.step()
        return
    updated = [[p for p in group["params"] if p.grad is not None] for group in groups]
    states = [[optimizer.state[p] for p in parameters] for parameters in updated]
    if not all(map(all, states)):
        optimizer.step()
        return
    for group, parameters, known in zip(groups, updated, states, strict=True):
        if not parameters:
            continue
        gradients = [p.grad for p in parameters]
        first, second = ([s[name] for s in known] for name in ("exp_avg", "exp_avg_sq"))
        _update(parameters, gradients, first, second, _counted(known), group)


def _counted(states: list[dict[str, Tensor]]) -> Sequence[Tensor]:
    """Counts a step in each state; the counts become views of one tensor, to add to all at once.

    One by one, the counts of 19 parameters take three times as long.
    """
    steps: Sequence[Tensor] = [state["step"] for state in states]
    whole = steps[0]._base
    if whole is None or len(whole) != len(steps) or any(s._base is not whole for s in steps):
        whole = torch.stack(list(steps))
        steps = whole.unbind()
        for state, step in zip(states, steps, strict=True):
            state["step"] = step
    whole.add_(1)
    return steps


def _update(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    steps: Sequence[Tensor],
    group: Mapping[str, Any],
) -> None:
    """Torch's fused update of AdamW; the steps are those taken with this one."""
    beta1, beta2 = group["betas"]
    torch._fused_adamw_(  # type: ignore[call-overload]
        parameters,
        gradients,
        first,
        second,
        [],
        steps,
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )


@cache
def _kernel_is_known() -> bool:
    """Whether this PyTorch has the kernel in the form that `_update` calls: it is not public."""
    one = [torch.ones(1)]
    group = {"lr": 0.1, "betas": BETAS, "weight_decay": 0.0, "eps": 1e-8}
    try:
        _update(one, one, one, one, one, group)
    except (AttributeError, TypeError, RuntimeError):
        return False
    return True


def one_cycle(step: int, rise: float, total: int) -> float:
    """The share of the largest rate at a step: a linear rise, then half a cosine down to zero."""
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, total - rise)))
