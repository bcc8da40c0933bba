"""Floor 6: estimates of log p(x), in nats, and whether to trust them.

Two estimators, both of which come from below: importance sampling from q(z|x), and annealed
importance sampling, which does without q. Memory does not grow with the number of data, particles
or temperatures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelab import checks
from vaelab.distributions import seeded
from vaelab.latent import device_of
from vaelab.model import Model
from vaelab.tensors import batches

__all__ = ["Progress", "Weighed", "annealed", "standard_error", "unreliable", "weigh"]

Progress = Callable[[int, int], object]
"""What hears of progress: called with the work that is done and the whole."""

DECODED = 2048
"""How many latent points are decoded at once; what they decode to should fit in the cache."""
SPREAD = 64
"""Over how many data these are spread, where each of the data has many."""
FEW, SHARE = 5, 0.01
"""The fewest weights that should carry an estimate, and the smallest share of all weights."""
ROUND = 4.0
"""Half the width of the sigmoid that the temperatures follow."""
ACCEPTED, FIRST_STEP, GAIN, JITTER = 0.65, 0.5, 0.1, 0.2
"""Of Hamiltonian transitions: the acceptance aimed at, the first step size, how fast its logarithm
is adapted, and by what share it varies at random."""


class Weighed(NamedTuple):
    """Estimates of ln p(x) from importance weights w_1, ..., w_K of each datum.

    Attributes:
        log_likelihood: ln (1/K) Σ w_k, `(N,)`, `float64`, in nats.
        effective: Effective sample size (Σ w_k)² / Σ w_k², `(N,)`, `float64`, from 1 to K.
    """

    log_likelihood: np.ndarray
    effective: np.ndarray


@torch.no_grad()
def weigh(
    model: Model,
    x: Tensor,
    *,
    particles: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> Weighed:
    r"""Importance-weighted estimate of ln p(x) for each datum, with its effective sample size.

    ln (1/K) Σ_k w_k with w_k = p(x|z_k) p(z_k) / q(z_k|x) and z_k from q(z|x): in expectation a
    lower bound that grows with K towards ln p(x); with one particle, a draw of the ELBO. Where q is
    far from the true posterior, few of the weights carry the sum: see `unreliable`.

    References: Y. Burda et al., Importance Weighted Autoencoders (2015),
    https://arxiv.org/abs/1509.00519; A. B. Owen, Monte Carlo theory, methods and examples (2013),
    chapter 9, on the effective sample size, https://artowen.su.domains/mc/

    Arguments:
        model: The model, in evaluation mode, as training and loading give it.
        x: Data at rest, `(N, *shape)`.
        particles: K, at least 1; they are drawn in portions, so memory does not depend on K.
        seed: Where the draws start.
        progress: Called after each portion with the weights that are known and N K.

    >>> from vaelab import recipes
    >>> model = recipes.linear((3,)).model()
    >>> weigh(model, torch.zeros(5, 3), particles=100).effective.shape
    (5,)
    """
    checks.integer("particles", particles)
    size = max(1, min(len(x), DECODED // min(particles, DECODED // SPREAD)))
    portion = max(1, DECODED // size)
    sums = []
    done = 0
    with seeded(checks.seed(seed)):
        prior = model.prior()
        for batch in batches(x, size, device_of(model)):
            posterior = model.encode(batch)
            sum_ = _Sum(batch)
            for start in range(0, particles, portion):
                count = min(portion, particles - start)
                sum_.add(_log_weights(model, batch, posterior, prior, count))
                done += count * len(batch)
                if progress is not None:
                    progress(done, len(x) * particles)
            sums.append(sum_.weighed(particles))
    return _joined(sums)
