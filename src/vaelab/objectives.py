"""Floor 5: objectives, each a frozen record that is called with a model and data.

An objective returns `Terms`: values per datum in nats. The training loop alone takes means.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelab import checks
from vaelab.distributions import DiagonalNormal, isolated, kl, kl_per_dimension
from vaelab.model import Model
from vaelab.records import Terms

__all__ = ["ELBO", "OBJECTIVES", "ImportanceWeighted", "Objective", "build"]


class Objective(ABC):
    """Base of objectives."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What is reported, any weight included: `"elbo"`, `"elbo_beta4"`, `"iwae_k5"`."""

    def kl_weight(self, step: int | None = None) -> float:
        """Weight of the KL divergence after `step` steps; `None` means when it has grown."""
        return 1.0

    def counted_in_steps(self, steps_per_epoch: int) -> Objective:
        """The same objective with whatever was counted in epochs counted in steps."""
        return self

    @abstractmethod
    def __call__(
        self,
        model: Model,
        x: Tensor,
        *,
        step: int | None = None,
        generator: torch.Generator | None = None,
        q: Distribution | None = None,
    ) -> Terms:
        """The objective of data `(N, *shape)` in `float32`.

        Arguments:
            model: The model.
            x: The data.
            step: How many steps were taken before, for weights that grow; `None` means that all
                have grown.
            generator: Where the draws come from; by default, torch's global random state.
            q: q(z|x) of these data, where it was computed before; by default, it is computed.
        """


@dataclass(frozen=True)
class ELBO(Objective):
    r"""The evidence lower bound: minimises E_q[−ln p(x|z)] + β KL(q(z|x) ‖ p(z)), in nats.

    With `free_bits` λ, each latent dimension of each datum is charged max(λ, KL_d(x)), where the
    KL divergence has a closed form by dimension, else the datum is charged max(λ D, KL(x)): the
    maximum is taken per datum, so a datum's value does not depend on its batch-mates. What is
    reported as rate and ELBO is always the unweighted one.

    References: D. P. Kingma and M. Welling (2013), https://arxiv.org/abs/1312.6114;
    I. Higgins et al., β-VAE (2017), https://openreview.net/forum?id=Sy2fzU9gl;
    D. P. Kingma et al. (2016) on free bits, https://arxiv.org/abs/1606.04934

    Arguments:
        beta: β, at least 0.
        warmup: Steps over which the KL's weight grows linearly from 0 to β.
        warmup_epochs: The same in epochs, for those who count in them; training turns it into
            steps. Give one of the two.
        free_bits: λ, in nats a dimension, at least 0.
        particles: K, how many draws of z estimate the distortion.
    """

    beta: float = 1.0
    warmup: int = 0
    warmup_epochs: float = 0.0
    free_bits: float = 0.0
    particles: int = 1

    def __post_init__(self) -> None:
        checks.number("beta", self.beta, least=0)
        checks.integer("warmup", self.warmup, least=0)
        checks.number("warmup_epochs", self.warmup_epochs, least=0)
        if self.warmup and self.warmup_epochs:
            raise checks.ArgumentError(
                f"warmup = {self.warmup} and warmup_epochs = {self.warmup_epochs:g}; give one."
            )
        checks.number("free_bits", self.free_bits, least=0)
        checks.integer("particles", self.particles)

    @property
    def name(self) -> str:
        """`"elbo"`, followed by what sets it apart from the plain one."""
        beta = f"_beta{self.beta:g}" if self.beta != 1 else ""
        return "elbo" + beta + (f"_free{self.free_bits:g}" if self.free_bits else "")

    def kl_weight(self, step: int | None = None) -> float:
        """β, times the share of the warm-up that is over."""
        if step is None or step >= self.warmup:
            return self.beta
        return self.beta * step / self.warmup

    def counted_in_steps(self, steps_per_epoch: int) -> ELBO:
        """The same objective with its warm-up counted in steps."""
        if not self.warmup_epochs:
            return self
        steps = math.ceil(self.warmup_epochs * steps_per_epoch)
        return replace(self, warmup=steps, warmup_epochs=0.0)

    def __call__(
        self,
        model: Model,
        x: Tensor,
        *,
        step: int | None = None,
        generator: torch.Generator | None = None,
        q: Distribution | None = None,
    ) -> Terms:
        """The objective of data `(N, *shape)`; see `Objective`."""
        q, p, z, log_likelihood = _draw(model, x, self.particles, generator, q)
        distortion = -log_likelihood.mean(0)
        rate = kl(q, p, z)
        charge = self._free(q, p, rate) if self.free_bits else rate
        loss = torch.add(distortion, charge, alpha=self.kl_weight(step))
        return Terms(loss=loss, rate=rate, distortion=distortion)

    def _free(self, q: Distribution, p: Distribution, rate: Tensor) -> Tensor:
        if isinstance(q, DiagonalNormal) and isinstance(p, DiagonalNormal):
            return kl_per_dimension(q, p).clamp_min(self.free_bits).sum(-1)
        return rate.clamp_min(self.free_bits * q.event_shape[0])


@dataclass(frozen=True)
class ImportanceWeighted(Objective):
    r"""The importance-weighted bound: E[ln (1/K) Σ_k p(x|z_k) p(z_k) / q(z_k|x)], in nats.

    With one particle its expectation is the ELBO; it grows with K towards ln p(x).

    Reference: Y. Burda, R. Grosse and R. Salakhutdinov, Importance Weighted Autoencoders (2015),
    https://arxiv.org/abs/1509.00519

    Arguments:
        particles: K, at least 1.
    """

    particles: int = 5

    def __post_init__(self) -> None:
        checks.integer("particles", self.particles)

    @property
    def name(self) -> str:
        """`"iwae_k5"` for five particles."""
        return f"iwae_k{self.particles}"

    def __call__(
        self,
        model: Model,
        x: Tensor,
        *,
        step: int | None = None,
        generator: torch.Generator | None = None,
        q: Distribution | None = None,
    ) -> Terms:
        """The objective of data `(N, *shape)`; see `Objective`."""
        q, p, z, log_likelihood = _draw(model, x, self.particles, generator, q)
        log_w = log_likelihood + p.log_prob(z) - q.log_prob(z)
        bound = log_w.logsumexp(0) - math.log(self.particles)
        return Terms(loss=-bound, rate=kl(q, p, z), distortion=-log_likelihood.mean(0))


def _draw(
    model: Model,
    x: Tensor,
    particles: int,
    generator: torch.Generator | None,
    q: Distribution | None,
) -> tuple[Distribution, Distribution, Tensor, Tensor]:
    """q(z|x), p(z), K draws of z `(K, N, D)`, and ln p(x|z) at them `(K, N)`."""
    q = model.encode(x) if q is None else q
    with isolated(generator):
        z = q.rsample((particles,))
    return q, model.prior(), z, model.decode(z).log_prob(x)


OBJECTIVES: dict[str, type[Objective]] = {"elbo": ELBO, "importance-weighted": ImportanceWeighted}
"""The objectives by name."""


def build(description: Mapping[str, Any], own: Iterable[type] = ()) -> Objective:
    """The objective of a description: the name of its class as `objective`, and its settings.

    Arguments:
        description: As model folders have it.
        own: Classes that may be built beside vaelab's; what is no objective is passed over.

    Raises:
        checks.StorageError: An unknown class.

    >>> build({"objective": "ELBO", "beta": 2.0}).name
    'elbo_beta2'
    """
    classes = (*OBJECTIVES.values(), *(cls for cls in own if issubclass(cls, Objective)))
    known: dict[str, type[Objective]] = {cls.__name__: cls for cls in classes}
    name, settings = description["objective"], dict(description)
    if name not in known:
        raise checks.StorageError(
            f"objective {name!r} is not known here; if you wrote it, pass its class: "
            "vaelab.load(folder, parts=[...])."
        )
    del settings["objective"]
    return known[name](**settings)
