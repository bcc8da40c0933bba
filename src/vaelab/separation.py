"""Floor 2: a map that separates: a term that keeps neighbours in the data neighbours on the map.

It is no bound and no part of the ELBO, which stays what is reported. Training adds it to the loss
of any objective, for pairs of data that are drawn along a neighbour graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from vaelab import checks

__all__ = ["Separation"]

NEAR, FALL = 1.576943, 0.895061
"""a and b of the similarity: those of UMAP's default, `min_dist` 0.1, by its `find_ab_params`."""

REPULSION = 5.0
"""How much the others of a batch count beside a pair: UMAP draws five of them for each."""

LEAST = 1e-6
"""Added to squared distances, so that the logarithm of none is infinite."""


@dataclass(frozen=True)
class Separation:
    r"""UMAP's cross-entropy between the neighbour graph of the data and the map.

    Two points of the map, posterior means u and v, are similar to q(u, v) = 1 / (1 + a ‖s(u−v)‖²ᵇ).
    For a datum i, its neighbour i' drawn along the graph, and the neighbours j' of the B − 1 others
    of its batch, the term is, in nats,

        −ln q(uᵢ, vᵢ') − 5 / (B − 1) Σ_{j≠i} ln(1 − q(uᵢ, vⱼ'))

    The loss is that of the objective, and `weight` times this for each element of a datum, since
    the distortion is a sum over elements. Each datum is drawn once an epoch and has one neighbour
    each time, so that the ELBO is trained on data as they are: in parametric UMAP, which draws
    edges, data with many edges count more. A datum's term depends on its batch-mates.

    References: L. McInnes, J. Healy and J. Melville, UMAP (2018), https://arxiv.org/abs/1802.03426;
    T. Sainburg, L. McInnes and T. Gentner, Parametric UMAP (2021), https://arxiv.org/abs/2009.12981

    Arguments:
        weight: By how much it counts, at least 0; 0 is without it. The default is where, on MNIST,
            the accuracy of neighbours no longer grows with it, for whichever seed, while the ELBO
            begins to fall.
        neighbours: k of the graph; see `vaelab.graphs.neighbour_graph`.
        scale: s, units of UMAP's map in one of the latent space, above 0.

    >>> u = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    >>> separation = Separation()
    >>> together, apart = separation(u, u).sum(), separation(u, u.flip(0)).sum()
    >>> bool(together < apart)
    True
    """

    weight: float = 0.5
    neighbours: int = 15
    scale: float = 3.0

    def __post_init__(self) -> None:
        checks.number("separation", self.weight, least=0)
        checks.integer("neighbours", self.neighbours, least=2)
        checks.number("scale", self.scale, above=0)

    def __call__(self, u: Tensor, v: Tensor) -> Tensor:
        """The term for each of B data, in nats.

        Arguments:
            u: Points of the data, `(B, D)`.
            v: Points of a neighbour of each, `(B, D)`.

        Returns:
            `(B,)`, at least 0.
        """
        together = softplus(self._log_odds(u, v))
        if len(u) == 1:
            return together
        apart = softplus(-self._log_odds(u[:, None], v))
        others = apart.sum(1) - apart.diagonal()
        return together + REPULSION / (len(u) - 1) * others

    def _log_odds(self, u: Tensor, v: Tensor) -> Tensor:
        """ln((1 − q) / q) of points that are broadcast, from their last dimension."""
        axes = zip((self.scale * u).unbind(-1), (self.scale * v).unbind(-1), strict=True)
        squared = sum(((here - there).square() for here, there in axes), start=u.new_tensor(LEAST))
        return math.log(NEAR) + FALL * torch.log(squared)
