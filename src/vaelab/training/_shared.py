"""What must hold for several processes to share the batches of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vaelab import checks
from vaelab.model import Model
from vaelab.ranks import Ranks
from vaelab.separation import Separation
from vaelab.training._draws import Draws
from vaelab.training._settings import difference

__all__ = ["add_up", "check_alike", "check_shared"]


def check_shared(ranks: Ranks, model: Model, separation: Separation | None) -> None:
    """Refuses what is no mean over data: its gradient is no sum of those of shares of a batch.

    Raises:
        checks.ArgumentError: There is a separation, or a network that normalises by its batch.
    """
    if ranks.alone:
        return
    if separation is not None and separation.weight:
        raise checks.ArgumentError(
            f"separation = {separation.weight:g}, but it depends on whole batches and "
            f"{ranks.count} processes share them; set it to 0, or train in one process."
        )
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            raise checks.ArgumentError(
                f"{name} is a {type(module).__name__}, but it depends on whole batches and "
                f"{ranks.count} processes share them; use LayerNorm, or train in one process."
            )


def check_alike(ranks: Ranks, identity: Mapping[str, Any]) -> None:
    """Refuses, on all processes, that one was given other things than rank 0; GPUs may differ.

    Arguments:
        ranks: The processes.
        identity: What decides of the run, as plain values; see `training.identity`.

    Raises:
        checks.ArgumentError: Something differs.
    """
    device = torch.device(identity["training"]["device"]).type
    here = {**identity, "training": {**identity["training"], "device": device}}
    change = difference(ranks.agreed(lambda: here), here)
    if ranks.any(change is not None):
        found = f"rank 0 and rank {ranks.rank} differ" if change else "another rank differs"
        told = f": {change}" if change else ""
        raise checks.ArgumentError(
            f"{found} in what they were given{told}; give all processes the same data and settings."
        )
    if device not in ("cpu", "cuda"):
        raise checks.ArgumentError(
            f"device = {device!r}, but {ranks.count} processes can share batches on 'cpu' and "
            "'cuda' alone; give one of these."
        )


def add_up(
    draws: Draws, parameters: Sequence[nn.Parameter], sums: Sequence[Tensor], count: int
) -> None:
    """Replaces gradients and sums by those of the whole batch, the same bits on all processes.

    Of a batch smaller than the number of processes, the last have no rows. Theirs are gradients of
    zero for the parameters that have one on rank 0, which always has rows: one that has none is
    left alone by the optimiser, and must be so on all.

    Arguments:
        draws: The random states, which all processes take from rank 0 after such a batch.
        parameters: The parameters, with the gradients of this process's share.
        sums: Sums over the share.
        count: How many rows the whole batch has.
    """
    if count < draws.ranks.count:
        known = draws.ranks.agreed(lambda: [p.grad is not None for p in parameters])
        for parameter, there in zip(parameters, known, strict=True):
            if there and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        draws.follow()
    draws.ranks.add([*(p.grad for p in parameters if p.grad is not None), *sums])
