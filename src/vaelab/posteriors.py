"""Floor 3: posteriors q(z|x), each a module that maps data to a distribution over z."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelab import checks
from vaelab.distributions import DiagonalNormal
from vaelab.networks import MAX_LOG_SCALE, Network, soft_bound
from vaelab.parts import Part
from vaelab.tensors import UNITS, blank_unit, unit_of

__all__ = ["POSTERIORS", "DiagonalGaussian", "FixedGaussian", "Posterior"]


class Posterior(Part):
    """Base of posteriors: `shape` of a datum, `latent_dim`, and the distribution itself.

    Arguments:
        network: Reads data.
        units: The units in which the network reads them, taken from the training data by `start`:
            `"none"`, `"shared"` or `"per-dimension"`; see `vaelab.tensors.unit_of`.

    Attributes:
        unit: The units, `(*shape)`, or `()` if shared; `None` where they are `"none"`.
    """

    network: Network
    latent_dim: int
    unit: Tensor | None

    def __init__(self, network: Network, units: str = "none") -> None:
        super().__init__()
        self.network = network
        self.units = checks.choice("units", units, UNITS)
        self.register_buffer("unit", blank_unit(self.units, network.in_shape))

    def reset_parameters(self) -> None:
        """Sets the units to 1."""
        if self.unit is not None:
            self.unit.fill_(1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one datum."""
        return self.network.in_shape

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Takes the units from the data, and centres the network's input on their mean."""
        self.network.start(x)
        if self.unit is not None:
            self.unit.copy_(unit_of(x, self.units))
            self.network.shift.div_(self.unit)

    def read(self, x: Tensor) -> Tensor:
        """What the network makes of data `(..., *shape)`, in `float32`."""
        features: Tensor = self.network(x if self.unit is None else x / self.unit)
        return features.float()

    @abstractmethod
    def forward(self, x: Tensor) -> Distribution:
        """Data `(..., *shape)` to a distribution with batch `(...)` and event `(D,)`."""


class DiagonalGaussian(Posterior):
    r"""q(z|x) = N(μ(x), diag σ(x)²), the posterior of the original VAE.

    The network gives μ and a raw value h for each latent dimension; log σ = 10 tanh(h / 10), so σ
    stays within [e⁻¹⁰, e¹⁰] and can neither overflow nor reach zero.

    Reference: D. P. Kingma and M. Welling, Auto-Encoding Variational Bayes (2013),
    https://arxiv.org/abs/1312.6114

    Arguments:
        network: Maps a datum to `(2, D)`: the means, then the raw log-scales.
        units: The units in which it reads the datum; see `Posterior`.

    >>> import torch
    >>> from vaelab.networks import MLP
    >>> q = DiagonalGaussian(MLP((1, 28, 28), (2, 3), widths=(16,)))(torch.zeros(5, 1, 28, 28))
    >>> q.batch_shape, q.event_shape
    (torch.Size([5]), torch.Size([3]))
    """

    def __init__(self, network: Network, units: str = "none") -> None:
        super().__init__(network, units)
        if len(network.out_shape) != 2 or network.out_shape[0] != 2:
            raise checks.ArgumentError(
                f"network gives {network.out_shape}, but DiagonalGaussian needs (2, latent_dim): "
                "means and log-scales."
            )
        self.latent_dim = network.out_shape[1]

    def forward(self, x: Tensor) -> DiagonalNormal:
        """Data `(..., *shape)` to a distribution with batch `(...)` and event `(D,)`."""
        loc, raw = self.read(x).unbind(-2)
        return DiagonalNormal(loc, soft_bound(raw, MAX_LOG_SCALE).exp())


class FixedGaussian(Posterior):
    r"""q(z|x) = N(μ(x), s² I) with a constant s: only the mean is learnt.

    Against the standard normal prior, KL(q‖p) = ½‖μ(x)‖² + D (s² − 1 − ln s²) / 2, that is
    ½‖μ(x)‖² where s = 1.

    Arguments:
        network: Maps a datum to its mean, `(D,)`.
        scale: The standard deviation s, above 0.
        units: The units in which it reads the datum; see `Posterior`.

    >>> import torch
    >>> from vaelab.networks import MLP
    >>> q = FixedGaussian(MLP((4,), (2,), widths=(8,)), scale=0.5)(torch.zeros(1, 4))
    >>> q.scale
    tensor([[0.5000, 0.5000]])
    """

    def __init__(self, network: Network, scale: float = 1.0, units: str = "none") -> None:
        super().__init__(network, units)
        if len(network.out_shape) != 1:
            raise checks.ArgumentError(
                f"network gives {network.out_shape}, but FixedGaussian needs (latent_dim,): means."
            )
        self.scale = checks.number("scale", scale, above=0)
        self.latent_dim = network.out_shape[0]

    def forward(self, x: Tensor) -> DiagonalNormal:
        """Data `(..., *shape)` to a distribution with batch `(...)` and event `(D,)`."""
        loc = self.read(x)
        return DiagonalNormal(loc, loc.new_full((), self.scale).expand_as(loc))


POSTERIORS: dict[str, type[Posterior]] = {
    "diagonal-gaussian": DiagonalGaussian,
    "fixed-gaussian": FixedGaussian,
}
"""The posteriors by name."""
