"""Where the random numbers of a run's steps come from, in one process and in several."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelab.distributions import DiagonalNormal, Share, SharedNormal
from vaelab.ranks import Ranks

__all__ = ["Draws", "sharing"]

CPU, CUDA = "random", "random.cuda"
"""What random states are called in a snapshot."""


class Draws:
    """The random states of a run.

    One process draws from torch's global state. Where several share each batch, the draws that
    belong to data, of z and of dynamic bits, come from a generator that goes the way of the global
    state of one process: each draws for the whole batch and takes its share. What a part of one's
    own draws by itself comes from the global state, which then follows from seed, process and step:
    it is never the same on two processes, and not that of one process.

    Arguments:
        ranks: The processes.
        device: Where is computed.
        seed: Of what a part draws by itself.
    """

    def __init__(self, ranks: Ranks, device: torch.device, seed: int) -> None:
        self.ranks, self.device, self.seed = ranks, device, seed
        self.name = CUDA if device.type == "cuda" else CPU
        self.common: torch.Generator | None = None
        if not ranks.alone:
            states = self.states()
            self.common = torch.Generator(device)
            self.common.set_state(states[self.name])

    def share(self, count: int, step: int) -> Share | None:
        """Which of the rows of a batch of `count` are here; `None` where all are."""
        if self.common is None:
            return None
        mixed = np.random.SeedSequence([self.seed, self.ranks.rank, step])
        own = int(mixed.generate_state(1)[0])
        torch.default_generator.manual_seed(own)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(own)
        return Share(self.common, *self.ranks.bounds(count), count)

    def follow(self) -> None:
        """Lets all processes draw on from where rank 0 is, should one not have taken part."""
        if self.common is not None:
            state = self.ranks.first(self.common.get_state, _bytes, _state)
            self.common.set_state(state)

    def states(self) -> dict[str, Tensor]:
        """The states to keep: those of one process, however many there are."""
        states = {CPU: torch.get_rng_state()}
        if self.device.type == "cuda":
            states[CUDA] = torch.cuda.get_rng_state(self.device)
        if self.common is not None:
            states[self.name] = self.common.get_state()
        return states

    def restore(self, states: Mapping[str, Tensor]) -> None:
        """Sets the states to those that `states` gave, in whatever number of processes."""
        if self.common is not None:
            self.common.set_state(states[self.name])
            return
        torch.set_rng_state(states[CPU])
        if CUDA in states:
            torch.cuda.set_rng_state(states[CUDA], self.device)


def _bytes(state: Tensor) -> bytes:
    return state.numpy().tobytes()


def _state(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def sharing(q: Distribution, share: Share) -> Distribution:
    """q(z|x) of a share of a batch, drawing as one of the whole batch, if it is a `DiagonalNormal`.

    Others draw by themselves; see `Draws`.
    """
    return SharedNormal(q.loc, q.scale, share) if type(q) is DiagonalNormal else q
