"""The optimiser of a run, and how its learning rate rises and falls."""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = ["adamw", "one_cycle"]

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
    return torch.optim.AdamW(groups, lr=0.0, betas=BETAS, fused=True)


def one_cycle(step: int, rise: float, total: int) -> float:
    """The share of the largest rate at a step: a linear rise, then half a cosine down to zero."""
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, total - rise)))
