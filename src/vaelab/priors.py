"""Floor 3: priors p(z), each a module that gives a distribution over z.

A prior is called with the model's `encode`, because some priors are made from the posterior.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily

from vaelab import checks
from vaelab.distributions import DiagonalNormal
from vaelab.parts import Part
from vaelab.tensors import UNITS, blank_unit, unit_of

__all__ = ["PRIORS", "Prior", "StandardNormal", "Vamp"]

Encode = Callable[[Tensor], Distribution]


class Prior(Part):
    """Base of priors."""

    @abstractmethod
    def forward(self, encode: Encode) -> Distribution:
        """The distribution over z, batch `()` and event `(D,)`; `encode` is x ↦ q(z|x)."""


class StandardNormal(Prior):
    """p(z) = N(0, I).

    Arguments:
        latent_dim: D, at least 1.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = checks.integer("latent_dim", latent_dim)
        self.register_buffer("loc", torch.zeros(self.latent_dim), persistent=False)
        self.register_buffer("scale", torch.ones(self.latent_dim), persistent=False)

    def forward(self, encode: Encode) -> DiagonalNormal:
        """The distribution over z, batch `()` and event `(D,)`."""
        return DiagonalNormal(self.loc, self.scale)


class Vamp(Prior):
    r"""VampPrior: p(z) = (1/C) Σ_c q(z | u_c), a mixture of posteriors at learnt pseudo-inputs u_c.

    There is no closed form of the KL divergence to it; objectives estimate it by Monte Carlo. The
    pseudo-inputs are free real numbers and start as training data drawn at random.

    Reference: J. M. Tomczak and M. Welling, VAE with a VampPrior (2018),
    https://arxiv.org/abs/1705.07120

    Arguments:
        shape: Shape of a datum.
        components: C, the number of pseudo-inputs.
        units: The units that they are learnt in, so that steps are alike for data of any size:
            `"none"`, `"shared"` or `"per-dimension"`; see `vaelab.tensors.unit_of`.
    """

    unit: Tensor | None

    def __init__(self, shape: tuple[int, ...], components: int = 128, units: str = "none") -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.components = checks.integer("components", components)
        self.units = checks.choice("units", units, UNITS)
        self.register_buffer("unit", blank_unit(self.units, self.shape))
        self.pseudo_inputs = nn.Parameter(torch.empty(self.components, *self.shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the pseudo-inputs from N(½, 0.1²), and sets the units to 1."""
        nn.init.normal_(self.pseudo_inputs, 0.5, 0.1)
        if self.unit is not None:
            nn.init.ones_(self.unit)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Sets the pseudo-inputs to data drawn at random, with replacement if there are few."""
        count = self.components
        rows = torch.randperm(len(x)) if len(x) >= count else torch.randint(len(x), (count,))
        self.pseudo_inputs.copy_(x[rows[:count]])
        if self.unit is not None:
            self.unit.copy_(unit_of(x, self.units))
            self.pseudo_inputs.div_(self.unit)

    def forward(self, encode: Encode) -> MixtureSameFamily:
        """The distribution over z, batch `()` and event `(D,)`."""
        weights = Categorical(
            logits=self.pseudo_inputs.new_zeros(self.components), validate_args=False
        )
        inputs = self.pseudo_inputs if self.unit is None else self.unit * self.pseudo_inputs
        return MixtureSameFamily(weights, encode(inputs), validate_args=False)


PRIORS: dict[str, type[Prior]] = {"standard-normal": StandardNormal, "vamp": Vamp}
"""The priors by name."""
