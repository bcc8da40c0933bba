"""Floor 6: estimates of log p(x), in nats, and whether to trust them.

Two estimators, both of which come from below: importance sampling from q(z|x), and annealed
importance sampling, which does without q. Memory does not grow with the number of data, particles
or temperatures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelab import checks, noise
from vaelab.distributions import seeded
from vaelab.latent import device_of
from vaelab.model import Model
from vaelab.tensors import batches

__all__ = ["Progress", "Weighed", "annealed", "standard_error", "unreliable", "weigh"]

Value = TypeVar("Value", float, Tensor)

Progress = Callable[[int, int], object]
"""What hears of progress: called with how much is done, and how much there is to do."""

DECODED, ELEMENTS = 4096, 2**21
"""How many latent points are decoded at once, and how many elements of data they become, at most;
about so many fit in a processor's cache."""
PORTION = 32
"""How many particles of a datum are decoded at once, at least, where it has as many."""
LEAST, HEAVY = 25, 0.7
"""Fewest particles whose weights have a tail to look at, and the index at which it is too heavy."""
ROUNDING = 4.0
"""δ, half the width of the sigmoid that temperatures follow."""
ACCEPTED, FIRST_STEP, GAIN, JITTER = 0.65, 0.5, 0.1, 0.2
"""Of Hamiltonian transitions: the acceptance aimed at, the first step size, how fast its logarithm
follows the acceptance, and by which share it varies at random."""


class Weighed(NamedTuple):
    """Estimates of ln p(x), each from K importance weights w_k.

    Attributes:
        log_likelihood: ln (1/K) Σ_k w_k of each datum, `(N,)`, `float64`, in nats.
        effective: Effective sample size (Σ_k w_k)² / Σ_k w_k², `(N,)`, `float64`, from 1 to K.
        tail_index: How heavy the tail of the weights is, `(N,)`, `float64`: the shape k of a
            generalised Pareto distribution, whose moments of order 1/k and above are infinite,
            fitted to the largest weights; NaN with fewer than 25, and for `annealed`.
    """

    log_likelihood: np.ndarray
    effective: np.ndarray
    tail_index: np.ndarray


@torch.no_grad()
def weigh(
    model: Model,
    x: Tensor,
    *,
    particles: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> Weighed:
    r"""Importance-weighted estimate of ln p(x) for each datum, and its effective sample size.

    The estimate is ln (1/K) Σ_k w_k with w_k = p(x|z_k) p(z_k) / q(z_k|x) and z_k from q(z|x). In
    expectation it is a lower bound that grows with K towards ln p(x); with one particle, the ELBO.
    The less q(z|x) is like p(z|x), the fewer weights carry the sum; `unreliable` judges that.

    Where q(z|x) is a `DiagonalNormal`, the draws for a datum follow from the seed and its values
    alone, not from its place or the other data: a datum's estimate is the same wherever it stands.
    Draws of different data are independent, so a mean over data has its usual standard error;
    those of data that are equal are too, in the order they stand.

    References: Y. Burda et al., Importance Weighted Autoencoders (2015),
    https://arxiv.org/abs/1509.00519; A. B. Owen, Monte Carlo theory, methods and examples (2013),
    chapter 9, for the effective sample size, https://artowen.su.domains/mc/

    Arguments:
        model: The model, in evaluation mode.
        x: Data at rest, `(N, *shape)`.
        particles: K, at least 1; they are drawn in portions, so memory does not depend on K.
        seed: Where the draws start.
        progress: Called after each portion with how many weights are known, and with N K.

    Raises:
        checks.ArgumentError: Fewer than one particle, or data of another shape.

    >>> from vaelab import recipes
    >>> model = recipes.linear((3,)).model()
    >>> weigh(model, torch.zeros(5, 3), particles=100).log_likelihood.shape
    (5,)
    """
    checks.integer("particles", particles)
    room = _room(model)
    size = max(1, min(len(x), room // min(particles, PORTION)))
    portion = max(1, room // size)
    parts, done, passed = [], 0, 0
    keys = noise.keys(x, seed)
    with seeded(seed):
        p = model.prior()
        for batch in batches(x, size, device_of(model)):
            q = model.encode(batch)
            draw = noise.draws(q, keys[passed : passed + len(batch)])
            passed += len(batch)
            sums = torch.full((2, len(batch)), -math.inf, dtype=torch.float64)
            top = torch.zeros(0, len(batch), dtype=torch.float64)
            for start in range(0, particles, portion):
                z = draw(min(portion, particles - start))
                log_w = model.decode(z).log_prob(batch) + p.log_prob(z) - q.log_prob(z)
                sums = torch.logaddexp(sums, _sums(log_w))
                top = _largest(torch.cat([top, log_w.cpu().double()]), particles)
                done += log_w.numel()
                if progress is not None:
                    progress(done, len(x) * particles)
            parts.append(torch.cat([sums, _tail_index(top, particles)[None]]))
    return _weighed(parts, particles)


def standard_error(weighed: Weighed, particles: int) -> np.ndarray:
    """Standard error of each estimate of ln p(x) over its draws, √(1/ESS − 1/K): `(N,)`, in nats.

    It is that of the logarithm of a mean, by the delta method. The estimate is too low by about
    half its square. With few effective weights, both are themselves too small.

    Arguments:
        weighed: What `weigh` or `annealed` gave.
        particles: K, how many particles or chains it was given.

    >>> standard_error(Weighed(np.zeros(2), np.array([4.0, 100.0]), np.zeros(2)), 100).round(2)
    array([0.49, 0.  ])
    """
    checks.integer("particles", particles)
    return np.asarray(np.sqrt(np.maximum(0.0, 1 / weighed.effective - 1 / particles)))


def unreliable(weighed: Weighed, particles: int) -> float:
    """Share of the data whose ln p(x) should not be trusted, from 0 to 1.

    It is those whose `tail_index` is above 0.7, the limit of Vehtari et al. (with few particles
    less, as their estimates are drawn towards ½): with such heavy tails no practical number of
    weights has a sure mean, and ln p(x) is too low by more than it looks. With fewer than 25
    particles there is no tail to look at, and no datum can be trusted. That a datum passes is no
    proof: particles that all miss a region where p(z|x) is large do not tell of it.

    Reference: A. Vehtari et al., Pareto Smoothed Importance Sampling (2024),
    https://www.jmlr.org/papers/v25/19-556.html

    Arguments:
        weighed: What `weigh` gave.
        particles: K, how many particles it was given.

    >>> tails = np.array([-0.2, 0.3, 0.69, 0.9])
    >>> unreliable(Weighed(np.zeros(4), np.ones(4), tails), 5000)
    0.25
    """
    if checks.integer("particles", particles) < LEAST:
        return 1.0
    return float((weighed.tail_index > _drawn(HEAVY, _in_tail(particles))).mean())


@torch.no_grad()
def annealed(
    model: Model,
    x: Tensor,
    *,
    steps: int = 1000,
    chains: int = 4,
    leapfrog: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> Weighed:
    r"""Annealed importance sampling estimate of ln p(x) for each datum, without q(z|x).

    Chains go from the prior p(z) to p(z) p(x|z) through p(z) p(x|z)^β with temperatures
    0 = β_0 < ... < β_T = 1, which follow a sigmoid. A chain's weight is Π_t p(x|z_t)^(β_t − β_t−1),
    where z_1 is a draw of the prior and z_t+1 comes from z_t by a Hamiltonian transition that
    leaves p(z) p(x|z)^β_t as it is. Weights are right in expectation, so the estimate is, in
    expectation, a lower bound that grows with T and the chains. One more chain for each datum
    serves only to adapt the step size of the others towards an acceptance of 0.65: a chain that
    set its own would bias its weight.

    References: R. M. Neal, Annealed Importance Sampling (1998),
    https://arxiv.org/abs/physics/9803008; Y. Wu et al., On the Quantitative Analysis of
    Decoder-Based Generative Models (2016), https://arxiv.org/abs/1611.04273; R. M. Neal, MCMC using
    Hamiltonian dynamics (2012), on step sizes that vary, https://arxiv.org/abs/1206.1901

    Arguments:
        model: The model, in evaluation mode; p(z) and p(x|z) need gradients with respect to z.
        x: Data at rest, `(N, *shape)`.
        steps: T, at least 1; a datum takes T times `leapfrog` gradients for each chain.
        chains: Independent chains for each datum, at least 1.
        leapfrog: Leapfrog steps of a transition, at least 1.
        seed: Where the draws start.
        progress: Called after each temperature with the sum over data of temperatures passed, and
            with N T.

    Returns:
        The estimates, and the effective sample size over chains, from 1 to `chains`.

    Raises:
        checks.ArgumentError: A number below 1, or data of another shape.

    >>> from vaelab import recipes
    >>> model = recipes.linear((3,)).model()
    >>> annealed(model, torch.zeros(5, 3), steps=10).log_likelihood.shape
    (5,)
    """
    for name, value in (("steps", steps), ("chains", chains), ("leapfrog", leapfrog)):
        checks.integer(name, value)
    size = max(1, _room(model) // (chains + 1))
    parts, done = [], 0
    with seeded(checks.seed(seed)):
        p = model.prior()
        for batch in batches(x, size, device_of(model)):
            at = partial(_point, model, p, batch)
            point = at(p.sample((chains + 1, len(batch))))
            log_w = torch.zeros(chains, len(batch), dtype=torch.float64)
            log_step = batch.new_full((len(batch),), math.log(FIRST_STEP))
            for before, now in pairwise(_temperatures(steps)):
                log_w += (now - before) * point.log_likelihood[1:].cpu().double()
                if now < 1:
                    point, accepted = _transition(at, point, now, log_step.exp(), leapfrog)
                    log_step += GAIN * (accepted[0] - ACCEPTED)
                done += len(batch)
                if progress is not None:
                    progress(done, len(x) * steps)
            unknown = torch.full((1, len(batch)), math.nan, dtype=torch.float64)
            parts.append(torch.cat([_sums(log_w), unknown]))
    return _weighed(parts, chains)


def _room(model: Model) -> int:
    """How many latent points are decoded at once."""
    return max(1, min(DECODED, ELEMENTS // math.prod(model.shape)))


def _sums(log_w: Tensor) -> Tensor:
    """ln Σ_k w_k and ln Σ_k w_k² of log-weights `(K, N)`: `(2, N)`."""
    log_w = log_w.cpu().double()
    return torch.stack([log_w, 2 * log_w]).logsumexp(1)


def _weighed(parts: list[Tensor], count: int) -> Weighed:
    """The estimates from the `_sums` and tails of all batches, for so many weights of a datum."""
    total, squares, tail = torch.cat(parts, 1)
    effective = (2 * total - squares).exp().clamp(1, count)
    return Weighed((total - math.log(count)).numpy(), effective.numpy(), tail.numpy())


def _in_tail(particles: int) -> int:
    """How many of the largest weights are the tail: a fifth, and with many 3 √K."""
    return math.ceil(min(particles / 5, 3 * math.sqrt(particles)))


def _largest(log_w: Tensor, particles: int) -> Tensor:
    """The largest log-weights of each datum, those of the tail and the next: `(M + 1, N)`."""
    return log_w.topk(min(len(log_w), _in_tail(particles) + 1), 0).values


def _tail_index(top: Tensor, particles: int) -> Tensor:
    r"""k of a generalised Pareto distribution fitted to the tail of each datum's weights: `(N,)`.

    The estimate of Zhang and Stephens: with b = −k/σ, the likelihood has one parameter, since
    k(b) is the mean of ln(1 − b x); b is averaged over a grid, each value by its likelihood. As
    Vehtari et al. do, k is drawn towards ½ as ten more data would.

    Reference: J. Zhang and M. A. Stephens, A New and Efficient Estimation Method for the
    Generalized Pareto Distribution (2009), https://doi.org/10.1198/tech.2009.08017

    Arguments:
        top: The M + 1 largest log-weights, the largest first, `(M + 1, N)`.
        particles: K, of all of them.
    """
    if particles < LEAST:
        return top.new_full(top.shape[1:], math.nan)
    weights = (top - top[0]).exp()
    excess = (weights[:-1] - weights[-1]).flip(0).clamp_min(1e-30)
    count = len(excess)
    size = 30 + math.isqrt(count)
    spread = 1 - (size / (torch.arange(size, dtype=top.dtype) + 0.5)).sqrt()
    grid = 1 / excess[-1] + spread[:, None] / (3 * excess[round(count / 4 + 0.01) - 1])
    shapes = torch.stack([torch.log1p(-b * excess).mean(0) for b in grid])
    likelihood = count * ((-grid / shapes).log() - shapes - 1)
    b = (grid * likelihood.softmax(0)).sum(0)
    return _drawn(torch.log1p(-b * excess).mean(0), count)


def _drawn(k: Value, count: int) -> Value:
    """An estimate of k from so many data, drawn towards ½ as ten more would draw it."""
    return (count * k + 5) / (count + 10)


class _Point(NamedTuple):
    """Where chains are, `(C, N, D)`; ln p(x|z) and ln p(z) there, `(C, N)`, and their slopes."""

    z: Tensor
    log_likelihood: Tensor
    log_prior: Tensor
    likelihood_slope: Tensor
    prior_slope: Tensor

    def log_target(self, temperature: float) -> Tensor:
        """ln p(z) + β ln p(x|z), `(C, N)`."""
        return self.log_prior + temperature * self.log_likelihood

    def slope(self, temperature: float) -> Tensor:
        """The gradient of `log_target`, `(C, N, D)`."""
        return self.prior_slope + temperature * self.likelihood_slope


@torch.enable_grad()
def _point(model: Model, prior: Distribution, x: Tensor, z: Tensor) -> _Point:
    """What there is to know of latent points `(C, N, D)` for data `(N, *shape)`."""
    z = z.detach().requires_grad_()
    log_likelihood, log_prior = model.decode(z).log_prob(x), prior.log_prob(z)
    (likelihood_slope,) = torch.autograd.grad(log_likelihood.sum(), z)
    (prior_slope,) = torch.autograd.grad(log_prior.sum(), z)
    return _Point(
        z.detach(), log_likelihood.detach(), log_prior.detach(), likelihood_slope, prior_slope
    )


def _transition(
    at: Callable[[Tensor], _Point], old: _Point, temperature: float, step: Tensor, leapfrog: int
) -> tuple[_Point, Tensor]:
    """A Hamiltonian transition with step sizes `(N,)`; its probability of acceptance `(C, N)`."""
    vary = 1 + JITTER * (2 * torch.rand_like(old.log_prior) - 1)
    stride = (vary * step).unsqueeze(-1)
    start = torch.randn_like(old.z)
    new, momentum = old, start + 0.5 * stride * old.slope(temperature)
    for left in reversed(range(leapfrog)):
        new = at(new.z + stride * momentum)
        momentum = momentum + (1.0 if left else 0.5) * stride * new.slope(temperature)
    change = new.log_target(temperature) - old.log_target(temperature)
    change = change + 0.5 * (start.square() - momentum.square()).sum(-1)
    accepted = change.clamp_max(0).exp().nan_to_num(0)  # a path that diverges is not taken
    taken = torch.rand_like(accepted) < accepted
    chosen = (
        torch.where(taken if a.dim() == 2 else taken.unsqueeze(-1), a, b)
        for a, b in zip(new, old, strict=True)
    )
    return _Point(*chosen), accepted


def _temperatures(steps: int) -> list[float]:
    """β_0 = 0 to β_T = 1, most closely spaced at both ends."""
    sigmoid = 1 / (1 + np.exp(-np.linspace(-ROUNDING, ROUNDING, steps + 1)))
    scaled: list[float] = ((sigmoid - sigmoid[0]) / (sigmoid[-1] - sigmoid[0])).tolist()
    return scaled
