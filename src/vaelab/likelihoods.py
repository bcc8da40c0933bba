"""Floor 3: likelihoods p(x|z), each a module that maps latent points to a distribution over x."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vaelab import checks
from vaelab.distributions import GreyBernoulli
from vaelab.networks import MAX_LOG_SCALE, Network, soft_bound, unbound
from vaelab.parts import Part
from vaelab.tensors import UNITS, blank_unit, unit_of

__all__ = ["LIKELIHOODS", "Bernoulli", "Gaussian", "Likelihood", "in_words"]


class Likelihood(Part):
    """Base of likelihoods.

    The network's output is added to a learnt offset, which starts where the mean of the training
    data is: the network has only to learn how data differ from it.

    Attributes:
        value_range: Smallest and largest value of x that it can score.
    """

    network: Network
    value_range: tuple[float, float]

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.offset = nn.Parameter(torch.zeros(network.out_shape))

    def reset_parameters(self) -> None:
        """Sets the offset to zero."""
        nn.init.zeros_(self.offset)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one datum."""
        return self.network.out_shape

    @property
    def latent_dim(self) -> int:
        """D, the number of latent dimensions."""
        return self.network.in_shape[0]

    @abstractmethod
    def forward(self, z: Tensor) -> Distribution:
        """Latent points `(..., D)` to a distribution with batch `(...)` and event `shape`."""

    def location(self, z: Tensor) -> Tensor:
        """The network's output plus the offset, `(..., *shape)`, in `float32`."""
        features: Tensor = self.network(z)
        return features.float() + self.offset


class Bernoulli(Likelihood):
    """p(x|z) = Π Bernoulli(xᵢ; μᵢ(z)), for bits, or for grey levels in [0, 1].

    On bits it is a probability. On grey levels it is the customary cross-entropy: for each pixel
    the expected log-probability of a bit drawn with the grey level as its probability. Such
    figures compare with each other, but not with figures on bits, nor with densities; see
    `vaelab.distributions.GreyBernoulli`.

    Arguments:
        network: Maps a latent point `(D,)` to logits of the datum's shape.

    >>> from vaelab.networks import MLP
    >>> p = Bernoulli(MLP((2,), (1, 4, 4), widths=(8,)))(torch.zeros(3, 2))
    >>> p.log_prob(torch.rand(3, 1, 4, 4)).shape
    torch.Size([3])
    """

    value_range = (0.0, 1.0)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Sets the offset to the logits of the data's mean, kept away from 0 and 1."""
        self.offset.copy_(x.mean(0).clamp(0.002, 0.998).logit())

    def forward(self, z: Tensor) -> GreyBernoulli:
        """Latent points `(..., D)` to a distribution with batch `(...)` and event `shape`."""
        return GreyBernoulli(self.location(z), len(self.shape))


class Gaussian(Likelihood):
    r"""p(x|z) = N(μ(z), diag σ²), where σ does not depend on z.

    With units u, the network works on x / u: μ = u (network(z) + offset) and σ = u σ′. The density
    is that of x itself, whatever its units: with a x + b instead of x, the same weights give
    log-densities that are lower by Σ ln a, and means that are a times as large, plus b.

    A learnt σ′ starts at the standard deviation of the training data, in units, and stays within
    [e⁻¹⁰, e¹⁰], so that the density cannot grow without bound on data that can be fitted exactly.

    Reference: J. Lucas et al., Don't Blame the ELBO! (2019), on why σ should be learnt,
    https://arxiv.org/abs/1911.02469

    Arguments:
        network: Maps a latent point `(D,)` to the mean, of the datum's shape.
        scale: `"shared"` learns one σ′, `"per-dimension"` learns one for each element of x, and a
            number above 0 fixes it.
        units: The units in which all this is computed, taken from the training data by `start`:
            `"none"`, `"shared"` or `"per-dimension"`; see `vaelab.tensors.unit_of`.

    Attributes:
        unit: The units, `(*shape)`, or `()` if shared; `None` where they are `"none"`.

    >>> from vaelab.networks import MLP
    >>> p = Gaussian(MLP((2,), (5,), widths=(8,)), scale=0.1)(torch.zeros(3, 2))
    >>> p.batch_shape, p.event_shape
    (torch.Size([3]), torch.Size([5]))
    """

    value_range = (-math.inf, math.inf)
    unit: Tensor | None

    def __init__(
        self,
        network: Network,
        scale: Literal["shared", "per-dimension"] | float = "shared",
        units: str = "none",
    ) -> None:
        super().__init__(network)
        if isinstance(scale, str):
            self.scale: str | float = checks.choice("scale", scale, ("shared", "per-dimension"))
            size = () if scale == "shared" else network.out_shape
            self.raw_log_scale: nn.Parameter | None = nn.Parameter(torch.zeros(size))
        else:
            self.scale = checks.number("scale", scale, above=0)
            self.raw_log_scale = None
        self.units = checks.choice("units", units, UNITS)
        self.register_buffer("unit", blank_unit(self.units, network.out_shape))

    def reset_parameters(self) -> None:
        """Sets the offset to zero, and a learnt σ′ and the units to 1."""
        super().reset_parameters()
        if self.raw_log_scale is not None:
            nn.init.zeros_(self.raw_log_scale)
        if self.unit is not None:
            nn.init.ones_(self.unit)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Takes the units from the data; sets the offset to the data's mean, and a learnt σ′ to
        their standard deviation around it, both in these units.
        """
        mean, variance = x.mean(0), x.var(0, correction=0)
        if self.unit is not None:
            self.unit.copy_(unit_of(x, self.units))
            mean, variance = mean / self.unit, variance / self.unit / self.unit
        self.offset.copy_(mean)
        if self.raw_log_scale is None:
            return
        if self.scale == "shared":
            variance = variance.mean()
        log_scale = 0.5 * variance.clamp_min(1e-6).log()
        self.raw_log_scale.copy_(unbound(log_scale, MAX_LOG_SCALE))

    def stddev(self) -> Tensor:
        """σ of each element in the units of x, `(*shape)` or `()`."""
        if self.raw_log_scale is None:
            scale = self.offset.new_tensor(float(self.scale))
        else:
            scale = soft_bound(self.raw_log_scale, MAX_LOG_SCALE).exp()
        return scale if self.unit is None else self.unit * scale

    def forward(self, z: Tensor) -> Distribution:
        """Latent points `(..., D)` to a distribution with batch `(...)` and event `shape`."""
        loc = self.location(z)
        if self.unit is not None:
            loc = self.unit * loc
        normal = Normal(loc, self.stddev().expand_as(loc), validate_args=False)
        return Independent(normal, len(self.shape), validate_args=False)


def in_words(likelihood: Likelihood) -> str:
    """What a likelihood is, in a few words.

    >>> from vaelab.networks import MLP
    >>> in_words(Gaussian(MLP((2,), (5,)), units="per-dimension"))
    "Gaussian with a learnt scale, in units of each element's standard deviation"
    """
    if not isinstance(likelihood, Gaussian):
        return type(likelihood).__name__
    units = {
        "none": "",
        "shared": ", in units of the data's standard deviation",
        "per-dimension": ", in units of each element's standard deviation",
    }[likelihood.units]
    scales = {"shared": "a learnt scale", "per-dimension": "learnt scales"}
    scale = scales.get(str(likelihood.scale), f"the scale {likelihood.scale}")
    return f"Gaussian with {scale}{units}"


LIKELIHOODS: dict[str, type[Likelihood]] = {"bernoulli": Bernoulli, "gaussian": Gaussian}
"""The likelihoods by name."""
