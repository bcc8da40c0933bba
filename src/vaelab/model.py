"""Floor 4: a variational autoencoder: a posterior, a prior and a likelihood."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab import checks
from vaelab.likelihoods import Likelihood
from vaelab.posteriors import Posterior
from vaelab.priors import Prior

__all__ = ["Model"]


class Model(nn.Module):
    """posterior × prior × likelihood, each reached as a distribution.

    Arguments:
        posterior: x ↦ q(z|x).
        prior: p(z).
        likelihood: z ↦ p(x|z).

    Attributes:
        parts: The three modules by name: `"posterior"`, `"prior"`, `"likelihood"`.

    Raises:
        checks.ArgumentError: The parts disagree on the shape of a datum or the latent dimension.

    >>> import torch
    >>> from vaelab import recipes
    >>> model = recipes.vae((1, 28, 28)).model()
    >>> x = torch.rand(4, 1, 28, 28)
    >>> z = model.encode(x).rsample((3,))           # (K, N, D)
    >>> model.decode(z).log_prob(x).shape           # (K, N)
    torch.Size([3, 4])
    >>> model.prior().log_prob(z).shape
    torch.Size([3, 4])
    """

    def __init__(self, posterior: Posterior, prior: Prior, likelihood: Likelihood) -> None:
        super().__init__()
        if posterior.shape != likelihood.shape:
            raise checks.ArgumentError(
                f"the posterior reads data of shape {posterior.shape}, but the likelihood gives "
                f"{likelihood.shape}; give both the same shape."
            )
        if posterior.latent_dim != likelihood.latent_dim:
            raise checks.ArgumentError(
                f"the posterior has {posterior.latent_dim} latent dimensions, but the likelihood "
                f"{likelihood.latent_dim}; give both the same latent_dim."
            )
        self.parts = nn.ModuleDict(
            {"posterior": posterior, "prior": prior, "likelihood": likelihood}
        )
        event = self.prior().event_shape
        if event != (self.latent_dim,):
            raise checks.ArgumentError(
                f"the prior is over z of shape {tuple(event)}, but the posterior has "
                f"latent_dim = {self.latent_dim}; give both the same."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one datum: `(C, H, W)` or `(D,)`."""
        return cast("Posterior", self.parts["posterior"]).shape

    @property
    def latent_dim(self) -> int:
        """D, the number of latent dimensions."""
        return cast("Posterior", self.parts["posterior"]).latent_dim

    @property
    def value_range(self) -> tuple[float, float]:
        """Smallest and largest value of x that the likelihood can score."""
        return cast("Likelihood", self.parts["likelihood"]).value_range

    def encode(self, x: Tensor) -> Distribution:
        """q(z|x) of data `(..., *shape)` in `float32`: batch `(...)`, event `(D,)`."""
        q: Distribution = self.parts["posterior"](x)
        return q

    def prior(self) -> Distribution:
        """p(z): batch `()`, event `(D,)`."""
        p: Distribution = self.parts["prior"](self.encode)
        return p

    def decode(self, z: Tensor) -> Distribution:
        """p(x|z) of latent points `(..., D)`: batch `(...)`, event `shape`."""
        p: Distribution = self.parts["likelihood"](z)
        return p
