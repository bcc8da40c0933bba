"""Floor 8: contract checks for parts, those of vaelab and those that others write.

A part that passes works everywhere in vaelab. The checks raise `AssertionError` with a sentence.

>>> from vaelab import networks, posteriors, testing
>>> testing.check_posterior(posteriors.DiagonalGaussian(networks.MLP((5,), (2, 2), (8,))))
"""

from __future__ import annotations

import json

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelab.distributions import seeded
from vaelab.likelihoods import Likelihood
from vaelab.parts import Part, build, describe, fresh
from vaelab.posteriors import Posterior
from vaelab.priors import Prior

__all__ = ["check_likelihood", "check_part", "check_posterior", "check_prior", "mass_on_grid"]


def check_part(part: Part) -> None:
    """A part can be described in JSON and built again, and `fresh` gives finite new weights."""
    description = json.loads(json.dumps(describe(part)))
    known = {type(module) for module in part.modules() if isinstance(module, Part)}
    same = build(description, known)
    _require(describe(same) == description, "describe(build(d)) must equal d")
    shapes = {name: tensor.shape for name, tensor in part.state_dict().items()}
    again = {name: tensor.shape for name, tensor in same.state_dict().items()}
    _require(shapes == again, "a part built from its description must have the same weights' names")
    with seeded(0):
        first = fresh(part).state_dict()
    with seeded(0):
        second = fresh(part).state_dict()
    for name, tensor in first.items():
        _require(bool(torch.isfinite(tensor).all()), f"fresh weights {name} must be finite")
        _require(torch.equal(tensor, second[name]), f"the same seed must give the same {name}")


def check_posterior(posterior: Posterior) -> None:
    """Batch and event shapes, gradients, independence of batch-mates, finite for any input."""
    check_part(posterior)
    with seeded(0):
        x = torch.rand(6, *posterior.shape)
        q = posterior(x)
        z = q.rsample((3,))
    _check_shapes(q, (6,), (posterior.latent_dim,))
    _require(q.log_prob(z).shape == (3, 6), "log_prob of (K, N, D) must be (K, N)")
    _require(bool(z.requires_grad), "rsample must carry gradients to the network")
    mates = x.clone()
    mates[1:] = 0.5
    _require(
        torch.allclose(posterior(mates).mean[0], q.mean[0], rtol=1e-5, atol=1e-6),
        "what is computed for a datum must not depend on its batch-mates",
    )
    for extreme in (1e6 * x, -1e6 * x):
        far = posterior(extreme)
        _require(bool(torch.isfinite(far.stddev).all()), "scales must be finite for any input")
        _require(bool((far.stddev > 0).all()), "scales must be above zero for any input")


def check_prior(prior: Prior, posterior: Posterior) -> None:
    """Batch and event shapes, a finite log-density, and gradients where it has weights."""
    check_part(prior)
    p = prior(posterior)
    _check_shapes(p, (), (posterior.latent_dim,))
    with seeded(0):
        z = torch.randn(3, 6, posterior.latent_dim)
    log_p = p.log_prob(z)
    _require(log_p.shape == (3, 6), "log_prob of (K, N, D) must be (K, N)")
    _require(bool(torch.isfinite(log_p).all()), "log_prob must be finite near the origin")
    _require(
        log_p.requires_grad or not any(True for _ in prior.parameters()),
        "log_prob must carry gradients to the prior's weights",
    )


def check_likelihood(likelihood: Likelihood) -> None:
    """Batch and event shapes, a finite log-density, and a mean within the range of values."""
    check_part(likelihood)
    with seeded(0):
        z = torch.randn(3, 6, likelihood.latent_dim)
        x = torch.rand(6, *likelihood.shape)
    p = likelihood(z)
    _check_shapes(p, (3, 6), likelihood.shape)
    log_p = p.log_prob(x)
    _require(log_p.shape == (3, 6), "log_prob must sum over the event: (K, N)")
    _require(bool(torch.isfinite(log_p).all()), "log_prob must be finite within [0, 1]")
    _require(bool(log_p.requires_grad), "log_prob must carry gradients to the network")
    low, high = likelihood.value_range
    mean = p.mean
    _require(bool(((mean >= low) & (mean <= high)).all()), "the mean must lie within value_range")


def mass_on_grid(distribution: Distribution, *, reach: float = 8.0, points: int = 401) -> Tensor:
    """∫ exp(log_prob) over [−reach, reach]² by the trapezoidal rule: `batch_shape`.

    A law: this is one for every distribution over z with event `(2,)` that lies within the grid.

    >>> from vaelab.distributions import DiagonalNormal
    >>> unit = DiagonalNormal(torch.zeros(2), torch.ones(2))
    >>> round(float(mass_on_grid(unit)), 6)
    1.0
    """
    axis = torch.linspace(-reach, reach, points)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    batch = [1] * len(distribution.batch_shape)
    density = distribution.log_prob(grid.reshape(points, points, *batch, 2)).double().exp()
    return torch.trapezoid(torch.trapezoid(density, axis.double(), dim=0), axis.double(), dim=0)


def _check_shapes(d: Distribution, batch: tuple[int, ...], event: tuple[int, ...]) -> None:
    _require(tuple(d.batch_shape) == batch, f"batch shape is {tuple(d.batch_shape)}, not {batch}")
    _require(tuple(d.event_shape) == event, f"event shape is {tuple(d.event_shape)}, not {event}")


def _require(holds: bool, law: str) -> None:
    if not holds:
        raise AssertionError(law)
