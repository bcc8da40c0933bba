"""Floor 6: what the code tells of the data, in nats.

Functions of the posteriors of a data set, `Codes`, and of a prior: how many nats the code holds of
a datum, and how far all codes together are from the prior. Memory grows with the number of data,
not with its square.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelab import checks
from vaelab.distributions import DiagonalNormal, seeded
from vaelab.divergences import kl_normal
from vaelab.latent import Codes

__all__ = ["Information", "information", "kl_per_dimension"]

BLOCK = 2**18
"""How many densities of draws under posteriors are computed at once."""
LOG_ROOT = 0.5 * math.log(2 * math.pi)
STREAM = 6
"""Keeps the draws apart from data that were made with `default_rng(seed)` themselves."""
SCORED = 1024
"""How many draws the prior scores at once."""


class Information(NamedTuple):
    """What a code tells of the data, and how its parts add up, in nats.

    rate = mutual_information + marginal_kl, and marginal_kl = total_correlation + dimension_kl.

    Attributes:
        mutual_information: I_q(x; z) = E ln q(z|x) − ln q(z); at most `ceiling`.
        mutual_information_se: Its standard error over the draws.
        marginal_kl: KL(q(z) ‖ p(z)): how far all codes together are from the prior.
        marginal_kl_se: Its standard error over the draws.
        total_correlation: KL(q(z) ‖ Π q(z_d)): 0 if the latent dimensions are independent.
        dimension_kl: E Σ_d ln q(z_d) − ln p(z). Where the prior's dimensions are independent, as
            the standard normal's are, it is Σ_d KL(q(z_d) ‖ p(z_d)).
        rate: E ln q(z|x) − ln p(z), with the same draws.
        data: N, how many posteriors the mixture q(z) has.
    """

    mutual_information: float
    mutual_information_se: float
    marginal_kl: float
    marginal_kl_se: float
    total_correlation: float
    dimension_kl: float
    rate: float
    data: int

    @property
    def ceiling(self) -> float:
        """ln N: near it, the mutual information is estimated too low."""
        return math.log(self.data)


def kl_per_dimension(codes: Codes) -> np.ndarray:
    """KL(q(z_d|x) ‖ N(0, 1)) of each latent dimension, the mean over data: `(D,)`, in nats.

    A dimension that the model does not use has a divergence near 0. The closed form is that of
    `vaelab.kl_normal`.

    Arguments:
        codes: Posteriors of the data, `(N, D)`.

    Raises:
        checks.ArgumentError: Means and scales of other shapes, not finite, or scales not above 0.

    >>> kl_per_dimension(Codes(np.array([[0.0, 1.0], [0.0, 3.0]]), np.ones((2, 2))))
    array([0. , 2.5])
    """
    return np.asarray(kl_normal(*_checked(codes), 0.0, 1.0).mean(0))


@torch.no_grad()
def information(
    codes: Codes, *, prior: Distribution | None = None, most: int = 10_000, seed: int = 0
) -> Information:
    r"""How many nats the code holds of a datum, and how the divergence to the prior splits up.

    The mean rate of a data set is the mutual information of datum and code plus the divergence of
    the aggregate posterior q(z) = (1/N) Σ_j q(z|x_j) to the prior. The latter is the total
    correlation of the latent dimensions plus what each dimension has by itself. One z_i is drawn
    from each q(z|x_i), and the terms are means over i of log-densities at these draws:

        I_q(x; z)            mean of ln q(z_i|x_i) − ln q(z_i)
        KL(q(z) ‖ p(z))      mean of ln q(z_i) − ln p(z_i)
        KL(q(z) ‖ Π q(z_d))  mean of ln q(z_i) − Σ_d ln q(z_id)

    Bias: the mixture of N posteriors holds the one that z_i was drawn from, so the mutual
    information is at most ln N. It is that of the data given, each as probable as any other; for
    the source of the data it is too low where it comes near ln N, and the divergence to the prior
    and the total correlation are too high by as much. The standard errors tell of the draws alone.

    References: M. D. Hoffman and M. J. Johnson, ELBO surgery (2016),
    http://approximateinference.org/accepted/HoffmanJohnson2016.pdf, for the first split;
    R. T. Q. Chen et al., Isolating Sources of Disentanglement in VAEs (2018),
    https://arxiv.org/abs/1802.04942, for the second.

    Arguments:
        codes: Posteriors of the data, `(N, D)`.
        prior: p(z), with batch `()` and event `(D,)`; by default N(0, I).
        most: Of more data than this, so many are drawn, at least 2; time grows with its square.
        seed: Where the draws start.

    Raises:
        checks.ArgumentError: Means and scales of other shapes, not finite, or scales not above 0;
            fewer than two data; a prior over another dimension.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(2000, 1))
    >>> told = information(Codes(x, np.full_like(x, 0.5)))
    >>> exact = 0.5 * math.log(1 + 1 / 0.5**2)
    >>> abs(told.mutual_information - exact) < 5 * told.mutual_information_se
    True
    """
    checks.integer("most", most, least=2)
    rng = np.random.default_rng([checks.seed(seed), STREAM])
    loc, scale = map(torch.from_numpy, _checked(_drawn(codes, most, rng)))
    if len(loc) < 2:
        raise checks.ArgumentError(
            f"codes hold {len(loc)} data, but a mixture of at least 2 is needed; give more data."
        )
    noise = torch.from_numpy(rng.standard_normal(loc.shape))
    z = loc + scale * noise
    log_posterior = (-0.5 * noise.square() - scale.log() - LOG_ROOT).sum(1)
    log_aggregate, log_marginals = _aggregate(z, loc, scale, noise)
    log_prior = _log_prior(prior, z, seed)
    told, apart = log_posterior - log_aggregate, log_aggregate - log_prior
    return Information(
        mutual_information=float(told.mean()),
        mutual_information_se=float(told.std() / math.sqrt(len(z))),
        marginal_kl=float(apart.mean()),
        marginal_kl_se=float(apart.std() / math.sqrt(len(z))),
        total_correlation=float((log_aggregate - log_marginals).mean()),
        dimension_kl=float((log_marginals - log_prior).mean()),
        rate=float((log_posterior - log_prior).mean()),
        data=len(z),
    )


def _aggregate(z: Tensor, loc: Tensor, scale: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """ln q(z_i) and Σ_d ln q(z_id) of the mixture of all N posteriors, `(N,)` each.

    Differences are taken in `float64`, so that narrow posteriors keep their digits, and that of a
    draw to its own posterior is the noise; exponentials in `float32`, which is twice as quick.
    """
    count, dimensions = z.shape
    centres, scales = loc.T.contiguous(), scale.T.contiguous()  # (D, N)
    steepness, weights = math.sqrt(0.5) / scales, (1 / scales).float()
    log_weights = -scales.log().sum(0).float()
    joint, marginals = z.new_empty(count), z.new_zeros(count)
    rows = max(1, BLOCK // count)
    for start in range(0, count, rows):
        part = slice(start, start + rows)
        total = log_weights.repeat(len(z[part]), 1)
        for d in range(dimensions):
            power = (z[part, d, None] - centres[d]).mul_(steepness[d]).float().square_().neg_()
            power.diagonal(start).copy_(-0.5 * noise[part, d].square())
            total += power
            marginals[part] += power.exp_().mv(weights[d]).log()
        joint[part] = total.logsumexp(1)
    share = math.log(count)
    return joint - share - dimensions * LOG_ROOT, marginals - dimensions * (share + LOG_ROOT)


def _log_prior(prior: Distribution | None, z: Tensor, seed: int) -> Tensor:
    """ln p(z) of draws `(N, D)`: `(N,)`."""
    if prior is None:
        prior = DiagonalNormal(z.new_zeros(z.shape[1]), z.new_ones(z.shape[1]))
    with seeded(seed):
        like = prior.sample()  # tells the prior's shape, type and device
    if like.shape != z.shape[1:]:
        raise checks.ArgumentError(
            f"prior is over z of shape {tuple(like.shape)}, but the codes have {z.shape[1]} "
            "dimensions; give the prior of the model that made the codes."
        )
    return torch.cat([prior.log_prob(part.to(like)).to(z) for part in torch.split(z, SCORED)])


def _drawn(codes: Codes, most: int, rng: np.random.Generator) -> Codes:
    """The codes of at most `most` data, in their order."""
    if len(codes.loc) <= most:
        return codes
    rows = np.sort(rng.choice(len(codes.loc), most, replace=False))
    return Codes(codes.loc[rows], codes.scale[rows])


def _checked(codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    """Means and scales in `float64`, if they are those of posteriors."""
    loc, scale = np.asarray(codes.loc, np.float64), np.asarray(codes.scale, np.float64)
    if loc.ndim != 2 or loc.shape != scale.shape:
        raise checks.ArgumentError(
            f"codes have means of shape {loc.shape} and scales of shape {scale.shape}, but both "
            "must be (N, D); give what latent.encode returns."
        )
    if not (np.isfinite(loc).all() and np.isfinite(scale).all() and (scale > 0).all()):
        raise checks.ArgumentError(
            "codes hold NaN, infinity or a scale of 0 or less; give finite means, scales above 0."
        )
    return loc, scale
